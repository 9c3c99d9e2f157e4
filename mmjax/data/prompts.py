"""Spoken prompts of a telephone exchange with their texts: Debian's asterisk-core-sounds-en-wav.

Allison Smith, 2003-2010, CC-BY-SA-3.0: some 550 clips of one speaker in English, 8 kHz, 0.2 to 73 s long. Some thirty
are tones, silence or monkeys, whose text stands in brackets: they are no speech. Some texts were recorded twice.
"""

import dataclasses
import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmjax.errors import UserError

FOLDER = Path('/usr/share/asterisk/sounds/en_US_f_Allison')
TEXTS = Path('/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz')
NAMES = ('core-sounds-en.txt.gz', 'core-sounds-en.txt')  # of the list of texts, where it lies beside the clips
PACKAGES = 'asterisk-core-sounds-en asterisk-core-sounds-en-wav'
RATE = 8000
SHARES = {'test': 0.2, 'validation': 0.1}  # of all texts; the others are those of 'train'
SEED = 5301

DIGITS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
_SIGNS = {'*': ' star ', '#': ' pound ', '%': ' percent '}
_ASIDE = re.compile(r'\[[^]]*\]|<[^>]*>|\([^)]*\)')  # what is said about a clip, not in it
_DIGIT = re.compile(r'(?<!\d)(?<!\d\.)\d(?!\d)')  # one by itself
_SILENT = re.compile(r"[^a-z0-9']+")


@dataclasses.dataclass(frozen=True)
class Clip:
  """name: such as 'digits/1'; path: of its sound; text: as it is written in the list; said: as `spoken` writes it."""

  name: str
  path: Path
  text: str
  said: str

  @property
  def speech(self) -> bool:
    """Whether any word is said; otherwise it is a tone, a noise or silence."""
    return bool(self.said)


def spoken(text: str) -> str:
  """The words of a text in lower case, as a voice says them: 'Press 1, or # [beep]' -> 'press one or pound'.

  Of what is left there are a to z, digits of longer numbers, ' and single spaces. '' where all stands in brackets.
  """
  text = _DIGIT.sub(lambda found: f' {DIGITS[int(found[0])]} ', _ASIDE.sub(' ', text.lower()))
  for sign, word in _SIGNS.items():
    text = text.replace(sign, word)
  return _SILENT.sub(' ', text).strip()


def clips(folder: str = '') -> list[Clip]:
  """All clips that have a text and a sound, in the order of their names.

  folder: with the .wav files in folders as the package has them, and the list of texts beside them; '': where Debian
  puts both. Raises UserError, with the packages to install, where they are missing, and for a line that is no text.
  """
  sounds = Path(folder).expanduser() if folder else FOLDER
  beside = [sounds / name for name in NAMES if (sounds / name).is_file()]
  texts = beside[0] if beside else TEXTS
  for path in (sounds, texts):
    if not path.exists():
      raise UserError(f'{path}: no such {"folder" if path == sounds else "file"}; expected the spoken prompts: '
                      f'apt-get install {PACKAGES}')  # fmt: skip
  found = []
  for number, line in enumerate(_lines(texts), 1):
    if not line.strip() or line.startswith(';'):
      continue
    name, colon, text = line.partition(':')
    if not colon or not name.strip() or not text.strip():
      raise UserError(f'{texts}, line {number}: found {line[:60]!r}, expected "name: text"')
    path = sounds / f'{name.strip()}.wav'
    if path.is_file():
      found.append(Clip(name.strip(), path, text.strip(), spoken(text)))
  if not found:
    raise UserError(f'{sounds}: found no sound of those in {texts}, expected .wav files: apt-get install {PACKAGES}')
  return sorted(found, key=lambda clip: clip.name)


def _lines(path: Path) -> list[str]:
  try:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == '.gz' else content).decode().splitlines()
  except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
    raise UserError(f'{path}: {error}; expected the list of texts of {PACKAGES}') from error


def splits(given: Sequence[Clip]) -> dict[str, list[Clip]]:
  """'train', 'validation' and 'test': clips of speech, of which no text, as it is said, stands in two of them.

  The same texts give the same splits, whatever the order of the clips. Raises UserError for too few texts.
  """
  texts = sorted({clip.said for clip in given if clip.speech})
  counts = {name: round(share * len(texts)) for name, share in SHARES.items()}
  if not all(counts.values()) or len(texts) < 2 * sum(counts.values()):
    raise UserError(f'prompts: found {len(texts)} texts, expected enough for train, validation and test: 5 or more')
  order, start = np.random.RandomState(SEED).permutation(len(texts)), 0  # its streams are frozen for good (NEP 19)
  part = dict.fromkeys(texts, 'train')
  for name, count in counts.items():
    part |= {texts[n]: name for n in order[start : start + count]}
    start += count
  return {
    name: [clip for clip in given if clip.speech and part[clip.said] == name]
    for name in ('train', 'validation', 'test')
  }
