"""Sound files as users have them: WAV, FLAC, Ogg, any rate, any number of channels -> float32 [S], S samples."""

import math
import os
from typing import BinaryIO

import numpy as np
import soundfile
from scipy.signal import resample_poly

from mmjax.errors import UserError

OGG_PAGE = 65_307  # bytes, the most that a page has
RATES = 100, 1_000_000  # samples a second that a file can have: others are damage, or would ask for all memory


def read(path: str | os.PathLike, about: str = 'sound') -> tuple[np.ndarray, int]:
  """A sound file -> (wave [S] float32, the mean of its channels, in -1..1; samples a second).

  Files of floats are taken as they are, also beyond 1.
  Raises UserError, about `about`, for a file that is no sound, is damaged, holds no sample or one that is no number,
  and for a rate outside of RATES.
  """
  if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
    raise UserError(f'{about} {path}: no file')  # a pipe would be waited for
  try:
    with open(path, 'rb') as opened, soundfile.SoundFile(opened) as file:
      rate, promised = file.samplerate, file.frames
      channels = file.read(dtype='float32', always_2d=True)
      opened.seek(0)
      whole = _whole(opened)
  except (soundfile.SoundFileError, ValueError, TypeError) as error:  # TypeError: headerless, by its name
    raise UserError(f'{about} {path}: no sound that can be read (WAV, FLAC or Ogg)') from error
  except OSError as error:
    raise UserError(f'{about} {path}: {error.strerror or error}') from error
  if not RATES[0] <= rate <= RATES[1]:
    raise UserError(f'{about} {path}: found {rate:,} samples a second, expected {RATES[0]} to {RATES[1]:,}')
  if not len(channels):
    raise UserError(f'{about} {path}: found no sample, expected at least one')
  if len(channels) < promised:
    raise UserError(f'{about} {path}: damaged, found {len(channels):,} samples of {promised:,}')
  if not whole:
    raise UserError(f'{about} {path}: damaged, cut off after {len(channels):,} samples')
  if not np.isfinite(channels).all():
    raise UserError(f'{about} {path}: damaged, holds NaN or infinity')
  return channels.mean(1), rate


def _whole(file: BinaryIO) -> bool:
  """Whether a WAV has all the bytes that its header promises, and an Ogg its last page; of others True.

  libsndfile takes what is there for all. A stream's header promises 0 or the most that it can.
  """
  size = file.seek(0, os.SEEK_END)
  start = lambda at, count: (file.seek(at), file.read(count))[1]
  kind = start(0, 4)
  if kind == b'OggS':
    _, _, page = start(max(size - OGG_PAGE, 0), OGG_PAGE).rpartition(kind)
    return page[1:2] != b'' and bool(page[1] & 4)  # the flag of a stream's end
  at = 12
  while kind == b'RIFF' and at + 8 <= size:
    head = start(at, 8)
    long = int.from_bytes(head[4:], 'little')
    if head[:4] == b'data':
      return long in (0, 2**32 - 1) or at + 8 + long <= size
    at += 8 + long + long % 2
  return True


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
