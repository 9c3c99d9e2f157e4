"""Ranks, recall and intervals by hand."""

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.metrics.retrieval import chance, interval, ranks, summary

SCORES = np.array([[0.9, 0.1, 0.5], [0.2, 0.2, 0.2], [0.1, 0.4, 0.3]])
OWN = np.eye(3, dtype=bool)


def test_ranks_by_hand_and_a_tie_goes_against():
  assert ranks(SCORES, OWN).tolist() == [1, 3, 2]
  several = OWN.copy()
  several[2, 1] = True  # two candidates belong to the last query
  assert ranks(SCORES, several).tolist() == [1, 3, 1]


def test_summary():
  assert summary(np.array([1, 3, 2, 40])) == {'R@1': 0.25, 'R@5': 0.75, 'R@10': 0.75, 'median rank': 2.5}


def test_what_has_no_rank_is_refused():
  with pytest.raises(UserError, match='query 1 has no right candidate'):
    ranks(SCORES, np.array([[True] * 3, [False] * 3, [True] * 3]))
  with pytest.raises(UserError, match='NaN'):
    ranks(np.full((1, 2), np.nan), np.ones((1, 2), bool))


def test_chance_is_what_random_orders_reach():
  right = np.zeros((2, 10), bool)
  right[0, 0] = right[1, :3] = True
  rng = np.random.default_rng(0)
  tried = np.mean([(ranks(rng.random((2, 10)), right) <= 4).mean() for _ in range(4000)])
  assert chance(right, 4) == pytest.approx((4 / 10 + 1 - 7 * 6 * 5 * 4 / (10 * 9 * 8 * 7)) / 2)
  assert chance(right, 4) == pytest.approx(tried, abs=0.02)
  assert chance(right, 10) == 1.0


def test_an_interval_holds_what_it_says_and_groups_widen_it():
  rng = np.random.default_rng(1)
  inside = 0
  for seed in range(100):
    low, high = interval(np.mean, rng.normal(5, 1, 40), draws=200, seed=seed)
    inside += low <= 5 <= high
  assert 85 <= inside <= 99
  values = np.repeat(rng.normal(0, 1, 20), 10)  # ten alike in each group
  width = lambda groups: np.ptp(interval(np.mean, values, groups))
  assert width(np.repeat(np.arange(20), 10)) > 2 * width(None)
  assert interval(np.mean, values) == interval(np.mean, values)
