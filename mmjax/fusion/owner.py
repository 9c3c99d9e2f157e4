"""What a stream owns in a sub-layer: projections, norms and feed-forward, sized for that stream.

B batch, K keys, D width, H heads, C head size.
"""

from collections.abc import Mapping
from functools import partial

import jax
from einops import rearrange
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.layers.blocks import Mlp, norm_of

PerStream = int | Mapping[str, int]


def per_stream(value: PerStream, stream: str, name: str) -> int:
  """The stream's own number, or the one that all share. Raises UserError where a stream has none."""
  if isinstance(value, int):
    return value
  if stream not in value:
    raise UserError(f'{name}: found {dict(value)}, expected a number for stream {stream!r} too')
  return value[stream]


def head_shape(width: PerStream, heads: PerStream, stream: str) -> tuple[int, int]:
  """(heads, head size) of a stream. Raises UserError where the heads do not divide the width."""
  d, h = per_stream(width, stream, 'width'), per_stream(heads, stream, 'heads')
  if d % h:
    raise UserError(f'heads: found {h} for width {d} of stream {stream!r}, expected a divisor of the width')
  return h, d // h


class Owner(nn.Module):
  """What one stream (or, tied, all streams) owns in one sub-layer. Only what its edges use comes into being."""

  width: int
  heads: int
  head_size: int
  mlp: int
  eps: float
  activation: str
  mlp_dropout: float
  init_std: float
  norms: str = 'layer'
  key_bias: bool = True

  def setup(self):
    dense = partial(nn.Dense, kernel_init=nn.initializers.normal(self.init_std))
    size = self.heads * self.head_size
    self.query, self.key, self.value = dense(size), dense(size, use_bias=self.key_bias), dense(size)
    self.out = dense(self.width)
    self.norm, self.ffn_norm = (norm_of(self.norms)(epsilon=self.eps) for _ in range(2))
    self.ffn = Mlp(self.mlp, self.width, self.activation, self.mlp_dropout, self.init_std)

  def keys_values(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What readers of x [B,K,D] find there: two of [B,K,H,C]."""
    return self.split(self.key(x)), self.split(self.value(x))

  def split(self, x: jax.Array) -> jax.Array:
    return rearrange(x, 'B K (H C) -> B K H C', H=self.heads)
