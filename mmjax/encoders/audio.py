"""Spectrograms and waves -> tokens. B batch, T frames, M mel bins, P patches, S samples, N tokens, D width."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.layers.dilated import WaveNetBlock, causal_conv


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


class SpectrogramConv(nn.Module):
  """Spectrogram -> a token for each few frames, by strided convolutions over time and frequency.

  spectrogram [B,T,M] float, mask [B,T] bool -> (tokens [B,N,D], mask [B,N]). Each of `channels` halves frames and bins,
  rounded up; token n stands for the frames around n * 2**len(channels). What is masked is 0 before each convolution, as
  what is outside of the spectrogram is, so that padding changes nothing.
  """

  width: int
  channels: tuple[int, ...]

  @nn.compact
  def __call__(self, spectrogram: jax.Array, mask: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    x = rearrange(spectrogram, 'B T M -> B T M 1')
    for n, channels in enumerate(self.channels):
      x = jnp.where(mask[:, :, None, None], x, 0)
      x = nn.Conv(channels, (3, 3), (2, 2), ((1, 1), (1, 1)), name=f'conv{n}')(x)
      x, mask = nn.gelu(nn.LayerNorm(name=f'norm{n}')(x)), mask[:, ::2]
    return nn.Dense(self.width, name='project')(rearrange(x, 'B N m c -> B N (m c)')), mask


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


class WaveNet(nn.Module):
  """A raw wave -> tokens, through WaveNet's stack (van den Oord et al. 2016, arXiv:1609.03499) and a mean over `pool`.

  wave [B,S] float in -1..1, mask [B,S] bool -> tokens [B,N,D] with N = S / pool, rounded up, and their mask [B,N]. What
  is masked changes no token that is there, and a token reads no sample after its own `pool`. A block for each of the
  dilations (section 2.1: 1, 2, 4, ..., 512, several times over); the sum of their skip outputs, ReLU, a 1x1
  convolution, ReLU and another (figure 4). As for recognition (section 3.4) the mean over `pool` samples, 160 there,
  makes coarser frames. Raises UserError for a wave and a mask that do not fit.

  Differs from the paper: samples are numbers, not one of 256 values; no convolution follows the mean.
  """

  width: int
  dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
  pool: int = 160
  skip: int = 64
  channels: int = 32  # of the residual stream
  kernel: int = 2

  @nn.compact
  def __call__(self, wave: jax.Array, mask: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    if wave.ndim != 2 or mask.dtype != bool or mask.shape != wave.shape:
      raise UserError(f'wave {wave.shape}, mask {mask.dtype} {mask.shape}: expected [B,S] and bool [B,S]')
    more = ((0, 0), (0, -wave.shape[1] % self.pool))
    wave, mask = jnp.pad(jnp.where(mask, wave, 0), more), jnp.pad(mask, more)
    x, kept = causal_conv(self.channels, self.kernel, 1, 'first')(wave[..., None]), jnp.zeros(())
    for n, dilation in enumerate(self.dilations):
      x, skip = WaveNetBlock(dilation, self.skip, self.kernel, name=f'block{n}')(x, mask)
      kept = kept + skip
    x = nn.Dense(self.width, name='expand')(nn.relu(kept))
    x = nn.Dense(self.width, name='project')(nn.relu(x)) * mask[..., None]
    there = rearrange(mask, 'B (N s) -> B N s', s=self.pool).sum(-1)
    x = rearrange(x, 'B (N s) D -> B N s D', s=self.pool).sum(2) / jnp.maximum(there, 1)[..., None]
    return x, there > 0
