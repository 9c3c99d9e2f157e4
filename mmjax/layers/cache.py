"""What a module keeps from call to call, so that a text can be written word by word without reading it all again.

B batch, Q new positions.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

CACHE = 'cache'  # collection of what later calls read again


def remembered(module: nn.Module, name: str, new: jax.Array, rows: int, at: jax.Array | int) -> jax.Array:
  """What this call gives, new [B,Q,·,·], from row `at` on among what came before: [B,rows,·,·]; the rest is zeros.

  rows: 0 for as many as the first call gives. A call may give nothing new (Q = 0).
  """
  kept = module.variable(CACHE, name, jnp.zeros, (len(new), rows or new.shape[1], *new.shape[2:]), new.dtype)
  if new.shape[1]:
    kept.value = jax.lax.dynamic_update_slice_in_dim(kept.value, new, at, 1)
  return kept.value


def stepping(variables: Mapping, score: Callable[..., tuple[jax.Array, Mapping]]) -> Callable[..., Any]:
  """A `generate.Step` of score(variables, ids, at, first) -> (logits, {CACHE: ...}); first: nothing is kept yet."""

  def step(cache: Any, ids: jax.Array, at: jax.Array | int) -> tuple[jax.Array, Any]:
    first = cache is None
    scores, kept = score(dict(variables) | ({} if first else {CACHE: cache}), ids, at, first)
    return scores, kept[CACHE]

  return step
