"""Pictures as they stand in a page."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

CRISP = 256  # pixels: up to this size an image is kept as it is and scaled up with sharp pixels
LINES = ('#1f6fb2', '#c9711f', '#2f8f57', '#8a5bb0')  # colours of lines, on white
LARGEST = 720  # pixels: a larger image is scaled down


def shown(image: np.ndarray) -> dict[str, Any]:
  """image uint8 [h,w,3] as the template has it: 'source', 'size' (w, h), 'crisp': whether its pixels stay sharp."""
  return {'source': data_uri(image), 'size': image.shape[1::-1], 'crisp': max(image.shape[:2]) <= CRISP}


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


def plotted(x: np.ndarray, lines: Mapping[str, np.ndarray], along: str) -> np.ndarray:
  """A small drawing of some lines {name: [T]} over x [T], named along its side and below: uint8 [h,w,3].

  What is not a number is passed over.
  """
  figure = Figure(figsize=(1.9, 1.4), layout='constrained', dpi=250)
  axes = figure.add_subplot()
  for n, (name, y) in enumerate(lines.items()):
    there = np.isfinite(y)
    axes.plot(x[there], y[there], color=LINES[n % len(LINES)], linewidth=0.9, marker='.', markersize=2, label=name)
  axes.set_xlabel(along, fontsize=6)
  axes.tick_params(labelsize=6, length=2, width=0.5)
  axes.spines[['top', 'right']].set_visible(False)
  if len(lines) > 1:
    figure.legend(loc='outside upper center', ncols=len(lines), fontsize=6, frameon=False, borderpad=0.3)
  else:
    axes.set_ylabel(next(iter(lines)), fontsize=6)
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def heat(values: np.ndarray, scale: int = 1) -> np.ndarray:
  """values [h,w] as colours, the lowest dark, each `scale` pixels wide and high: uint8 [h,w,3]."""
  low, high = float(values.min()), float(values.max())
  even = (values - low) / (high - low) if high > low else np.zeros_like(values)
  return (colormaps['magma'](np.kron(even, np.ones((scale, scale))))[..., :3] * 255).astype(np.uint8)
