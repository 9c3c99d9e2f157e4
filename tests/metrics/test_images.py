import numpy as np
import pytest

from mmjax.metrics.images import psnr


def test_psnr_by_hand():
  black = np.zeros((3, 2, 2, 3), np.uint8)
  other = black.copy()
  other[1] = 255  # as wrong as can be: 0 dB
  other[2, 0, 0, 0] = 51  # one value of twelve, off by a fifth
  found = psnr(black, other)
  assert found[0] == np.inf and found[1] == pytest.approx(0) and found[2] == pytest.approx(10 * np.log10(25 * 12))
