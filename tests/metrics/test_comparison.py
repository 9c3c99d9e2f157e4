"""Comparison of systems over seeds: by hand, and against what chance must give."""

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.metrics import comparison

ASKED = np.array([2, 1, 1])


def test_accuracy_counts_questions_not_images():
  right = np.array([[2, 0, 1], [0, 1, 1]])
  assert comparison.accuracy(right, ASKED).tolist() == [0.75, 0.5]


def test_all_signs_by_hand():
  assert comparison.sign_flip(np.array([1.0, 1.0, 1.0])) == 2 / 8
  assert comparison.sign_flip(np.array([1.0, -1.0])) == 1.0
  assert comparison.sign_flip(np.array([3.0, 2.0, -1.0])) == 4 / 8
  assert comparison.sign_flip(np.ones(10)) == 2 / 1024
  assert comparison.sign_flip(np.zeros(4)) == 1.0
  assert comparison.sign_flip(np.ones(20)) < 0.001  # of random signs, among them those that are


def test_holm_by_hand():
  assert comparison.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
  assert comparison.holm([0.5, 0.9]) == [1.0, 1.0]
  assert comparison.holm([]) == []


@pytest.mark.parametrize('seeds, tests', [(10, 18), (10, 1), (6, 1)])
def test_the_least_that_shows_is_found_four_times_in_five(seeds, tests):
  random = np.random.default_rng(7)
  unit = np.resize([1.0, -1.0], seeds)
  shift = comparison.detectable(unit, tests) / unit.std(ddof=1)
  found = [comparison.sign_flip(random.normal(shift, 1, seeds)) <= comparison.ALPHA / tests for _ in range(400)]
  assert 0.74 <= np.mean(found) <= 0.86


def test_what_can_be_shown_shrinks_with_the_seeds():
  spread = lambda n: np.resize([0.01, -0.01], n)
  assert comparison.detectable(spread(6)) > comparison.detectable(spread(10)) > comparison.detectable(spread(100))
  assert comparison.detectable(spread(10), tests=13) > comparison.detectable(spread(10))
  assert comparison.detectable(spread(5)) is None and comparison.detectable(spread(9), tests=18) is None
  assert comparison.can_show(10, 18) and not comparison.can_show(9, 18) and not comparison.can_show(1, 1)


@pytest.mark.parametrize('seeds, deviation, least', [(8, 0.03, 187), (3, 0.03, 183), (3, 0.0, 183), (2, 0.02, 180)])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(seeds, deviation, least):
  """The truth of a seed varies around 0.7; of 200 intervals 190 should hold it."""
  random, hit, width = np.random.default_rng(1), 0, []
  for n in range(200):
    rate = np.clip(random.normal(0.7, deviation, seeds), 0, 1)
    right = random.binomial(4, rate[None, :, None], (1, seeds, 400))
    runs = comparison.accuracy(right, np.full(400, 4))[0]
    low, high = comparison.interval(comparison.draws(right, np.full(400, 4), n, 300)[0], runs)
    hit += low <= 0.7 <= high
    width.append(high - low)
  assert least <= hit <= (199 if deviation else 200)  # what images leave open is counted with the seeds too
  if not deviation:  # what images leave open is not made wider for few seeds
    assert np.median(width) < 2.2 * 1.96 * 2 * (0.7 * 0.3 / 1600 / seeds) ** 0.5


def test_seeds_count_more_than_images():
  """Runs that differ, over images that all agree: an interval of images alone would be a point."""
  right = np.array([[[4] * 30, [0] * 30]])
  samples = comparison.draws(right, np.full(30, 4))[0]
  assert (samples.min(), samples.max()) == (0, 1)


def test_differences_are_paired():
  random = np.random.default_rng(0)
  base = random.binomial(10, 0.5, (10, 40))
  found = comparison.against({'a': base, 'b': np.minimum(base + 1, 10), 'c': base}, np.full(40, 10), 'a')
  assert found['b']['difference'] == pytest.approx(0.1, abs=0.01)
  assert found['b']['verdict'] == 'better' and found['b']['p'] == 2 * 2 / 1024
  assert found['c']['difference_interval'] == (0, 0) and found['c']['verdict'] == 'no difference shown'
  low, high = found['b']['difference_interval']
  assert high - low < found['b']['interval'][1] - found['b']['interval'][0]  # much of either is the same
  assert 'difference' not in found['a']


def test_five_seeds_show_nothing():
  right = {'a': np.zeros((5, 9), int), 'b': np.ones((5, 9), int)}
  assert comparison.against(right, np.ones(9, int), 'a')['b']['verdict'] == 'no difference shown'


def test_without_the_reference_nothing_is_compared():
  found = comparison.against({'a': np.ones((2, 3))}, np.ones(3), 'x')
  assert set(found['a']) == {'accuracy', 'interval', 'seeds'} and found['a']['interval'] == (1.0, 1.0)


def test_what_cannot_be_compared_is_refused():
  with pytest.raises(UserError, match='found 0 seeds of 3 images'):
    comparison.draws(np.ones((1, 0, 3)), ASKED)
