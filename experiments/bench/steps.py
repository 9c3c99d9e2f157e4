"""Forward passes and training steps of a pair, as ways to be timed in turn, and the rows that their times make.

A row: {'model', 'task', 'batch', 'ours_ms', 'peer', 'peer_ms', 'ratio', 'ours_peak', 'peer_peak', ...}.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch

from experiments.bench import peers
from experiments.bench.timing import Times, in_turn
from mmjax import flops, optim, parallel, train

OURS, EAGER, COMPILED = 'mmjax', 'PyTorch eager', 'torch.compile'
FUSED, PLAIN = 'fused AdamW', 'AdamW'
PRODUCT = 2048  # a side of the product that a library's peak is taken from; on a GPU four times as much
RATE, DECAY = 1e-4, 0.01
TRAINED = ('train step', 'fine-tuning')

Way = Callable[[], Any]


def products(compute: str) -> dict[str, Way]:
  """The fastest that either library does: a product of two matrices."""
  side = _side()
  ours = jnp.ones((side, side), compute)
  product = jax.jit(jnp.matmul)
  theirs = torch.ones((side, side), dtype=getattr(torch, compute), device=peers.device())

  def run() -> None:
    theirs @ theirs
    peers.wait()

  return {f'product, {OURS}': lambda: product(ours, ours).block_until_ready(), f'product, {EAGER}': run}


def ours(both: peers.Both, task: str, recipe: train.Recipe, batches: Sequence[Mapping]) -> Way:
  """Our model over these batches, one after the other: trained by a step on each, or only run."""
  recipe = recipe.computing(both.compute)
  if task not in TRAINED:
    run = jax.jit(forward(both, recipe))
    given = [jax.device_put(batch) for batch in batches]
    return lambda: jax.block_until_ready([run(both.variables, batch) for batch in given])
  launch = parallel.Launch('jit', len(batches[0]['input_ids']), devices=jax.devices()[:1])
  tx = optimiser()
  held = [launch.place(train.init(jax.tree.map(jnp.copy, both.variables), tx))]
  step, put, key = launch.compile_step(recipe.step(tx), held[0]), [launch.put(b) for b in batches], launch.key(0)

  def train_on_all() -> None:
    for batch in put:
      held[0], _ = step(held[0], batch, key)
    jax.block_until_ready(held[0].params)

  return train_on_all


def optimiser() -> Any:
  rate = optim.schedule('constant', RATE, 1, 0)
  return optim.build('adamw', rate, clip=0.0, decay=DECAY, decay_on='all')


def forward(both: peers.Both, recipe: train.Recipe) -> Callable[[Mapping, Mapping], Any]:
  """(variables, inputs) -> what theirs gives under `pair.name`."""
  return lambda variables, given: both.pair.read(recipe.forward(variables, given, train=False, key=None)[0])


def work(both: peers.Both, task: str, recipe: train.Recipe, batch: Mapping, unused: bool = False) -> float:
  """FLOPs of the products of one batch; unused: those too that nobody reads, as PyTorch does them."""
  if task not in TRAINED:
    return flops.count(forward(both, recipe), both.variables, batch, unused=unused)
  tx = optimiser()
  state = jax.eval_shape(lambda: train.init(both.variables, tx))
  return flops.count(recipe.step(tx), state, dict(batch), jax.random.key(0), unused=unused)


def evaluations(both: peers.Both, batches: Sequence[Mapping], compiled: bool = False) -> dict[str, Way]:
  """HuggingFace's model over these batches: {name: way}."""
  given = [peers.tensors(batch, labels=False) for batch in batches]
  modules = {EAGER: both.theirs.eval()} | ({COMPILED: torch.compile(both.theirs, dynamic=False)} if compiled else {})

  def way(module: Callable) -> Way:
    def run() -> None:
      both.theirs.eval()
      with torch.inference_mode(), peers.computing(both.compute):
        for batch in given:
          module(**batch)
      peers.wait()

    return run

  return {name: way(module) for name, module in modules.items()}


def trainings(both: peers.Both, batches: Sequence[Mapping], compiled: bool = False) -> dict[str, Way]:
  """HuggingFace's model trained on these batches by AdamW, fused and not: {name: way}."""
  given = [peers.tensors(batch) | both.more for batch in batches]
  module = both.theirs
  adamw = lambda fused: torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=DECAY, fused=fused)
  optimisers = {FUSED: adamw(True)} | ({PLAIN: adamw(False)} if compiled else {})

  def way(called: Callable, name: str) -> Way:
    def run() -> None:
      module.train()
      for batch in given:
        with peers.computing(both.compute):
          loss = called(**batch).loss
        loss.backward()
        optimisers[name].step()
        optimisers[name].zero_grad(set_to_none=True)
      peers.wait()

    return run

  ways = {f'{EAGER}, {name}': way(module, name) for name in optimisers}
  return ways | ({f'{COMPILED}, {FUSED}': way(torch.compile(module, dynamic=False), FUSED)} if compiled else {})


def compared(
  model: str,
  task: str,
  batch: int,
  both: peers.Both,
  ways: Mapping[str, Way],
  costs: Mapping[str, float],
  rounds: int,
  times: int = 1,
  more: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
  """A row for each way but the first, which is ours: times of a batch, in turn. costs: FLOPs of a batch.

  times: batches that a way runs.
  """
  found = in_turn({**ways, **products(both.compute)}, rounds, warm=1 if times > 1 else 2)
  peak = {whose: 2 * _side() ** 3 / (min(found[f'product, {whose}'].ms) / 1000) for whose in (OURS, EAGER)}
  of = lambda name: peak[OURS if name.startswith(OURS) else EAGER]
  first, *others = ways
  rows = []
  for peer in others:
    rows.append(
      {
        'model': model,
        'task': task,
        'batch': batch,
        **_shown('ours', found[first], costs[first], of(first), times),
        'ours': first,
        'peer': peer if peer.startswith(OURS) else f'{both.pair.kind}, {peer}',
        **_shown('peer', found[peer], costs[peer], of(peer), times),
        'ratio': round(found[peer].median / found[first].median, 3),
        'gflops': round(costs[first] / 1e9, 2),
        'ours_sgemm_gflops': round(peak[OURS] / 1e9, 1),
        'peer_sgemm_gflops': round(peak[EAGER] / 1e9, 1),
        'compute': both.compute,
        'rounds': rounds,
        **(more or {}),
      }
    )
  return rows


def _side() -> int:
  return PRODUCT * (1 if jax.default_backend() == 'cpu' else 4)


def _shown(whose: str, found: Times, cost: float, peak: float, times: int) -> dict[str, Any]:
  return {
    f'{whose}_ms': round(found.median / times, 2),
    f'{whose}_range': [round(ms / times, 2) for ms in found.range],
    f'{whose}_peak': round(cost * times / (found.median / 1000) / peak, 3),
  }
