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


def test_a_profile_is_the_share_of_runs_above():
  found = comparison.profile(np.array([0.5, 0.7, 0.9]), np.array([0.4, 0.7, 0.95]))
  assert found.tolist() == [1.0, 2 / 3, 0.0]


def test_what_can_be_shown_shrinks_with_the_seeds():
  spread = lambda n: np.resize([0.01, -0.01], n)
  assert comparison.detectable(spread(6)) > comparison.detectable(spread(10)) > comparison.detectable(spread(100))
  assert comparison.detectable(spread(10), tests=13) > comparison.detectable(spread(10))
  assert comparison.detectable(spread(5)) is None and comparison.detectable(spread(9), tests=18) is None
  assert comparison.can_show(10, 18) and not comparison.can_show(9, 18) and not comparison.can_show(1, 1)


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
  random = np.random.default_rng(1)
  hit = 0
  for n in range(200):  # the truth of a seed varies around 0.7
    rate = np.clip(random.normal(0.7, 0.03, 8), 0, 1)
    right = random.binomial(4, rate[None, :, None], (1, 8, 400))
    mean = float(comparison.accuracy(right, np.full(400, 4)).mean())
    low, high = comparison.interval(comparison.draws(right, np.full(400, 4), n, 300)[0], mean, 8)
    hit += low <= 0.7 <= high
  assert 187 <= hit <= 199  # of 200; without being widened they hold it 185 times


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


def test_what_cannot_be_compared_is_refused():
  with pytest.raises(UserError, match="reference: found 'x', expected one of a"):
    comparison.against({'a': np.ones((1, 1))}, np.ones(1), 'x')
  with pytest.raises(UserError, match='found 0 seeds of 3 images'):
    comparison.draws(np.ones((1, 0, 3)), ASKED)
