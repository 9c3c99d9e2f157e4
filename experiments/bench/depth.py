"""What depth costs: compile time and memory of BERT's training step of 6, 12 and 24 layers, scanned and not."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from mmjax import optim, parallel, train
from mmjax.layers.ways import REMAT, Ways
from mmjax.models.visualbert import VisualBERT
from mmjax.objectives import answers

LAYERS = (6, 12, 24)
BATCH, WORDS, REGIONS, FEATURES, ANSWERS = 8, 20, 36, 2048, 3129


def step(layers: int, scan: bool, remat: str) -> Callable[[], Any]:
  """() -> VisualBERT-base's training step, compiled, of that many layers."""
  model = VisualBERT(num_answers=ANSWERS, schedule=f'{layers}*[t<tv v<tv tied]', scan=scan)
  shaped = jax.ShapeDtypeStruct
  batch = {
    'text': shaped((BATCH, WORDS), jnp.int32),
    'mask': shaped((BATCH, WORDS), bool),
    'regions': shaped((BATCH, REGIONS, FEATURES), jnp.float32),
    'answer': shaped((BATCH,), jnp.int32),
    'weight': shaped((BATCH,), jnp.float32),
    'question_type': shaped((BATCH, 1), bool),
  }
  recipe = train.recipe(model, answers, lambda batch: (batch['text'], batch['mask'], batch['regions']))
  tx = optim.build('adamw', optim.schedule('constant', 1e-4, 1, 0), clip=0.0, decay=0.01)
  key = jax.eval_shape(lambda: jax.random.key(0))
  state = jax.eval_shape(lambda key, batch: train.init(recipe.init(key, batch), tx), key, batch)
  launch = parallel.Launch('jit', BATCH, devices=jax.devices()[:1], ways=Ways(remat=remat))
  return lambda: launch.compile_step(recipe.step(tx), state).lower(state, batch, key).compile()


def rows(say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
  """Seconds to trace, lower and compile, and the MiB that a step takes for what lies between its inputs and outputs."""
  jax.config.update('jax_enable_compilation_cache', False)
  for layers in LAYERS:
    for scan in (True, False):
      for remat in REMAT if scan else ('none',):
        say(f'{layers} layers, {"scanned" if scan else "each on its own"}, remat {remat}')
        jax.clear_caches()
        made, began = step(layers, scan, remat), time.perf_counter()
        compiled = made()
        took = time.perf_counter() - began
        room = compiled.memory_analysis().temp_size_in_bytes / 2**20
        yield {
          'layers': layers,
          'scan': scan,
          'remat': remat,
          'compile_s': round(took, 2),
          'temporary_mib': round(room),
        }
