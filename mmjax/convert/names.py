"""Name maps: which tensor of a published checkpoint is which parameter here.

A map is a list of rows; a row names one parameter, '/'-joined, and the tensor that holds it, or, for the layers of a
scanned group, the tensors that stack to it along the leading axis.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import jax
import numpy as np
from flax import traverse_util

from mmjax.errors import UserError


@dataclass(frozen=True)
class Row:
  ours: str
  theirs: tuple[str, ...]
  transposed: bool = False  # torch keeps a dense kernel as [out, in]
  stacked: bool = False

  def layers(self, ours: str, theirs: str, repeats: int) -> 'Row':
    """The same row once a layer: `theirs` holds '{n}' for the layer's index."""
    return Row(
      f'{ours}/{self.ours}',
      tuple(f'{theirs.format(n=n)}.{self.theirs[0]}' for n in range(repeats)),
      self.transposed,
      True,
    )

  def below(self, ours: str, theirs: str) -> 'Row':
    """The same row with a prefix on either side ('' for none)."""
    join = lambda prefix, name, mark: f'{prefix}{mark}{name}' if prefix else name
    return Row(
      join(ours, self.ours, '/'), tuple(join(theirs, t, '.') for t in self.theirs), self.transposed, self.stacked
    )


def dense(ours: str, theirs: str) -> list[Row]:
  return [Row(f'{ours}/kernel', (f'{theirs}.weight',), transposed=True), Row(f'{ours}/bias', (f'{theirs}.bias',))]


def norm(ours: str, theirs: str) -> list[Row]:
  return [Row(f'{ours}/scale', (f'{theirs}.weight',)), Row(f'{ours}/bias', (f'{theirs}.bias',))]


def embed(ours: str, theirs: str) -> list[Row]:
  return [Row(f'{ours}/embedding', (f'{theirs}.weight',))]


def vector(ours: str, theirs: str) -> list[Row]:
  return [Row(ours, (theirs,))]


def attention(owner: str, projections: str, output: str) -> list[Row]:
  """BERT's attention: query, key and value below `projections`, dense and LayerNorm below `output`."""
  return [
    *(row for part in ('query', 'key', 'value') for row in dense(f'{owner}/{part}', f'{projections}.{part}')),
    *dense(f'{owner}/out', f'{output}.dense'),
    *norm(f'{owner}/norm', f'{output}.LayerNorm'),
  ]


def feed_forward(owner: str, expand: str, output: str) -> list[Row]:
  """BERT's feed-forward: the first dense, then dense and LayerNorm below `output`."""
  return [
    *dense(f'{owner}/ffn/expand', expand),
    *dense(f'{owner}/ffn/project', f'{output}.dense'),
    *norm(f'{owner}/ffn_norm', f'{output}.LayerNorm'),
  ]


def bert_layer(owner: str) -> list[Row]:
  """A layer of BERT: self-attention and feed-forward of the one owner."""
  return [
    *attention(owner, 'attention.self', 'attention.output'),
    *feed_forward(owner, 'intermediate.dense', 'output'),
  ]


def from_theirs(
  rows: Iterable[Row], tensors: Mapping[str, np.ndarray], expected: Mapping, ignored: Iterable[str] = ()
) -> dict:
  """Published tensors -> nested parameters, every one of both sides accounted for.

  expected: the model's parameters (or their shapes), nested. Raises UserError that lists all that is missing, left
  over, or of another shape or dtype. Floats of another precision are cast to the model's.
  """
  rows, flat = list(rows), traverse_util.flatten_dict(expected, sep='/')
  used = {name for row in rows for name in row.theirs}
  faults = [f'{name}: missing' for name in sorted(used - set(tensors))]
  faults += [f'{name}: left over' for name in sorted(set(tensors) - used - set(ignored))]
  faults += [f'{name}: a parameter without a source' for name in sorted(set(flat) - {row.ours for row in rows})]
  params = {}
  for row in rows:
    if row.ours not in flat:
      faults.append(f'{", ".join(row.theirs)}: no parameter {row.ours!r} in the model')
      continue
    shape = flat[row.ours].shape[row.stacked :]
    if row.stacked and len(row.theirs) != flat[row.ours].shape[0]:
      faults.append(f'{row.ours}: found {len(row.theirs)} layers, expected {flat[row.ours].shape[0]}')
    for name in (n for n in row.theirs if n in tensors):
      found = tensors[name].shape[::-1] if row.transposed else tensors[name].shape
      if found != shape:
        faults.append(f'{name}: found shape {tensors[name].shape}, expected {shape[::-1] if row.transposed else shape}')
      if not np.issubdtype(tensors[name].dtype, np.floating):
        faults.append(f'{name}: found dtype {tensors[name].dtype}, expected a float')
    if not faults:
      parts = [tensors[name].T if row.transposed else tensors[name] for name in row.theirs]
      params[row.ours] = np.ascontiguousarray(np.stack(parts) if row.stacked else parts[0], flat[row.ours].dtype)
  if faults:
    raise UserError(f'{len(faults)} tensors do not fit the model: ' + '; '.join(faults))
  return traverse_util.unflatten_dict(params, sep='/')


def to_theirs(rows: Iterable[Row], params: Mapping) -> dict[str, np.ndarray]:
  """Nested parameters (or their gradients) -> tensors under the published names and in their layout."""
  flat, tensors = traverse_util.flatten_dict(params, sep='/'), {}
  for row in rows:
    value = np.asarray(jax.device_get(flat[row.ours]))
    for name, part in zip(row.theirs, value if row.stacked else [value], strict=True):
      tensors[name] = np.ascontiguousarray(part.T if row.transposed else part)
  return tensors
