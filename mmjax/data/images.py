"""Image files as users have them: any mode, any depth, any size -> uint8 [h,w,3]."""

import os
import warnings

import numpy as np
from PIL import Image, ImageOps

from mmjax.errors import UserError

MOST = 178_956_970  # pixels: what Pillow takes for an attack beyond


def read(path: str | os.PathLike, about: str = 'image') -> np.ndarray:
  """An image file -> uint8 [h,w,3], turned upright as its camera says.

  Of an animation the first frame; grey and CMYK are made RGB, 16 bits 8; what can be seen through is laid on white.
  Raises UserError, about `about`, for a file that is no image, is damaged or has more than MOST pixels.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', Image.DecompressionBombWarning)
      with Image.open(path) as file:
        if file.width * file.height > MOST:
          raise UserError(f'{about} {path}: found {file.width:,} x {file.height:,} pixels, expected at most {MOST:,}')
        file.load()
        picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith('I') or picture.mode == 'F':
          return np.repeat(_eight_bits(np.asarray(picture))[..., None], 3, 2)
        if 'A' in picture.getbands() or 'transparency' in picture.info:
          clear = picture.convert('RGBA')
          picture = Image.alpha_composite(Image.new('RGBA', clear.size, 'white'), clear)
        return np.asarray(picture.convert('RGB'))
  except Image.DecompressionBombError as error:
    raise UserError(f'{about} {path}: found too many pixels, expected at most {MOST:,}') from error
  except (OSError, SyntaxError, ValueError) as error:
    why = getattr(error, 'strerror', None) or 'no image that can be read'
    raise UserError(f'{about} {path}: {why}') from error


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
  """Grey values of more than 8 bits [h,w]: of 16 bits where they are whole numbers, else their own range."""
  pixels = np.nan_to_num(pixels, nan=0, posinf=0, neginf=0)  # what was not measured is black
  top = 65535 if np.issubdtype(pixels.dtype, np.integer) else max(float(pixels.max()), 1e-9)
  return np.clip(np.rint(pixels.astype(np.float64) / top * 255), 0, 255).astype(np.uint8)


def resized(image: np.ndarray, side: int, crop: bool = True) -> np.ndarray:
  """uint8 [h,w,3] -> [side,side,3], bicubic; crop: the middle square of it, as CLIP reads, otherwise squeezed."""
  picture = Image.fromarray(image)
  if crop:
    return np.asarray(ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC))
  return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))
