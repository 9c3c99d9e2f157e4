"""Whether a map of a picture means anything: what becomes of a score as its cells go, or come.

Deletion and insertion (Petsiuk et al. 2018, arXiv:1806.07421): cells are taken away in the order of the map, the score
should fall at once; or they are shown one after the other, and it should rise at once. Beside a random order.

M pictures of h x w pixels, P cells of each.
"""

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from experiments import pairs

ORDERS = 5  # random ones, of which the mean is taken


def masked(image: np.ndarray, order: np.ndarray, count: int, blank: np.ndarray, inserted: bool) -> np.ndarray:
  """Pictures uint8 [M,h,w,3] of whose cells the first `count` of order [M,P] are blank, or shown alone."""
  chosen = np.zeros(order.shape, bool)
  np.put_along_axis(chosen, order[:, :count], True, 1)
  side = round(order.shape[1] ** 0.5)
  cells = chosen.reshape(-1, side, side).repeat(image.shape[1] // side, 1).repeat(image.shape[2] // side, 2)
  return np.where((cells == inserted)[..., None], image, blank).astype(np.uint8)


def area(score: Callable, image: np.ndarray, order: np.ndarray, blank: np.ndarray, inserted: bool) -> np.ndarray:
  """The area under the curve of score(pictures) [M] from no cell to all, each step of equal width: [M]."""
  steps = [score(masked(image, order, count, blank, inserted)) for count in range(order.shape[1] + 1)]
  return np.stack([(a + b) / 2 for a, b in itertools.pairwise(steps)]).mean(0)


def table(score: Callable, image: np.ndarray, maps: Mapping[str, np.ndarray], blank: np.ndarray, what: str) -> dict:
  """The table of a report. score: uint8 [M,h,w,3] -> [M] in 0..1, of each picture for its own text; maps: [M,P]."""
  rng = np.random.default_rng(0)
  count, cells = next(iter(maps.values())).shape
  orders = {name: [np.argsort(-values, 1, kind='stable')] for name, values in maps.items()}
  orders['random order'] = [np.argsort(rng.random((count, cells)), 1) for _ in range(ORDERS)]
  rows = []
  for name, several in orders.items():
    found = {
      column: np.mean([area(score, image, order, blank, inserted) for order in several], 0)
      for column, inserted in (('deletion', False), ('insertion', True))
    }
    cellular = {key: pairs.shown('', *pairs.mean(value)) for key, value in found.items()}
    rows.append({'system': name, **cellular} | ({} if name == 'random order' else {'ours': True}))
  return {
    'title': 'Do the maps mean anything?',
    'columns': ['system', 'deletion', 'insertion'],
    'rows': rows,
    'notes': [
      f'{what}, times 100, on average while the {cells} cells of a picture go in the order of the map (deletion: lower '
      f'is better) or come (insertion: higher is better); of {count} pictures, with 95 % intervals.'
    ],
  }
