"""Dynamic time warping (Sakoe and Chiba 1978), the distance of the baseline that series are classified beside.

A, M cases, T steps, C channels.
"""

from collections.abc import Sequence

import numpy as np

from mmjax.errors import UserError


def distances(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> np.ndarray:
  """How far each of A cases [T,C] is from each of M, of whatever lengths: float64 [A,M].

  The least sum of squared distances of the steps that are laid beside each other; channels are warped together (DTW_D,
  Shokoohi-Yekta et al. 2017; Bagnall et al. 2018, arXiv:1811.00075), without a window. Raises UserError for no case, a
  case without steps, other channels and missing values.
  """
  every = [*one, *other]
  if not len(one) or not len(other) or not all(len(case) for case in every):
    raise UserError('warping: found no case, or one without steps, expected some')
  if len({case.shape[1] for case in every}) > 1:
    raise UserError(f'warping: found cases of {sorted({case.shape[1] for case in every})} channels, expected as many')
  if any(np.isnan(case).any() for case in every):
    raise UserError('warping: found missing values, expected all to be measured')
  (a, rows), (b, columns) = _filled(one), _filled(other)
  found = np.empty((len(a), len(b)))
  above = np.full((b.shape[1] + 1, len(a), len(b)), np.inf)  # of each step of b: the row of the step of a before
  above[0] = 0
  for i in range(a.shape[1]):
    row = np.full_like(above, np.inf)
    for j in range(b.shape[1]):
      cost = sum((a[:, None, i, c] - b[None, :, j, c]) ** 2 for c in range(a.shape[2]))
      row[j + 1] = cost + np.minimum(np.minimum(above[j + 1], row[j]), above[j])
    ends = rows == i + 1  # what lies behind an end does not change it
    found[ends] = row[columns, :, np.arange(len(b))].T[ends]
    above = row
  return found


def _filled(cases: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
  """(cases [A,T,C], filled up with 0, their lengths [A])."""
  lengths = np.array([len(case) for case in cases])
  filled = np.zeros((len(cases), lengths.max(), cases[0].shape[1]))
  for n, case in enumerate(cases):
    filled[n, : len(case)] = case
  return filled, lengths


def nearest_class(found: np.ndarray, label: np.ndarray) -> np.ndarray:
  """The class of the nearest of M cases, of label int [M], for each row of distances [A,M]; the first of equals."""
  return label[found.argmin(1)]
