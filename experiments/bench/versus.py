"""Our models against HuggingFace's on PyTorch, in one process and in turn: forward and training step.

Rows of the table: {'model', 'task', 'batch', 'ours_ms', 'peer', 'peer_ms', 'ratio', 'ours_peak', 'peer_peak', ...}.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import torch

from experiments.bench import peers
from experiments.bench.timing import Times, in_turn
from mmjax import flops, optim, parallel, train

OURS, EAGER, COMPILED = 'mmjax', 'PyTorch eager', 'torch.compile'
FUSED, PLAIN = f'{EAGER}, fused AdamW', f'{EAGER}, AdamW'
COMPILED_FUSED = f'{COMPILED}, fused AdamW'
PRODUCT = 2048  # a side of the product that a library's peak is taken from
RATE, DECAY = 1e-4, 0.01


def products() -> dict[str, Callable[[], Any]]:
  """The fastest that either library does: a product of two matrices in float32."""
  ours = jnp.ones((PRODUCT, PRODUCT), jnp.float32)
  product = jax.jit(jnp.matmul)
  theirs = torch.ones((PRODUCT, PRODUCT))
  return {
    f'product, {OURS}': lambda: product(ours, ours).block_until_ready(),
    f'product, {EAGER}': lambda: theirs @ theirs,
  }


def forward(both: peers.Both) -> tuple[dict[str, Callable[[], Any]], float]:
  """(the ways to run the model, FLOPs)."""
  run, given = jax.jit(both.forward), jax.device_put(both.given)
  tensors = {name: a for name, a in both.tensors().items() if name != 'labels'}
  compiled = torch.compile(both.theirs, dynamic=False)

  def theirs(module: Callable) -> Callable[[], Any]:
    def run() -> Any:
      with torch.inference_mode():
        return module(**tensors)

    return run

  ways = {
    OURS: lambda: run(both.variables, given).block_until_ready(),
    EAGER: theirs(both.theirs.eval()),
    COMPILED: theirs(compiled),
  }
  return ways, flops.count(both.forward, both.variables, both.given)


def step(both: peers.Both) -> tuple[dict[str, Callable[[], Any]], float]:
  """(the ways to train the model by a step with its own dropout, FLOPs)."""
  rows = len(both.given['input_ids'])
  tx = optim.build('adamw', optim.schedule('constant', RATE, 1, 0), clip=0.0, decay=DECAY, decay_on='all')
  launch = parallel.Launch('jit', rows, devices=jax.devices()[:1])
  held = [launch.place(train.init(both.variables, tx))]
  run, given, key = launch.compile_step(both.recipe.step(tx), held[0]), launch.put(both.given), launch.key(0)
  work = flops.count(run, held[0], given, key)

  def ours() -> None:
    held[0], _ = run(held[0], given, key)
    jax.block_until_ready(held[0].params)

  module = both.theirs.train()
  more = {'return_loss': True} if both.pair.kind == 'CLIPModel' else {}
  tensors = both.tensors() | more
  optimiser = {
    fused: torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=DECAY, fused=fused) for fused in (True, False)
  }
  compiled = torch.compile(module, dynamic=False)

  def theirs(called: Callable, fused: bool) -> Callable[[], None]:
    def run() -> None:
      called(**tensors).loss.backward()
      optimiser[fused].step()
      optimiser[fused].zero_grad(set_to_none=True)

    return run

  ways = {
    OURS: ours,
    FUSED: theirs(module, True),
    PLAIN: theirs(module, False),
    COMPILED_FUSED: theirs(compiled, True),
  }
  return ways, work


TASKS = {'forward': forward, 'train step': step}


def rows(model: str, batch: int, rounds: int, layers: int = 0) -> Iterator[dict[str, Any]]:
  """A row for each task and peer of a model."""
  both = peers.make(model, batch, layers)
  for task, made in TASKS.items():
    ways, work = made(both)
    times = in_turn(ways | products(), rounds)
    peak = {whose: _peak(times[f'product, {whose}']) for whose in (OURS, EAGER)}
    ours = times[OURS]
    for peer in list(ways)[1:]:
      yield {
        'model': model,
        'task': task,
        'batch': batch,
        **_shown('ours', ours, work, peak[OURS]),
        'peer': f'{both.pair.kind}, {peer}',
        **_shown('peer', times[peer], work, peak[EAGER]),
        'ratio': round(times[peer].median / ours.median, 3),
        'gflops': round(work / 1e9, 2),
        'ours_sgemm_gflops': round(peak[OURS] / 1e9, 1),
        'peer_sgemm_gflops': round(peak[EAGER] / 1e9, 1),
        'rounds': rounds,
      }
    torch._dynamo.reset()
    del ways


def _peak(product: Times) -> float:
  return 2 * PRODUCT**3 / (min(product.ms) / 1000)


def _shown(whose: str, times: Times, work: float, peak: float) -> Mapping[str, Any]:
  return {
    f'{whose}_ms': round(times.median, 2),
    f'{whose}_range': [round(ms, 2) for ms in times.range],
    f'{whose}_peak': round(work / (times.median / 1000) / peak, 3),
  }
