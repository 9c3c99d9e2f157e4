"""How long a training step of each fusion takes: all in turn, in one process, so that none has a busier machine.

Kept in times.json of the grid's folder, so that it is measured once.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import training
from experiments import visual_questions as task_of
from experiments.lab.grid import Sized, model_of
from mmjax import train
from mmjax.workdir import write_atomic

TIMES = 'times.json'
ROUNDS = 7  # steps of each; the first, which compiles, is not counted


def measure(c: Any, task: task_of.Task, sized: Sequence[Sized]) -> dict[str, float]:
  """Fusion -> milliseconds of a training step, the median of some, of which one of each is run in turn."""
  batch = {name: np.stack([a] * c.data.images) for name, a in task.encode(task.splits['train'][0]).items()}
  _, tx = training.optimiser(c.optim)
  runs: dict[str, tuple[Any, train.State]] = {}
  for size in sized:
    recipe = task_of.recipe(c.objective, task, model_of(c, task, size.fusion, size.mlp)).computing(c.compute)
    state = train.init(training.first_variables(recipe, 0, batch), tx)
    runs[size.fusion.name] = (jax.jit(recipe.step(tx), donate_argnums=0), state)
  took: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(ROUNDS):
    for name, (step, state) in runs.items():
      jax.block_until_ready(state)
      began = time.perf_counter()
      state, _ = jax.block_until_ready(step(state, batch, jax.random.key(1)))
      took[name].append(time.perf_counter() - began)
      runs[name] = (step, state)
  return {name: 1000 * float(np.median(seconds[1:])) for name, seconds in took.items()}


def known(workdir: Path, sized: Sequence[Sized]) -> dict[str, float]:
  """What the folder holds of these fusions at these sizes: fusion -> milliseconds; nothing unless of all."""
  file = workdir / TIMES
  try:
    kept = json.loads(file.read_text()) if file.is_file() else {}
  except ValueError:  # it is measured again
    return {}
  found = {size.fusion.name: kept.get(_key(size)) for size in sized}
  return {} if None in found.values() else {name: float(ms) for name, ms in found.items() if ms is not None}


def keep(workdir: Path, sized: Sequence[Sized], times: Mapping[str, float]) -> None:
  """Writes what `known` reads."""
  content = {_key(size): round(times[size.fusion.name], 3) for size in sized}
  write_atomic(workdir / TIMES, json.dumps(content, indent=1) + '\n')


def _key(size: Sized) -> str:
  return f'{size.fusion.line}, feed-forward {size.mlp}'
