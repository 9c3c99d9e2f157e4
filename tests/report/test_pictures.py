"""Numbers as small pictures."""

import numpy as np

from mmjax.report.pictures import heat, plotted


def test_a_plot_shows_its_lines_and_passes_over_what_is_no_number():
  x = np.arange(5.0)
  first = plotted(x, {'one': x, 'two': x[::-1]}, 'steps')
  assert first.dtype == np.uint8 and first.shape[2] == 3 and (first == 255).all(-1).mean() > 0.5
  gap = plotted(x, {'one': np.where(x == 2, np.nan, x), 'two': x[::-1]}, 'steps')
  assert not np.array_equal(first, gap)
  assert not np.array_equal(first, plotted(x, {'one': x}, 'steps'))


def test_heat_is_dark_where_it_is_low_and_scaled_up():
  found = heat(np.array([[0.0, 2.0], [1.0, 2.0]]), 3)
  assert found.shape == (6, 6, 3) and found.dtype == np.uint8
  brightness = found.astype(int).sum(-1)[::3, ::3]
  assert brightness[0, 0] < brightness[1, 0] < brightness[0, 1] == brightness[1, 1]
  assert (heat(np.ones((2, 2))) == heat(np.zeros((2, 2)))).all()  # nothing stands out
