"""A bare image -> features and boxes of a grid, which take the place of detected regions.

B batch, P patches or grid cells in row-major order, F features.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from mmjax.errors import UserError


def to_float(image: jax.Array) -> jax.Array:
  """uint8 0..255 -> float32 -1..1."""
  return image.astype(jnp.float32) / 127.5 - 1


def grid_boxes(rows: int, columns: int) -> jax.Array:
  """The boxes of a grid's cells: [rows * columns, 4], x1 y1 x2 y2 in 0..1."""
  y, x = jnp.mgrid[:rows, :columns]
  corners = jnp.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], -1)
  return corners.reshape(-1, 4).astype(jnp.float32)


class Patches(nn.Module):
  """Image -> its patches as they are (Dosovitskiy et al. 2021, arXiv:2010.11929, eq. 1, before the projection).

  image [B,h,w,3] uint8 -> features [B,P,patch*patch*3] in -1..1, boxes [B,P,4]. Raises UserError where the patch does
  not divide the image.
  """

  patch: int

  def __call__(self, image: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    size = image.shape[1:3]
    if size[0] % self.patch or size[1] % self.patch:
      raise UserError(f'image {size}: expected a multiple of the patch size {self.patch}')
    features = rearrange(to_float(image), 'B (y p) (x q) c -> B (y x) (p q c)', p=self.patch, q=self.patch)
    boxes = grid_boxes(size[0] // self.patch, size[1] // self.patch)
    return features, jnp.broadcast_to(boxes, (len(image), *boxes.shape))


class ConvGrid(nn.Module):
  """Image -> a grid of features by strided convolutions, as the Relation Network's (Santoro et al. 2017, section 5).

  One 3x3 convolution of stride 2 for each number in `channels`, each followed by layer norm over the channels (there:
  batch norm) and ReLU. image [B,h,w,3] uint8 -> features [B,P,F] with F the last number, boxes [B,P,4].
  """

  channels: tuple[int, ...]

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    x = to_float(image)
    for n, channels in enumerate(self.channels):
      x = nn.Conv(channels, (3, 3), (2, 2), name=f'conv{n}')(x)
      x = nn.relu(nn.LayerNorm(name=f'norm{n}')(x))
    boxes = grid_boxes(*x.shape[1:3])
    return rearrange(x, 'B y x F -> B (y x) F'), jnp.broadcast_to(boxes, (len(image), *boxes.shape))
