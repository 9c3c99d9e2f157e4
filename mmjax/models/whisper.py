"""Whisper: Robust Speech Recognition via Large-Scale Weak Supervision (Radford et al. 2022, arXiv:2212.04356).

A transformer hears 30 s of sound; another writes what was said (section 2.2, figure 1). Both have the norms before each
sub-layer and one more at the end. The layers of what writes are one line, schedules.WHISPER, which reads:

  4*[t<t noffn; t<a]  4 layers: text reads text before it, then text reads the sound, then feed-forward; each is added
                      to what it was given. The sound comes with its last norm, and is read as it is

Sizes default to the smallest of the five (table 1; 39 M parameters); `sized` makes the others.

B recordings, T tokens of sound (20 ms), M mel bins, L words, D width, V vocabulary.

Differs from the paper: nothing. As in the released code, keys have no bias and heads have 64 channels.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.encoders.audio import FrameEmbed
from mmjax.errors import UserError, nearest
from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedule import parse, sees_future
from mmjax.layers.attention import causal
from mmjax.layers.blocks import made_of
from mmjax.layers.cache import CACHE, stepping
from mmjax.layers.embed import Embed

SIZES = {  # table 1: layers of each half, width, heads
  'tiny': (4, 384, 6),
  'base': (6, 512, 8),
  'small': (12, 768, 12),
  'medium': (24, 1024, 16),
  'large': (32, 1280, 20),
}
ENGLISH, MULTILINGUAL = 51_864, 51_865  # ids, of weights that know English alone ('tiny.en' ...) and of the others


class SoundEncoder(nn.Module):
  """What hears (section 2.2). spectrogram [B,frames,M] float, as encoders.mel.whisper gives -> [B,frames/2,D], normed.

  Raises UserError for a spectrogram of another size: what is shorter is filled up with silence before.
  """

  frames: int = 3000
  bins: int = 80
  schedule: str = schedules.WHISPER_SOUND
  width: int = 384
  heads: int = 6
  mlp: int = 1536
  eps: float = 1e-5
  activation: str = 'gelu'
  dropout: float = 0.0
  attention_dropout: float = 0.0
  mlp_dropout: float = 0.0
  key_bias: bool = False
  init_std: float = 0.02
  scan: bool = True

  @nn.compact
  def __call__(self, spectrogram: jax.Array, *, train: bool) -> jax.Array:
    x = made_of(FrameEmbed, self, 'sound')(spectrogram)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = made_of(FusionStack, self, 'encoder', norm='pre')({'a': x}, train=train)['a']
    return nn.LayerNorm(epsilon=self.eps, name='norm')(x)


class TextDecoder(nn.Module):
  """What writes (section 2.2). text [B,L] int, text_mask [B,L] bool (all where not given), heard [B,T,D] float, normed.

  rows and at: how many words are kept in the collection `layers.cache.CACHE` for later calls, and the position of the
  first one given; text_mask is then [B,rows], and `heard` without rows stands for one that was given before.
  Returns 't' [B,L,D], normed, and 'words' [B,L,V]: logits of the word that follows each, by the table of words.
  Raises UserError for a text longer than `positions` and a schedule that lets a word learn of later ones.
  """

  vocab: int = ENGLISH
  positions: int = 448
  padding: int = -1  # the id whose row has no gradient from look-ups: HuggingFace's code has one, the released has none
  schedule: str = schedules.WHISPER
  width: int = 384
  heads: int = 6
  mlp: int = 1536
  eps: float = 1e-5
  activation: str = 'gelu'
  dropout: float = 0.0
  attention_dropout: float = 0.0
  mlp_dropout: float = 0.0
  key_bias: bool = False
  init_std: float = 0.02
  scan: bool = True

  @nn.compact
  def __call__(
    self,
    text: jax.Array,
    heard: jax.Array,
    text_mask: jax.Array | None = None,
    rows: int = 0,
    at: jax.Array | int = 0,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    length = text.shape[1]
    if max(length, rows) > self.positions:
      raise UserError(f'text of {max(length, rows)} tokens: expected at most {self.positions} (positions)')
    if sees_future(parse(self.schedule), 't'):
      raise UserError(f'schedule {self.schedule!r}: a word that is written would learn of those behind it')
    word = Embed(self.vocab, self.width, self.padding, self.init_std, name='word')
    place = Embed(self.positions, self.width, init_std=self.init_std, name='position')
    x = nn.Dropout(self.dropout, deterministic=not train)(word(text) + place(at + jnp.arange(length)[None]))
    x = made_of(FusionStack, self, 'encoder', norm='pre', normed='a')(
      {'t': x, 'a': heard},
      {} if text_mask is None else {'t': text_mask},
      {'t<t': causal(length, rows or length, at)},
      memory={'t': (rows, at), 'a': (0, 0)} if rows else None,
      train=train,
    )['t']
    x = nn.LayerNorm(epsilon=self.eps, name='norm')(x)
    return {'t': x, 'words': word.attend(x)}


class Whisper(nn.Module):
  """spectrogram [B,2T,M] float, text [B,L] int, text_mask [B,L] bool -> 'a' [B,T,D], what was heard, 't' and 'words' of
  `TextDecoder`. `writer` writes with it."""

  sound: SoundEncoder
  text: TextDecoder

  def __call__(
    self, spectrogram: jax.Array, text: jax.Array, text_mask: jax.Array | None = None, *, train: bool
  ) -> dict[str, jax.Array]:
    heard = self.listen(spectrogram, train=train)
    return {'a': heard} | self.text(text, heard, text_mask, train=train)

  def listen(self, spectrogram: jax.Array, *, train: bool) -> jax.Array:
    return self.sound(spectrogram, train=train)

  def write(self, text: jax.Array, heard: jax.Array, rows: int = 0, at: jax.Array | int = 0, *, train: bool):
    """Scores of the word that follows each: [B,L,V]; rows and at as in `TextDecoder`."""
    return self.text(text, heard, None, rows, at, train=train)['words']


def sized(name: str, vocab: int = MULTILINGUAL, bins: int = 80) -> Whisper:
  """The model of one of SIZES. Raises UserError for another."""
  if name not in SIZES:
    raise UserError(f'Whisper: found size {name!r}, expected one of {tuple(SIZES)}{nearest(name, SIZES)}')
  layers, width, heads = SIZES[name]
  sound = SoundEncoder(bins=bins, schedule=f'{layers}*[a<a]', width=width, heads=heads, mlp=4 * width)
  text = TextDecoder(vocab=vocab, schedule=f'{layers}*[t<t noffn; t<a]', width=width, heads=heads, mlp=4 * width)
  return Whisper(sound, text)


def writer(model: Whisper, variables: Mapping, heard: jax.Array, rows: int):
  """What `generate` decodes with: texts of at most `rows` ids of what was heard [B,T,D] (`Whisper.listen`)."""
  how: dict[str, Any] = {'train': False, 'method': 'write', 'mutable': [CACHE]}

  def score(state, ids, at, first):
    about = heard if first else heard[:, :0]  # kept from the first time on
    return model.apply(state, ids, about, rows, at, **how)

  return stepping(variables, score)
