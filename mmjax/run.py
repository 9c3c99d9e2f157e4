"""What a loop needs besides the step: a place for programs and memory, a window of metrics, a check of the state."""

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

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
  """Lets the process keep the memory that it frees, where the C library is glibc.

  XLA on CPU takes and frees its buffers at every step. glibc would give the large ones back to the kernel each time,
  and the page faults of having them again cost LXMERT on Sort-of-CLEVR a third of its speed. Each thread keeps an arena
  of its own: with one for all (M_ARENA_MAX) two threads wait for one another, at a third of the speed. On one core
  there is nobody to wait for, and arenas give memory back whatever is said: one for all is 1.6 times as fast there.
  """
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


class Window:
  """The metric sums of the steps since the last log line, left on the device until they are asked for."""

  def __init__(self, examples: int):
    self.examples = examples  # a step
    self.sums: list[Metrics] = []
    self.since, self.waited = time.perf_counter(), 0.0

  def add(self, sums: Metrics) -> None:
    self.sums.append(sums)

  def skip(self, seconds: float) -> None:
    """Leaves so much time out."""
    self.since += seconds

  def close(self, waited: float) -> dict[str, Any]:
    """The means, with 'examples_per_s' and 'data_wait' (share of the time spent waiting for data), and a new window.

    waited: seconds that the loop has waited for data since it began.
    """
    mean = divide(self.sums)  # waits for the device
    now = time.perf_counter()
    speed = {
      'examples_per_s': np.asarray(len(self.sums) * self.examples / (now - self.since)),
      'data_wait': np.asarray((waited - self.waited) / (now - self.since)),
    }
    self.sums, self.since, self.waited = [], now, waited
    return mean | speed


def stop_if_not_finite(state: State, batch_of: Callable[[int], Mapping[str, np.ndarray]], workdir: Path) -> None:
  """Ends a run whose last updates were not finite (they were not applied). Saves the batch of the first of them.

  batch_of: step (from 0) -> its batch. Raises RunError that names the step, the batch's file and the way on.
  """
  if bool(state.finite):
    return
  step = int(state.step)
  file = workdir / f'not_finite_step_{step + 1}.npz'
  with replacing(file) as out:
    np.savez_compressed(out, allow_pickle=False, **batch_of(step))
  folder = workdir / 'checkpoints'
  newest = max((int(f.name) for f in folder.glob('*') if f.name.isdigit()), default=None)
  raise RunError(
    f'step {step + 1}: the loss or its gradient is not finite; the update was not applied. Its batch: {file}. '
    f'Last good checkpoint: {"none" if newest is None else folder / str(newest)}, from which the same command goes on; '
    'to go another way from there, lower optim.lr or raise optim.warmup in a new workdir'
  )
