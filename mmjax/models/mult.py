"""MulT: Multimodal Transformer for Unaligned Multimodal Language Sequences (Tsai et al. 2019, arXiv:1906.00295).

Six stacks of cross-modal attention, one for each of text, audio and vision reading each of the others (section 3.2), a
stack of self-attention over the two that read for the same modality (section 3.4), and what is answered from: the last
step of each. The sequences need not be aligned, nor of equal length. Sizes default to the released code's.

B samples, T steps of a sequence, F features of a step, D width, A answers (or numbers to predict).

Differs from the paper, as the released code does: keys and values are the same embedded source in every layer, where
eq. 4 has them too, but under the norm of the queries; the convolution before it (section 3.1) has kernel 1, that is, it
is a projection, and is left out where F is D already; positions are those of eq. 3 but for a step whose first number
(after the projection) is 0, which has none. causal=True, the code's default: step q of Tq reads the Tk steps up to
q + |Tq - Tk|. `quirks` says which of these are kept.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.fusion.layers import FusionStack
from mmjax.layers.blocks import made_of, zero_missing

STREAMS = 'taf'  # text, audio, vision (features of video frames), in the order of the paper's L, A, V
QUIRKS = ('no projection', 'no position')  # where F is D; for a step that begins with 0
MEMORY_LAYERS = 3  # at least


def sinusoids(length: int, width: int) -> np.ndarray:
  """Positions 1, 2 ... of the code, all sines and then all cosines, behind a row of zeros: float32 [1+length,width]."""
  half = width // 2
  at = np.arange(1, length + 1)[:, None] * np.exp(-np.arange(half) * np.log(10000) / max(half - 1, 1))
  table = np.concatenate([np.sin(at), np.cos(at), np.zeros((length, width % 2))], 1)
  return np.concatenate([np.zeros((1, width)), table]).astype(np.float32)


class Net(nn.Module):
  """One stack: x [B,Tx,D] reads y [B,Ty,D], or itself where y is not given. -> [B,Tx,D], normed."""

  layers: int
  width: int
  heads: int
  causal: bool
  quirks: tuple[str, ...]
  attention_dropout: float
  relu_dropout: float
  dropout: float
  embed_dropout: float
  init_std: float
  scan: bool

  @nn.compact
  def __call__(
    self, x: jax.Array, y: jax.Array | None = None, mask: jax.Array | None = None, *, train: bool
  ) -> jax.Array:
    source, name = (x, 'x') if y is None else (y, 'y')
    streams = {'x': self.embed(x, train)} | ({} if y is None else {'y': self.embed(y, train)})
    edges = {}
    if self.causal:
      steps, read = jnp.arange(x.shape[1])[:, None], jnp.arange(source.shape[1])
      edges[f'x<{name}'] = (read <= steps + abs(x.shape[1] - source.shape[1]))[None]
    stack = made_of(
      FusionStack,
      self,
      'encoder',
      schedule=f'{self.layers}*[x<{name}{" tied" if y is not None else ""}]',
      mlp=4 * self.width,
      norm='pre',
      eps=1e-5,
      activation='relu',
      mlp_dropout=self.relu_dropout,
    )
    out = stack(streams, {} if mask is None else {name: mask}, edges, train=train)['x']
    return nn.LayerNorm(epsilon=1e-5, name='norm')(out)

  def embed(self, x: jax.Array, train: bool) -> jax.Array:
    """Scaled, with its position (section 3.1, eq. 3)."""
    steps = jnp.arange(1, x.shape[1] + 1)[None]
    if 'no position' in self.quirks:
      steps = jnp.where(x[..., 0] != 0, steps, 0)
    placed = x * self.width**0.5 + jnp.asarray(sinusoids(x.shape[1], self.width), x.dtype)[steps]
    return nn.Dropout(self.embed_dropout, deterministic=not train)(placed)


class MulT(nn.Module):
  """Sequences by name, 't', 'a' and 'f': float [B,T,F] each, T and F of its own; masks bool [B,T], True where a step is
  there, none for all.

  targets: the modalities that read the others, of which the answer is made ('t' is the code's lonly).
  Returns 'answers' [B,A], 'last' [B,·] (what the head reads), 't<a' ... [B,T,D] of each pair, 't' ... [B,T,2D] of each
  target, and 'masks'. Raises UserError for an unknown target or quirk.
  """

  num_answers: int
  targets: str = STREAMS
  width: int = 30
  heads: int = 5
  layers: int = 5
  causal: bool = True
  quirks: tuple[str, ...] = QUIRKS
  attention_dropout: float = 0.1  # of what reads text or in memory; 0 of what reads audio and vision
  relu_dropout: float = 0.1
  dropout: float = 0.1  # after attention and feed-forward
  embed_dropout: float = 0.25
  out_dropout: float = 0.0
  init_std: float = 0.02
  scan: bool = True

  @nn.compact
  def __call__(
    self, sequences: Mapping[str, jax.Array], masks: Mapping[str, jax.Array] | None = None, *, train: bool
  ) -> dict[str, jax.Array]:
    if not self.targets or set(self.targets) - set(STREAMS) or set(self.quirks) - set(QUIRKS):
      raise UserError(f'targets {self.targets!r}, quirks {self.quirks}: expected some of {STREAMS!r}, of {QUIRKS}')
    masks = masks or {}
    kernel_init = nn.initializers.normal(self.init_std)
    drop = lambda x, rate: nn.Dropout(rate, deterministic=not train)(x)
    x = {}
    for s in STREAMS:
      given = sequences[s]
      if s in masks:  # who may read nothing reads the mean of all, and who is not there asks: both of zeros
        given = zero_missing(given, masks[s])
      given = drop(given, self.embed_dropout) if s == 't' else given
      same = given.shape[-1] == self.width and 'no projection' in self.quirks
      project = nn.Dense(self.width, use_bias=False, kernel_init=kernel_init, name=f'project_{s}')
      x[s] = given if same else project(given)
    net = lambda name, **own: made_of(Net, self, name, **own)
    out, last = {}, []
    for s in (s for s in STREAMS if s in self.targets):
      for other in (o for o in STREAMS if o != s):
        rate = self.attention_dropout if other == 't' else 0.0
        pair = net(f'{s}_reads_{other}', attention_dropout=rate)
        out[f'{s}<{other}'] = pair(x[s], x[other], masks.get(other), train=train)
      both = jnp.concatenate([out[f'{s}<{other}'] for other in STREAMS if other != s], -1)
      memory = net(f'{s}_memory', layers=max(self.layers, MEMORY_LAYERS), width=2 * self.width)
      out[s] = memory(both, mask=masks.get(s), train=train)
      last.append(_last(out[s], masks.get(s)))
    read = jnp.concatenate(last, -1)
    return out | {'last': read, 'answers': answered(read, self.num_answers, self.out_dropout, self.init_std, train)}


def answered(read: jax.Array, num_answers: int, dropout: float, init_std: float, train: bool) -> jax.Array:
  """The head, in the module that calls it: read [B,D] -> [B,A]."""
  dense = lambda size, name: nn.Dense(size, kernel_init=nn.initializers.normal(init_std), name=name)
  wide = nn.relu(dense(read.shape[-1], 'head0')(read))
  deep = dense(read.shape[-1], 'head1')(nn.Dropout(dropout, deterministic=not train)(wide))
  return dense(num_answers, 'answer_score')(deep + read)


def _last(x: jax.Array, mask: jax.Array | None) -> jax.Array:
  """The last step that is there: [B,T,D] -> [B,D]; the first where none is."""
  if mask is None:
    return x[:, -1]
  at = jnp.where(mask, jnp.arange(x.shape[1]), 0).max(1)
  return jnp.take_along_axis(x, at[:, None, None], 1)[:, 0]
