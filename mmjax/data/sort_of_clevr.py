"""Sort-of-CLEVR: six coloured shapes, ten questions about one of them and ten that need the others.

Santoro et al. 2017, arXiv:1706.01427. There are no canonical files: the pictures are drawn here, from fixed seeds, so
that they are the same on every machine and for every training seed. Numbers as in the public reimplementation
kimhc6028/relational-networks, with three differences, so scores are not comparable to the last digit: an object is
never its own neighbour (there a distance of 999 stands in for infinity, but its distances are squared, and 7 % of
objects have their nearest neighbour further off than that); circles follow the rule of CIRCLE; the objects of a picture
come in a random order. A tie of distances goes to the colour named first in COLORS, as there: it decides 0.2 % of the
answers to 'closest' and 0.1 % of those to 'furthest'.

M pictures, R regions (objects, 6), Q questions of a picture (20).
"""

import itertools
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data.drawn import RAW, Drawn, picture
from mmjax.errors import UserError, nearest

COLORS = ('red', 'green', 'blue', 'orange', 'gray', 'yellow')
RGB = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 156, 0), (128, 128, 128), (255, 255, 0)], np.uint8)
SHAPES = ('square', 'circle')
ANSWERS = ('yes', 'no', 'square', 'circle', '0', '1', '2', '3', '4', '5')
GROUPS = {'nonrelational': ('shape', 'left', 'top'), 'relational': ('closest', 'furthest', 'count')}
QUESTION_TYPES = GROUPS['nonrelational'] + GROUPS['relational']
SENTENCE = {
  'shape': 'what shape is the {} object',
  'left': 'is the {} object on the left',
  'top': 'is the {} object at the top',
  'closest': 'what shape is closest to the {} object',
  'furthest': 'what shape is furthest from the {} object',
  'count': "how many others share the {} object's shape",
}
SENTENCES = tuple(SENTENCE[kind].format(color) for color in COLORS for kind in QUESTION_TYPES)  # row 6 * color + type
LENGTH = 10  # tokens of the longest, with [CLS] and [SEP]

SIDE = 75  # pixels of a picture
HALF = 5  # radius of a circle, half side of a square
APART = 10  # least distance of two centres, pixels
QUESTIONS = 10  # of each group, drawn with replacement
SPLITS = {'train': (9800, 1706), 'validation': (500, 1427), 'test200': (200, 200), 'test2000': (2000, 2000)}  # M, seed

_STEP = np.arange(-HALF, HALF + 1)
CIRCLE = _STEP[:, None] ** 2 + _STEP**2 <= (HALF + 0.5) ** 2  # the 97 pixels whose centre lies in the disc 11 wide
STAMP = np.stack([np.ones_like(CIRCLE), CIRCLE])  # bool [2,11,11], in the order of SHAPES


class Scene(NamedTuple):
  """Pictures as numbers, objects in the order of COLORS.

  center [M,6,2] int, x y in 5..69; shape [M,6] int, index into SHAPES. One picture alone: without M.
  """

  center: np.ndarray
  shape: np.ndarray


def sentence(color: str, question_type: str) -> str:
  """The question in words, such as 'what shape is the red object'; two str. Raises UserError for an unknown one."""
  for what, word, known in (('color', color, COLORS), ('question type', question_type, QUESTION_TYPES)):
    if word not in known:
      raise UserError(f'{what} {word!r} is unknown{nearest(word, known)}')
  return SENTENCE[question_type].format(color)


def answers(scene: Scene) -> np.ndarray:
  """The answer to every question about every picture: Scene of M pictures -> int [M,color,type], index into ANSWERS."""
  center, shape = scene
  squared = ((center[:, :, None] - center[:, None]) ** 2).sum(-1)  # [M,R,R], >= 100 off the diagonal
  others = np.where(np.eye(len(COLORS), dtype=bool), np.iinfo(squared.dtype).max, squared)
  named = ANSWERS.index(SHAPES[0]) + shape
  no = center >= SIDE / 2  # yes is 0, no is 1
  return np.stack(
    [
      named,
      no[..., 0],
      no[..., 1],
      np.take_along_axis(named, others.argmin(-1), 1),
      np.take_along_axis(named, squared.argmax(-1), 1),
      ANSWERS.index('0') + (shape[:, :, None] == shape[:, None]).sum(-1) - 1,  # the object itself is left out
    ],
    -1,
  )


def solve(scene: Scene, color: str, question_type: str) -> str:
  """The answer to one question about one picture: Scene without M, two str -> str of ANSWERS. Raises UserError."""
  sentence(color, question_type)
  table = answers(Scene(np.asarray(scene.center)[None], np.asarray(scene.shape)[None]))
  return ANSWERS[table[0, COLORS.index(color), QUESTION_TYPES.index(question_type)]]


def scenes(number: int, rng: np.random.RandomState) -> Scene:
  """Draws a Scene of `number` pictures; rng: np.random.RandomState.

  One object after the other: its centre is uniform in [5, 70) and drawn again until it is APART from those before it;
  square or circle with equal chance.
  """
  center = np.zeros((number, len(COLORS), 2), np.int64)
  for r in range(len(COLORS)):
    todo = np.arange(number)
    while todo.size:
      center[todo, r] = rng.randint(HALF, SIDE - HALF, size=(todo.size, 2))
      squared = ((center[todo, :r] - center[todo, r, None]) ** 2).sum(-1)
      todo = todo[(squared < APART**2).any(-1)]
  return Scene(center, rng.randint(len(SHAPES), size=(number, len(COLORS))))


def draw(scene: Scene) -> np.ndarray:
  """Scene of M pictures -> uint8 [M,75,75,3] on white; where two objects overlap, the later colour is above."""
  center, shape = scene
  image = np.full((len(center), SIDE, SIDE, 3), 255, np.uint8)
  for r, rgb in enumerate(RGB):
    m, y, x = np.nonzero(STAMP[shape[:, r]])
    image[m, center[m, r, 1] + y - HALF, center[m, r, 0] + x - HALF] = rgb
  return image


def crop(image: np.ndarray, center: np.ndarray) -> np.ndarray:
  """The 11x11 pixels around centres: image uint8 [M,75,75,3], center int [M,R,2] -> uint8 [M,R,11,11,3]."""
  x, y = center[..., 0, None, None] + _STEP, center[..., 1, None, None] + _STEP[:, None]
  return image[np.arange(len(image))[:, None, None, None], y, x]


def box(center: np.ndarray) -> np.ndarray:
  """Centres int [...,2] -> float32 [...,4]: x1 y1 x2 y2 of the 11x11 pixels, in 0..1."""
  return (np.concatenate([center - HALF, center + HALF + 1], -1) / SIDE).astype(np.float32)


def generate(number: int, seed: int) -> tuple[dict[str, np.ndarray], Scene]:
  """Draws M = number pictures with questions: (dict of arrays [M,...] named as the features of SortOfClevr, Scene).

  RandomState, because its streams are frozen for good (NEP 19): no release of numpy changes the data.
  """
  rng = np.random.RandomState(seed)
  scene = scenes(number, rng)
  image, each = draw(scene), np.arange(number)[:, None]
  order = rng.rand(number, len(COLORS)).argsort(-1)  # so that the place in the list tells nothing
  center = scene.center[each, order]
  asked = rng.randint(len(COLORS), size=(number, 2 * QUESTIONS))
  kind = rng.randint(3, size=(number, 2 * QUESTIONS)) + np.repeat([0, 3], QUESTIONS)
  return {
    'image': image,
    'boxes': box(center),
    'crops': crop(image, center),
    'color': order.astype(np.int32),
    'shape': scene.shape[each, order].astype(np.int32),
    'question': np.array(SENTENCES)[asked * len(QUESTION_TYPES) + kind],
    'question_type': kind.astype(np.int32),
    'answer': answers(scene)[each, asked, kind].astype(np.int32),
  }, scene


def find_regions(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The six objects of a bare picture, by colour, in the order of COLORS.

  image uint8 [75,75,3] -> boxes float32 [6,4], x1 y1 x2 y2 in 0..1; crops uint8 [6,11,11,3]. The place of an object
  with two opposite rims hidden is known to a pixel or two only. Raises UserError for any other kind of picture.
  """
  image = np.asarray(image)
  if image.shape != (SIDE, SIDE, 3) or image.dtype != np.uint8:
    raise UserError(
      f'picture: expected Sort-of-CLEVR, uint8 of shape ({SIDE}, {SIDE}, 3), found {image.dtype} of shape {image.shape}'
    )
  seen = (image[..., None, :] == RGB).all(-1)  # [y,x,color]
  strange = np.argwhere(~seen.any(-1) & (image != 255).any(-1))
  if strange.size:
    y, x = strange[0]
    raise UserError(
      'picture: expected the six colours of Sort-of-CLEVR on white, found '
      f'RGB {tuple(image[y, x].tolist())} at x {x} y {y}'
    )
  center = np.stack([_place(seen[..., r], seen[..., r + 1 :].any(-1), color) for r, color in enumerate(COLORS)])
  return box(center), crop(image[None], center[None])[0]


def _place(own: np.ndarray, cover: np.ndarray, color: str) -> np.ndarray:
  """The centre int [2] (x y) whose stamp holds all pixels of `own` and else only some of `cover`; both bool [y,x]."""
  y, x = np.nonzero(own)
  if not x.size:
    raise UserError(f'picture: expected one {color} object, found none')
  spans = [range(max(HALF, at.max() - HALF), min(SIDE - 1 - HALF, at.min() + HALF) + 1) for at in (x, y)]
  fits = []
  for cx, cy in itertools.product(*spans):
    window = np.s_[cy - HALF : cy + HALF + 1, cx - HALF : cx + HALF + 1]
    if any((own[window] <= stamp).all() and (stamp <= (own | cover)[window]).all() for stamp in STAMP):
      fits.append((cx, cy))
  if not fits:
    raise UserError(
      f'picture: expected one {color} square or circle {2 * HALF + 1} pixels wide, found {x.size} '
      f'{color} pixels of another form'
    )
  places = np.array(fits)
  return places[((places - places.mean(0)) ** 2).sum(-1).argmin()]  # the middle one


class SortOfClevr(Drawn):
  """TFDS builder of train 9,800, validation 500, test200 200 (the size of the paper) and test2000 2,000 pictures."""

  SPLITS = SPLITS
  DESCRIPTION = 'Pictures of six coloured shapes with relational and non-relational questions.'
  HOMEPAGE = 'https://arxiv.org/abs/1706.01427'

  def features(self) -> dict[str, Any]:
    feature, regions, questions, crop = tfds.features, len(COLORS), 2 * QUESTIONS, 2 * HALF + 1
    return {
      'image': picture(SIDE),
      'boxes': feature.Tensor(shape=(regions, 4), dtype=np.float32),
      'crops': feature.Tensor(shape=(regions, crop, crop, 3), dtype=np.uint8, encoding=RAW),
      'color': feature.Tensor(shape=(regions,), dtype=np.int32),
      'shape': feature.Tensor(shape=(regions,), dtype=np.int32),
      'question': feature.Sequence(feature.Text(), length=questions),
      'question_type': feature.Tensor(shape=(questions,), dtype=np.int32),
      'answer': feature.Tensor(shape=(questions,), dtype=np.int32),
    }

  def draw(self, split: str, number: int, seed: int) -> dict[str, np.ndarray]:
    return generate(number, seed)[0]
