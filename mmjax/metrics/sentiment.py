"""How near told feelings are to those that people gave: the numbers of CMU-MOSI and CMU-MOSEI, on -3..3.

There are three accuracies of negative against positive, all called Acc-2, which differ by what a label of exactly 0 is,
and so do their F1. They are not to be compared with one another:

  'Acc-2, without zeros'        labels of 0 are left out; positive is > 0. What MulT's train.py prints, and MMSA's Non0.
  'Acc-2, zeros positive'       positive is >= 0. MMSA's Has0.
  'Acc-2, zeros not positive'   positive is > 0. What MulT's eval_mosei_senti gives where it is not told otherwise.

Sources: src/eval_metrics.py of Tsai et al. 2019 (arXiv:1906.00295), src/MMSA/utils/metricsTop.py of MMSA. M samples.
"""

import numpy as np

from mmjax.errors import UserError

ZEROS = ('without zeros', 'zeros positive', 'zeros not positive')  # what a label of 0 is


def scores(told: np.ndarray, given: np.ndarray) -> dict[str, float]:
  """{'MAE', 'correlation', 'Acc-7', 'Acc-5', and of each of ZEROS 'Acc-2, ...' and 'F1, ...'} of numbers told [M].

  given [M]: what people gave. Acc-7 and Acc-5 cut both to -3..3, or -2..2, and round them half to even: 0.5 is 0 and
  1.5 is 2. F1 is that of both classes, weighted by how often each is given. A correlation of numbers that are all
  alike, and a score of no sample, is nan. Raises UserError for other shapes, for no sample, and for what is no number.
  """
  told, given = np.asarray(told, np.float64), np.asarray(given, np.float64)
  if told.shape != given.shape or told.ndim != 1 or not len(told):
    raise UserError(f'told {list(told.shape)}, given {list(given.shape)}: expected one number each, of 1 or more')
  if not (np.isfinite(told).all() and np.isfinite(given).all()):
    raise UserError('told and given: found nan or inf, expected numbers')
  alike = np.ptp(told) == 0 or np.ptp(given) == 0
  found = {
    'MAE': float(np.abs(told - given).mean()),
    'correlation': float('nan') if alike else float(np.corrcoef(told, given)[0, 1]),
  }
  for classes, most in (('Acc-7', 3), ('Acc-5', 2)):
    nearest = lambda x, most=most: np.round(np.clip(x, -most, most))
    found[classes] = float((nearest(told) == nearest(given)).mean())
  for name in ZEROS:
    right, right_f1 = two(told, given, name)
    found |= {f'Acc-2, {name}': right, f'F1, {name}': right_f1}
  return found


def two(told: np.ndarray, given: np.ndarray, zeros: str) -> tuple[float, float]:
  """(accuracy, weighted F1) of positive against the rest, by what a label of 0 is, one of ZEROS."""
  kept = given != 0 if zeros == 'without zeros' else np.ones(len(given), bool)
  if not kept.any():
    return float('nan'), float('nan')
  positive = (lambda x: x[kept] >= 0) if zeros == 'zeros positive' else (lambda x: x[kept] > 0)
  said, truth = positive(told), positive(given)
  return float((said == truth).mean()), weighted_f1(said, truth)


def weighted_f1(said: np.ndarray, truth: np.ndarray) -> float:
  """The mean F1 of both classes of bool [M], weighted by how often each is the truth; 0 for one that is never right."""
  total = 0.0
  for kind in (False, True):
    hit, either = ((said == kind) & (truth == kind)).sum(), (said == kind).sum() + (truth == kind).sum()
    total += (truth == kind).mean() * (2 * hit / either if either else 0.0)
  return float(total)
