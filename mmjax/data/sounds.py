"""Sound files as users have them: WAV, FLAC, Ogg, any rate, any number of channels -> float32 [S], S samples."""

import math
import os

import numpy as np
import soundfile
from scipy.signal import resample_poly

from mmjax.errors import UserError


def read(path: str | os.PathLike, about: str = 'sound') -> tuple[np.ndarray, int]:
  """A sound file -> (wave [S] float32, the mean of its channels, in -1..1; samples a second).

  Files of floats are taken as they are, also beyond 1.
  Raises UserError, about `about`, for a file that is no sound, is damaged, holds no sample or one that is no number.
  """
  try:
    with open(path, 'rb') as opened, soundfile.SoundFile(opened) as file:
      rate, promised = file.samplerate, file.frames
      channels = file.read(dtype='float32', always_2d=True)
  except (soundfile.SoundFileError, ValueError) as error:
    raise UserError(f'{about} {path}: no sound that can be read (WAV, FLAC or Ogg)') from error
  except OSError as error:
    raise UserError(f'{about} {path}: {error.strerror or error}') from error
  if not len(channels):
    raise UserError(f'{about} {path}: found no sample, expected at least one')
  if len(channels) < promised:
    raise UserError(f'{about} {path}: damaged, found {len(channels):,} samples of {promised:,}')
  if not np.isfinite(channels).all():
    raise UserError(f'{about} {path}: damaged, holds NaN or infinity')
  return channels.mean(1), rate


def resampled(wave: np.ndarray, rate: int, wanted: int) -> np.ndarray:
  """wave [S] at `rate` samples a second -> float32 at `wanted`, ceil(S * wanted / rate) of them.

  Through scipy's polyphase filter, which is as long as the two rates have little in common.
  Raises UserError for a rate below 1.
  """
  if min(rate, wanted) < 1:
    raise UserError(f'rate: found {rate} to {wanted}, expected at least 1 sample a second')
  if rate == wanted:
    return wave.astype(np.float32, copy=False)
  common = math.gcd(rate, wanted)
  return resample_poly(wave, wanted // common, rate // common).astype(np.float32, copy=False)


def load(path: str | os.PathLike, rate: int, about: str = 'sound') -> np.ndarray:
  """A sound file -> wave [S] float32 at `rate` samples a second; raises as `read`."""
  return resampled(*read(path, about), rate)
