"""What a loop needs besides the step: a place for programs and memory, a window of metrics, a check of the state."""

import contextlib
import ctypes
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmjax.checkpoint import Checkpoints
from mmjax.errors import RunError, UserError
from mmjax.objectives import Metrics
from mmjax.train import State, divide
from mmjax.workdir import replacing


class Clock(Protocol):
  """What measures the time of training."""

  def skip(self, seconds: float) -> None: ...


def cache(name: str) -> Path:
  """The folder of that name for what can be made again at any time."""
  return Path.home() / '.cache' / 'mmjax' / name


def keep_compiled() -> None:
  """Keeps compiled programs on disk, for a fast next start: $JAX_COMPILATION_CACHE_DIR or ~/.cache."""
  folder = os.environ.get('JAX_COMPILATION_CACHE_DIR') or cache('compiled')
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


def keep_memory() -> None:
  """Lets the process keep the memory that it frees, where the C library is glibc. Call it before JAX has devices.

  XLA on CPU takes and frees its buffers at every step. glibc would give the large ones back to the kernel each time,
  and the page faults of having them again cost LXMERT on Sort-of-CLEVR a third of its speed. Each thread keeps an arena
  of its own: with one for all (M_ARENA_MAX) two threads wait for one another, at a third of the speed. On one core
  there is nobody to wait for, and arenas give memory back whatever is said: one for all is 1.6 times as fast there.
  An arena of a thread holds no block above 64 MiB, which then comes and goes by mmap after all: so the thread that asks
  for a step does it too, without JAX's own in between. A tenth of BERT's step at 8 rows, a fifth at one.
  """
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  libc = ctypes.CDLL(None)
  if hasattr(libc, 'mallopt'):
    options = {-4: 0, -1: 2**31 - 1, -2: 64 << 20}  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
    if len(os.sched_getaffinity(0)) == 1:
      options[-8] = 1  # M_ARENA_MAX
    for option, value in options.items():
      libc.mallopt(option, value)


def resumed(checkpoints: Checkpoints, state: State, *, fresh: bool, best: bool = False) -> tuple[State, int, int]:
  """(state, step, index of the next example) of the newest good checkpoint, or of the best one.

  fresh: whether a run may begin with `state`, at step 0. Raises UserError where it may not and no checkpoint is good.
  """
  found = checkpoints.restore(state, best=best)
  if found:
    return found[0], found[2], found[1]['example']
  if not fresh:
    raise UserError(f'{checkpoints.folder}: no good checkpoint is left')
  if checkpoints.passed_over:
    print('warning: no good checkpoint is left; the run begins anew at step 0', file=sys.stderr, flush=True)
  return state, 0, 0


@contextlib.contextmanager
def aside(*clocks: Clock) -> Iterator[None]:
  """Time spent in here is none of training: examples/s and time left do not count it."""
  began = time.perf_counter()
  yield
  for clock in clocks:
    clock.skip(time.perf_counter() - began)


class Profile:
  """A trace of some steps of a loop, written by JAX's profiler into a folder.

  steps: 'FIRST:LAST', '' for none; start, total: the loop's steps are those above start up to total. Raises UserError
  for steps that are none of these.
  """

  def __init__(self, steps: str, start: int, total: int, folder: Path):
    self.folder, self.running = folder, False
    found = re.fullmatch(r'(\d+):(\d+)', steps)
    self.first, self.last = map(int, found.groups()) if found else (0, 0)
    if steps and not start < self.first <= self.last <= total:
      left = f'the steps {start + 1:,} to {total:,}' if start < total else 'a run that has steps left'
      raise UserError(f'--profile: found {steps!r}, expected FIRST:LAST, such as 11:20, of {left}')

  def before(self, step: int) -> None:
    if step == self.first:
      jax.profiler.start_trace(str(self.folder))
      self.running = True

  def after(self, step: int, state: State, say: Callable[[str], None]) -> None:
    if self.running and step == self.last:
      jax.block_until_ready(state.step)
      self.close()
      say(f'profile of steps {self.first:,} to {self.last:,}: {self.folder} (ui.perfetto.dev opens its .trace.json.gz)')

  def close(self) -> None:
    """Ends a trace that still runs, as of a loop that was left."""
    if self.running:
      self.running = False
      jax.profiler.stop_trace()


class Window:
  """The metric sums of the steps since the last log line, left on the device until they are asked for."""

  def __init__(self, examples: int):
    self.examples = examples  # a step
    self.least: float | None = None  # seconds of a step at the peak of the devices, where it is known
    self.sums: list[Metrics] = []
    self.since, self.waited = time.perf_counter(), 0.0

  def add(self, sums: Metrics) -> None:
    self.sums.append(sums)

  def skip(self, seconds: float) -> None:
    """Leaves so much time out."""
    self.since += seconds

  def close(self, waited: float) -> dict[str, Any]:
    """The means, and a new window. With them are examples_per_s, step_ms, data_wait (the share of the time that was
    spent waiting for data) and mfu (share of the devices' peak: Chowdhery et al. 2022, arXiv:2204.02311, appendix B;
    what is computed again for the gradient counts here).

    waited: seconds that the loop has waited for data since it began.
    """
    mean = divide(self.sums)  # waits for the device
    now = time.perf_counter()
    steps, took = len(self.sums), now - self.since
    speed = {
      'examples_per_s': np.asarray(steps * self.examples / took),
      'step_ms': np.asarray(1000 * took / steps),
      'data_wait': np.asarray((waited - self.waited) / took),
    }
    if self.least:
      speed['mfu'] = np.asarray(steps * self.least / took)
    self.sums, self.since, self.waited = [], now, waited
    return mean | speed


@jax.jit
def _sound(params: Any) -> jax.Array:
  return jnp.isfinite(optax.tree.norm(params))


def stop_if_not_finite(state: State, batch_of: Callable[[int], Mapping[str, np.ndarray]], workdir: Path) -> None:
  """Ends a run whose last updates were not finite (nothing of them is saved). Saves the batch of the first of them.

  batch_of: step (from 0) -> its batch. Raises RunError that names the step, the batch's file and the way on.
  """
  if bool(state.finite) and bool(_sound(state.params)):
    return
  step = int(state.step) - bool(state.finite)
  file = workdir / f'not_finite_step_{step + 1}.npz'
  with replacing(file) as out:
    np.savez_compressed(out, allow_pickle=False, **batch_of(step))
  folder = workdir / 'checkpoints'
  newest = max((int(f.name) for f in folder.glob('*') if f.name.isdigit()), default=None)
  raise RunError(
    f'step {step + 1}: the loss, its gradient or the update is not finite; nothing of it is saved. Its batch: {file}. '
    f'Last good checkpoint: {"none" if newest is None else folder / str(newest)}, from which the same command goes on; '
    'to go another way from there, lower optim.lr or raise optim.warmup in a new workdir'
  )
