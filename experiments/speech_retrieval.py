"""Speech finds its text and text its speech: CLIP (Radford et al. 2021, arXiv:2103.00020) on spoken prompts.

A clip as a log-mel spectrogram and a text, letter by letter, are each read by a small transformer from scratch; a
second loss asks which letters are heard (CTC, Graves et al. 2006). Searches among clips of which no text was learnt
from, both ways, beside chance and what the length alone tells, and writes a report with the spectrograms.
The prompts come from a Debian package: apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/speech_retrieval.py:prompts'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import dataclasses
import functools
import string
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from tokenizers import Tokenizer

from configs import speech_retrieval as complete
from experiments import pairs, spoken, telling, training
from experiments.spoken import CONTRAST, LENGTH, LETTERS, WAYS, measure, texts
from mmjax import augment, objectives, train
from mmjax.data import files, prompts, sounds, tokens
from mmjax.encoders import mel
from mmjax.encoders.audio import SpectrogramConv
from mmjax.errors import UserError
from mmjax.fusion.layers import FusionStack
from mmjax.layers.embed import Embed
from mmjax.models.clip import CLIP
from mmjax.workdir import open_workdir

SETS = ('prompts',)
ALPHABET = string.ascii_lowercase + string.digits + "'_"  # _ stands between words
BLANK = tokens.SPECIAL.index('[PAD]')  # of CTC
IMPOSSIBLE = 1e4  # the loss of more letters than there are tokens to hear them in, of which nothing is learnt
WINDOW, HOP = 200, 80  # samples of a frame, and between two
ROWS = 32  # clips at a time, where nothing is learnt


class Reader(nn.Module):
  """x [B,N,D], mask [B,N] bool -> (x, [B,E]): a stack over learnt positions, and the mean of what it made."""

  schedule: str
  stream: str
  width: int
  heads: int
  mlp: int
  out: int
  dropout: float

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    x = x + self.param('position', nn.initializers.normal(0.02), x.shape[1:])
    sizes: Any = {'dropout': self.dropout, 'attention_dropout': 0.0, 'scan': False, 'norm': 'pre', 'name': 'stack'}
    stack = FusionStack(self.schedule, self.width, self.heads, self.mlp, **sizes)
    x = nn.LayerNorm(name='norm')(stack({self.stream: x}, {self.stream: mask}, train=train)[self.stream])
    mean = (x * mask[..., None]).sum(1) / jnp.maximum(mask.sum(1, keepdims=True), 1)
    return x, nn.Dense(self.out, use_bias=False, name='project')(mean)


class TextTower(nn.Module):
  """text [B,L] int, text_mask [B,L] bool -> what `Reader` gives."""

  vocab: int
  reader: Reader

  @nn.compact
  def __call__(self, text: jax.Array, text_mask: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    return self.reader(Embed(self.vocab, self.reader.width, init_std=0.02, name='letter')(text), text_mask, train=train)


class SoundTower(nn.Module):
  """(spectrogram [B,T,M], mask [B,T] bool) -> what `Reader` gives."""

  channels: tuple[int, ...]
  reader: Reader

  @nn.compact
  def __call__(self, sound: tuple[jax.Array, jax.Array], *, train: bool) -> tuple[jax.Array, jax.Array]:
    cells = SpectrogramConv(self.reader.width, self.channels, name='cells')
    return self.reader(*cells(*sound, train=train), train=train)


class Speech(nn.Module):
  """text [B,L] int, 0 for padding; sound [B,T,M] float of which the first frames [B] are there.

  Returns what CLIP does, 'image' for the sound, with 'letters' [B,N,V], logits of what is heard, and 'heard' [B,N]
  bool, where a token is.
  """

  clip: CLIP
  vocab: int

  @nn.compact
  def __call__(self, text: jax.Array, sound: jax.Array, frames: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    mask = jnp.arange(sound.shape[1]) < frames[:, None]
    read: Any = (sound, mask)
    out = self.clip(text, read, text > 0, train=train)
    heard = mask[:, :: 2 ** len(self.clip.image.channels)]
    return out | {'letters': nn.Dense(self.vocab, name='letters')(out['v']), 'heard': heard}


def build(c, vocab: int) -> Speech:
  m = c.model
  sizes = (m.width, m.heads, m.mlp, m.out, m.dropout)
  text = TextTower(vocab, Reader(m.text_schedule, 't', *sizes))
  return Speech(CLIP(text, SoundTower(m.channels, Reader(m.sound_schedule, 'a', *sizes))), vocab)


def spelt(said: str) -> str:
  """A text as `tokens` reads it, each letter a word."""
  return ' '.join(said.replace(' ', '_'))


def spectrograms(waves: Sequence[np.ndarray], seconds: float, bins: int) -> tuple[np.ndarray, np.ndarray]:
  """Log-mel spectrograms [M,T,bins] of waves [S], and how many frames [M] each has: 0 of one that is longer."""
  most = int(seconds * prompts.RATE)
  padded, frames = np.zeros((len(waves), most), np.float32), np.zeros(len(waves), np.int32)
  for n, wave in enumerate(waves):
    if WINDOW <= len(wave) <= most:
      padded[n, : len(wave)], frames[n] = wave, 1 + (len(wave) - WINDOW) // HOP
  front = jax.jit(functools.partial(mel.kaldi, rate=prompts.RATE, bins=bins))
  return pairs.in_parts(front, padded, ROWS), frames


@dataclasses.dataclass(frozen=True)
class Task:
  """splits: name -> arrays of its M clips: 'sound' [M,T,bins], 'frames' [M], 'text' [M,L], 'concept' [M] int (the same
  where the text is), 'said', 'words' and 'name' str. left_out: how many clips were too long, or broken."""

  splits: Mapping[str, pairs.Arrays]
  tokenizer: Tokenizer
  left_out: int


def prepare(c) -> Task:
  """Reads all clips of speech. What is normal in a bin, and what deviates, is that of the training clips."""
  training.known_set(c.data.name, SETS)
  tokenizer = tokens.build([spelt(ALPHABET)])
  splits: dict[str, pairs.Arrays] = {}
  left_out = 0
  for name, clips in prompts.splits(prompts.clips(c.data.dir)).items():
    short = {clip.path: clip for clip in clips if len(clip.said) + 2 <= c.data.length}
    waves, kept = files.readable([*short], lambda path: sounds.load(path, prompts.RATE), c.data.broken, 'clip')
    sound, frames = spectrograms(waves, c.data.seconds, c.data.bins)
    fits = np.flatnonzero(frames)
    left_out += len(clips) - len(fits)
    if not len(fits):
      raise UserError(f'--config.data.seconds: found {c.data.seconds}, expected more: no clip of {name} is so short')
    said = [short[kept[n]] for n in fits]
    splits[name] = {
      'sound': sound[fits],
      'frames': frames[fits],
      'text': tokens.encode(tokenizer, [spelt(clip.said) for clip in said], c.data.length),
      'said': np.array([clip.said for clip in said]),
      'words': np.array([clip.text for clip in said]),
      'name': np.array([clip.name for clip in said]),
    }
    splits[name]['concept'] = np.unique(splits[name]['said'], return_inverse=True)[1]
  there = lambda part: np.arange(part['sound'].shape[1]) < part['frames'][:, None]
  learnt = splits['train']['sound'][there(splits['train'])]
  mean, deviation = learnt.mean(0), learnt.std()
  for part in splits.values():
    part['sound'] = np.where(there(part)[..., None], (part['sound'] - mean) / deviation, 0).astype(np.float32)
  return Task(splits, tokenizer, left_out)


def examples(part: pairs.Arrays) -> list[dict[str, np.ndarray]]:
  keys = ('sound', 'frames', 'text')
  return [{key: part[key][n] for key in keys} | {'weight': np.ones((), np.float32)} for n in range(len(part['frames']))]


def drawn(how: Mapping, between: int) -> Callable:
  """What `train.train_step` draws anew of a batch, as the config's `augment` says."""

  def augmented(batch, key):
    pace, gain, join, hide = jax.random.split(key, 4)
    sound, frames = augment.stretched(pace, batch['sound'], batch['frames'], how['pace'])
    there = (jnp.arange(sound.shape[1]) < frames[:, None])[..., None]
    sound += jnp.where(there, how['gain'] * jax.random.uniform(gain, (len(sound), 1, 1), minval=-1), 0)
    batch = augment.joined(join, {**batch, 'sound': sound, 'frames': frames}, how['join'], between)
    widths = (how['hide_time'], how['hide_bins'], how['hide'])
    return {**batch, 'sound': augment.hidden(hide, batch['sound'], batch['frames'], *widths)}

  return augmented


def unlikely(out: Mapping, text: jax.Array) -> jax.Array:
  """-log p(letters of text [B,L] | sound) by CTC, over all ways to lie along the tokens: [B]."""
  label = text[:, 1:]
  off = lambda there: 1.0 - there.astype(jnp.float32)
  return optax.ctc_loss(out['letters'], off(out['heard']), label, off(label >= len(tokens.SPECIAL)), blank_id=BLANK)


def objective(letters: float):
  """CLIP's contrast, and with that weight the mean over rows of a letter's share of `unlikely`."""

  def both(out, batch, axis=None):
    losses, metrics = objectives.contrastive(out, batch, axis)
    if letters:
      count = (batch['text'] >= len(tokens.SPECIAL)).sum(1)
      loss = unlikely(out, batch['text'])
      loss = jnp.where(loss < IMPOSSIBLE, loss, 0) / jnp.maximum(count, 1) * batch['weight']
      losses = losses | {'letters': (loss.sum(), batch['weight'].sum(), letters)}
    return losses, metrics

  return both


def recipe(c, model: Speech) -> train.Recipe:
  given = lambda batch: (batch['text'], batch['sound'], batch['frames'])
  draws = drawn(c.augment.to_dict(), len(tokens.SPECIAL) + sorted(ALPHABET).index('_'))
  return train.recipe(model, objective(c.letters), given, drawn=draws)


@functools.partial(jax.jit, static_argnums=0)
def _apply(model, variables, text, sound, frames):
  return model.apply(variables, text, sound, frames, train=False)


def scores(model: Speech, variables: Mapping, held: pairs.Arrays, letters: bool) -> dict[str, np.ndarray]:
  """How well each of Q `texts` goes with each of M clips, [Q,M]: by the cosine, and by the letters that are heard."""
  given, said = tuple(held[key] for key in ('text', 'sound', 'frames')), texts(held)
  ask = lambda key: pairs.in_parts(lambda rows: _apply(model, variables, *rows)[key], given, ROWS)
  found = {CONTRAST: ask('text')[said] @ ask('image').T}
  if letters:
    out = {key: ask(key) for key in ('letters', 'heard')}
    likely = jax.jit(lambda out, text: -unlikely(out, jnp.tile(text, (len(given[0]), 1))))
    table = np.stack([np.asarray(likely(out, text)) for text in held['text'][said]])
    found[LETTERS] = table / (held['text'][said] >= len(tokens.SPECIAL)).sum(1, keepdims=True)  # else short texts win
  return found


def by_length(task: Task, held: pairs.Arrays) -> np.ndarray:
  """Minus how far a clip's frames are from what a text's letters let expect, on a line through the training clips."""
  letters = lambda text: (text >= len(tokens.SPECIAL)).sum(1)
  learnt = task.splits['train']
  line = np.polyfit(letters(learnt['text']), learnt['frames'], 1)
  return -np.abs(np.polyval(line, letters(held['text'][texts(held)]))[:, None] - held['frames'])


def validate(model: Speech, variables: Mapping, held: pairs.Arrays) -> dict[str, float]:
  """The search in the validation split: the mean R@5 of both ways as 'accuracy', and the scores of text to speech."""
  found = measure(scores(model, variables, held, False)[CONTRAST], held)
  first, second = (pairs.values(found[way]) for way in WAYS)
  return {'accuracy': (first['R@5'] + second['R@5']) / 2} | first


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/speech_retrieval.py')
  task = prepare(c)
  model, held = build(c, task.tokenizer.get_vocab_size()), task.splits['test']
  made, source = recipe(c, model), examples(task.splits['train'])
  first = training.first_variables(made, c.seed, pairs.stacked(source[:1]))
  fit = training.Fit(c, made, first, source=source, encode=dict)
  workdir = open_workdir(args.workdir, c.to_dict(), fresh=fresh)
  tables: dict[str, np.ndarray] = {}

  def test() -> dict[str, dict[str, float]]:
    tables.update({LENGTH: by_length(task, held)} | scores(model, fit.state.variables, held, bool(c.letters)))
    found = {system: measure(table, held) for system, table in tables.items()}
    return {
      f'test, {system}, {way}': pairs.values(part) for system, both in found.items() for way, part in both.items()
    }

  with training.Course(fit, workdir, args) as course:
    for step, batch in course:
      fit.state, sums = fit.step(fit.state, batch, course.key)
      course.log(step, sums)
      if course.due(step):
        course.save(step, lambda: validate(model, fit.state.variables, task.splits['validation']))
    course.end(test, CONTRAST)
  finish(c, task, tables, fit.state.params, workdir, began)


def finish(c, task: Task, tables: Mapping[str, np.ndarray], params: Any, workdir, began: float) -> None:
  held = task.splits['test']
  found = {system: measure(table, held) for system, table in tables.items()}
  value = lambda way: f'{100 * found[CONTRAST][way]["R@5"][0]:.1f} %'
  summary = [
    *((f'R@5, {way}', value(way)) for way in WAYS),
    ('held out', f'{len(held["said"])} clips, of which no text is one of training'),
    ('left out', f'{task.left_out} clips, of more than {c.data.seconds:g} s or {c.data.length - 2} letters, or broken'),
    ('departures from the paper', 'speech in place of images; a second loss, of the letters heard; sizes are ours'),
    ('data', 'Asterisk prompts, spoken by Allison Smith, CC-BY-SA-3.0'),
  ]
  telling.finish(
    c,
    workdir,
    title='Speech and text: search both ways',
    summary=summary,
    tables=[spoken.table(found, held, {name: len(part['said']) for name, part in task.splits.items()})],
    galleries=spoken.galleries(held, tables[CONTRAST]),
    params=params,
    began=began,
  )


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
