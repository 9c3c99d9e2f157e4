"""A stored case of a peer (its weights, inputs and outputs) against the model here, output by output."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from mmjax.convert.load import converted, read
from mmjax.convert.plan import Arrays
from mmjax.convert.tensors import Tensors, read_json
from mmjax.errors import UserError

MASKED = 1e30  # a score beyond this was masked


def compute(folder: str | Path, allow_pickle: bool = False) -> Arrays:
  """Everything that the family computes of a case's inputs, under the peer's names; float32, precision 'highest'.

  Raises UserError for a folder that holds no case, and for inputs that the family does not read.
  """
  folder = Path(folder)
  plan, tensors = read(folder, allow_pickle)
  if not (folder / 'inputs.safetensors').is_file():
    raise UserError(f'{folder}: no inputs.safetensors, expected a stored case')
  given: Arrays = {name: np.array(a) for name, a in Tensors([folder / 'inputs.safetensors']).items()}
  if (folder / 'case.json').is_file():
    stored = read_json(folder / 'case.json').get('outputs', {})
    plan = replace(plan, stored={name: tuple(shape) for name, (shape, _) in stored.items()})
  with jax.default_matmul_precision('highest'):
    variables = converted(plan, tensors)
    try:
      found = jax.jit(lambda variables: plan.outputs(plan, variables, given))(variables)
    except UserError:
      raise
    except KeyError as error:
      raise UserError(f'{folder}: inputs.safetensors lacks {error}, found {", ".join(given)}') from error
    except (TypeError, ValueError, IndexError) as error:  # shapes that do not go with one another
      raise UserError(
        f'{folder}: inputs.safetensors cannot be read by the model: {str(error).splitlines()[0]}'
      ) from error
  return {name: np.asarray(value) for name, value in found.items()}


def errors(found: Arrays, wanted: Mapping[str, np.ndarray]) -> dict[str, float | None]:
  """output -> max|ours - theirs| / max|theirs|; None where it is not computed or has another shape. Ids: 0 or 1."""
  result: dict[str, float | None] = {}
  for name, theirs in wanted.items():
    ours = found.get(name)
    if ours is None or ours.shape != theirs.shape:
      result[name] = None
    elif not np.issubdtype(theirs.dtype, np.floating):
      result[name] = float((ours != theirs).any())
    else:
      result[name] = _error(ours.astype(np.float64), theirs.astype(np.float64))
  return result


def _error(ours: np.ndarray, theirs: np.ndarray) -> float:
  """Where theirs is masked, ours must be too; where nothing else is left, or anything is no number: infinity."""
  masked = np.abs(theirs) >= MASKED
  if np.isnan(theirs).any() or (np.abs(ours[masked]) < MASKED).any() or not np.isfinite(ours[~masked]).all():
    return np.inf
  if masked.all():
    return 0.0 if not theirs.size else np.inf
  return float(np.abs(ours - theirs)[~masked].max() / (np.abs(theirs[~masked]).max() or 1))


def tolerance(case: str, name: str) -> float:
  """1e-5; 2e-5 for gradients and for cases that shrink norms and embeddings (_eps).

  1e-4 for a margin, the least difference of two scores: a small number with the noise of large ones.
  """
  if 'margin' in name:
    return 1e-4
  return 2e-5 if name.startswith('grad::') or case.endswith('_eps') else 1e-5
