"""A bare image -> features and boxes: those of a grid, which take the place of detected regions, or detected ones.

B batch, P patches or grid cells in row-major order, R regions, F features, C channels.
"""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.layers.blocks import convolved


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
    x = convolved(to_float(image), self.channels)
    boxes = grid_boxes(*x.shape[1:3])
    return rearrange(x, 'B y x F -> B (y x) F'), jnp.broadcast_to(boxes, (len(image), *boxes.shape))


class Detector(nn.Module):
  """Image -> the R regions where objects are most likely, as pixels and boxes: a detector learnt beside the answers.

  It stands in for the detector that the papers of regions take ready-made (Faster R-CNN on Visual Genome; Anderson et
  al. 2018, arXiv:1707.07998), and is taught by boxes alone. One stage, on a grid of cells: a cell says whether the
  centre of an object lies in it, and the object's corners (as Redmon et al. 2016, arXiv:1506.02640, with one box a
  cell). The pixels in the R best boxes are read as crops by bilinear interpolation (RoIAlign, He et al. 2017,
  arXiv:1703.06870, of one sample a bin). What is done with the regions does not move the boxes.

  image [B,h,w,3] uint8, a cell `stride` pixels wide -> features [B,R,crop*crop*3] in -1..1, boxes [B,R,4], and for
  `objectives.detection` {'objectness' [B,y,x] logits, 'cell_boxes' [B,y,x,4]}; all boxes are x1 y1 x2 y2, where 0..1 is
  the image. Raises UserError where the image has fewer cells than R.
  """

  regions: int
  crop: int = 11  # pixels of a region's side
  stride: int = 5
  window: int = 11  # pixels that a cell's first convolution sees
  channels: int = 64

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    pixels = to_float(image)
    x = nn.Conv(self.channels, (self.window, self.window), (self.stride, self.stride), name='conv0')(pixels)
    x = nn.relu(nn.LayerNorm(name='norm0')(x))
    x = nn.relu(nn.LayerNorm(name='norm1')(nn.Conv(self.channels, (3, 3), name='conv1')(x)))
    rows, columns = x.shape[1:3]
    if self.regions > rows * columns:
      raise UserError(f'image {image.shape[1:3]}: its {rows * columns} cells are fewer than {self.regions} regions')
    objectness = nn.Dense(1, name='objectness')(x)[..., 0]
    centre = grid_boxes(rows, columns).reshape(rows, columns, 2, 2).mean(-2)
    edges = jax.nn.softplus(nn.Dense(4, name='edges')(x))  # how far off, in cells from the centre of its own
    cell_boxes = jnp.tile(centre, 2) + edges * jnp.array([-1, -1, 1, 1]) / jnp.array([columns, rows] * 2)
    best = jax.lax.top_k(rearrange(objectness, 'B y x -> B (y x)'), self.regions)[1]
    boxes = jnp.take_along_axis(rearrange(cell_boxes, 'B y x C -> B (y x) C'), best[..., None], 1)
    boxes = jax.lax.stop_gradient(jnp.clip(boxes, 0, 1))
    return crops(pixels, boxes, self.crop), boxes, {'objectness': objectness, 'cell_boxes': cell_boxes}


def crops(image: jax.Array, boxes: jax.Array, side: int) -> jax.Array:
  """What boxes [B,R,4] (0..1 is the image) show of image [B,h,w,C], at side x side points: [B,R,side*side*C].

  A point is the centre of one of side x side equal bins of its box; bilinear, edges repeated.
  """

  def weights(low, high, pixels):  # [B,R] twice -> [B,R,side,pixels]
    share = (jnp.arange(side) + 0.5) / side
    at = (low[..., None] + share * (high - low)[..., None]) * pixels - 0.5
    return jax.nn.relu(1 - jnp.abs(jnp.clip(at, 0, pixels - 1)[..., None] - jnp.arange(pixels)))

  x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
  down, across = weights(y1, y2, image.shape[1]), weights(x1, x2, image.shape[2])
  return rearrange(jnp.einsum('BRyh,BRxw,BhwC->BRyxC', down, across, image), 'B R y x C -> B R (y x C)')


class PatchEmbed(nn.Module):
  """Image -> its patches, projected, behind a learnt token, with learnt positions (Dosovitskiy et al. 2021, eq. 1).

  image [B,h,w,3] float -> [B,1+P,D], patches row by row. grid: the (rows, columns) that positions are learnt for; those
  of another grid are resized from them, as for fine-tuning at another resolution (section 3.2), `bicubic`.
  stem: channels of 3x3 convolutions before the projection, each followed by layer norm and ReLU, each of stride 2, so
  that fewer pixels of a patch are left to project (Xiao et al. 2021, arXiv:2106.14881, section 4; there: batch norm).
  Raises UserError where the patches do not tile the image, or the stem is too long for a patch.
  """

  width: int
  patch: int
  grid: tuple[int, int]
  bias: bool = True
  init_std: float = 0.02
  stem: tuple[int, ...] = ()

  @nn.compact
  def __call__(self, image: jax.Array) -> jax.Array:
    found = image.shape[1:3]
    if found[0] % self.patch or found[1] % self.patch:
      raise UserError(f'image {found}: expected a multiple of the patch size {self.patch}')
    init = nn.initializers.normal(self.init_std)
    left = self.patch // 2 ** len(self.stem)
    if left * 2 ** len(self.stem) != self.patch:
      raise UserError(f'stem: found {len(self.stem)} convolutions, expected as many as halve a patch of {self.patch}')
    x = convolved(image, self.stem, 'stem_')
    x = nn.Conv(self.width, (left,) * 2, (left,) * 2, 'VALID', use_bias=self.bias, kernel_init=init, name='project')(x)
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
