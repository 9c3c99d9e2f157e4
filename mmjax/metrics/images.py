"""How near pictures are to one another."""

import numpy as np


def psnr(image: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Peak signal-to-noise ratio of pictures uint8 [M,h,w,3] in dB: [M]; infinite where they are the same."""
  error = ((image.astype(np.float64) - other.astype(np.float64)) ** 2).mean((1, 2, 3))
  with np.errstate(divide='ignore'):
    return 10 * np.log10(255**2 / error)
