"""How well queries find what belongs to them among N candidates: ranks, recall, and intervals by bootstrap.

Q queries, N candidates, G groups of queries.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from mmjax.errors import UserError


def ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
  """The place, from 1, of the best right candidate of each query: int [Q]. Of equal scores the right one comes last.

  scores [Q,N] float; right [Q,N] bool, which candidates belong to a query. Raises UserError where a query has none, and
  for a score that is no number.
  """
  if np.isnan(scores).any():
    raise UserError('scores: found NaN, expected numbers')
  if not right.any(1).all():
    raise UserError(f'query {int(np.argmin(right.any(1)))} has no right candidate, expected at least one')
  best = np.where(right, scores, -np.inf).max(1, keepdims=True)
  return 1 + ((scores >= best) & ~right).sum(1)


def summary(places: np.ndarray, ks: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
  """{'R@1': share of queries with a right candidate among the first, ..., 'median rank'} of ranks [Q]."""
  return {f'R@{k}': float((places <= k).mean()) for k in ks} | {'median rank': float(np.median(places))}


def chance(right: np.ndarray, k: int) -> float:
  """R@k of a random order, a mean over queries. right [Q,N] bool."""
  count, total = right.sum(1), right.shape[1]
  missed = np.ones(len(right))
  for n in range(min(k, total)):
    missed *= np.clip(total - count - n, 0, None) / (total - n)
  return float(1 - missed.mean())


def interval(
  measure: Callable[[np.ndarray], Any],
  values: np.ndarray,
  groups: np.ndarray | None = None,
  level: float = 0.95,
  draws: int = 1000,
  seed: int = 0,
) -> tuple[Any, Any]:
  """The interval in which measure(values), a number or a list of them, lies, by the percentile bootstrap (Efron 1979).

  values [Q,...]; groups [Q]: queries of one group are drawn together, as they are not independent (None: each alone).
  """
  rng = np.random.default_rng(seed)
  groups = np.arange(len(values)) if groups is None else groups
  parts = [np.flatnonzero(groups == group) for group in np.unique(groups)]
  found = [
    measure(values[np.concatenate([parts[i] for i in rng.integers(0, len(parts), len(parts))])]) for _ in range(draws)
  ]
  low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
  return low.tolist(), high.tolist()
