"""Test inputs with a modality hidden, blurred or noised, to see what a fusion leans on. N images, K questions."""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage

from mmjax.data.sort_of_clevr import HALF

BLUR = 2.0  # standard deviation of the Gaussian, in pixels
NOISE = 0.25  # the same of what is added to colours, where 0..1 is their range

Batch = Mapping[str, np.ndarray]
CROP = 2 * HALF + 1  # pixels of a region's side


def _coloured(batch: Batch, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
  """batch with `change` applied to its colours, float [...,h,w,3] in 0..1, whether they are pictures or crops."""
  kept = lambda x: np.clip(change(x), 0, 1)
  if 'regions' in batch:
    crops = (batch['regions'].reshape(*batch['regions'].shape[:-1], CROP, CROP, 3) + 1) / 2
    return {**batch, 'regions': (2 * kept(crops) - 1).reshape(batch['regions'].shape).astype(np.float32)}
  return {**batch, 'image': (255 * kept(batch['image'] / 255)).round().astype(np.uint8)}


def hide_image(batch: Batch, rng: np.random.Generator) -> dict[str, np.ndarray]:
  """Nothing but white; regions, where they are given, all lie over the whole image."""
  white = _coloured(batch, np.ones_like)
  if 'regions' in batch:
    white['boxes'] = np.broadcast_to(np.array([0, 0, 1, 1], np.float32), batch['boxes'].shape)
  return white


def hide_words(batch: Batch, rng: np.random.Generator) -> dict[str, np.ndarray]:
  """The first token alone, which says that a sentence begins."""
  first = np.arange(batch['question'].shape[-1]) == 0
  return {**batch, 'question': np.where(first, batch['question'], 0).astype(batch['question'].dtype)}


def blur(batch: Batch, rng: np.random.Generator) -> dict[str, np.ndarray]:
  return _coloured(batch, lambda x: ndimage.gaussian_filter(x, BLUR, axes=(-3, -2), mode='nearest'))


def noise(batch: Batch, rng: np.random.Generator) -> dict[str, np.ndarray]:
  return _coloured(batch, lambda x: x + NOISE * rng.standard_normal(x.shape))


BROKEN: dict[str, Callable[[Batch, np.random.Generator], dict[str, np.ndarray]]] = {
  'image hidden': hide_image,
  'words hidden': hide_words,
  'image blurred': blur,
  'image noised': noise,
}
