"""Times of several ways to do the same, taken in turn, so that what else the machine does falls on all of them."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import distributions, version
from typing import Any, NamedTuple

import numpy as np

LIBRARIES = ('jax', 'jaxlib', 'flax', 'numpy', 'torch', 'transformers')
REST = 0.02  # seconds between two ways, in which the threads of the one before come to rest


class Times(NamedTuple):
  """Milliseconds of every round."""

  ms: tuple[float, ...]

  @property
  def median(self) -> float:
    return float(np.median(self.ms))

  @property
  def range(self) -> tuple[float, float]:
    """The middle half of the rounds."""
    low, high = np.percentile(self.ms, [25, 75])
    return float(low), float(high)


def in_turn(ways: Mapping[str, Callable[[], Any]], rounds: int, warm: int = 2) -> dict[str, Times]:
  """A B A B ...: each way once a round, the first `warm` rounds uncounted. A way returns when its work is done."""
  found: dict[str, list[float]] = {name: [] for name in ways}
  for n in range(warm + rounds):
    for name, run in ways.items():
      began = time.perf_counter()
      run()
      took = 1000 * (time.perf_counter() - began)
      time.sleep(REST)
      if n >= warm:
        found[name].append(took)
  return {name: Times(tuple(ms)) for name, ms in found.items()}


def machine(threads: int) -> dict[str, Any]:
  """What the times depend on."""
  there = {found.name.lower() for found in distributions()}
  return {
    'processor': _processor(),
    'cores': os.cpu_count(),
    'threads': threads,
    'load': round(os.getloadavg()[0], 2),
    'python': platform.python_version(),
    'versions': {name: version(name) for name in LIBRARIES if name in there},
  }


def _processor() -> str:
  try:
    lines = open('/proc/cpuinfo', encoding='utf-8').read().splitlines()  # noqa: SIM115
  except OSError:
    return platform.processor() or platform.machine()
  named = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  return named[0] if named else platform.machine()
