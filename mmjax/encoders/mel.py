"""Sound -> log-mel spectrograms, in the two conventions that audio transformers were trained on; batched, jittable.

Whisper's (Radford et al. 2022, arXiv:2212.04356, section 2.2): windows centred on every hop, decimal logarithm, cut
80 dB below the loudest. Kaldi's filter bank, as AST reads it (Gong et al. 2021, arXiv:2104.01778, section 2.1): only
whole windows, each with its mean taken off and high frequencies raised, natural logarithm. Both in float32, where a bin
100 dB below the loudest of its frame is known to about 1 % of its power.

B recordings, S samples, T frames, N samples of a frame, F frequencies, M mel bins.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.errors import UserError

RATE = 16_000  # samples a second, of Whisper and of AST
WINDOW, HOP = 400, 160  # of Whisper: 25 ms and 10 ms
KALDI_WINDOW, KALDI_HOP = 0.025, 0.010  # seconds
RAISE = 0.97  # pre-emphasis: x[n] - 0.97 x[n-1]
LOWEST = 20.0  # Hz: where Kaldi's first filter begins
FLOOR = 1.192092955078125e-07  # Kaldi's: the epsilon of float32
AST_MEAN, AST_STD = -4.2677393, 4.5689974  # of AudioSet


def whisper(wave: jax.Array, bins: int = 80) -> jax.Array:
  """wave [B,S] float in -1..1, 16,000 samples a second -> [B,S//160,bins] about -1..1.5, around sample 160 n.

  What is more than 8 (log10 of power: 80 dB) below the loudest of a recording is put there, then (x + 4) / 4.
  Raises UserError for a wave too short to be mirrored at its ends.
  """
  if wave.shape[1] <= WINDOW // 2:
    raise UserError(f'wave of {wave.shape[1]} samples: expected more than {WINDOW // 2}')
  around = jnp.pad(wave, ((0, 0), (WINDOW // 2, WINDOW // 2)), 'reflect')
  frames = _frames(around, WINDOW, HOP)[:, : wave.shape[1] // HOP]
  window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)  # Hann's, periodic
  energy = _power(frames * window.astype(np.float32), WINDOW, slaney_filters(bins))
  level = jnp.log10(jnp.maximum(energy, 1e-10))
  return (jnp.maximum(level, level.max((1, 2), keepdims=True) - 8.0) + 4.0) / 4.0


def kaldi(wave: jax.Array, rate: int = RATE, bins: int = 128) -> jax.Array:
  """wave [B,S] float in -1..1 -> [B,T,bins], natural logarithms of power; T = 1 + (S - 25 ms) // 10 ms.

  rate: samples a second. Filters reach from 20 Hz to half the rate. Differs from Kaldi, as AST's code does: windows are
  Hann's, not Povey's, no noise is added, and samples are not multiplied by 32,768.
  Raises UserError for a wave shorter than a window, and for a rate whose window holds too few samples.
  """
  size, hop = int(rate * KALDI_WINDOW), int(rate * KALDI_HOP)
  if hop < 1 or rate <= 2 * LOWEST:
    raise UserError(f'rate {rate}: expected at least 100 samples a second')
  if wave.shape[1] < size:
    raise UserError(f'wave of {wave.shape[1]} samples: shorter than a window of {size}')
  frames = _frames(wave, size, hop)
  before = jnp.concatenate([frames[..., :1], frames[..., :-1]], -1)
  # x[n] - 0.97 x[n-1] without the mean, in the order that rounds least: quiet bins stand 100 dB below loud ones
  frames = (frames - before) + (1 - RAISE) * (before - frames.mean(-1, keepdims=True))
  window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / (size - 1))  # Hann's, symmetric
  length = 1 << (size - 1).bit_length()  # of the transform: the next power of two
  energy = _power(frames * window.astype(np.float32), length, kaldi_filters(bins, length, rate))
  return jnp.log(jnp.maximum(energy, FLOOR))


def ast(spectrogram: jax.Array, frames: int = 1024, mean: float = AST_MEAN, std: float = AST_STD) -> jax.Array:
  """What AST reads of kaldi's [B,T,M]: cut or filled with zeros to [B,frames,M], then (x - mean) / (2 std)."""
  short = max(frames - spectrogram.shape[1], 0)
  return (jnp.pad(spectrogram[:, :frames], ((0, 0), (0, short), (0, 0))) - mean) / (2 * std)


def _frames(wave: jax.Array, size: int, hop: int) -> jax.Array:
  """wave [B,S] -> its whole windows [B,T,N], `hop` samples apart."""
  count = 1 + (wave.shape[1] - size) // hop
  return wave[:, hop * np.arange(count)[:, None] + np.arange(size)]


def _power(frames: jax.Array, length: int, filters: np.ndarray) -> jax.Array:
  """frames [B,T,N], transformed with zeros behind up to `length`, filters [F,M] -> power [B,T,M]."""
  spectrum = jnp.fft.rfft(frames, length)
  power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
  return jnp.einsum('BTF,FM->BTM', power, filters, precision=jax.lax.Precision.HIGHEST)


@cache
def slaney_filters(bins: int, length: int = WINDOW, rate: int = RATE) -> np.ndarray:
  """Triangles of area 2 / width from 0 Hz to half the rate, evenly on Slaney's scale: float32 [1+length//2,bins].

  The scale is linear up to 1 kHz, 15 steps, and logarithmic above, 27 steps to 6.4 kHz (Slaney 1998, Auditory Toolbox).
  """
  steps = lambda hertz: 15 + 27 * np.log(hertz / 1000) / np.log(6.4) if hertz > 1000 else 0.015 * hertz
  mel = np.linspace(0, steps(rate / 2), bins + 2)
  edge = np.where(mel > 15, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27), mel / 0.015)
  found = _triangles(edge, np.fft.rfftfreq(length, 1 / rate)) * (2 / (edge[2:] - edge[:-2]))
  return found.astype(np.float32)


@cache
def kaldi_filters(bins: int, length: int, rate: int) -> np.ndarray:
  """Triangles of height 1 on the mel scale itself, 1127 ln(1 + f/700): float32 [1+length//2,bins]."""
  mel = lambda hertz: 1127 * np.log1p(np.asarray(hertz) / 700)
  edge = np.linspace(mel(LOWEST), mel(rate / 2), bins + 2)
  return _triangles(edge, mel(np.fft.rfftfreq(length, 1 / rate))).astype(np.float32)


def _triangles(edge: np.ndarray, at: np.ndarray) -> np.ndarray:
  """Each rises from its edge to the next and falls to the one behind; edge [M+2], at [F] -> [F,M]."""
  low, middle, high, at = edge[:-2], edge[1:-1], edge[2:], at[:, None]
  return np.maximum(np.minimum((at - low) / (middle - low), (high - at) / (high - middle)), 0)
