"""Spectrograms -> tokens. B batch, T frames, M mel bins, P patches, N tokens, D width."""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from mmjax.errors import UserError


class SpectrogramEmbed(nn.Module):
  """Spectrogram -> its patches, projected, behind learnt tokens, with learnt positions (AST, section 2.1).

  spectrogram [B,T,M] float -> [B,tokens+P,D], patches bin by bin, in each from the first frame to the last; `strides`
  (frequency, time) smaller than the patch let patches overlap. frames, bins: the T and M that positions are learnt for.
  Raises UserError for another spectrogram, and for one that is smaller than a patch.
  """

  width: int
  frames: int
  bins: int
  patch: int
  strides: tuple[int, int]
  tokens: int = 2
  init_std: float = 0.02

  @nn.compact
  def __call__(self, spectrogram: jax.Array) -> jax.Array:
    if spectrogram.shape[1:] != (self.frames, self.bins):
      raise UserError(f'spectrogram {spectrogram.shape[1:]}: expected {self.frames} frames of {self.bins} bins')
    if min(self.frames, self.bins) < self.patch:
      raise UserError(f'spectrogram {spectrogram.shape[1:]}: smaller than a patch of {self.patch}')
    init, side = nn.initializers.normal(self.init_std), (self.patch, self.patch)
    image = rearrange(spectrogram, 'B T M -> B M T 1')
    x = nn.Conv(self.width, side, self.strides, 'VALID', kernel_init=init, name='project')(image)
    x = rearrange(x, 'B m t D -> B (m t) D')
    first = jnp.broadcast_to(self.param('tokens', init, (self.tokens, self.width)), (len(x), self.tokens, self.width))
    return jnp.concatenate([first, x], 1) + self.param('position', init, (self.tokens + x.shape[1], self.width))


class SpectrogramConv(nn.Module):
  """Spectrogram -> a token for each few frames, by strided convolutions over time and frequency.

  spectrogram [B,T,M] float, mask [B,T] bool -> (tokens [B,N,D], mask [B,N]). Each of `channels` halves frames and bins,
  rounded up; token n stands for the frames around n * 2**len(channels). What is masked is 0 before each convolution, as
  what is outside of the spectrogram is, so that padding changes nothing.
  """

  width: int
  channels: tuple[int, ...]

  @nn.compact
  def __call__(self, spectrogram: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    x = rearrange(spectrogram, 'B T M -> B T M 1')
    for n, channels in enumerate(self.channels):
      x = jnp.where(mask[:, :, None, None], x, 0)
      x = nn.Conv(channels, (3, 3), (2, 2), ((1, 1), (1, 1)), name=f'conv{n}')(x)
      x, mask = nn.gelu(nn.LayerNorm(name=f'norm{n}')(x)), mask[:, ::2]
    return nn.Dense(self.width, name='project')(rearrange(x, 'B N m c -> B N (m c)')), mask
