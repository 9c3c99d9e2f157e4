"""Name maps: which tensor of a published checkpoint is which parameter here.

A map is a list of rows; a row names one parameter, '/'-joined, and the tensor that holds it, or, for the layers of a
scanned group, the tensors that stack to it along the leading axis.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from mmjax.errors import UserError
from mmjax.fusion.schedule import parse

UNUSED = 'unused'  # collection of tensors that no output needs: kept, so that they can be handed back

# layout -> (their array as ours, ours as theirs); arrays of torch as of flax
LAYOUTS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
  'same': (lambda a: a, lambda a: a),
  'dense': (lambda a: a.T, lambda a: a.T),  # [out, in] <-> [in, out]
  'conv': (lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1)),  # [out, in, y, x] <-> [y, x, in, out]
  'conv1': (lambda a: a[..., 0].T, lambda a: a.T[..., None]),  # of kernel 1: [out, in, 1] <-> [in, out]
  'conv_t': (lambda a: a.transpose(2, 1, 0), lambda a: a.transpose(2, 1, 0)),  # in time: [out, in, t] <-> [t, in, out]
  # the same in time too: [out, in, t, y, x] <-> [t, y, x, in, out]
  'conv3': (lambda a: a.transpose(2, 3, 4, 1, 0), lambda a: a.transpose(4, 3, 0, 1, 2)),
  # of a transposed convolution, whose kernel is turned round: [in, out, y, x] <-> [y, x, in, out]
  'deconv': (lambda a: a[..., ::-1, ::-1].transpose(2, 3, 0, 1), lambda a: a.transpose(2, 3, 0, 1)[..., ::-1, ::-1]),
  'batched': (lambda a: a[0], lambda a: a[None]),  # [1, N, D] <-> [N, D]
  'token': (lambda a: a[0, 0], lambda a: a[None, None]),  # [1, 1, D] <-> [D]
  'token4': (lambda a: a[0, 0, 0], lambda a: a[None, None, None]),  # [1, 1, 1, D] <-> [D]
  'down': (lambda a: a[0, :, 0], lambda a: a[None, :, None]),  # [1, N, 1, D] <-> [N, D]
  'across': (lambda a: a[0, 0], lambda a: a[None, None]),  # [1, 1, N, D] <-> [N, D]
  'row': (lambda a: a[0], lambda a: a[None]),  # [1, D] <-> [D]
}


def below(prefix: str, name: str, mark: str = '.') -> str:
  """The name with a prefix ('' for none)."""
  return f'{prefix}{mark}{name}' if prefix else name


@dataclass(frozen=True)
class Row:
  ours: str
  theirs: tuple[str, ...]
  layout: str = 'same'
  stacked: bool = False
  part: tuple[int, int] = (0, 1)  # (i, n): the i-th of n equal parts of the tensor, along the last axis here
  collection: str = 'params'

  @property
  def path(self) -> str:
    return f'{self.collection}/{self.ours}'

  def below(self, ours: str, theirs: str) -> 'Row':
    """The same row with a prefix on either side ('' for none)."""
    return replace(self, ours=below(ours, self.ours, '/'), theirs=tuple(below(theirs, t) for t in self.theirs))

  def shape_there(self, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one of the tensors, for a parameter (or a layer of it) of this shape."""
    whole = (*shape[:-1], shape[-1] * self.part[1]) if shape else ()
    return LAYOUTS[self.layout][1](np.broadcast_to(np.float32(0), whole)).shape

  def here(self, tensor: np.ndarray) -> np.ndarray:
    """A tensor as a parameter, or as a layer of one."""
    whole, (i, n) = LAYOUTS[self.layout][0](tensor), self.part
    return np.split(whole, n, -1)[i] if n > 1 else whole


def layers(rows: Iterable[Row], ours: str, theirs: str, indices: str | Iterable[int]) -> list[Row]:
  """The rows once a layer, stacked: `theirs` holds '{n}' for its index, 0 ... n - 1 for a schedule of one group."""
  every = range(parse(indices).groups[0].repeats) if isinstance(indices, str) else list(indices)
  names = lambda row: tuple(f'{theirs.format(n=n)}.{row.theirs[0]}' for n in every)
  return [replace(row, ours=f'{ours}/{row.ours}', theirs=names(row), stacked=True) for row in rows]


def dense(ours: str, theirs: str) -> list[Row]:
  return [Row(f'{ours}/kernel', (f'{theirs}.weight',), 'dense'), Row(f'{ours}/bias', (f'{theirs}.bias',))]


def fused(ours: str, weight: str, bias: str = '', layout: str = 'dense') -> list[Row]:
  """Query, key and value below `ours` ('' for none), which stand in one tensor; without a bias where none is named."""
  kinds = [('kernel', weight, layout), *([('bias', bias, 'same')] if bias else [])]
  return [
    Row(below(ours, f'{part}/{kind}', '/'), (theirs,), how, part=(i, 3))
    for i, part in enumerate(('query', 'key', 'value'))
    for kind, theirs, how in kinds
  ]


def norm(ours: str, theirs: str) -> list[Row]:
  return [Row(f'{ours}/scale', (f'{theirs}.weight',)), Row(f'{ours}/bias', (f'{theirs}.bias',))]


def embed(ours: str, theirs: str) -> list[Row]:
  return [Row(f'{ours}/embedding', (f'{theirs}.weight',))]


def vector(ours: str, theirs: str) -> list[Row]:
  return [Row(ours, (theirs,))]


def convolution(ours: str, theirs: str, ours_norm: str, theirs_norm: str) -> list[Row]:
  """A convolution without a bias and the batch norm behind it; torch's counter of batches is `unused`."""
  stats = [Row(f'{ours_norm}/{a}', (f'{theirs_norm}.running_{a}',), collection='batch_stats') for a in ('mean', 'var')]
  return [Row(f'{ours}/kernel', (f'{theirs}.weight',), 'conv'), *norm(ours_norm, theirs_norm), *stats]


def counters(shapes: Iterable[str]) -> list[Row]:
  """Of torch's batch norms: how many batches they saw, which no output needs."""
  return unused(*(name for name in shapes if name.endswith('.num_batches_tracked')))


def unused(*theirs: str) -> list[Row]:
  """Tensors that no output needs, kept under their own names."""
  return [Row(name, (name,), collection=UNUSED) for name in theirs]


def attention(owner: str, projections: str, output: str, source: str = '') -> list[Row]:
  """BERT's attention: query, key and value below `projections`, dense and LayerNorm below `output`.

  source: the owner of key and value, where it is another one.
  """
  owners = {'query': owner, 'key': source or owner, 'value': source or owner}
  return [
    *(row for part, whose in owners.items() for row in dense(f'{whose}/{part}', f'{projections}.{part}')),
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


def bert_embed(owner: str, theirs: str = 'embeddings') -> list[Row]:
  """BERT's tables of words, positions and segments, and their norm."""
  return [
    *embed(f'{owner}/word', f'{theirs}.word_embeddings'),
    *embed(f'{owner}/position', f'{theirs}.position_embeddings'),
    *embed(f'{owner}/type', f'{theirs}.token_type_embeddings'),
    *norm(f'{owner}/norm', f'{theirs}.LayerNorm'),
  ]


def word_scores() -> list[Row]:
  """BERT's head for masked words, whose kernel is the table of words."""
  return [
    *dense('masked_word/project', 'cls.predictions.transform.dense'),
    *norm('masked_word/norm', 'cls.predictions.transform.LayerNorm'),
    *vector('word_bias', 'cls.predictions.bias'),
  ]


def flatten(variables: Mapping) -> dict:
  """{'params': {'a': {'b': x}}} -> {'params/a/b': x}."""
  return traverse_util.flatten_dict(variables, sep='/')


def from_theirs(
  rows: Iterable[Row],
  tensors: Mapping[str, np.ndarray],
  expected: Mapping,
  ignored: Iterable[str] = (),
  seen: Callable[[int], None] = lambda size: None,
) -> dict:
  """Published tensors -> nested variables {'params': ...}, every one of both sides accounted for.

  expected: the model's variables (or their shapes), nested. Raises UserError that lists all that is missing, left over,
  of another shape or dtype, or not finite. Floats of another precision are cast to the model's. Beyond what is
  returned, memory holds one tensor at a time. seen is told of the bytes of each tensor when it is done.
  """
  rows, flat = list(rows), flatten(expected)
  refuse(misfits(rows, tensors, expected, ignored))
  faults = []
  variables = {}
  for row in rows:
    if row.collection == UNUSED:
      variables[row.path] = np.array(tensors[row.theirs[0]])
      continue
    value = np.empty(flat[row.path].shape, flat[row.path].dtype)
    for layer, name in zip(value if row.stacked else [value], row.theirs, strict=True):
      layer[...] = row.here(tensors[name])
      if not np.isfinite(layer).all():
        faults.append(f'{name}: holds NaN or infinity')
      seen(layer.nbytes)
    variables[row.path] = value
  refuse(faults)
  return traverse_util.unflatten_dict(variables, sep='/')


def misfits(
  rows: Iterable[Row], tensors: Mapping[str, np.ndarray], expected: Mapping, ignored: Iterable[str] = ()
) -> list[str]:
  """What is missing, left over, or of another shape or dtype, as `from_theirs` refuses it."""
  rows, flat = list(rows), flatten(expected)
  used = {name for row in rows for name in row.theirs}
  faults = [f'{name}: missing' for name in sorted(used - set(tensors))]
  faults += [f'{name}: left over' for name in sorted(set(tensors) - used - set(ignored))]
  faults += [f'{path.partition("/")[2]}: a parameter without a source' for path in sorted(set(flat) - paths(rows))]
  for row in rows:
    if row.collection == UNUSED:
      continue
    if row.path not in flat:
      faults.append(f'{", ".join(row.theirs)}: no parameter {row.ours!r} in the model')
      continue
    if row.stacked and len(row.theirs) != flat[row.path].shape[0]:
      faults.append(f'{row.ours}: found {len(row.theirs)} layers, expected {flat[row.path].shape[0]}')
    shape = row.shape_there(tuple(flat[row.path].shape[row.stacked :]))
    for tensor, name in ((tensors[name], name) for name in row.theirs if name in tensors):
      if tensor.shape != shape:
        faults.append(f'{name}: found shape {tensor.shape}, expected {shape}')
      if not jnp.issubdtype(tensor.dtype, jnp.floating):
        faults.append(f'{name}: found dtype {tensor.dtype}, expected a float')
  return faults


def refuse(faults: Iterable[str]) -> None:
  """Raises UserError that lists the faults, where there are any. A fused tensor's are said once."""
  if listed := list(dict.fromkeys(faults)):
    raise UserError(f'{len(listed)} tensors do not fit the model: ' + '; '.join(listed))


def paths(rows: Iterable[Row]) -> set[str]:
  return {row.path for row in rows}


def shapes_there(rows: Iterable[Row], variables: Mapping) -> dict[str, tuple[int, ...]]:
  """The published names and the shapes under them, for these variables (or their shapes)."""
  flat = flatten(variables)
  return {name: row.shape_there(tuple(flat[row.path].shape[row.stacked :])) for row in rows for name in row.theirs}


def one_by_one(rows: Iterable[Row], variables: Mapping, names: Iterable[str]) -> Iterator[Any]:
  """Variables (or their gradients) as tensors under the published names, each made when its turn has come.

  Arrays of numpy stay so; traced ones too.
  """
  flat = flatten(variables)
  where: dict[str, dict[int, tuple[Row, int]]] = {}
  for row in rows:
    for n, name in enumerate(row.theirs):
      where.setdefault(name, {})[row.part[0]] = row, n
  for name in names:
    found = [where[name][part] for part in sorted(where[name])]
    parts = [flat[row.path][n] if row.stacked else flat[row.path] for row, n in found]
    join: Callable[..., Any] = np.concatenate if isinstance(parts[0], np.ndarray) else jnp.concatenate
    yield LAYOUTS[found[0][0].layout][1](parts[0] if len(parts) == 1 else join(parts, -1))


def to_theirs(rows: Iterable[Row], variables: Mapping) -> dict[str, Any]:
  """The same, all at once: {name: tensor}. Rows of collections that are not given (unused ones) are left out."""
  rows = [row for row in rows if row.collection in variables]
  names = list(dict.fromkeys(name for row in rows for name in row.theirs))
  return dict(zip(names, one_by_one(rows, variables, names), strict=True))


def count(variables: Mapping) -> int:
  return sum(math.prod(a.shape) for a in jax.tree.leaves(variables))
