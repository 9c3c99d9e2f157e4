"""DALL-E: Zero-Shot Text-to-Image Generation (Ramesh et al. 2021, arXiv:2102.12092), as DALLE-pytorch has it.

One causal transformer over the words of a text and the codes of a picture (section 2.2): text first, then the grid of
codes row by row. OpenAI released no transformer; this one is lucidrains' DALLE-pytorch, which is exact here.

B pairs, L words (and one that begins), P codes (y x y of them), T = L + P positions, D width, H heads, C head size,
V text vocabulary, K codes.

Differs from the paper: what DALLE-pytorch has besides: GEGLU (Shazeer 2020, arXiv:2002.05202), LayerScale (Touvron et
al. 2021, arXiv:2103.17239), rotary positions and shifted tokens where asked for; one row or column of codes is read by
axial attention as such, without the paper's transposition.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from mmjax.errors import UserError, nearest
from mmjax.layers.attention import LOWEST, attend
from mmjax.layers.cache import CACHE, remembered, stepping
from mmjax.layers.embed import Embed
from mmjax.layers.ways import layer_step
from mmjax.models.dvae import DVAE

WINDOW = 5  # a side of what conv_like attention reads
ATTENTION = ('full', 'axial_row', 'axial_col', 'conv_like')


def sparse(kind: str, words: int, side: int) -> np.ndarray:
  """Who reads whom (figure 11): bool [T,T]. Words read words; codes read all words and, of the codes before them and
  their own, all, their row, their column, or a window up and to the left."""
  if kind not in ATTENTION:
    raise UserError(f'attention: found {kind!r}, expected one of {ATTENTION}{nearest(kind, ATTENTION)}')
  at = np.arange(side * side)
  row, column = at[:, None] // side - at // side, at[:, None] % side - at % side  # how far back
  near = {
    'full': np.ones_like(row, bool),
    'axial_row': row == 0,
    'axial_col': column == 0,
    'conv_like': (np.maximum(row, column) < WINDOW) & (column >= 0),
  }[kind]
  mask = np.tri(words + side * side, dtype=bool)
  mask[words:, words:] &= near
  return mask


def rotary_angles(words: int, side: int, head_size: int) -> np.ndarray:
  """By how much rotary attention turns each position (Su et al. 2021, arXiv:2104.09864): float32 [T,·].

  A third of a head for the place in the text, where all codes stand at 8192, and one each for row and column, of
  -1..1, where all words stand at -10. Each angle is there twice, for a pair of channels.
  """
  size = head_size // 3
  if size < 2:
    raise UserError(f'rotary positions: found heads of size {head_size}, expected at least 6')
  each = lambda place, frequency: np.repeat(np.multiply.outer(place, frequency), 2, -1).astype(np.float32)
  text = (1 / 10_000 ** (np.arange(0, size, 2)[: size // 2] / size)).astype(np.float32)
  pixel = (np.linspace(1.0, 5.0, size // 2, dtype=np.float32) * np.float32(np.pi)).astype(np.float32)
  at = np.arange(side * side)
  line = np.linspace(-1, 1, side, dtype=np.float32)
  along = lambda place: each(np.concatenate([np.full(words, -10, np.float32), line[place]]), pixel)
  in_text = each(np.concatenate([np.arange(words), np.full(len(at), 8192)]).astype(np.float32), text)
  return np.concatenate([in_text, along(at // side), along(at % side)], -1)


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
  """x [B,T,H,C] with its first channels turned, pair by pair, by angles [T,·]."""
  size = angles.shape[-1]
  turned, rest = x[..., :size], x[..., size:]
  pairs = rearrange(turned, '... (c two) -> ... c two', two=2)
  across = rearrange(jnp.stack([-pairs[..., 1], pairs[..., 0]], -1), '... c two -> ... (c two)')
  angles = angles[:, None]
  cos, sin = (of(angles).astype(x.dtype) for of in (jnp.cos, jnp.sin))
  return jnp.concatenate([turned * cos + across * sin, rest], -1)


class Shift(nn.Module):
  """Some channels are those of the token before, of codes also of the one above. x [B,Q,D] -> the same."""

  words: int
  side: int

  @nn.compact
  def __call__(self, x: jax.Array, rows: int, at: jax.Array | int) -> jax.Array:
    length, width = x.shape[1:]
    if not rows and length < self.words:
      return x
    every = remembered(self, 'x', x[:, :, None], rows, at)[:, :, 0] if rows else x
    place = at + jnp.arange(length)
    code, first, second = place - self.words, width // 2, width // 4
    earlier = lambda back: jnp.take(every, jnp.maximum(place - back, 0), 1)
    there = lambda seen, value: jnp.where(seen[None, :, None], value, 0)
    text = jnp.concatenate([there(place > 0, earlier(1))[..., :first], x[..., first:]], -1)
    above = there(code >= self.side, earlier(self.side))[..., :second]
    left = there(code % self.side > 0, earlier(1))[..., second : 2 * second]
    image = jnp.concatenate([above, left, x[..., 2 * second :]], -1)
    return jnp.where((code < 0)[None, :, None], text, image)


class Attention(nn.Module):
  """Causal self-attention, whose keys may be few. x [B,Q,D] -> the same."""

  heads: int
  head_size: int
  dropout: float

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, angles, rows: int, at: jax.Array | int, *, train: bool):
    dense = partial(nn.Dense, use_bias=False)
    split = lambda a: rearrange(a, 'B Q (H C) -> B Q H C', H=self.heads)
    q, k, v = (split(dense(self.heads * self.head_size, name=name)(x)) for name in ('query', 'key', 'value'))
    if angles is not None:
      q, k, v = (rotate(a, angles) for a in (q, k, v))
    if rows:
      k, v = (remembered(self, name, a, rows, at) for name, a in (('k', k), ('v', v)))
    out = rearrange(attend(q, k, v, mask), 'B Q H C -> B Q (H C)')
    return nn.Dropout(self.dropout, deterministic=not train)(nn.Dense(x.shape[-1], name='out')(out))


class GEGLU(nn.Module):
  """Feed-forward with a gate: value * gelu(gate). [B,Q,D] -> the same."""

  hidden: int
  dropout: float

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    value, gate = jnp.split(nn.Dense(2 * self.hidden, name='expand')(x), 2, -1)
    gated = nn.Dropout(self.dropout, deterministic=not train)(value * nn.gelu(gate, approximate=False))
    return nn.Dense(x.shape[-1], name='project')(gated)


class Layer(nn.Module):
  """Attention, then feed-forward: x + scale * f(shift(norm(x))) each; scale begins as the number given."""

  heads: int
  head_size: int
  mlp: int
  dropout: float
  shift: tuple[int, int] | None  # (words, side of the grid)

  @nn.compact
  def __call__(
    self, x: jax.Array, scale: jax.Array, mask: jax.Array, angles, rows: int, at: jax.Array | int, *, train: bool
  ):
    def given(name):
      y = nn.LayerNorm(epsilon=1e-5, name=f'{name}_norm')(x)
      return Shift(*self.shift, name=f'{name}_shift')(y, rows, at) if self.shift else y

    gain = lambda name: self.param(f'{name}_scale', lambda _, size: jnp.full(size, scale), x.shape[-1])
    attention = Attention(self.heads, self.head_size, self.dropout, name='attention')
    x = x + gain('attention') * attention(given('attention'), mask, angles, rows, at, train=train)
    return x + gain('ffn') * GEGLU(self.mlp, self.dropout, name='ffn')(given('ffn'), train=train)


class DALLE(nn.Module):
  """text [B,L] int, 0 for padding; codes [B,P'] int, the first P' of the P codes (none: [B,0]).

  attention: of each layer in turn, out of ATTENTION. A padding word is told by its place: V + place stands for it.
  rows and at: as `models.blip.Text`'s; with them, `text` and `codes` are `ids` [B,Q] of `together`, from place `at` on.
  Returns 'logits' [B,1+L+P',V+L+K] (the last of the P codes is read by nobody, and not scored): what follows each
  position; words can follow only in the text, and codes only in the picture. Raises UserError for other lengths.
  """

  vocab: int = 10_000
  words: int = 256
  codes: int = 8192
  side: int = 32
  width: int = 512
  depth: int = 12
  heads: int = 8
  head_size: int = 64
  attention: tuple[str, ...] = ('full',)
  rotary: bool = True
  shift: bool = True
  dropout: float = 0.0
  vae: DVAE | None = None  # what the codes are of

  def setup(self):
    self.word, self.code = Embed(self.vocab + self.words, self.width), Embed(self.codes, self.width)
    if not self.rotary:
      init = nn.initializers.normal(0.02)
      self.place = self.param('place', init, (1 + self.words, self.width))
      self.row = self.param('row', init, (self.side, self.width))
      self.column = self.param('column', init, (self.side, self.width))
    shift = (1 + self.words, self.side) if self.shift else None
    self.layers = Layer(self.heads, self.head_size, 4 * self.width, self.dropout, shift)
    self.norm, self.score = nn.LayerNorm(epsilon=1e-5), nn.Dense(self.vocab + self.words + self.codes)

  @property
  def length(self) -> int:
    """Positions that are read: the beginning, the words, and all codes but the last."""
    return self.words + self.side**2

  def __call__(self, text: jax.Array, codes: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    if self.vae and self.is_initializing():
      cell = 2**self.vae.layers
      self.vae(jnp.zeros((1, cell, cell, 3)))
    return {'logits': self.scores(self.together(text, codes)[:, : self.length], train=train)}

  @property
  def _vae(self) -> DVAE:
    if self.vae is None:
      raise UserError('DALLE without its vae: knows codes alone, expected one with vae=DVAE(...)')
    return self.vae

  def see(self, image: jax.Array) -> jax.Array:
    """The codes [B,P] of image [B,h,w,3] in 0..1: the likeliest ones. Raises UserError without vae."""
    return rearrange(self._vae.encode(image).argmax(-1), 'B y x -> B (y x)')

  def paint(self, codes: jax.Array) -> jax.Array:
    """The image [B,h,w,3], about 0..1, of codes [B,P] int. Raises UserError without vae."""
    return self._vae.decode(rearrange(codes, 'B (y x) -> B y x', y=self.side)) * 0.5 + 0.5

  def together(self, text: jax.Array, codes: jax.Array) -> jax.Array:
    """One sequence of ids [B,1+L+P'] in the vocabulary of text, padding and codes, behind the word 0, which begins."""
    if text.shape[1] != self.words or codes.shape[1] > self.side**2:
      raise UserError(
        f'{text.shape[1]} words and {codes.shape[1]} codes: expected {self.words} and at most {self.side**2}'
      )
    text = jnp.where(text == 0, self.vocab + jnp.arange(self.words), text)
    return jnp.concatenate([jnp.pad(text, ((0, 0), (1, 0))), codes + self.vocab + self.words], 1)

  def scores(self, ids: jax.Array, rows: int = 0, at: jax.Array | int = 0, *, train: bool) -> jax.Array:
    """Logits [B,Q,V+L+K] of the id that follows each of ids [B,Q], the first of which stands at position `at`."""
    place, text = at + jnp.arange(ids.shape[1]), self.vocab + self.words
    in_text = place < 1 + self.words
    cell = jnp.maximum(place - 1 - self.words, 0)
    words, codes = self.word(jnp.minimum(ids, text - 1)), self.code(jnp.maximum(ids - text, 0))
    if not self.rotary:
      words += jnp.take(self.place, jnp.minimum(place, self.words), 0)
      codes += self.row[cell // self.side] + self.column[cell % self.side]
    x = jnp.where(in_text[None, :, None], words, codes)
    angles = jnp.asarray(rotary_angles(1 + self.words, self.side, self.head_size))[place] if self.rotary else None
    seen = lambda kind: jnp.asarray(sparse(kind, 1 + self.words, self.side))[place][:, : rows or ids.shape[1]][None]
    if not self.attention:
      raise UserError(f'attention: found (), expected one or more of {ATTENTION}')
    kinds = list(dict.fromkeys(self.attention))
    masks, number = jnp.stack([seen(kind) for kind in kinds]), np.arange(self.depth)
    kind = np.array([kinds.index(name) for name in self.attention])[number % len(self.attention)]
    scale = np.select([number < 18, number < 24], [0.1, 1e-5], 1e-6).astype(np.float32)  # LayerScale, section 3
    step = lambda layer, x, scale, kind: layer(x, scale, masks[kind], angles, rows, at, train=train)
    step = layer_step(step, scanned=True)
    scanned = nn.scan(
      lambda layer, x, own: (step(layer, x, *own), None),
      variable_axes=dict.fromkeys(('params', CACHE), 0),
      split_rngs={'params': True, 'dropout': True},
      length=self.depth,
    )
    x, _ = scanned(self.layers, x, (scale, kind))
    can = (jnp.arange(text + self.codes) < text) == (place < self.words)[:, None]
    return jnp.where(can, self.score(self.norm(x)), LOWEST)


def painter(model: DALLE, variables: Mapping):
  """What `generate` decodes with: ids of `DALLE.together`, text first, then codes."""
  how: dict[str, Any] = {'train': False, 'method': 'scores', 'mutable': [CACHE]}
  return stepping(variables, lambda state, ids, at, first: model.apply(state, ids, model.length + 1, at, **how))
