"""Predictions with their attention -> what the template and the script of the page need.

L words, R regions, H heads, Q queries, K keys.
"""

import base64
from collections.abc import Mapping

import numpy as np

from mmjax.report.pictures import shown

DIRECTIONS = ('word_to_region', 'region_to_word')
FEW = 12  # regions: up to here each one's weight is always written beside it
STEPS = 65534  # of the fixed-point weights; STEPS + 1 stands for a value that is not finite
SHARED = 0.98  # a row that sums to less is one that attends to more than the regions (or words)


def view(example: Mapping) -> dict:
  """One example as the template shows it; its key 'attention' is for the script.

  example: as for `report.write`. Raises ValueError that names the key, what was found and what was expected.
  """
  image, boxes = np.asarray(example['image']), np.asarray(example['boxes'], np.float32)
  if boxes.ndim != 2 or boxes.shape[1] != 4:
    raise ValueError(f'boxes must be [R,4], found {list(boxes.shape)}')
  if not ((boxes >= -0.01) & (boxes <= 1.01)).all() or (boxes[:, 2:] < boxes[:, :2]).any():
    raise ValueError(f'boxes must be x1 y1 x2 y2 in 0..1, found {boxes.tolist()}')
  boxes, words = boxes.clip(0, 1), list(example['words'])
  answer, prediction = example['answer'], example['prediction']
  attention = {name: _direction(example, name, len(words), len(boxes)) for name in DIRECTIONS}
  return {
    **shown(image),
    'layout': 'cells' if is_grid(boxes) else 'few' if len(boxes) <= FEW else 'many',
    'boxes': _places(boxes),
    'words': words,
    'question': example['question'],
    'type': example['question_type'],
    'answer': answer,
    'prediction': prediction,
    'verdict': 'unknown' if answer is None else 'right' if answer == prediction else 'wrong',
    'probabilities': [(name, float(p)) for name, p in example['probabilities']],
    'attention': attention | {'words': words, 'regions': len(boxes)},
  }


def is_grid(boxes: np.ndarray) -> bool:
  """Whether boxes [R,4] are the cells of a grid that covers the image: of one size, and of area 1 together."""
  sizes = boxes[:, 2:] - boxes[:, :2]
  return len(boxes) > 1 and bool(np.ptp(sizes, axis=0).max() < 0.01 and abs(sizes.prod(1).sum() - 1) < 0.02)


def pack(weights: np.ndarray) -> str:
  """Weights in 0..1 of any shape -> base64 of little-endian uint16, row-major, in steps of 1/STEPS."""
  fixed = np.where(np.isfinite(weights), np.rint(np.nan_to_num(weights).clip(0, 1) * STEPS), STEPS + 1)
  return base64.b64encode(fixed.astype('<u2').tobytes()).decode()


def _direction(example: Mapping, name: str, words: int, regions: int) -> dict | None:
  """The attention of one direction: names of the layers, heads, packed weights, and which layers attend to more."""
  if example[name] is None:
    return None
  weights, names = np.asarray(example[name], np.float32), example['layer_names']
  names = list(names[name] if isinstance(names, Mapping) else names)
  wanted = (words, regions) if name == 'word_to_region' else (regions, words)
  if weights.ndim != 4 or weights.shape[0] != len(names) or weights.shape[2:] != wanted:
    expected = f'[{len(names)},H,{wanted[0]},{wanted[1]}] for layers {names}, {words} words and {regions} regions'
    raise ValueError(f'{name} must be {expected}, found {list(weights.shape)}')
  if (weights < -1e-3).any() or (weights > 1.02).any():  # false for nan: a broken run may still be looked at
    raise ValueError(f'{name} must be softmax weights in 0..1, found {np.nanmin(weights)}..{np.nanmax(weights)}')
  if not weights.size:
    return None
  shared = [bool((layer.sum(-1) < SHARED).any()) for layer in weights]
  return {'layers': names, 'heads': weights.shape[1], 'shared': shared, 'weights': pack(weights)}


def _places(boxes: np.ndarray) -> list[dict]:
  """CSS of each box, an order in which a small one lies above a large one, and of its label above or below it."""
  areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
  above = np.empty(len(boxes), int)
  above[np.argsort(-areas, kind='stable')] = np.arange(len(boxes))
  place = lambda x1, y1, x2, y2: f'left:{x1:.2f}%;top:{y1:.2f}%;width:{x2 - x1:.2f}%;height:{y2 - y1:.2f}%'
  places = []
  for (x1, y1, x2, y2), order in zip(100 * boxes.astype(float), above):
    side, edge = ('below', y2) if y1 < 10 else ('above', y1)
    label = f'left:{(x1 + x2) / 2:.2f}%;top:{edge:.2f}%'
    places.append({'style': f'{place(x1, y1, x2, y2)};z-index:{order + 1}', 'side': side, 'label_style': label})
  return places
