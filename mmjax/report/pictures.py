"""Pictures as they stand in a page."""

import base64
import io

import numpy as np
from PIL import Image

CRISP = 256  # pixels: up to this size an image is kept as it is and scaled up with sharp pixels
LARGEST = 720  # pixels: a larger image is scaled down


def data_uri(image: np.ndarray) -> str:
  """image uint8 [h,w,3] -> a data: address, PNG up to CRISP pixels a side, else JPEG. Raises ValueError for another."""
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
    raise ValueError(f'image must be uint8 [h,w,3], found {image.dtype} {list(image.shape)}')
  if max(image.shape) <= CRISP:
    return png_uri(image)
  picture, file = Image.fromarray(image), io.BytesIO()
  picture.thumbnail((LARGEST, LARGEST))
  picture.save(file, 'JPEG', quality=85)
  return 'data:image/jpeg;base64,' + base64.b64encode(file.getvalue()).decode()


def png_uri(image: np.ndarray) -> str:
  """image uint8 [h,w,3] as it is."""
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'PNG', optimize=True)
  return 'data:image/png;base64,' + base64.b64encode(file.getvalue()).decode()
