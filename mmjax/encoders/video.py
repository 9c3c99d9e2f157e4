"""Frames of a video -> tokens. B batch, T frames, h x w pixels, N tubelets, D width."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from mmjax.errors import UserError


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
