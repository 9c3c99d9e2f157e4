"""What depth costs: compile time and memory of VisualBERT's step of 6, 12 and 24 layers, scanned and not."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from experiments import shaped, training
from mmjax import cli, train
from mmjax.layers.ways import REMAT

LAYERS = (6, 12, 24)


def compiled(layers: int, scan: bool, remat: str) -> Any:
  """The step of that many layers on the batch of the paper, 64."""
  c = cli.load_config('configs/visualbert.py:base')
  c.model.schedule, c.model.scan, c.parallel.remat = f'{layers}*[t<tv v<tv tied]', scan, remat
  step, tx = shaped.step('visualbert', c), training.optimiser(c.optim)[1]
  batch, key = step.abstract(c.data.images), jax.eval_shape(lambda: jax.random.key(0))
  state = jax.eval_shape(lambda key, batch: train.init(step.recipe.init(key, batch), tx), key, batch)
  launch = training.launch(c, devices=jax.devices()[:1])
  return launch.compile_step(step.recipe.step(tx), state).lower(state, batch, key).compile()


def rows(say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
  """Seconds to trace, lower and compile, and the MiB that a step takes for what lies between its inputs and outputs."""
  jax.config.update('jax_enable_compilation_cache', False)
  for layers in LAYERS:
    for scan in (True, False):
      for remat in REMAT if scan else ('none',):
        say(f'{layers} layers, {"scanned" if scan else "each on its own"}, remat {remat}')
        jax.clear_caches()
        began = time.perf_counter()
        program = compiled(layers, scan, remat)
        yield {
          'layers': layers,
          'scan': scan,
          'remat': remat,
          'compile_s': round(time.perf_counter() - began, 2),
          'temporary_mib': round(program.memory_analysis().temp_size_in_bytes / 2**20),
        }
