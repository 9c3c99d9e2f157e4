"""The discrete autoencoders of DALL-E: Zero-Shot Text-to-Image Generation (Ramesh et al. 2021, arXiv:2102.12092).

A picture becomes a grid of codes out of a codebook, and a picture again (section 2.1, appendix A). Two of them:
`Encoder` and `Decoder` are OpenAI's as released; `DVAE` is that of DALLE-pytorch, small enough to be trained here.

B images, h x w pixels, y x x cells of the grid, K codes of the codebook, F size of an entry of it.

Differs from the paper: nothing in the released ones (convolutions run in float32). DVAE has another architecture and
loss, as DALLE-pytorch has.
"""

from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange, reduce
from flax import linen as nn

from mmjax.errors import UserError

EPS = 0.1  # keeps pixels from 0 and 1, where the logit-Laplace density (appendix A.3) has no mass


def map_pixels(image: jax.Array) -> jax.Array:
  """Pixels of 0..1 into 0.1..0.9, as the encoder reads them (appendix A.3)."""
  return (1 - 2 * EPS) * image + EPS


def unmap_pixels(image: jax.Array) -> jax.Array:
  """The inverse, cut to 0..1."""
  return jnp.clip((image - EPS) / (1 - 2 * EPS), 0, 1)


class Block(nn.Module):
  """A bottleneck block: x + gain * four convolutions, ReLU before each. [B,h,w,·] -> [B,h,w,width].

  kernels: their sides, 3 3 3 1 in the encoder and 1 3 3 3 in the decoder.
  """

  width: int
  gain: float
  kernels: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    same = x if x.shape[-1] == self.width else nn.Conv(self.width, (1, 1), name='same')(x)
    for n, side in enumerate(self.kernels):
      width = self.width if n == len(self.kernels) - 1 else self.width // 4
      x = nn.Conv(width, (side, side), name=f'conv{n}')(nn.relu(x))
    return same + self.gain * x


class Encoder(nn.Module):
  """image [B,h,w,3] as `map_pixels` gives it -> logits of the codes [B,h/8,w/8,K] (appendix A.2)."""

  codes: int = 8192
  width: int = 256
  blocks: int = 2  # a group
  groups: int = 4

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    cell = 2 ** (self.groups - 1)
    if image.shape[1] % cell or image.shape[2] % cell:
      raise UserError(f'image {image.shape[1:3]}: expected a multiple of {cell} pixels a side')
    block = partial(Block, gain=1 / (self.groups * self.blocks) ** 2, kernels=(3, 3, 3, 1))
    x = nn.Conv(self.width, (7, 7), name='input')(image)
    for group in range(self.groups):
      for n in range(self.blocks):
        x = block(2**group * self.width, name=f'group{group}_{n}')(x)
      if group < self.groups - 1:
        x = nn.max_pool(x, (2, 2), (2, 2))
    return nn.Conv(self.codes, (1, 1), name='output')(nn.relu(x))


class Decoder(nn.Module):
  """codes [B,y,x,K] (one of K each, or a mixture of them) -> [B,8y,8x,6]: location and log scale of each channel.

  A pixel is unmap_pixels(sigmoid(location)) (appendix A.3).
  """

  first: int = 128
  width: int = 256
  blocks: int = 2
  groups: int = 4

  @nn.compact
  def __call__(self, codes: jax.Array, *, train: bool = False) -> jax.Array:
    block = partial(Block, gain=1 / (self.groups * self.blocks) ** 2, kernels=(1, 3, 3, 3))
    x = nn.Conv(self.first, (1, 1), name='input')(codes)
    for group in range(self.groups):
      for n in range(self.blocks):
        x = block(2 ** (self.groups - 1 - group) * self.width, name=f'group{group}_{n}')(x)
      if group < self.groups - 1:
        x = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
    return nn.Conv(6, (1, 1), name='output')(nn.relu(x))


class ReleasedDVAE(nn.Module):
  """OpenAI's two halves. image [B,h,w,3] in 0..1.

  Returns 'logits' [B,y,x,K], 'stats' [B,h,w,6] of the likeliest codes, and 'image' [B,h,w,3] made of them, in 0..1.
  """

  encoder: Encoder
  decoder: Decoder

  def __call__(self, image: jax.Array, *, train: bool = False) -> dict[str, jax.Array]:
    logits = self.encoder(map_pixels(image))
    stats = self.decoder(jax.nn.one_hot(logits.argmax(-1), logits.shape[-1]))
    return {'logits': logits, 'stats': stats, 'image': unmap_pixels(nn.sigmoid(stats[..., :3]))}

  def soft(self, image: jax.Array, *, train: bool = False) -> jax.Array:
    """Stats [B,h,w,6] of the mixture of codes by their probability."""
    return self.decoder(nn.softmax(self.encoder(map_pixels(image))))


class Residual(nn.Module):
  """x + three convolutions, ReLU between them. [B,h,w,D] -> the same."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    width, y = x.shape[-1], x
    for n, side in enumerate((3, 3, 1)):
      y = nn.Conv(width, (side, side), name=f'conv{n}')(nn.relu(y) if n else y)
    return x + y


class Up(nn.Module):
  """A transposed convolution of 4 x 4, stride 2: [B,y,x,F] -> [B,2y,2x,width].

  Written as one plain convolution for each of the four pixels that a cell becomes, which XLA runs six times as fast on
  CPU, gradients and all, as the same with holes in its input.
  """

  width: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param('kernel', nn.initializers.lecun_normal(), (4, 4, x.shape[-1], self.width))
    bias = self.param('bias', nn.initializers.zeros, (self.width,))

    def pixel(row, column):
      padding = ((1 - row, row), (1 - column, column))
      taps = kernel[row::2, column::2]
      return jax.lax.conv_general_dilated(x, taps, (1, 1), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

    pixels = jnp.stack([pixel(row, column) for row in (0, 1) for column in (0, 1)])
    return rearrange(pixels, '(p q) B y x F -> B (y p) (x q) F', p=2) + bias


class DVAE(nn.Module):
  """DALLE-pytorch's dVAE. image [B,h,w,3] in 0..1, key for Gumbel noise (none where not given).

  A code for each 2**layers pixels a side. The codes are mixed by Gumbel-softmax (section 2.1; Jang et al. 2016,
  arXiv:1611.01144) of `temperature`, which may be a traced number.
  Returns 'logits' [B,y,x,K] and 'image' [B,h,w,3], the reconstruction of (image - 0.5) / 0.5.
  Raises UserError for an image that the codes do not tile.
  """

  codes: int = 512
  entry: int = 512
  layers: int = 3
  residuals: int = 0
  width: int = 64

  def setup(self):
    down = partial(nn.Conv, kernel_size=(4, 4), strides=(2, 2), padding=((1, 1), (1, 1)))
    self.down, self.up = ([conv(self.width) for _ in range(self.layers)] for conv in (down, Up))
    self.inner, self.outer = ([Residual() for _ in range(self.residuals)] for _ in range(2))
    self.score, self.pixels = nn.Conv(self.codes, (1, 1)), nn.Conv(3, (1, 1))
    if self.residuals:
      self.widen = nn.Conv(self.width, (1, 1))
    self.codebook = self.param('codebook', nn.initializers.normal(1.0), (self.codes, self.entry))

  def __call__(self, image: jax.Array, key: jax.Array | None = None, temperature=0.9, *, train: bool = False):
    logits = self.encode(image)
    noise = 0.0 if key is None else jax.random.gumbel(key, logits.shape)
    mixed = nn.softmax((logits + noise) / temperature) @ self.codebook
    return {'logits': logits, 'image': self._paint(mixed)}

  def encode(self, image: jax.Array) -> jax.Array:
    """Logits of the codes: [B,y,x,K]."""
    cell = 2**self.layers
    if image.shape[1] % cell or image.shape[2] % cell:
      raise UserError(f'image {image.shape[1:3]}: expected a multiple of {cell} pixels a side')
    x = (image - 0.5) / 0.5
    for conv in self.down:
      x = nn.relu(conv(x))
    for block in self.inner:
      x = block(x)
    return self.score(x)

  def decode(self, codes: jax.Array) -> jax.Array:
    """codes [B,y,x] int -> [B,h,w,3], about -1..1."""
    return self._paint(self.codebook[codes])

  def _paint(self, x: jax.Array) -> jax.Array:
    x = self.widen(x) if self.residuals else x
    for block in self.outer:
      x = block(x)
    for conv in self.up:
      x = nn.relu(conv(x))
    return self.pixels(x)


def uniformity(logits: jax.Array) -> jax.Array:
  """How far the codes [B,y,x,K] are from equally likely: the divergence of section 2.1, summed over cells, [B]."""
  log_q = nn.log_softmax(logits)
  return reduce(jnp.exp(log_q) * (log_q + jnp.log(logits.shape[-1])), 'B y x K -> B', 'sum')
