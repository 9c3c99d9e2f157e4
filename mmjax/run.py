"""What a loop needs besides the step: a place for programs and memory, a window of metrics, a check of the state."""

import ctypes
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from mmjax.errors import RunError
from mmjax.objectives import Metrics
from mmjax.train import State, divide


def keep_compiled() -> None:
  """Keeps compiled programs on disk, for a fast next start: $JAX_COMPILATION_CACHE_DIR or ~/.cache."""
  folder = os.environ.get('JAX_COMPILATION_CACHE_DIR') or Path.home() / '.cache' / 'mmjax' / 'compiled'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)


def keep_memory() -> None:
  """Lets the process keep the memory that it frees, where the C library is glibc.

  XLA on CPU takes and frees its buffers at every step. glibc would give the large ones back to the kernel each time,
  and the page faults of having them again cost LXMERT on Sort-of-CLEVR a third of its speed.
  """
  libc = ctypes.CDLL(None)
  if hasattr(libc, 'mallopt'):
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
      libc.mallopt(option, value)


class Window:
  """The metric sums of the steps since the last log line, left on the device until they are asked for."""

  def __init__(self, examples: int):
    self.examples = examples  # a step
    self.sums: list[Metrics] = []
    self.since, self.waited = time.perf_counter(), 0.0

  def add(self, sums: Metrics) -> None:
    self.sums.append(sums)

  def close(self, waited: float) -> dict[str, np.ndarray]:
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
  np.savez_compressed(file, allow_pickle=False, **batch_of(step))
  folder = workdir / 'checkpoints'
  newest = max((int(f.name) for f in folder.glob('*') if f.name.isdigit()), default=None)
  raise RunError(
    f'step {step + 1}: the loss or its gradient is not finite; the update was not applied. Its batch: {file}. '
    f'Last good checkpoint: {"none" if newest is None else folder / str(newest)}'
  )
