"""TimeSformer: Is Space-Time Attention All You Need for Video Understanding? (Bertasius et al. 2021, arXiv:2102.05095).

Divided space-time attention (section 3): in each layer a patch first reads the patches at its own place in all frames,
then all patches of its own frame and the learnt token. Sizes default to the paper's base model.

B videos, T frames, h x w pixels, P patches of a frame, D width, A answers (classes).

Differs from the paper: nothing.
"""

from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import linen as nn

from mmjax.encoders.image import PatchEmbed
from mmjax.errors import UserError
from mmjax.fusion.layers import ENTRY, STACKED, STATES, keep, read_itself
from mmjax.fusion.owner import Owner
from mmjax.layers.blocks import made_of
from mmjax.layers.ways import layer_step


class DividedLayer(nn.Module):
  """One layer, pre-norm: x [B,1+P*T,D], the learnt token and then patch by patch its T frames, -> the same."""

  frames: int
  width: int
  heads: int
  mlp: int
  eps: float
  activation: str
  dropout: float
  attention_dropout: float
  init_std: float

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    shape = (self.width, self.heads, self.width // self.heads, self.mlp, self.eps, self.activation, 0.0, self.init_std)
    drop = nn.Dropout(self.dropout, deterministic=not train)
    time, space = Owner(*shape, name='time'), Owner(*shape, name='space')
    first, rest = x[:, :1], x[:, 1:]
    frames = {'T': self.frames}
    look = nn.Dropout(self.attention_dropout, deterministic=not train)
    read = read_itself(self, 'in_time', time, time.norm(rearrange(rest, 'B (P T) D -> (B P) T D', **frames)), look)
    init = nn.initializers.normal(self.init_std)
    read = nn.Dense(self.width, kernel_init=init, name='time_project')(
      rearrange(drop(read), '(B P) T D -> B (P T) D', B=len(x))
    )
    rest = rest + read
    each = jnp.concatenate(
      [repeat(first, 'B 1 D -> (B T) 1 D', **frames), rearrange(rest, 'B (P T) D -> (B T) P D', **frames)], 1
    )
    read = drop(read_itself(self, 'in_space', space, space.norm(each), look))
    of_first = rearrange(read[:, 0], '(B T) D -> B T D', **frames).mean(1, keepdims=True)  # each frame has its own
    of_rest = rearrange(read[:, 1:], '(B T) P D -> B (P T) D', **frames)
    x = jnp.concatenate([first + of_first, rest + of_rest], 1)
    x = x + drop(space.ffn(space.ffn_norm(x), train=train))
    keep(self, STATES, 'f', x)
    return x


class TimeSformer(nn.Module):
  """video [B,T,h,w,3] float, (x - 0.45) / 0.225 for the published weights.

  Returns 'f' [B,1+P*T,D], the learnt token and then patch by patch its T frames, and, where num_answers is not 0,
  'answers' [B,A]: logits read off the token. Raises UserError for another number of frames, and for frames that patches
  do not tile.
  """

  num_answers: int = 0
  image: int = 224  # pixels a side
  frames: int = 8
  patch: int = 16
  layers: int = 12
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-6
  activation: str = 'gelu'
  dropout: float = 0.0
  attention_dropout: float = 0.0
  init_std: float = 0.02

  @nn.compact
  def __call__(self, video: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    count, grid = len(video), self.image // self.patch
    if video.shape[1] != self.frames:
      raise UserError(f'video of {video.shape[1]} frames: expected {self.frames}')
    x = made_of(PatchEmbed, self, 'patches', grid=(grid, grid))(rearrange(video, 'B T h w C -> (B T) h w C'))
    x = rearrange(x, '(B T) P D -> B T P D', B=count)
    init = nn.initializers.normal(self.init_std)
    times = self.param('time', init, (self.frames, self.width))
    rest = rearrange(x[:, :, 1:] + times[:, None], 'B T P D -> B (P T) D')
    x = nn.Dropout(self.dropout, deterministic=not train)(jnp.concatenate([x[:, 0, :1], rest], 1))
    keep(self, STATES, ENTRY, x)
    layer = partial(made_of, DividedLayer, self, 'layers')
    step = lambda module, x: module(x, train=train)
    step = layer_step(step, scanned=True)
    scanned = nn.scan(
      lambda module, x, _: (step(module, x), None),
      variable_axes=dict.fromkeys(STACKED, 0),
      split_rngs={'params': True, 'dropout': True},
      length=self.layers,
    )
    x, _ = scanned(layer(), x, None)
    out = {'f': nn.LayerNorm(epsilon=self.eps, name='norm')(x)}
    if self.num_answers:
      out['answers'] = nn.Dense(self.num_answers, kernel_init=init, name='answer_score')(out['f'][:, 0])
    return out
