"""Frames of a video -> tokens. B batch, T frames, h x w pixels, N tubelets, D width."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.layers.blocks import convolved
from mmjax.layers.recurrent import Recurrent


class TubeletEmbed(nn.Module):
  """Video -> its tubelets, projected (ViViT, Arnab et al. 2021, arXiv:2103.15691, section 3.2).

  video [B,T,h,w,C] float -> [B,N,D], in order of time, then row, then column. tubelet: frames, rows, columns of one.
  Raises UserError for a video that tubelets do not fill.
  """

  width: int
  tubelet: tuple[int, int, int]
  init_std: float = 0.02

  @nn.compact
  def __call__(self, video: jax.Array) -> jax.Array:
    found, (t, p, q) = video.shape[1:4], self.tubelet
    if any(size % part for size, part in zip(found, self.tubelet, strict=True)):
      raise UserError(f'video {found}: expected multiples of the tubelet {self.tubelet}')
    shape = (*self.tubelet, video.shape[-1], self.width)
    kernel = self.param('kernel', nn.initializers.normal(self.init_std), shape)
    bias = self.param('bias', nn.initializers.zeros, (self.width,))
    parts = rearrange(video, 'B (T t) (y p) (x q) C -> B (T y x) (t p q C)', t=t, p=p, q=q)
    return parts @ rearrange(kernel, 't p q C D -> (t p q C) D') + bias  # as a convolution would, but faster


class VideoConv(nn.Module):
  """Video -> a token a frame, by a 3D CNN (C3D, Tran et al. 2015, arXiv:1412.0767): each sees the frames around it.

  video [B,T,h,w,C] float, mask [B,T] bool -> tokens [B,T,D], mask. channels: of 3x3x3 convolutions, of stride 2 in
  space, each followed by layer norm and ReLU (there: pooling, no norm); the mean of a frame's cells is projected.
  """

  width: int
  channels: tuple[int, ...] = (16, 32, 64)

  @nn.compact
  def __call__(self, video: jax.Array, mask: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    here, x = mask[:, :, None, None, None], video
    for n, size in enumerate(self.channels):
      x = nn.Conv(size, (3, 3, 3), (1, 2, 2), name=f'conv{n}')(jnp.where(here, x, 0))
      x = nn.relu(nn.LayerNorm(name=f'norm{n}')(x))
    return nn.Dense(self.width, name='project')(x.mean((2, 3))), mask


class FrameRNN(nn.Module):
  """Video -> a token a frame: each frame by a CNN, then all in order by an LSTM or a GRU (LRCN, Donahue et al. 2015,
  arXiv:1411.4389).

  video [B,T,h,w,C] float, mask [B,T] bool -> tokens [B,T,D], mask. channels: as `layers.blocks.convolved` takes them.
  """

  width: int
  kind: str = 'lstm'
  channels: tuple[int, ...] = (16, 32, 64)

  @nn.compact
  def __call__(self, video: jax.Array, mask: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    x = convolved(rearrange(video, 'B T h w C -> (B T) h w C'), self.channels).mean((1, 2))
    x = nn.Dense(self.width, name='project')(rearrange(x, '(B T) F -> B T F', B=len(video)))
    return Recurrent(self.kind, self.width, name='read')(x, mask, train=train), mask


def sinusoids(length: int, width: int) -> np.ndarray:
  """Fixed positions (Vaswani et al. 2017, section 3.5), sines and cosines in turn: float32 [length,width]."""
  at = np.arange(length)[:, None] / 10000 ** (2 * (np.arange(width) // 2) / width)
  return np.where(np.arange(width) % 2 == 0, np.sin(at), np.cos(at)).astype(np.float32)


def pixels_to_predict(video: jax.Array, tubelet: tuple[int, int, int], normed: bool) -> jax.Array:
  """video [B,T,h,w,C] -> what a masked autoencoder is to paint, [B,N,t*p*q*C].

  normed: less the mean of each tubelet and colour, over its deviation (He et al. 2022, arXiv:2111.06377, section 4.1).
  """
  t, p, q = tubelet
  parts = rearrange(video, 'B (T t) (y p) (x q) C -> B (T y x) (t p q) C', t=t, p=p, q=q)
  if normed:
    parts = (parts - parts.mean(-2, keepdims=True)) / (jnp.std(parts, -2, ddof=1, keepdims=True) + 1e-6)
  return rearrange(parts, 'B N P C -> B N (P C)')
