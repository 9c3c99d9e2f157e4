"""CLIP's ResNet (Radford et al. 2021, arXiv:2103.00020, section 2.4; He et al. 2015, arXiv:1512.03385): image -> grid.

Differs from He et al.: three 3x3 convolutions in the stem (ResNet-D, arXiv:1812.01187), every stride is an average pool
before the convolution (anti-aliasing, arXiv:1904.11486), attention in place of the last average pool.

B images, P cells of the grid, D width, H heads, C head size.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.layers.attention import attend
from mmjax.layers.blocks import batch_norm

STAGES = 4
SMALL = 4  # cells of a side
EXPANSION = 4  # a bottleneck's output has that many times its width


def convolution(channels: int, size: int, stride: int = 1, name: str | None = None) -> nn.Conv:
  how = convolved if stride == 1 else None
  return nn.Conv(channels, (size, size), stride, size // 2, use_bias=False, name=name, conv_general_dilated=how)


def convolved(
  x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, lhs_dilation: Any, rhs_dilation: Any,
  dimension_numbers: Any, feature_group_count: int, precision: Any,
) -> jax.Array:  # fmt: skip
  """What `jax.lax.conv_general_dilated` gives for a stride of 1: x [B,y,x,F], kernel [k,k,F,D], padding k // 2.

  Of 1x1, and on a small grid, it is one matrix product, which a CPU does in half the time or less.
  """
  size, (height, width) = kernel.shape[0], x.shape[1:3]
  if size > 1 and min(height, width) > SMALL:
    return jax.lax.conv_general_dilated(
      x, kernel, strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count,
      precision=precision,
    )  # fmt: skip
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
  near = [x[:, y : y + height, z : z + width] for y in range(size) for z in range(size)]
  return jnp.matmul(jnp.concatenate(near, -1), kernel.reshape(-1, kernel.shape[-1]), precision=precision)


def shrink(x: jax.Array, stride: int) -> jax.Array:
  """Average pool; the rows and columns left over are dropped, as in torch."""
  return x if stride == 1 else nn.avg_pool(x, (stride, stride), (stride, stride))


class Bottleneck(nn.Module):
  """1x1, 3x3, 1x1 convolutions around a short cut. x [B,y,x,F] -> [B,y/stride,x/stride,4 width]."""

  width: int
  stride: int = 1

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    norm = partial(batch_norm, train, momentum=0.9)
    y = nn.relu(norm(name='norm1')(convolution(self.width, 1, name='conv1')(x)))
    y = nn.relu(norm(name='norm2')(convolution(self.width, 3, name='conv2')(y)))
    y = norm(name='norm3')(convolution(EXPANSION * self.width, 1, name='conv3')(shrink(y, self.stride)))
    if self.stride > 1 or x.shape[-1] != y.shape[-1]:
      x = norm(name='short_norm')(convolution(y.shape[-1], 1, name='short')(shrink(x, self.stride)))
    return nn.relu(x + y)


class ResNet(nn.Module):
  """image [B,h,w,3] float -> [B,h/32,w/32,32 width]. blocks: bottlenecks of each stage. Changes 'batch_stats'.

  Raises UserError for another number of stages, and a width below 2.
  """

  blocks: tuple[int, ...]
  width: int = 64

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
    if len(self.blocks) != STAGES:
      raise UserError(f'blocks: found {self.blocks}, expected a number for each of the {STAGES} stages')
    if self.width < 2:
      raise UserError(f'width: found {self.width}, expected at least 2, of which the stem has half')
    x = image
    for n, (channels, stride) in enumerate(((self.width // 2, 2), (self.width // 2, 1), (self.width, 1)), 1):
      x = convolution(channels, 3, stride, name=f'stem{n}')(x)
      x = nn.relu(batch_norm(train, momentum=0.9, name=f'stem_norm{n}')(x))
    x = shrink(x, 2)
    for stage, blocks in enumerate(self.blocks):
      for n in range(blocks):
        stride = 2 if stage and not n else 1
        x = Bottleneck(self.width * 2**stage, stride, name=f'stage{stage}_{n}')(x, train=train)
    return x


class AttentionPool(nn.Module):
  """A grid read by one query, its own mean (section 2.4). grid [B,y,x,D] -> [B,out]. cells: those positions are for."""

  cells: int
  heads: int
  out: int

  @nn.compact
  def __call__(self, grid: jax.Array) -> jax.Array:
    width = grid.shape[-1]
    x = rearrange(grid, 'B y x D -> B (y x) D')
    position = self.param('position', nn.initializers.normal(width**-0.5), (1 + self.cells, width))
    x = jnp.concatenate([x.mean(1, keepdims=True), x], 1) + position
    split = lambda a: rearrange(a, 'B K (H C) -> B K H C', H=self.heads)
    q, k, v = (split(nn.Dense(width, name=n)(a)) for n, a in (('query', x[:, :1]), ('key', x), ('value', x)))
    return nn.Dense(self.out, name='project')(rearrange(attend(q, k, v), 'B 1 H C -> B (H C)'))
