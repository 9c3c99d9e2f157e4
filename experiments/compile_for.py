"""Whether a paper's training step fits a TPU slice that is not here: compiled for it on this machine, in minutes.

  python -m experiments.compile_for --config=configs/clip.py:base --topology=v5e:2x4
  python -m experiments.compile_for --config=configs/lxmert.py:base --topology=v5e:4x8 --config.parallel.mesh.fsdp=8

Says the memory of a chip, the collectives, the FLOPs, whether the step fits, and the largest batch that does. Batches
have the shapes of the paper's data (experiments/shaped.py), whatever the config's data are; layout, batch and optimiser
are the config's. Needs libtpu, which `pip install -r requirements-tpu.txt` brings, and no TPU. How fast a TPU is, it
cannot say.
"""

import os
import sys

from mmjax import cli

CONFIG = 'configs/clip.py:base'
FLAGS: cli.Flags = {
  'topology': ('v5e:2x4', 'KIND:SHAPE, such as v5e:2x4 (8 chips on 2 hosts), v5p:2x2x2, v6e:4x4'),
  'largest': (False, 'look for the largest batch that fits, too: some compilations more'),
  'quick': (False, "with the compiler's least effort: sooner, and memory is what it is at most"),
  'out': ('', 'a file for the numbers, as JSON'),
}
MODES = ('compile',)

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__, workdir=False)  # said before the slow imports
  os.environ['JAX_PLATFORMS'] = 'cpu'  # where libtpu lies, JAX would look for a TPU
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')

import dataclasses
import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from experiments import shaped, telling, training
from mmjax import flops, parallel, train
from mmjax.errors import UserError, nearest
from mmjax.workdir import write_atomic

GIB = 2**30
MEMORY = {'v5e': 16, 'v5p': 95, 'v6e': 32}  # GiB of a chip: cloud.google.com/tpu/docs
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')
BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's16': 2, 'u16': 2, 's64': 8, 'u64': 8, 'f64': 8}  # else 4
_CALL = re.compile(rf'= (.+?) ({"|".join(COLLECTIVES)})(-start)?\(')
_ARRAY = re.compile(r'(\w+)\[([\d,]*)\]')
_OVER = re.compile(r'Used ([\d.]+[KMG]) of ([\d.]+[KMG]) hbm|\(([\d.]+[KMG])\) exceeds available HBM \(([\d.]+[KMG])\)')


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A step for `rows` examples on some chips. Bytes are those of a chip: of the state and the batch, of what is
  computed on the way, and the most at any time; collectives: kind -> (how many, bytes of what they give). flops: of all
  chips together. over: why it does not fit, in the compiler's words, of which there are no bytes then."""

  rows: int
  seconds: float
  arguments: int = 0
  temporary: int = 0
  peak: int = 0
  collectives: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
  flops: float = 0.0
  over: str = ''


def devices_of(topology: str) -> Sequence[Any]:
  """The chips of a slice that is not here. Raises UserError for one that cannot be, and without libtpu."""
  kind, _, shape = topology.partition(':')
  if kind not in MEMORY or not re.fullmatch(r'\d+(x\d+){1,2}', shape):
    known = ', '.join(MEMORY)
    raise UserError(
      f'--topology: found {topology!r}, expected KIND:SHAPE such as v5e:2x4, a kind of {known}{nearest(kind, MEMORY)}'
    )
  try:
    return topologies.get_topology_desc(topology, 'tpu').devices
  except Exception as error:  # whatever libtpu says
    reason = ' '.join(str(error).split())
    if 'support not installed' in reason or 'libtpu' in reason:
      raise UserError('--topology: found no libtpu, expected `pip install -r requirements-tpu.txt` before') from error
    raise UserError(f'--topology: {topology!r} cannot be: {reason[:200]}') from error


def collectives(text: str) -> dict[str, tuple[int, int]]:
  """kind -> (how many, bytes of what they give) of a compiled program's text; one in a loop's body is counted once."""
  found: dict[str, tuple[int, int]] = {}
  for shapes, kind, started in _CALL.findall(text):
    arrays = _ARRAY.findall(shapes)
    if started and kind in ('all-gather', 'collective-permute'):  # (what is given, what comes, ...)
      arrays = arrays[1:2]
    size = sum(math.prod(int(n) for n in dims.split(',') if n) * BYTES.get(dtype, 4) for dtype, dims in arrays)
    count, total = found.get(kind, (0, 0))
    found[kind] = count + 1, total + size
  return found


class Step:
  """The training step of a config on chips that are not here."""

  def __init__(self, c: Any, name: str, devices: Sequence[Any], quick: bool):
    self.c, self.devices = c, devices
    self.options = {'exec_time_optimization_effort': -1.0, 'memory_fitting_effort': -1.0} if quick else {}
    self.shaped = shaped.step(name, c)
    self.tx = training.optimiser(c.optim)[1]
    self.step = self.shaped.recipe.computing(c.compute).step(self.tx, c.optim.micro_batches)
    self.parts = self.launch(0).parts * c.optim.micro_batches  # a batch is a multiple of this
    begin = lambda key, batch: train.init(self.shaped.recipe.init(key, batch), self.tx)
    self.key = jax.eval_shape(lambda: jax.random.key(0))
    self.state = jax.eval_shape(begin, self.key, self.shaped.abstract(1))

  def near(self, rows: int) -> int:
    """The largest batch up to that many rows that can be, or the smallest: where there is a queue, it divides it."""
    queue = self.c.contrast.queue if 'contrast' in self.c and 'queue' in self.c.contrast else 0
    fits = (n for n in range(rows // self.parts * self.parts, self.parts, -self.parts) if queue % n == 0)
    return next(fits, self.parts)

  def launch(self, rows: int) -> parallel.Launch:
    return training.launch(self.c, rows, self.devices)

  def given(self, rows: int) -> tuple[Any, Any, Any]:
    """What the step is called with, as shapes that know where they lie."""
    launch = self.launch(rows)
    at = lambda tree, layout: jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, layout
    )
    batch = self.shaped.abstract(rows)
    layouts = launch.layout(self.state), dict.fromkeys(batch, launch.rows), launch.whole
    return at(self.state, layouts[0]), at(batch, layouts[1]), at(self.key, layouts[2])

  def compiled(self, rows: int) -> Compiled:
    given, began = self.given(rows), time.perf_counter()
    traced = self.launch(rows).compile_step(self.step, self.state).trace(*given)
    counted = flops.counted(traced.jaxpr)
    try:
      program = traced.lower().compile(compiler_options=self.options)
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      over = _OVER.search(str(error))
      why = ' of '.join(size for size in over.groups() if size) if over else ' '.join(str(error).split())[:200]
      return Compiled(rows, time.perf_counter() - began, flops=counted, over=why)
    took, memory = time.perf_counter() - began, program.memory_analysis()
    sizes = memory.argument_size_in_bytes, memory.temp_size_in_bytes, memory.peak_memory_in_bytes
    return Compiled(rows, took, *sizes, collectives(program.as_text()), counted)


def largest(step: Step, known: Sequence[Compiled], limit: int) -> Compiled | None:
  """The largest batch that was seen to fit, among those that `known` and a line through their memory suggest."""
  tried = {one.rows: one for one in known}
  one = min(tried)
  while tried[one].over and one > step.parts:  # down to one that fits
    one = step.near(one // 2)
    tried[one] = step.compiled(one)
  if tried[one].over:
    return None
  half = step.near(one // 2)
  other = half if half < one else step.near(2 * one)  # a second point of the line
  if other not in tried:
    tried[other] = step.compiled(other)
  for _ in range(3):
    fits = sorted((t for t in tried.values() if not t.over), key=lambda t: t.rows)
    if len(fits) < 2:
      break
    small, large = fits[0], fits[-1]
    each = max((large.peak - small.peak) / (large.rows - small.rows), 1.0)  # bytes
    over = min((t.rows for t in tried.values() if t.over), default=math.inf)
    guess = step.near(int(min(large.rows + (limit - large.peak) / each, over - 1)))
    if guess <= large.rows:
      break
    tried[guess] = step.compiled(guess)
  return max((t for t in tried.values() if not t.over), key=lambda t: t.rows)


def run(c: Any, args: Any) -> None:
  if c.parallel.how != 'jit':
    raise UserError(f"--config.parallel.how: found {c.parallel.how!r}, expected 'jit', which can be compiled elsewhere")
  devices = devices_of(args.topology)
  limit = MEMORY[args.topology.partition(':')[0]] * GIB
  step = Step(c, Path(args.config.partition(':')[0]).stem, devices, args.quick)
  what = f'compiling {args.config} for {args.topology}, {c.data.images:,} examples a step'
  print(what, file=sys.stderr, flush=True)
  found = step.compiled(c.data.images)
  most = largest(step, [found], limit) if args.largest or found.over else None
  every = [found, most] if most and most is not found else [found]
  telling.print_table(table(step, every, limit))
  if args.out:
    numbers = {
      'config': args.config, 'topology': args.topology, 'mesh': dict(step.launch(0).sizes), 'quick': args.quick,
      'hosts': len({d.process_index for d in devices}), 'steps': [dataclasses.asdict(one) for one in every],
      'jax': jax.__version__,
    }  # fmt: skip
    write_atomic(Path(args.out), json.dumps(numbers, indent=1) + '\n')
  fits = 'fits' if not found.over else 'does not fit'
  said = f'{found.rows:,} examples a step: {fits} on {args.topology}'
  if found.over or args.largest:
    said += f', {most.rows:,} are the most that were seen to' if most else ', nor does the smallest batch'
  print(f'{said}{"; numbers: " + args.out if args.out else ""}')


def table(step: Step, found: Sequence[Compiled], limit: int) -> dict:
  """What was compiled, a column for each batch."""
  sizes = step.launch(0).sizes
  gib = lambda size: f'{size / GIB:.2f}'
  rows: list[dict] = []
  names = [f'{one.rows:,} examples' for one in found]

  def add(name: str, *cells: str) -> None:
    rows.append({'of a chip': name} | dict(zip(names, cells, strict=True)))

  add('state and batch, GiB', *(gib(one.arguments) if not one.over else '–' for one in found))
  add('on the way, GiB', *(gib(one.temporary) if not one.over else '–' for one in found))
  add(f'at most, GiB of {limit // GIB}', *(gib(one.peak) if not one.over else one.over for one in found))
  add('fits', *('no' if one.over else 'yes' for one in found))
  add('TFLOPs', *(f'{one.flops / len(step.devices) / 1e12:.3g}' for one in found))
  for kind in COLLECTIVES:
    told = [one.collectives.get(kind, (0, 0)) for one in found]
    if any(count for count, _ in told):
      add(kind, *(f'{count}, {size / 2**20:,.1f} MiB' if count else '–' for count, size in told))
  add('compiled in', *(f'{one.seconds:.0f} s' for one in found))
  parameters = sum(leaf.size for leaf in jax.tree.leaves(step.state.params))
  hosts = len({device.process_index for device in step.devices})
  mesh = ', '.join(f'{axis} {size}' for axis, size in sizes.items())
  notes = [
    f'{parameters:,} parameters on {len(step.devices)} chips of {hosts} hosts; mesh: {mesh}; batches are multiples of '
    f'{step.parts}.',
    'Collectives: how many are in the program, and what they give; one in a scan is counted once. FLOPs: of products '
    'and convolutions, as often as they run. The speed of a TPU is not measured.',
  ]
  return {'title': 'A training step', 'columns': ['of a chip', *names], 'rows': rows, 'notes': notes}


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__, workdir=False)
