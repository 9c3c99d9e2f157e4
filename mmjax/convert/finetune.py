"""Fine-tuning: the parameters of a checkpoint as the beginning of a model that differs in its ends."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mmjax.convert.names import flatten
from mmjax.encoders.image import bicubic
from mmjax.errors import UserError

# replaced where sizes differ: scores of answers and of what is to be predicted, and what reads a region's feature
ENDS = ('answer_score', 'feature_score', 'object_score', 'attribute_score', 'regions/feature', 'regions/masked',
        'embed/region')  # fmt: skip
GRIDS = ('patches/position', 'pool/position')  # learnt positions of an image's patches behind one token


def begin(fresh: Mapping, loaded: Mapping) -> tuple[dict, list[str]]:
  """Variables to begin with, each from `loaded` where it is there, else from `fresh`, and what was done, in words.

  fresh: the variables of the model to be trained; loaded: those of a checkpoint of its kind. Layers of ENDS and whole
  modules that the checkpoint lacks begin anew, positions of another grid of patches are resized (bicubic), and what the
  model does not have is left behind. Raises UserError that lists all else that does not fit.
  """
  mine, theirs = flatten(fresh), flatten(loaded)
  begun = {_module(path) for path in theirs}
  found, anew, faults = {}, set(), []
  for path, value in mine.items():
    there = theirs.get(path)
    if there is not None and there.shape == value.shape:
      found[path] = np.asarray(there)
    elif there is not None and path.endswith(GRIDS):
      found[path] = _resized(there, value.shape)
      anew.add(f'{path}: {len(there) - 1} patches there, {len(value) - 1} here, resized')
    elif (there is not None and any(f'/{end}/' in f'{path}/' for end in ENDS)) or _module(path) not in begun:
      found[path] = np.asarray(value)
      if there is None:
        anew.add(f'{_module(path)}: not there, begins anew')
      elif not path.endswith('/bias'):
        sizes = f'{" x ".join(map(str, there.shape))} there, {" x ".join(map(str, value.shape))} here'
        anew.add(f'{_layer(path)}: {sizes}, begins anew')
    else:
      faults.append(f'{path}: found {"nothing" if there is None else there.shape}, expected {value.shape}')
  if faults:
    raise UserError(f'{len(faults)} parameters do not fit: {"; ".join(faults)}')
  left = sorted(begun - {_module(path) for path in mine})
  said = sorted(anew) + ([f'left behind: {", ".join(left)}'] if left else [])
  return traverse_util.unflatten_dict(found, sep='/'), said


def _module(path: str) -> str:
  """'params/encoder/group0/...' -> 'encoder'."""
  return path.split('/')[1]


def _layer(path: str) -> str:
  """A parameter's path without its collection, and without the name that a layer's kernel has."""
  return path.partition('/')[2].removesuffix('/kernel')


def _resized(table: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """[1+P,D] of one square grid -> that of another."""
  sides = [round((rows - 1) ** 0.5) for rows in (len(table), shape[0])]
  old, new = ((side, side) for side in sides)
  return np.concatenate([table[:1], np.asarray(bicubic(jnp.asarray(table[1:]), old, new))])
