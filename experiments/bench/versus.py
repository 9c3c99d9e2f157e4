"""Our models against HuggingFace's on PyTorch, in one process and in turn: forward and training step, the same work."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from experiments.bench import asked, memory, peers, steps


def rows(
  model: str, batches: Iterable[int], tasks: list[str], rounds: int, layers: int = 0, compute: str = 'float32'
) -> Iterator[dict[str, Any]]:
  """A row for each task, batch and peer of a model."""
  for batch in batches:
    yield from same_work(model, batch, tasks, rounds, layers, compute)
  if 'questions' in tasks and model in asked.MODELS:
    yield from asked.rows(model, max(3, rounds // 3), layers, compute)


def same_work(
  model: str, batch: int, tasks: list[str], rounds: int, layers: int, compute: str
) -> Iterator[dict[str, Any]]:
  """Those where both do the same on equal rows."""
  both = peers.make(model, batch, layers, compute=compute)
  for name, task, made in (('forward', 'forward', steps.evaluations), ('train', 'train step', steps.trainings)):
    if name not in tasks:
      continue
    ways = {steps.OURS: steps.ours(both, task, both.recipe, [both.given])}
    ways |= made(both, [both.given], compiled=True)
    work = lambda unused, task=task: steps.work(both, task, both.recipe, both.given, unused)
    costs = dict.fromkeys(ways, work(True)) | {steps.OURS: work(False)}
    more = memory.of_both(model, batch, task, layers, compute)
    yield from steps.compared(model, task, batch, both, ways, costs, rounds, more=more)
    torch._dynamo.reset()
