"""Products that are drawn, and wishes about them: a picture, what should be different, and a picture of what is wanted.

Every product is a kind, a colour, a pattern and a size, so that what answers a wish is known. Pictures are drawn here,
from fixed seeds, each at a place and in a light of its own: no picture of a test is one of training. Some products are
in no training picture at all.

M wishes; attributes are int [...,4], indices into KINDS, COLORS, PATTERNS and SIZES.
"""

import itertools
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw

from mmjax.data.drawn import Drawn, picture

KINDS = ('shirt', 'mug', 'bag', 'lamp')
COLORS = ('red', 'green', 'blue', 'orange', 'purple', 'black')
RGB = ((214, 40, 40), (34, 139, 74), (38, 84, 200), (245, 140, 20), (130, 50, 160), (30, 30, 34))
PATTERNS = ('plain', 'striped', 'dotted')
SIZES = ('small', 'large')
ATTRIBUTES = {'kind': KINDS, 'colour': COLORS, 'pattern': PATTERNS, 'size': SIZES}
SIDE = 32  # pixels
LIGHT = 24  # how much darker a picture can be, in each colour
LENGTH = 12  # tokens of a wish, with [CLS] and [SEP]
SPLITS = {'train': (8000, 4201), 'validation': (500, 4202), 'test': (1000, 4203), 'unseen': (500, 4204)}  # M, seed
HELD_OUT = 6  # of that many products one is wanted in 'unseen' alone

EVERY = np.array(list(itertools.product(*(range(len(values)) for values in ATTRIBUTES.values()))))


def held_out(attributes: np.ndarray) -> np.ndarray:
  """Which products int [...,4] are in no training picture: bool [...]."""
  kind, colour, pattern, size = np.moveaxis(attributes, -1, 0)
  return (kind + 2 * colour + 3 * pattern + size) % HELD_OUT == 0


def wish(attributes: np.ndarray, wanted: np.ndarray) -> str:
  """What should be different, in words: 'in blue and striped'. '' where nothing is."""
  kind, colour, pattern, size = wanted
  words = [f'as a {KINDS[kind]}', f'in {COLORS[colour]}', PATTERNS[pattern], SIZES[size]]
  return ' and '.join(word for word, a, b in zip(words, attributes, wanted) if a != b)


def draw(attributes: np.ndarray, corner: np.ndarray, light: np.ndarray) -> np.ndarray:
  """A product int [4] whose upper left corner is at corner int [2], x y -> uint8 [32,32,3] on light grey.

  light: int [3], what is taken from all red, green and blue.
  """
  kind, colour, pattern, size = attributes.tolist()
  side = (15, 23)[size]
  shape = Image.new('L', (side, side), 0)
  _outline(ImageDraw.Draw(shape), KINDS[kind], side - 1)
  paint = Image.new('RGB', (side, side), RGB[colour])
  pen = ImageDraw.Draw(paint)
  for at in range(2, side, 5):
    if PATTERNS[pattern] == 'striped':
      pen.rectangle((0, at, side, at + 1), fill='white')
    elif PATTERNS[pattern] == 'dotted':
      for across in range(2, side, 5):
        pen.rectangle((across, at, across + 1, at + 1), fill='white')
  image = Image.new('RGB', (SIDE, SIDE), (236, 236, 240))
  image.paste(paint, tuple(corner.tolist()), shape)
  return np.maximum(np.asarray(image, int) - light, 0).astype(np.uint8)


def _outline(pen: ImageDraw.ImageDraw, kind: str, s: int) -> None:
  """The form of a kind, on a square of s pixels."""
  if kind == 'shirt':
    corners = (2, 0), (6, 0), (8, 2), (7, 4), (6, 3), (6, 8), (2, 8), (2, 3), (1, 4), (0, 2)
    pen.polygon([(s * x / 8, s * y / 8) for x, y in corners], fill=255)
  elif kind == 'mug':
    pen.rectangle((0, s * 0.15, s * 0.68, s), fill=255)
    pen.ellipse((s * 0.5, s * 0.3, s, s * 0.8), outline=255, width=max(2, s // 8))
  elif kind == 'bag':
    pen.rectangle((0, s * 0.4, s, s), fill=255)
    pen.arc((s * 0.25, 0, s * 0.75, s * 0.8), 180, 360, fill=255, width=max(2, s // 9))
  else:
    pen.polygon([(s * 0.3, 0), (s * 0.7, 0), (s, s * 0.5), (0, s * 0.5)], fill=255)
    pen.rectangle((s * 0.42, s * 0.5, s * 0.58, s * 0.9), fill=255)
    pen.rectangle((s * 0.2, s * 0.88, s * 0.8, s), fill=255)


def generate(number: int, seed: int, unseen: bool) -> dict[str, np.ndarray]:
  """Draws `number` wishes: 'image', 'wanted_image', 'attributes', 'wanted' and 'text' [M].

  One or two attributes differ. unseen: what is wanted is of the products that are held out; what is shown first never
  is.
  """
  rng = np.random.RandomState(seed)  # its streams are frozen for good (NEP 19)
  known = EVERY[~held_out(EVERY)]
  shown = known[rng.randint(len(known), size=number)]
  wanted = np.empty_like(shown)
  for n, one in enumerate(shown):
    differ = (one != EVERY).sum(1)
    near = EVERY[(differ >= 1) & (differ <= 2) & (held_out(EVERY) == unseen)]
    wanted[n] = near[rng.randint(len(near))]

  def taken(one):
    corner = rng.randint(0, SIDE - (15, 23)[one[3]] + 1, size=2)
    return draw(one, corner, rng.randint(0, LIGHT, size=3))

  return {
    'image': np.stack([taken(one) for one in shown]),
    'wanted_image': np.stack([taken(one) for one in wanted]),
    'attributes': shown.astype(np.int32),
    'wanted': wanted.astype(np.int32),
    'text': np.array([wish(a, b) for a, b in zip(shown, wanted)]),
  }


class Products(Drawn):
  """TFDS builder of train 8,000, validation 500 and test 1,000 wishes, and 500 for products that are held out."""

  VERSION = tfds.core.Version('1.1.0')
  RELEASE_NOTES: ClassVar[dict[str, str]] = {'1.1.0': 'Pictures have a light each.', '1.0.0': 'First release.'}
  SPLITS = SPLITS
  DESCRIPTION = 'Pictures of products, what should be different, and pictures of what is wanted.'

  def features(self) -> dict[str, Any]:
    attributes = tfds.features.Tensor(shape=(4,), dtype=np.int32)
    pictures = {'image': picture(SIDE), 'wanted_image': picture(SIDE)}
    return pictures | {'attributes': attributes, 'wanted': attributes, 'text': tfds.features.Text()}

  def draw(self, split: str, number: int, seed: int) -> dict[str, np.ndarray]:
    return generate(number, seed, split == 'unseen')
