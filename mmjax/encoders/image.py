"""A bare image -> features and boxes of a grid, which take the place of detected regions.

B batch, P patches or grid cells in row-major order, F features.
"""

import jax
import jax.numpy as jnp
import numpy as np
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


class PatchEmbed(nn.Module):
  """Image -> its patches, projected, behind a learnt token, with learnt positions (Dosovitskiy et al. 2021, eq. 1).

  image [B,h,w,3] float -> [B,1+P,D], patches row by row. grid: the (rows, columns) that positions are learnt for; those
  of another grid are resized from them, as for fine-tuning at another resolution (section 3.2), `bicubic`.
  Raises UserError where the patches do not tile the image.
  """

  width: int
  patch: int
  grid: tuple[int, int]
  bias: bool = True
  init_std: float = 0.02

  @nn.compact
  def __call__(self, image: jax.Array) -> jax.Array:
    found = image.shape[1:3]
    if found[0] % self.patch or found[1] % self.patch:
      raise UserError(f'image {found}: expected a multiple of the patch size {self.patch}')
    init = nn.initializers.normal(self.init_std)
    patch = (self.patch, self.patch)
    x = nn.Conv(self.width, patch, patch, 'VALID', use_bias=self.bias, kernel_init=init, name='project')(image)
    first = jnp.broadcast_to(self.param('token', init, (self.width,)), (len(x), 1, self.width))
    position = self.param('position', init, (1 + self.grid[0] * self.grid[1], self.width))
    position = jnp.concatenate([position[:1], bicubic(position[1:], self.grid, (x.shape[1], x.shape[2]))])
    return jnp.concatenate([first, rearrange(x, 'B y x D -> B (y x) D')], 1) + position


def bicubic(table: jax.Array, grid: tuple[int, int], wanted: tuple[int, int]) -> jax.Array:
  """Learnt positions [rows * columns, D] of one grid -> those of another, by bicubic interpolation.

  As torch's interpolate with align_corners=False: Keys' kernel with a = -0.75, pixel centres, edges repeated, no
  smoothing where the grid shrinks.
  """
  if tuple(grid) == tuple(wanted):
    return table
  y, x = (_cubic(old, new) for old, new in zip(grid, wanted, strict=True))
  square = rearrange(table, '(y x) D -> y x D', y=grid[0])
  return rearrange(jnp.einsum('Yy,Xx,yxD->YXD', y, x, square), 'y x D -> (y x) D')


def _cubic(old: int, new: int) -> np.ndarray:
  """The weights of `old` samples in each of `new`: [new, old]."""
  a = -0.75
  centre = (np.arange(new) + 0.5) * old / new - 0.5
  first = np.floor(centre).astype(int)
  weights = np.zeros((new, old), np.float32)
  for step in (-1, 0, 1, 2):
    d = np.abs(centre - (first + step))
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
    np.add.at(weights, (np.arange(new), np.clip(first + step, 0, old - 1)), np.where(d <= 1, near, far))
  return weights
