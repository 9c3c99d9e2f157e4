"""Scenes told in words: two shapes of Sort-of-CLEVR side by side, and a program that reads a picture back.

Made to be written: whether a picture shows what its text says is not a matter of taste. Pictures are drawn here, from
fixed seeds. Some pairs of objects are in no training text.

M pictures of 32 x 32; a picture's attributes are int [2,2]: colour and shape of what is left, and of what is right.
"""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from numpy.lib.stride_tricks import sliding_window_view

from mmjax.data.drawn import Drawn, picture
from mmjax.data.sort_of_clevr import COLORS, HALF, RGB, SHAPES, STAMP

SIDE, MIDDLE = 32, 16  # pixels
NAMES = tuple(f'{where} {what}' for where in ('left', 'right') for what in ('colour', 'shape'))  # of the attributes
SPLITS = {'train': (8000, 3201), 'validation': (500, 3202), 'test': (1000, 3203), 'unseen': (500, 3204)}  # M, seed
HELD_OUT = 5  # of that many pairs of objects one is in 'unseen' alone
LENGTH = 15  # tokens of a text, with [CLS] and [SEP]
ALIKE = 0.6  # intersection over union of what is seen and a shape, from which on it is one
PAPER = np.array([255, 255, 255])


def sentence(attributes: np.ndarray, right_first: bool = False) -> str:
  """int [2,2] -> 'a red circle on the left and a blue square on the right', or the right one first."""
  article = lambda color: 'an' if color[0] in 'aeiou' else 'a'
  said = [
    f'{article(COLORS[color])} {COLORS[color]} {SHAPES[shape]} on the {side}'
    for (color, shape), side in zip(attributes, ('left', 'right'))
  ]
  return ' and '.join(said[::-1] if right_first else said)


def held_out(attributes: np.ndarray) -> np.ndarray:
  """Which scenes int [...,2,2] are of no training picture: bool [...]. The two colours differ, or there is no scene."""
  left, right = (attributes[..., n, 0] * len(SHAPES) + attributes[..., n, 1] for n in (0, 1))
  return (left + 2 * right) % HELD_OUT == 0


def draw(attributes: np.ndarray, center: np.ndarray) -> np.ndarray:
  """attributes int [M,2,2], center int [M,2,2] (x y of both) -> uint8 [M,32,32,3] on white."""
  image = np.full((len(attributes), SIDE, SIDE, 3), 255, np.uint8)
  for n in (0, 1):
    m, y, x = np.nonzero(STAMP[attributes[:, n, 1]])
    image[m, center[m, n, 1] + y - HALF, center[m, n, 0] + x - HALF] = RGB[attributes[m, n, 0]]
  return image


def read(image: np.ndarray) -> np.ndarray:
  """What a picture shows: uint8 [32,32,3] -> attributes int [2,2], -1 where one cannot be told.

  A pixel is of the colour that is nearest, white included. In each half the most frequent colour is the object's; it is
  the shape that it overlaps most, where intersection over union is at least ALIKE, and none otherwise.
  """
  palette = np.concatenate([PAPER[None], RGB.astype(int)])
  nearest = ((image[..., None, :].astype(int) - palette) ** 2).sum(-1).argmin(-1)
  found = np.full((2, 2), -1)
  for n, half in enumerate((nearest[:, :MIDDLE], nearest[:, MIDDLE:])):
    counts = np.bincount(half.ravel(), minlength=len(palette))[1:]
    if not counts.any():
      continue
    seen = half == 1 + counts.argmax()
    common = np.einsum('yxab,sab->syx', sliding_window_view(seen, STAMP.shape[1:]).astype(int), STAMP.astype(int))
    alike = (common / (seen.sum() + STAMP.sum((1, 2))[:, None, None] - common)).max((1, 2))
    if alike.max() >= ALIKE:
      found[n] = counts.argmax(), alike.argmax()
  return found


def generate(number: int, seed: int, unseen: bool) -> dict[str, np.ndarray]:
  """Draws `number` pictures: 'image', 'attributes' and 'text' str [M]; unseen: of the scenes that are held out."""
  rng = np.random.RandomState(seed)  # its streams are frozen for good (NEP 19)
  pairs = np.array(
    [
      [(a, s), (b, t)]
      for a in range(len(COLORS))
      for s in range(len(SHAPES))
      for b in range(len(COLORS))
      for t in range(len(SHAPES))
      if a != b
    ]
  )
  pairs = pairs[held_out(pairs) == unseen]
  attributes = pairs[rng.randint(len(pairs), size=number)]
  x = rng.randint(HALF, MIDDLE - HALF, size=(number, 2)) + [0, MIDDLE]
  y = rng.randint(HALF, SIDE - HALF, size=(number, 2))
  order = rng.randint(2, size=number)
  return {
    'image': draw(attributes, np.stack([x, y], -1)),
    'attributes': attributes.astype(np.int32),
    'text': np.array([sentence(one, bool(last)) for one, last in zip(attributes, order)]),
  }


class Scenes(Drawn):
  """TFDS builder of train 8,000, validation 500 and test 1,000 pictures, and 500 of pairs that are held out."""

  SPLITS = SPLITS
  DESCRIPTION = 'Two coloured shapes side by side, told in words.'

  def features(self) -> dict[str, Any]:
    attributes = tfds.features.Tensor(shape=(2, 2), dtype=np.int32)
    return {'image': picture(SIDE), 'attributes': attributes, 'text': tfds.features.Text()}

  def draw(self, split: str, number: int, seed: int) -> dict[str, np.ndarray]:
    return generate(number, seed, split == 'unseen')
