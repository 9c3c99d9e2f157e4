"""Variables of a module without its `init` being compiled, which takes longer than what most tests then do."""

import jax
import jax.numpy as jnp
import numpy as np


def drawn(module, *given, std=0.3, seed=0, **named):
  """Random variables in which nothing is left at 0 or 1: biases and norms' scales are random too. Variances are not
  negative."""
  rng = np.random.default_rng(seed)
  middle = lambda path: 1 if path[-1].key in ('scale', 'var') else 0
  allowed = lambda path, a: np.abs(a) if path[-1].key == 'var' else a
  return jax.tree_util.tree_map_with_path(
    lambda path, a: jnp.asarray(allowed(path, rng.normal(middle(path), std, a.shape)), a.dtype),
    jax.eval_shape(lambda: module.init(jax.random.key(0), *given, **named)),
  )
