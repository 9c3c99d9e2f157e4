"""Time series with a class, from files of the .ts format, and four sets of them out of the PyPI package sktime.

The format is that of the UEA and UCR archives (Bagnall et al. 2018, arXiv:1811.00075; Dau et al. 2018,
arXiv:1810.07758): a header of @lines, then a case a line: its dimensions split by ':', the values of each by ',', the
class last. A '?' is a value that is missing. Cases may be of different length, and so may the dimensions of one: what a
shorter one lacks at its end is missing.

BasicMotions, JapaneseVowels, GunPoint and ItalyPowerDemand are read out of the installed package's files, with the
published splits; sktime itself is not imported.

M cases, T steps, C channels (the format's dimensions).
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmjax.data.files import is_number
from mmjax.errors import UserError, nearest

SETS = {  # name -> (channels, classes, training cases, test cases)
  'BasicMotions': (6, 4, 40, 40),
  'JapaneseVowels': (12, 9, 270, 370),
  'GunPoint': (1, 2, 50, 150),
  'ItalyPowerDemand': (1, 2, 67, 1029),
}
YES_NO = ('timestamps', 'missing', 'univariate', 'equallength')  # keys of the header with true or false, small letters
NUMBERS = ('dimensions', 'serieslength')
KEYS = ('problemname', *YES_NO, *NUMBERS, 'classlabel', 'data')
FOLDER = 'sktime/datasets/data'


class Cases(NamedTuple):
  """What a file has: name, values (M float32 [T,C], NaN where a value is missing), label int [M], classes in order."""

  name: str
  values: list[np.ndarray]
  label: np.ndarray
  classes: tuple[str, ...]


def read_ts(path: str | Path) -> Cases:
  """The cases of a .ts file. Raises UserError, with the file and the line, for what is not of the format.

  Time stamps and files without classes are refused too.
  """
  path = Path(path)
  try:
    lines = path.read_text(encoding='utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'{path}: cannot be read ({getattr(error, "strerror", None) or "no text"})') from error
  head: dict[str, str] = {}
  values: list[np.ndarray] = []
  labels: list[str] = []
  for number, line in enumerate(lines, 1):
    where, line = f'{path}:{number}', line.strip()
    if not line or line[0] in '#%':
      continue
    if 'data' in head:
      found, label = _case(where, line, head, len(values[0][0]) if values else None)
      values.append(found)
      labels.append(label)
    elif line.startswith('@'):
      key, _, value = line[1:].partition(' ')
      head[_known(where, key)] = value.strip()
      if key.lower() == 'data':
        _check(where, head)
    else:
      raise UserError(f'{where}: found a case before @data, expected a header')
  if not values:
    raise UserError(f'{path}: found no case, expected a header, @data and a case a line')
  if head.get('equallength') == 'true' and len({len(case) for case in values}) > 1:
    raise UserError(f'{path}: found cases of different length, expected one as @equalLength true says')
  classes = tuple(head['classlabel'].split()[1:])
  name = head.get('problemname') or path.stem
  return Cases(name, values, np.array([classes.index(label) for label in labels], np.int32), classes)


def _known(where: str, key: str) -> str:
  if key.lower() not in KEYS:
    raise UserError(f'{where}: found @{key}, expected one of @{", @".join(KEYS)}{nearest(key.lower(), KEYS)}')
  return key.lower()


def _check(where: str, head: dict[str, str]) -> None:
  """What a header says, before any case is read."""
  for key in YES_NO:
    head[key] = head.get(key, '').lower()
    if head[key] not in ('true', 'false', ''):
      raise UserError(f'{where}: found @{key} {head[key]}, expected true or false')
  for key in NUMBERS:
    if key in head and not head[key].isdigit():
      raise UserError(f'{where}: found @{key} {head[key]!r}, expected a number')
  if head['timestamps'] == 'true':
    raise UserError(f'{where}: found @timeStamps true, expected false: series with time stamps are not read here')
  label = head.get('classlabel', '').split()
  if len(label) < 2 or label[0].lower() != 'true':
    raise UserError(f'{where}: found @classLabel {" ".join(label) or "nowhere"}, expected true and the classes')


def _case(where: str, line: str, head: dict[str, str], channels: int | None) -> tuple[np.ndarray, str]:
  """(values [T,C], label) of a line."""
  *parts, label = line.split(':')
  label, classes = label.strip(), head['classlabel'].split()[1:]
  if label not in classes:
    raise UserError(f'{where}: found class {label[:40]!r}, expected one of {tuple(classes)}{nearest(label, classes)}')
  wanted = int(head['dimensions']) if 'dimensions' in head else 1 if head['univariate'] == 'true' else channels
  if not parts or wanted not in (None, len(parts)):
    raise UserError(f'{where}: found {len(parts)} dimensions before the class, expected {wanted or "some"}')
  numbers = [_numbers(where, part, head['missing']) for part in parts]
  steps = max(map(len, numbers))
  if 'serieslength' in head and head['equallength'] == 'true' and steps != int(head['serieslength']):
    raise UserError(f'{where}: found {steps} steps, expected {head["serieslength"]} as @seriesLength says')
  found = np.full((steps, len(parts)), np.nan, np.float32)
  for n, column in enumerate(numbers):
    found[: len(column), n] = column
  return found, label


def _numbers(where: str, part: str, missing: str) -> np.ndarray:
  """The values of one dimension."""
  words = [word.strip() for word in part.split(',')]
  if any(word.startswith('(') for word in words):
    raise UserError(f'{where}: found a time stamp, {words[0][:20]!r}, expected values alone')
  if '?' in words and missing == 'false':
    raise UserError(f'{where}: found a missing value, expected none as @missing false says')
  try:
    found = np.array(['nan' if word == '?' else word for word in words], np.float32)
  except ValueError:
    odd = next(word for word in words if word != '?' and not is_number(word))
    raise UserError(f'{where}: found {odd[:40]!r}, expected a number or ?') from None
  known = np.array([word != '?' for word in words])
  if not np.isfinite(found[known]).all():
    raise UserError(f'{where}: found {words[int(np.argmax(known & ~np.isfinite(found)))]!r}, expected a number or ?')
  return found


def load(name: str, folders: Sequence[str] | None = None) -> dict[str, Cases]:
  """'train' and 'test' of one of SETS, as published.

  folders: where to look for the package, those that Python looks in where not given. Raises UserError for an unknown
  set, where the package is missing, and where its files are not those of the set.
  """
  if name not in SETS:
    raise UserError(f'data set: found {name!r}, expected one of {tuple(SETS)}{nearest(name, SETS)}')
  places = [Path(folder or '.') / FOLDER for folder in (sys.path if folders is None else folders)]
  place = next((place for place in places if place.is_dir()), None)
  if place is None:
    raise UserError(f'{name} comes in a Python package that is missing: pip install --no-deps sktime==1.2.0')
  found = {split: read_ts(place / name / f'{name}_{split.upper()}.ts') for split in ('train', 'test')}
  sizes = (found['train'].values[0].shape[1], len(found['train'].classes), *(len(c.values) for c in found.values()))
  if sizes != SETS[name] or found['train'].classes != found['test'].classes:
    raise UserError(
      f'{place / name}: found {sizes} channels, classes, training and test cases, expected {SETS[name]}; '
      'pip install --no-deps sktime==1.2.0'
    )
  return found


def held_out(label: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """(which to train on, which to validate on) of label int [M]: places in order, that share of each class drawn.

  Of each class at least one is left on either side. Raises UserError for a share that is not between 0 and 1, and for
  a class of a single case.
  """
  if not 0 < share < 1:
    raise UserError(f'share held out: found {share}, expected more than 0 and less than 1')
  rng, kept = np.random.default_rng(seed), []
  for one in np.unique(label):
    of = np.flatnonzero(label == one)
    if len(of) < 2:
      raise UserError(f'class {one}: found 1 case, expected at least 2 to hold one out')
    kept.append(rng.permutation(of)[: min(max(round(share * len(of)), 1), len(of) - 1)])
  out = np.sort(np.concatenate(kept))
  return np.setdiff1d(np.arange(len(label)), out), out


def statistics(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
  """(mean, deviation) of each channel over all steps of all cases [T,C]; what is missing counts for nothing.

  float32 [C] each; the deviation of a channel that does not change is 1. Raises UserError for a channel of which
  nothing was measured.
  """
  every = np.concatenate(values).astype(np.float64)
  if np.isnan(every).all(0).any():
    raise UserError(f'channel {int(np.argmax(np.isnan(every).all(0)))}: found no value at all, expected some')
  deviation = np.nanstd(every, 0)
  return np.nanmean(every, 0).astype(np.float32), np.where(deviation > 0, deviation, 1).astype(np.float32)


def padded(
  values: Sequence[np.ndarray], length: int, mean: np.ndarray | float = 0.0, deviation: np.ndarray | float = 1.0
) -> dict[str, np.ndarray]:
  """Cases as arrays: 'series' float32 [M,length,C], normalised, and 'seen' bool, likewise: which values there are.

  What is missing, and what stands behind the last step, is 0 and not seen. Raises UserError for a case that is longer.
  """
  longest = max(map(len, values))
  if longest > length:
    raise UserError(f'series: found one of {longest} steps, expected at most {length}')
  seen = np.zeros((len(values), length, values[0].shape[1]), bool)
  series = np.zeros(seen.shape, np.float32)
  for n, case in enumerate(values):
    seen[n, : len(case)] = ~np.isnan(case)
    series[n, : len(case)] = np.where(np.isnan(case), 0, (case - mean) / deviation)
  return {'series': series, 'seen': seen}
