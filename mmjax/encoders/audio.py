"""Spectrograms -> tokens. B batch, T frames, M mel bins, P patches, D width."""

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
    if self.tokens:
      first = self.param('tokens', init, (self.tokens, self.width))
      x = jnp.concatenate([jnp.broadcast_to(first, (len(x), *first.shape)), x], 1)
    return x + self.param('position', init, x.shape[1:])
