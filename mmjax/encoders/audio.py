"""Spectrograms -> tokens. B batch, T frames, M mel bins, P patches, D width."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
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


class FrameEmbed(nn.Module):
  """Spectrogram -> a token of every second frame, with its place (Whisper, section 2.2): two convolutions over three
  frames, each through GELU, the second with stride 2, and sinusoids, which are a parameter that is not trained.

  spectrogram [B,2T,M] float -> [B,T,D]. frames, bins: the 2T and M that it is made for.
  Raises UserError for another spectrogram.
  """

  width: int
  frames: int
  bins: int
  init_std: float = 0.02

  @nn.compact
  def __call__(self, spectrogram: jax.Array) -> jax.Array:
    if spectrogram.shape[1:] != (self.frames, self.bins):
      raise UserError(f'spectrogram {spectrogram.shape[1:]}: expected {self.frames} frames of {self.bins} bins')
    init = nn.initializers.normal(self.init_std)
    conv = partial(nn.Conv, self.width, (3,), padding=1, kernel_init=init)
    x = nn.gelu(conv(name='conv0')(spectrogram), approximate=False)
    x = nn.gelu(conv(strides=2, name='conv1')(x), approximate=False)
    place = self.param('position', lambda key: jnp.asarray(sinusoids(self.frames // 2, self.width)))
    return x + jax.lax.stop_gradient(place)


def sinusoids(length: int, width: int) -> np.ndarray:
  """Whisper's: position n is sin(n f) for width/2 frequencies from 1 to 1/10,000, then their cosines: [length,width].

  Raises UserError for a width that is odd or below 4.
  """
  if width % 2 or width < 4:
    raise UserError(f'width {width}: expected an even one, at least 4, of sines and cosines')
  frequency = 10_000.0 ** -np.linspace(0, 1, width // 2)
  angle = np.arange(length)[:, None] * frequency
  return np.concatenate([np.sin(angle), np.cos(angle)], 1).astype(np.float32)
