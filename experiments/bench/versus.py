"""Our models against HuggingFace's on PyTorch, in one process and in turn: forward and training step, the same work."""

from collections.abc import Iterator
from typing import Any

import torch

from experiments.bench import asked, memory, peers, steps


def rows(
  model: str, batch: int, tasks: list[str], rounds: int, layers: int = 0, compute: str = 'float32'
) -> Iterator[dict[str, Any]]:
  """A row for each task and peer of a model."""
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


def questions(model: str, rounds: int, layers: int = 0, compute: str = 'float32') -> Iterator[dict[str, Any]]:
  """Those of the users' workload, where it is one of the model's."""
  if model in asked.MODELS:
    yield from asked.rows(model, max(3, rounds // 3), layers, compute)
