"""A checkpoint's folder -> the model here and its variables, and back."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flax import linen as nn

from mmjax.convert import families
from mmjax.convert.names import from_theirs
from mmjax.convert.plan import Config, Plan
from mmjax.convert.tensors import open_tensors, read_json
from mmjax.errors import UserError


def load(folder: str | Path) -> tuple[nn.Module, dict]:
  """config.json + model.safetensors (or the files of its index) -> (model, {'params': ...}), nothing left over.

  Raises UserError for a folder without these files, an unknown family, and for tensors that do not fit.
  """
  plan, tensors = read(folder)
  return plan.model, variables_of(plan, tensors)


def read(folder: str | Path) -> tuple[Plan, dict[str, np.ndarray]]:
  """What the folder holds, understood but not converted, and its tensors, each under its first name only."""
  folder = Path(folder)
  if not folder.is_dir():
    raise UserError(f'{folder}: no such folder')
  config: Config = read_json(folder / 'config.json')
  tensors = open_tensors(folder)
  plan = families.plan(config, {name: tensor.shape for name, tensor in tensors.items()}, str(folder))
  return plan, once(plan, tensors)


def once(plan: Plan, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Tensors that stand under two names, under the first. Raises UserError where the two differ."""
  found = dict(tensors)
  for second, first in plan.tied.items():
    if second in found and first in found and not np.array_equal(found[second], found[first]):
      raise UserError(f'{second} differs from {first}, expected one tensor under two names')
    if second in found:
      found.setdefault(first, found.pop(second))
  return found


def variables_of(plan: Plan, tensors: Mapping[str, np.ndarray]) -> dict:
  return from_theirs(plan.rows, tensors, plan.shapes(), plan.buffers)
