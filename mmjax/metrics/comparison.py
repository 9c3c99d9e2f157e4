"""Systems compared over seeds: intervals, paired tests, profiles, and what so many seeds can show at all.

As Agarwal et al. 2021 (Deep Reinforcement Learning at the Edge of the Statistical Precipice, arXiv:2108.13264) argue:
intervals in place of single numbers, whole distributions beside means, and no winner where the data name none.

S seeds, M images, D draws of a bootstrap, V systems. Right and asked answers are counted by image, as questions about
one image are not independent.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from mmjax.errors import UserError

DRAWS = 2000
MOST_EXACT = 14  # seeds up to which all signs are tried
ALPHA = 0.05


def accuracy(right: np.ndarray, asked: np.ndarray) -> np.ndarray:
  """right [...,M] and asked [M] or [...,M] -> share of right answers [...]."""
  return right.sum(-1) / np.broadcast_to(asked, right.shape).sum(-1)


def draws(right: np.ndarray, asked: np.ndarray, seed: int = 0, number: int = DRAWS) -> np.ndarray:
  """Accuracies of `number` hierarchical bootstrap samples: seeds are drawn, then images. right [V,S,M] -> [V,D].

  asked int [M], the same for all. All systems are drawn alike, so that a difference of two rows is a paired one: for
  each system the s-th seed is the s-th run, and an image is the same image. Raises UserError for no seed or no image.
  """
  if 0 in right.shape:
    raise UserError(f'comparison: found {right.shape[1]} seeds of {right.shape[2]} images, expected 1 or more of each')
  systems, seeds, images = right.shape
  random = np.random.default_rng(seed)
  found = np.empty((systems, number))
  of_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), number)  # how often each is drawn
  for start in range(0, number, 250):  # 250 draws of 2,000 images: 4 MB
    count = random.multinomial(images, np.full(images, 1 / images), min(250, number - start)).astype(float)
    total = count @ asked
    part = np.einsum('DM,VSM->VDS', count, right, optimize=True) / total[None, :, None]
    found[:, start : start + len(count)] = (part * of_seeds[start : start + len(count)]).sum(-1) / seeds
  return found


def interval(samples: np.ndarray, mean: float, seeds: int, level: float = 0.95) -> tuple[float, float]:
  """The middle `level` of bootstrap samples [D], its ends moved away from the mean as so few seeds ask for.

  A bootstrap of S seeds is too narrow, by (S - 1) / S in its variance and as a normal distribution is narrower than a
  t: for ten seeds by 1.2, for three by 2.7. One seed says nothing of others, and its interval is that of its images.
  """
  low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
  tail = (1 + level) / 2
  wider = np.sqrt(seeds / (seeds - 1)) * stats.t(seeds - 1).ppf(tail) / stats.norm.ppf(tail) if seeds > 1 else 1.0
  return float(mean + wider * (low - mean)), float(mean + wider * (high - mean))


def sign_flip(differences: np.ndarray) -> float:
  """Two-sided p of paired differences [S] under the hypothesis that each could as well have the other sign.

  Exact up to MOST_EXACT seeds, else of 2**MOST_EXACT random signs. The smallest there can be is 2 / 2**S: with five
  seeds 0.06, so that nothing can be shown; with ten 0.002.
  """
  seeds = len(differences)
  if seeds <= MOST_EXACT:
    signs = np.array(list(itertools.product((1, -1), repeat=seeds)))
  else:
    signs = np.random.default_rng(0).choice((1, -1), (2**MOST_EXACT, seeds))
    signs[0] = 1
  sums = np.abs(signs @ differences)
  return float((sums >= np.abs(differences.sum()) - 1e-12).mean())


def holm(p: Sequence[float]) -> list[float]:
  """p values, corrected for their number (Holm 1979): of those at most ALPHA, any is false in ALPHA of cases."""
  order = np.argsort(p, kind='stable')
  corrected, highest = [0.0] * len(p), 0.0
  for rank, n in enumerate(order):
    highest = max(highest, min(1.0, (len(p) - rank) * p[n]))
    corrected[n] = highest
  return corrected


def profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
  """Performance profile: the share of runs [S] that reach each threshold, [T]."""
  return (scores[None] >= thresholds[:, None]).mean(1)


def can_show(seeds: int, tests: int) -> bool:
  """Whether the smallest p that `sign_flip` gives for so many seeds survives `holm` among so many tests."""
  return tests * 2 / 2**seeds <= ALPHA


def detectable(differences: np.ndarray, tests: int = 1, power: float = 0.8) -> float | None:
  """The smallest mean difference that a paired t test of so many seeds finds in `power` of cases; None where none is.

  differences [S]: their spread is taken as it is. tests: the strictest level that Holm asks of so many comparisons.
  """
  seeds = len(differences)
  if not can_show(seeds, tests):
    return None
  t = stats.t(seeds - 1)
  return float((t.ppf(1 - ALPHA / tests / 2) + t.ppf(power)) * differences.std(ddof=1) / np.sqrt(seeds))


def against(right: Mapping[str, np.ndarray], asked: np.ndarray, reference: str, seed: int = 0) -> dict[str, dict]:
  """Every system beside the reference: {name: its numbers}, in the given order. right {name: [S,M]}, asked [M].

  The numbers: 'accuracy' [its mean], 'interval', 'seeds' [S]; of all but the reference 'difference', its 'interval'
  as 'difference_interval', 'p' corrected by `holm`, 'detectable', and 'verdict': 'better', 'worse', or 'no difference
  shown', where the interval spans zero or the corrected p is above ALPHA. Raises UserError for an unknown reference.
  """
  if reference not in right:
    raise UserError(f'reference: found {reference!r}, expected one of {", ".join(right)}')
  names = list(right)
  runs = {name: accuracy(right[name], asked) for name in names}
  samples = dict(zip(names, draws(np.stack([right[name] for name in names]), asked, seed), strict=True))
  count = len(runs[reference])
  within = lambda name: tuple(
    min(max(end, 0.0), 1.0) for end in interval(samples[name], float(runs[name].mean()), count)
  )
  found: dict[str, dict] = {
    name: {'accuracy': float(runs[name].mean()), 'interval': within(name), 'seeds': runs[name].tolist()}
    for name in names
  }
  others = [name for name in names if name != reference]
  corrected = holm([sign_flip(runs[name] - runs[reference]) for name in others])
  for name, p in zip(others, corrected, strict=True):
    differences, of_draws = runs[name] - runs[reference], samples[name] - samples[reference]
    low, high = interval(of_draws, float(differences.mean()), count)
    shown = p <= ALPHA and not low <= 0 <= high
    found[name] |= {
      'difference': float(differences.mean()),
      'difference_interval': (low, high),
      'p': p,
      'detectable': detectable(differences, len(others)),
      'verdict': ('better' if differences.mean() > 0 else 'worse') if shown else 'no difference shown',
    }
  return found
