"""Optimisers and learning-rate schedules of the papers, on optax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmjax.errors import UserError, nearest

OPTIMISERS = ('adamw', 'bert_adam', 'momentum')
SCHEDULES = ('cosine', 'linear', 'constant')
DECAY_ON = ('kernels', 'all')


def schedule(name: str, peak: float, steps: int, warmup: int) -> optax.Schedule:
  """Linear warm-up from 0 over `warmup` steps, then 'cosine' or 'linear' to 0 at `steps`, or 'constant'."""
  if name not in SCHEDULES:
    raise UserError(f'optim.schedule: found {name!r}, expected one of {SCHEDULES}{nearest(name, SCHEDULES)}')
  if not 0 <= warmup <= steps:
    raise UserError(f'optim.warmup: found {warmup} steps, expected 0 to {steps} (all steps)')
  rest = max(steps - warmup, 1)
  fall = {
    'cosine': optax.cosine_decay_schedule(peak, rest),
    'linear': optax.linear_schedule(peak, 0.0, rest),
    'constant': optax.constant_schedule(peak),
  }[name]
  return optax.join_schedules([optax.linear_schedule(0.0, peak, max(warmup, 1)), fall], [warmup])


def kernels(params: Any) -> Any:
  """The decay mask that leaves out biases, norms' scales and embedding-free vectors: True for matrices and tables."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in ('kernel', 'embedding'), params)


def bert_adam(
  rate: optax.Schedule,
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-6,
  decay: float = 0.01,
  mask: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
  """BertAdam, the optimiser of BERT's and LXMERT's code: Adam without bias correction, eps added outside the root.

  Decay is decoupled and falls on what `mask` says (as `kernels`), or, without one, on every parameter, biases and norms
  included, as in LXMERT's code. Clipping stands before it, in `build`.
  """

  def init(params):
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    return optax.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=zeros(), nu=zeros())

  def update(grads, state, params):
    mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
    nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
    lr = rate(state.count)
    decayed = jax.tree.map(lambda _: True, params) if mask is None else mask(params)
    step = lambda m, v, p, on: -lr * (m / (jnp.sqrt(v) + eps) + (decay * p if on else 0.0))
    return jax.tree.map(step, mu, nu, params, decayed), optax.ScaleByAdamState(state.count + 1, mu, nu)

  return optax.GradientTransformation(init, update)


def build(
  name: str,
  rate: optax.Schedule,
  *,
  clip: float,
  decay: float,
  decay_on: str = 'kernels',
  b1: float = 0.9,
  b2: float = 0.999,
  eps: float = 1e-8,
) -> optax.GradientTransformation:
  """Clipping by global norm (0: none), then 'adamw', 'bert_adam' or 'momentum', with decay on 'kernels' (see there) or
  on 'all'. Momentum has b1, and adds its decay to the gradient.
  """
  if name not in OPTIMISERS:
    raise UserError(f'optim.name: found {name!r}, expected one of {OPTIMISERS}{nearest(name, OPTIMISERS)}')
  if decay_on not in DECAY_ON:
    raise UserError(f'optim.decay_on: found {decay_on!r}, expected one of {DECAY_ON}{nearest(decay_on, DECAY_ON)}')
  mask = kernels if decay_on == 'kernels' else None
  if name == 'adamw':
    tx = optax.adamw(rate, b1, b2, eps, weight_decay=decay, mask=mask)
  elif name == 'bert_adam':
    tx = bert_adam(rate, b1, b2, eps, decay, mask)
  else:
    tx = optax.chain(optax.add_decayed_weights(decay, mask), optax.sgd(rate, momentum=b1))
  return optax.chain(optax.clip_by_global_norm(clip), tx) if clip else tx
