"""Whether a map of a picture means anything: what becomes of a score as its cells go, or come.

Deletion and insertion (Petsiuk et al. 2018, arXiv:1806.07421): cells are taken away in the order of the map, the score
should fall at once; or they are shown one after the other, and it should rise at once. Beside a random order.

M pictures of h x w pixels, P cells of each.
"""

from collections.abc import Callable, Mapping

import numpy as np

from experiments import pairs

ORDERS = 5  # random ones, of which the mean is taken
WAYS, RANDOM = {'deletion': False, 'insertion': True}, 'random order'  # way -> whether cells come


def masked(image: np.ndarray, order: np.ndarray, count: int, blank: np.ndarray, inserted: bool) -> np.ndarray:
  """Pictures uint8 [M,h,w,3] of whose cells the first `count` of order [M,P] are blank, or shown alone."""
  chosen = np.zeros(order.shape, bool)
  np.put_along_axis(chosen, order[:, :count], True, 1)
  side = round(order.shape[1] ** 0.5)
  cells = chosen.reshape(-1, side, side).repeat(image.shape[1] // side, 1).repeat(image.shape[2] // side, 2)
  return np.where((cells == inserted)[..., None], image, blank).astype(np.uint8)


def curve(score: Callable, image: np.ndarray, order: np.ndarray, blank: np.ndarray, inserted: bool) -> np.ndarray:
  """score(pictures) [M] while no cell to all have gone, or come: [P+1,M]."""
  return np.stack([score(masked(image, order, count, blank, inserted)) for count in range(order.shape[1] + 1)])


def area(curve: np.ndarray) -> np.ndarray:
  """The area under curves [P+1,M], each step of equal width: [M]."""
  return (curve[1:] + curve[:-1]).mean(0) / 2


def table(
  score: Callable,
  image: np.ndarray,
  maps: Mapping[str, np.ndarray],
  blank: np.ndarray,
  what: str,
  groups: np.ndarray | None = None,
) -> dict:
  """The table of a report, with its curves. score: uint8 [M,h,w,3] -> [M] in 0..1, of each picture for its own text.

  maps: [M,P]; groups [M]: pictures of one are not independent, see `pairs.mean`.
  """
  rng = np.random.default_rng(0)
  count, cells = next(iter(maps.values())).shape
  orders = {name: [np.argsort(-values, 1, kind='stable')] for name, values in maps.items()}
  orders[RANDOM] = [np.argsort(rng.random((count, cells)), 1) for _ in range(ORDERS)]
  rows = []
  lines: dict[str, dict[str, list[float]]] = {way: {} for way in WAYS}
  for name, several in orders.items():
    row = {'system': name} | ({} if name == RANDOM else {'ours': True})
    for way, inserted in WAYS.items():
      found = np.mean([curve(score, image, order, blank, inserted) for order in several], 0)
      row[way] = pairs.shown('', *pairs.mean(area(found), groups))
      lines[way][name] = (100 * found.mean(1)).round(2).tolist()
    rows.append(row)
  return {
    'title': 'Do the maps mean anything?',
    'columns': ['system', *WAYS],
    'rows': rows,
    'notes': [
      f'{what}, times 100, on average while the {cells} cells of a picture go in the order of the map (deletion: lower '
      f'is better) or come (insertion: higher is better): the area under the curve, of {count} pictures, with 95 % '
      'intervals of this one run.'
    ],
    'lines': {'x': f'cells that went or came, of {cells}', 'y': 'score, times 100', 'panels': lines},
  }
