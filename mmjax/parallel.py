"""Layouts: which part of every array lies on which device, and the launchers that compile the steps for them.

A mesh has three axes. 'data' and 'fsdp' cut the rows of a batch; 'fsdp' also cuts parameters and the optimiser's state
(ZeRO's third stage, Rajbhandari et al. 2019, arXiv:1910.02054), and 'tensor' cuts them within a layer, by heads and by
hidden features (Shazeer et al. 2018, arXiv:1811.02084; Megatron-LM, arXiv:1909.08053). What is computed is the same.
"""

import contextlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mmjax import hosts
from mmjax.errors import UserError, nearest
from mmjax.layers.axes import AXIS, ROWS
from mmjax.layers.ways import Ways, checked, using
from mmjax.objectives import Batch, Metrics
from mmjax.train import State

LAUNCHERS = ('jit', 'pmap')
AXES = (AXIS, 'fsdp', 'tensor')
WHOLE = '-'
RULES = (  # of parameters by their path, 'PATTERN: how the last axes are cut'; an axis that does not divide stays whole
  '(query|key|value|expand)/kernel: fsdp tensor',
  '(query|key|value|expand)/bias: tensor',
  '(out|project)/kernel: tensor fsdp',
  '/embedding: tensor fsdp',
)


Step = Callable[..., tuple[State, Metrics]]


class Rule(NamedTuple):
  """What `line` says: parameters whose path has the pattern in it are cut along their last axes by these, or WHOLE."""

  line: str
  pattern: re.Pattern
  axes: tuple[str, ...]


def rule(line: str) -> Rule:
  """'PATTERN: AXIS ...' -> what it says. Raises UserError for a line that is none."""
  pattern, colon, rest = line.rpartition(':')
  axes = tuple(rest.split())
  known = (*AXES[1:], WHOLE)
  if not colon or not pattern.strip() or not axes:
    raise UserError(f"parallel.rules: found {line!r}, expected 'PATTERN: AXIS ...', an axis one of {known}")
  for axis in axes:
    if axis not in known:
      raise UserError(f'parallel.rules: {line!r}: found axis {axis!r}, expected one of {known}{nearest(axis, known)}')
  if len({*axes} - {WHOLE}) < len(axes) - axes.count(WHOLE):
    raise UserError(f'parallel.rules: {line!r}: an axis cuts twice, expected each once')
  try:
    return Rule(line, re.compile(pattern.strip()), axes)
  except re.error as error:
    raise UserError(f'parallel.rules: {line!r}: no regular expression ({error})') from error


def mesh_of(sizes: Mapping[str, int], devices: Sequence[jax.Device]) -> Mesh:
  """The devices as a mesh of AXES; a size of -1, at most one, takes what is left.

  Raises UserError for an unknown axis, and for sizes whose product is not the number of devices.
  """
  for axis in sizes:
    if axis not in AXES:
      raise UserError(f'parallel.mesh: found {axis!r}, expected some of {AXES}{nearest(axis, AXES)}')
  asked = tuple(sizes.get(axis, 1) for axis in AXES)
  rest = len(devices) // max(math.prod(size for size in asked if size != -1), 1)
  shape = tuple(rest if size == -1 else size for size in asked)
  if asked.count(-1) > 1 or min(shape) < 1 or math.prod(shape) != len(devices):
    found = ', '.join(f'{axis} {size}' for axis, size in zip(AXES, asked, strict=True))
    raise UserError(
      f'parallel.mesh: found {found} on {len(devices)} devices, expected sizes whose product is {len(devices)} '
      '(-1, at most once, for what is left)'
    )
  return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=list(devices))


def _path(path: tuple) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')


def _cut(shape: tuple[int, ...], axes: Sequence[str], sizes: Mapping[str, int], strict: str = '') -> PartitionSpec:
  """How an array is cut whose last axes these are; strict: the rule that is to hold to the letter."""
  if strict and len(axes) > len(shape):
    raise UserError(f'parallel.rules: {strict!r}: found {len(axes)} axes for an array of shape {shape}')
  spec: list[str | None] = [None] * len(shape)
  for n, axis in enumerate(reversed(axes[-len(shape) :] if shape else ()), 1):
    if axis == WHOLE or sizes[axis] == 1:
      continue
    if shape[-n] % sizes[axis] == 0:
      spec[-n] = axis
    elif strict:
      raise UserError(
        f'parallel.rules: {strict!r}: found an axis of {shape[-n]} in shape {shape}, expected a multiple of '
        f'{axis} {sizes[axis]}'
      )
  while spec and spec[-1] is None:
    spec.pop()
  return PartitionSpec(*spec)


def specs(tree: Any, sizes: Mapping[str, int], rules: Sequence[str] = ()) -> Any:
  """How each array of a state is cut, by its path: a tree of PartitionSpec.

  sizes: of a mesh; rules: lines that come before RULES. What no rule is of is cut by 'fsdp' along its largest axis if
  it has two or more; an axis that a line of `rules` cuts has to divide, of RULES it stays whole where it does not.
  Raises UserError for a line of `rules` that no path has in it.
  """
  return jax.tree.map(lambda how: how[1], _ruled(tree, sizes, rules), is_leaf=lambda x: isinstance(x, _Cut))


class _Cut(NamedTuple):
  """Which rule an array is cut by, and how."""

  line: str
  spec: PartitionSpec


def _ruled(tree: Any, sizes: Mapping[str, int], rules: Sequence[str]) -> Any:
  """A tree of _Cut."""
  own, general = [rule(line) for line in rules], [rule(line) for line in RULES]
  paths = [_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
  for one in own:
    if not any(one.pattern.search(path) for path in paths):
      parts = {part for path in paths for part in path.split('/')}
      raise UserError(
        f'parallel.rules: {one.line!r} is of no parameter{nearest(one.pattern.pattern, sorted(parts))}; '
        f'a path is such as {max(paths, key=len, default="")!r}'
      )

  def of(path: tuple, leaf: Any) -> _Cut:
    name, shape = _path(path), np.shape(leaf)
    for one in own:
      if one.pattern.search(name):
        return _Cut(one.line, _cut(shape, one.axes, sizes, one.line))
    for one in general:
      if one.pattern.search(name):
        return _Cut(one.line, _cut(shape, one.axes, sizes))
    if len(shape) < 2:
      return _Cut('others of one axis', PartitionSpec())
    largest = max(range(len(shape)), key=lambda n: (shape[n] % sizes['fsdp'] == 0, shape[n]))
    axes = ['fsdp' if n == largest else WHOLE for n in range(len(shape))]
    return _Cut('others: the largest axis by fsdp', _cut(shape, axes, sizes))

  return jax.tree_util.tree_map_with_path(of, tree)


def table(params: Any, sizes: Mapping[str, int], rules: Sequence[str] = ()) -> list[str]:
  """Lines that say which rule cuts how many of the parameters into what, and what of them a device has."""
  groups: dict[_Cut, list[int]] = {}
  cuts = jax.tree.leaves(_ruled(params, sizes, rules), is_leaf=lambda x: isinstance(x, _Cut))
  for leaf, cut in zip(jax.tree.leaves(params), cuts, strict=True):
    size = math.prod(np.shape(leaf))
    own = size // math.prod(sizes[axis] for axis in cut.spec if axis)
    groups[cut] = [a + b for a, b in zip(groups.get(cut, [0, 0, 0]), (1, size, own), strict=True)]
  shape = lambda spec: ' x '.join(axis or WHOLE for axis in spec) or 'whole'
  rows: list[tuple[str, ...]] = [('rule', 'cut into', 'arrays', 'parameters', 'of a device')]
  rows += [
    (cut.line, shape(cut.spec), *(f'{n:,}' for n in numbers)) for cut, numbers in sorted(groups.items(), key=str)
  ]
  rows.append(('total', '', *(f'{sum(column):,}' for column in zip(*groups.values(), strict=True))))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  pad = lambda n, text: text.ljust(widths[n]) if n < 2 else text.rjust(widths[n])
  return ['  '.join(pad(n, text) for n, text in enumerate(row)).rstrip() for row in rows]


class Launch:
  """How steps run on devices: 'jit' over a mesh (global view) or 'pmap' (per-device view). The same pure functions.

  rows: images of a global batch, a multiple of what cuts it times micro_batches. mesh: sizes of AXES, all on 'data'
  where not given; rules: see `specs`; ways: see layers/ways.py. With pmap every device has the whole state. A state has
  no device axis in either, so that checkpoints are the same. Raises UserError for what cannot be, before anything is
  computed.
  """

  def __init__(
    self,
    how: str,
    rows: int,
    micro_batches: int = 1,
    devices: Sequence[jax.Device] | None = None,
    mesh: Mapping[str, int] | None = None,
    rules: Sequence[str] = (),
    ways: Ways | None = None,
  ):
    self.ways = checked(ways or Ways())
    if how not in LAUNCHERS:
      raise UserError(f'parallel.how: found {how!r}, expected one of {LAUNCHERS}{nearest(how, LAUNCHERS)}')
    self.how, self.devices, self.rules = how, list(devices or jax.devices()), tuple(rules)
    self.mesh = mesh_of(mesh or {AXIS: -1}, self.devices)
    self.sizes: Mapping[str, int] = dict(self.mesh.shape)
    self.micro_batches = micro_batches
    if how == 'pmap' and hosts.several():
      raise UserError(f'parallel.how=pmap: found {jax.process_count()} hosts, expected one; jit runs on several')
    if how == 'pmap' and (self.sizes[AXIS] < len(self.devices) or rules):
      raise UserError(f'parallel.how=pmap: found mesh {self.sizes}, rules {rules}; expected all devices on {AXIS!r}')
    self.parts = math.prod(self.sizes[axis] for axis in ROWS)  # that a batch is cut into
    if rows % (self.parts * micro_batches):
      raise UserError(
        f'{rows} images a batch in {micro_batches} micro_batches on {self.parts} devices: expected a multiple'
      )
    self.whole, self.rows = (NamedSharding(self.mesh, PartitionSpec(*axes)) for axes in ((), (ROWS,)))

  @property
  def shard(self) -> tuple[int, int]:
    """(p, n): this host gives the p-th of n parts of every batch. Hosts that hold the same rows give the same."""
    cuts = self.rows.addressable_devices_indices_map((self.parts,)).values()
    own = sorted({cut[0].start or 0 for cut in cuts if cut})
    if own != list(range(own[0], own[0] + len(own))) or own[0] % len(own):
      found = f'{self.sizes}, in which a host has the parts {own} of a batch'
      raise UserError(f'parallel.mesh: found {found}; expected parts side by side')
    return own[0] // len(own), self.parts // len(own)

  def put(self, batch: Mapping[str, np.ndarray]) -> Batch:
    """This host's part of a global batch of numpy arrays, on the devices."""
    if self.how == 'pmap':
      batch = {name: a.reshape(self.parts, len(a) // self.parts, *a.shape[1:]) for name, a in batch.items()}
    return {name: jax.make_array_from_process_local_data(self.rows, a) for name, a in batch.items()}

  def layout(self, state: Any) -> Any:
    """Where each array of a state (or of variables) belongs: a tree of NamedSharding."""
    if self.how == 'pmap':
      return jax.tree.map(lambda _: self.whole, state)
    return jax.tree.map(partial(NamedSharding, self.mesh), specs(state, self.sizes, self.rules))

  def table(self, params: Any) -> list[str]:
    """Lines that say how the parameters are cut, and what of them a device has; none for one device."""
    if len(self.devices) == 1:
      return []
    mesh = ', '.join(f'{axis} {size}' for axis, size in self.sizes.items())
    if self.how == 'pmap' or self.sizes[AXIS] == len(self.devices):
      return [f'{self.how}, mesh: {mesh}; every device has all parameters']
    return [f'mesh: {mesh}', *table(params, self.sizes, self.rules)]

  def place(self, state: Any) -> Any:
    """A state (or variables), on the devices."""
    return jax.device_put(state, self.layout(state))

  def key(self, seed: int) -> jax.Array:
    """A random key, on the devices."""
    return jax.jit(jax.random.key, out_shardings=self.whole)(seed)

  def _told(self, step: Callable) -> Callable:
    """The step, which finds the ways set, and with jit the mesh, where it asks for them (layers/ring.py)."""

    def told(*given: Any) -> Any:
      with contextlib.ExitStack() as around:
        around.enter_context(using(self.ways))
        if self.how == 'jit':
          around.enter_context(jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh))
        return step(*given)

    return told

  def compile_step(self, step: Step, state: State) -> Any:
    """train_step with all keywords but `axis` bound -> (state, batch, key) -> (state, sums); jit donates the state.

    state: one of the same structure and shapes, such as of jax.eval_shape.
    """
    if self.how == 'jit':
      return jax.jit(self._told(step), donate_argnums=0, out_shardings=(self.layout(state), self.whole))
    axes: dict[str, Any] = {'in_axes': (None, 0, None), 'out_axes': None, 'devices': self.devices}
    return jax.pmap(self._told(partial(step, axis=AXIS)), AXIS, **axes)

  def compile_eval(self, step: Callable[..., Metrics]) -> Callable[..., Metrics]:
    """eval_step with `forward` and `objective` bound -> (variables, batch) -> metric sums."""
    if self.how == 'jit':
      return jax.jit(self._told(step), out_shardings=self.whole)
    return jax.pmap(self._told(partial(step, axis=AXIS)), AXIS, in_axes=(None, 0), out_axes=None, devices=self.devices)
