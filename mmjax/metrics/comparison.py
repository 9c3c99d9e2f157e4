"""Systems compared over seeds: intervals, paired tests, profiles, and what so many seeds can show at all.

As Agarwal et al. 2021 (Deep Reinforcement Learning at the Edge of the Statistical Precipice, arXiv:2108.13264) argue:
intervals in place of single numbers, whole distributions beside means, and no winner where the data name none.

S seeds, M images, D draws of a bootstrap, V systems. Right and asked answers are counted by image, as questions about
one image are not independent.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from mmjax.errors import UserError

DRAWS = 2000
MOST_EXACT = 14  # seeds up to which all signs are tried
ALPHA = 0.05
POWER, TRIED = 0.8, 1000  # of `detectable`, and sets of differences that it is tried out on


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


def interval(samples: np.ndarray, runs: np.ndarray, level: float = 0.95) -> tuple[float, float]:
  """The middle `level` of bootstrap samples [D] of the mean of runs [S], its ends moved away from it for few seeds.

  A bootstrap of S seeds is too narrow, by (S - 1) / S in their variance and as a normal distribution is narrower than a
  t. Of images there are many: their part of the variance is what the samples have beyond that of the seeds, and the
  degrees of freedom of both together are Satterthwaite's (1946). One seed says nothing of others: its interval is that
  of its images.
  """
  tail, seeds = (1 + level) / 2, len(runs)
  low, high = np.quantile(samples, [1 - tail, tail])
  of_samples, of_seeds = samples.var(), runs.var(ddof=1) / seeds if seeds > 1 else 0.0
  wider = 1.0
  if of_seeds > 0 and of_samples > 0:
    whole = of_seeds + max(of_samples - of_seeds * (seeds - 1) / seeds, 0.0)
    freedom = (seeds - 1) * (whole / of_seeds) ** 2
    wider = float(np.sqrt(whole / of_samples) * stats.t(freedom).ppf(tail) / stats.norm.ppf(tail))
  mean = runs.mean()
  return float(mean + wider * (low - mean)), float(mean + wider * (high - mean))


def _signs(seeds: int) -> np.ndarray:
  """Every way of giving S seeds a sign [K,S] up to MOST_EXACT of them, else 2**MOST_EXACT random ones."""
  if seeds <= MOST_EXACT:
    return np.array(list(itertools.product((1, -1), repeat=seeds)))
  signs = np.random.default_rng(0).choice((1, -1), (2**MOST_EXACT, seeds))
  signs[0] = 1
  return signs


def sign_flip(differences: np.ndarray) -> float:
  """Two-sided p of paired differences [S] under the hypothesis that each could as well have the other sign.

  Exact up to MOST_EXACT seeds, else of 2**MOST_EXACT random signs. The smallest there can be is 2 / 2**S: with five
  seeds 0.06, so that nothing can be shown; with ten 0.002.
  """
  sums = np.abs(_signs(len(differences)) @ differences)
  return float((sums >= np.abs(differences.sum()) - 1e-12).mean())


def holm(p: Sequence[float]) -> list[float]:
  """p values, corrected for their number (Holm 1979): of those at most ALPHA, any is false in ALPHA of cases."""
  order = np.argsort(p, kind='stable')
  corrected, highest = [0.0] * len(p), 0.0
  for rank, n in enumerate(order):
    highest = max(highest, min(1.0, (len(p) - rank) * p[n]))
    corrected[n] = highest
  return corrected


def can_show(seeds: int, tests: int) -> bool:
  """Whether the smallest p that `sign_flip` gives for so many seeds survives `holm` among so many tests."""
  return tests * 2 / 2**seeds <= ALPHA


def detectable(differences: np.ndarray, tests: int = 1) -> float | None:
  """The smallest mean difference that `sign_flip` of so many seeds finds in POWER of cases; None where none is.

  differences [S]: their spread is taken as it is, and as that of a normal distribution. tests: the strictest level that
  `holm` asks of so many comparisons.
  """
  seeds = len(differences)
  return _shift(seeds, tests) * float(differences.std(ddof=1)) if can_show(seeds, tests) else None


@functools.cache
def _shift(seeds: int, tests: int) -> float:
  """`detectable` in deviations of the differences, by trying it out on normal ones."""
  signs, z = _signs(seeds), np.random.default_rng(0).normal(size=(TRIED, seeds))
  moved, sums = signs.sum(1)[:, None], signs @ z.T  # of a shift of 1, and of what is shifted [K,TRIED]
  low, high = 0.0, 8.0
  while high - low > 0.005:
    shift = (low + high) / 2
    p = (np.abs(sums + shift * moved) >= np.abs(z.sum(1) + shift * seeds) - 1e-12).mean(0)
    low, high = (low, shift) if (p <= ALPHA / tests).mean() >= POWER else (shift, high)
  return high


def against(right: Mapping[str, np.ndarray], asked: np.ndarray, reference: str, seed: int = 0) -> dict[str, dict]:
  """Every system beside the reference: {name: its numbers}, in the given order. right {name: [S,M]}, asked [M].

  The numbers: 'accuracy' [its mean], 'interval', 'seeds' [S]; of all but the reference 'difference', its 'interval'
  as 'difference_interval', 'p' corrected by `holm`, 'detectable', and 'verdict': 'better', 'worse', or 'no difference
  shown', where the interval spans zero or the corrected p is above ALPHA. Where the reference is not among them, or
  nothing else is, nothing is compared.
  """
  names = list(right)
  runs = {name: accuracy(right[name], asked) for name in names}
  samples = dict(zip(names, draws(np.stack([right[name] for name in names]), asked, seed), strict=True))
  within = lambda name: tuple(min(max(end, 0.0), 1.0) for end in interval(samples[name], runs[name]))
  found: dict[str, dict] = {
    name: {'accuracy': float(runs[name].mean()), 'interval': within(name), 'seeds': runs[name].tolist()}
    for name in names
  }
  others = [name for name in names if name != reference] if reference in right else []
  corrected = holm([sign_flip(runs[name] - runs[reference]) for name in others])
  for name, p in zip(others, corrected, strict=True):
    differences, of_draws = runs[name] - runs[reference], samples[name] - samples[reference]
    low, high = interval(of_draws, differences)
    shown = p <= ALPHA and not low <= 0 <= high
    found[name] |= {
      'difference': float(differences.mean()),
      'difference_interval': (low, high),
      'p': p,
      'detectable': detectable(differences, len(others)),
      'verdict': ('better' if differences.mean() > 0 else 'worse') if shown else 'no difference shown',
    }
  return found
