"""Twemoji: 1,911 pictures of 32 x 32 with a name and keywords, 15 of them without further keywords.

Pictures are Twitter's (CC-BY 4.0), names and keywords emojilib's (MIT); twemoji.npz was made of both by
`twemoji_file.py`. Many pictures are of one concept (a woman, a man and a person at the same work, the hours of a clock,
the flags of all countries), so a split never has a part of one: see `concepts`. Pictures of some categories are held
out as a whole, for zero-shot classification.
"""

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mmjax.errors import UserError

SIDE = 32  # pixels
COLUMNS = ('name', 'keywords', 'category', 'subcategory')  # beside the images
FILE = Path(__file__).parent / 'twemoji.npz'
WHOLE = {  # categories that are one concept
  'country-flag': 'flags', 'subdivision-flag': 'flags', 'flag': 'flags', 'keycap': 'keycaps', 'skin-tone': 'skin tones',
  'family': 'family', 'arrow': 'arrows', 'geometric': 'shapes',
}  # fmt: skip
SAME = 0.005  # mean squared difference of two pictures, of 0..1, below which they are of one concept
HELD_OUT = {  # category -> its name as a label
  'animal-bird': 'bird', 'clothing': 'clothing', 'drink': 'drink', 'face-smiling': 'smiling face',
  'food-fruit': 'fruit', 'musical-instrument': 'musical instrument', 'place-building': 'building',
  'plant-flower': 'flower', 'transport-water': 'boat', 'zodiac': 'zodiac sign',
}  # fmt: skip
SPLITS = ('train', 'validation', 'test', 'unseen')  # the last one is of the categories that are held out
_PEOPLE = re.compile(r'\b(man|woman|person|men|women|people|male|female|boy|girl)\b')
_ALIKE = re.compile(r' (o clock)$| (thirty)$|\b(moon|medal|umbrella)\b')  # names of one concept


def read(file: Path = FILE) -> dict[str, np.ndarray]:
  """'image' uint8 [M,32,32,3], and str [M]: 'name', 'keywords' (with '|' between them), 'category', 'subcategory'.

  Raises UserError for a file that holds something else.
  """
  try:
    found = np.load(file, allow_pickle=False)
    if isinstance(found, np.ndarray):
      raise UserError(f'{file}: found one array, expected pairs as `python -m mmjax.data.pairs_file` makes them')
    with found:
      rows = dict(found)
  except (OSError, ValueError, zipfile.BadZipFile) as error:
    raise UserError(f'{file}: {error}; expected pairs as `python -m mmjax.data.pairs_file` makes them') from error
  kinds = {'image': (np.uint8, (SIDE, SIDE, 3))} | {column: (np.str_, ()) for column in COLUMNS}
  for name, (kind, shape) in kinds.items():
    array = rows.get(name)
    if (
      array is None or array.dtype.type != kind or array.shape != (len(rows.get('name', ())), *shape) or not len(array)
    ):
      what = 'nothing' if array is None else f'{array.dtype} {array.shape}'
      raise UserError(f'{file}: found {what} for {name!r}, expected {np.dtype(kind).name} of shape {("pairs", *shape)}')
  return rows


def examples(rows: dict[str, np.ndarray], concept: np.ndarray, ids: Iterable[int]) -> Iterator[dict[str, Any]]:
  """Those pairs, as TFDS stores them; texts are str."""
  labels = list(HELD_OUT)
  for i in ids:
    keywords, category = str(rows['keywords'][i]), str(rows['subcategory'][i])
    yield {
      'image': rows['image'][i],
      'name': str(rows['name'][i]),
      'keywords': keywords.split('|') if keywords else [],
      'label': labels.index(category) if category in labels else -1,
      'concept': concept[i],
    }


def of_file(file: Path) -> dict[str, list[dict[str, Any]]]:
  """The SPLITS of another file of pairs, as they are read back from disk: texts are bytes.

  Raises UserError where one of them would be empty.
  """
  rows = read(file)
  concept = concepts(rows)
  splits = split_of(rows, concept)
  coded = lambda example: (
    example | {'name': example['name'].encode(), 'keywords': [word.encode() for word in example['keywords']]}
  )
  for split in SPLITS:
    if not (splits == split).any():
      unseen = f'; that split has the subcategories {", ".join(HELD_OUT)}' if split == 'unseen' else ''
      raise UserError(f'{file}: found no pair for {split!r} among {len(splits)}, expected at least one{unseen}')
  return {split: list(map(coded, examples(rows, concept, np.flatnonzero(splits == split)))) for split in SPLITS}


def concepts(rows: dict[str, np.ndarray]) -> np.ndarray:
  """A number for each picture, the same for all of a concept: int [M], the index of its first picture.

  Of one concept are the categories in WHOLE, the names that _ALIKE names (hours of a clock, moons), what has one name
  but for who it is, pictures that differ by less than SAME, and what shares a concept with either.
  """

  def named(name, category):
    alike = _ALIKE.search(name)
    return WHOLE.get(category) or (alike[0] if alike else ' '.join(_PEOPLE.sub('', name).split()) or 'person')

  names = list(map(named, rows['name'].tolist(), rows['subcategory'].tolist()))
  parent = np.arange(len(names))

  def root(i):
    while parent[i] != i:
      i = parent[i]
    return i

  pixels = rows['image'].reshape(len(names), -1).astype(np.float32) / 255
  norms = (pixels**2).sum(1)
  far = (norms[:, None] + norms - 2 * pixels @ pixels.T) / pixels.shape[1]
  first: dict[str, int] = {}
  pairs = [(first.setdefault(name, i), i) for i, name in enumerate(names)] + np.argwhere(
    np.triu(far < SAME, 1)
  ).tolist()
  for a, b in pairs:
    low, high = sorted((root(a), root(b)))
    parent[high] = low
  return np.array([root(i) for i in range(len(names))])


def split_of(rows: dict[str, np.ndarray], concept: np.ndarray) -> np.ndarray:
  """The split of each picture: str [M]. By the concept's name, 80 : 10 : 10; a large concept is in train."""
  result = np.empty(len(concept), '<U10')
  for number in np.unique(concept):
    inside = concept == number
    draw = zlib.crc32(str(rows['name'][number]).encode()) % 10
    result[inside] = 'train' if inside.sum() > 20 else {8: 'validation', 9: 'test'}.get(draw, 'train')
    if set(rows['subcategory'][inside].tolist()) & set(HELD_OUT):
      result[inside] = 'unseen'
  return result


class Twemoji(tfds.core.GeneratorBasedBuilder):
  """TFDS builder of the four SPLITS: image, name, keywords, label (index into HELD_OUT, -1 for other categories), and
  concept (a number, see `concepts`)."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'emoji-datasource-twitter 16.0.0 and emojilib 4.0.3.'}
  url_infos = None  # nothing is downloaded; TFDS looks for checksums otherwise, through importlib_resources

  def _info(self) -> tfds.core.DatasetInfo:
    feature = tfds.features
    return tfds.core.DatasetInfo(
      builder=self,
      description='Emoji with their names and keywords.',
      homepage='https://github.com/iamcal/emoji-data',
      disable_shuffling=True,
      features=feature.FeaturesDict(
        {
          'image': feature.Tensor(shape=(SIDE, SIDE, 3), dtype=np.uint8, encoding=feature.Encoding.BYTES),
          'name': feature.Text(),
          'keywords': feature.Sequence(feature.Text()),
          'label': feature.Scalar(np.int32),
          'concept': feature.Scalar(np.int32),
        }
      ),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
    rows = read()
    concept = concepts(rows)
    splits = split_of(rows, concept)
    return {split: self._generate_examples(rows, concept, np.flatnonzero(splits == split)) for split in SPLITS}

  def _generate_examples(
    self, rows: dict[str, np.ndarray], concept: np.ndarray, ids: np.ndarray
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    return zip(ids.tolist(), examples(rows, concept, ids), strict=True)
