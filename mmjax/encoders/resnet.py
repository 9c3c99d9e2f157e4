"""CLIP's ResNet (Radford et al. 2021, arXiv:2103.00020, section 2.4; He et al. 2015, arXiv:1512.03385): image -> grid.

Differs from He et al.: three 3x3 convolutions in the stem (ResNet-D, arXiv:1812.01187), every stride is an average pool
before the convolution (anti-aliasing, arXiv:1904.11486), attention in place of the last average pool.

B images, P cells of the grid, D width, H heads, C head size.
"""

from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from mmjax.layers.attention import attend

EXPANSION = 4  # a bottleneck's output has that many times its width


def convolution(channels: int, size: int, stride: int = 1, name: str | None = None) -> nn.Conv:
  return nn.Conv(channels, (size, size), stride, size // 2, use_bias=False, name=name)


def shrink(x: jax.Array, stride: int) -> jax.Array:
  """Average pool; the rows and columns left over are dropped, as in torch."""
  return x if stride == 1 else nn.avg_pool(x, (stride, stride), (stride, stride))


class Bottleneck(nn.Module):
  """1x1, 3x3, 1x1 convolutions around a short cut. x [B,y,x,F] -> [B,y/stride,x/stride,4 width]."""

  width: int
  stride: int = 1

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5)
    y = nn.relu(norm(name='norm1')(convolution(self.width, 1, name='conv1')(x)))
    y = nn.relu(norm(name='norm2')(convolution(self.width, 3, name='conv2')(y)))
    y = norm(name='norm3')(convolution(EXPANSION * self.width, 1, name='conv3')(shrink(y, self.stride)))
    if self.stride > 1 or x.shape[-1] != y.shape[-1]:
      x = norm(name='short_norm')(convolution(y.shape[-1], 1, name='short')(shrink(x, self.stride)))
    return nn.relu(x + y)


class ResNet(nn.Module):
  """image [B,h,w,3] float -> [B,h/32,w/32,32 width]. blocks: bottlenecks of the four stages. Changes 'batch_stats'."""

  blocks: tuple[int, ...]
  width: int = 64

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
    x = image
    for n, (channels, stride) in enumerate(((self.width // 2, 2), (self.width // 2, 1), (self.width, 1)), 1):
      x = convolution(channels, 3, stride, name=f'stem{n}')(x)
      x = nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name=f'stem_norm{n}')(x))
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
    return nn.Dense(self.out, name='project')(rearrange(attend(q, k, v)[0], 'B 1 H C -> B (H C)'))
