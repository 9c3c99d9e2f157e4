"""Word vectors in text, as GloVe (Pennington et al. 2014) and word2vec (Mikolov et al. 2013) have them -> a table.

A line is a word and its numbers, with spaces between; word2vec has a first line 'count size'. Words of glove.840B may
hold spaces themselves, so numbers are taken from the end of a line.

V words of a vocabulary, D numbers of a vector.
"""

import gzip
import os
import zlib
from collections.abc import Sequence

import numpy as np

from mmjax.data.files import is_number
from mmjax.errors import UserError


def read(
  path: str | os.PathLike, vocabulary: Sequence[str], size: int = 0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """The vectors of a vocabulary, in its order -> (table float32 [V,D], found bool [V]: which words the file has).

  Words are compared as they are, capitals too; of a word that stands twice the first counts. Rows of words that the
  file lacks are drawn from a normal distribution around 0, as wide as all numbers that were found, from `seed`. Only
  the words asked for are kept: the file may be larger than memory; one that ends in .gz is unpacked on the way.
  size: D; 0: as the file's header says or its first line has. Raises UserError, with the number of the line, for a line
  of another size or with what is no number; for a file with fewer lines than its header says or none of the words.
  """
  row = {word: n for n, word in enumerate(vocabulary)}
  if len(row) != len(vocabulary):
    raise UserError(f'vocabulary of {len(vocabulary)}: found {len(row)} different words, expected each once')
  kept: dict[int, np.ndarray] = {}
  promised, lines = None, 0
  try:
    with gzip.open(path) if str(path).endswith('.gz') else open(path, 'rb') as file:
      for number, raw in enumerate(file, 1):
        line = raw.decode(errors='replace').rstrip()
        if number == 1 and (header := _header(line)):
          promised, told = header
          if size and told != size:
            raise UserError(f'{path}: found vectors of {told} numbers, expected {size}')
          size = told
          continue
        if not line:
          continue
        lines += 1
        size = size or len(line.split(' ')) - 1
        word, *numbers = line.rsplit(' ', size)
        more = word.rpartition(' ')[2] if ' ' in word else ''  # a word may have spaces in it, and no number at its end
        if len(numbers) != size or not size or not word or is_number(more):
          raise UserError(f'{path}, line {number}: found {len(line.split()) - 1} numbers, expected a word and {size}')
        at = row.get(word)
        if at is not None and at not in kept:
          kept[at] = _vector(numbers, f'{path}, line {number}')
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(f'{path}: {getattr(error, "strerror", None) or error}; expected word vectors in text') from error
  if promised is not None and lines != promised:
    raise UserError(f'{path}: found {lines:,} vectors, expected the {promised:,} of its first line')
  if not kept:
    raise UserError(f'{path}: found none of {len(row):,} words, such as {next(iter(row), "")!r}; expected some of them')
  found = np.isin(np.arange(len(row)), list(kept))
  values = np.stack([kept[n] for n in sorted(kept)])
  table = np.random.default_rng(seed).normal(0, values.std(), (len(row), size)).astype(np.float32)
  table[found] = values
  return table, found


def _header(line: str) -> tuple[int, int] | None:
  """'400000 300' -> both numbers; None for another line."""
  parts = line.split()
  return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdecimal() for part in parts) else None


def _vector(numbers: Sequence[str], where: str) -> np.ndarray:
  try:
    vector = np.array([float(number) for number in numbers], np.float32)
  except ValueError as error:
    raise UserError(f'{where}: {error}; expected numbers after the word') from error
  if not np.isfinite(vector).all():
    raise UserError(f'{where}: found a number that is not finite')
  return vector
