"""The training step: one pure function, which mmjax/parallel.py compiles for devices.

The random key of step i is fold_in(key, i), so that a resumed run draws what an uninterrupted one would have drawn.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax import lax

from mmjax.errors import UserError, nearest
from mmjax.layers.blocks import cast
from mmjax.objectives import Batch, Losses, Metrics

COMPUTE = ('float32', 'bfloat16')


class State(flax.struct.PyTreeNode):
  """All that a step changes. `finite` is False once a loss or its gradient was not: neither that update nor a later one
  is applied. One that only the optimiser spoils, as by a rate without end, shows in the next loss.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  collections: Any  # mutable collections, such as batch statistics; {} for none
  finite: jax.Array

  @property
  def variables(self) -> dict:
    """What the model is applied with."""
    return {'params': self.params, **self.collections}


class Forward(Protocol):
  """Runs the model on a batch: variables -> (outputs, updated collections)."""

  def __call__(
    self, variables: Mapping, batch: Batch, *, train: bool, key: jax.Array | None
  ) -> tuple[Batch, Mapping]: ...


def forward_of(
  model: nn.Module, given: Callable[[Batch], tuple] = lambda batch: (batch,), compute: str = COMPUTE[0]
) -> Forward:
  """The Forward of a model that is called as model(*given(batch), train=) and draws from the stream 'dropout'.

  compute: the type of its parameters and of what it is given; what it gives is float32.
  """

  def forward(variables, batch, *, train, key):
    collections = [name for name in variables if name != 'params']
    inside = {**variables, 'params': cast(variables['params'], compute)}, *cast(given(batch), compute)
    if not train:
      return cast(model.apply(*inside, train=False), jnp.float32), {}
    out, kept = model.apply(*inside, train=True, rngs={'dropout': key}, mutable=collections)
    return cast(out, jnp.float32), kept

  return forward


def lowered(forward: Forward, compute: str) -> Forward:
  """A forward that computes in that type: it is given its parameters and its batch so, and gives float32."""

  def low(variables, batch, *, train, key):
    params = cast(variables['params'], compute)
    out, kept = forward({**variables, 'params': params}, cast(batch, compute), train=train, key=key)
    return cast(out, jnp.float32), kept

  return low


Augment = Callable[[Batch, jax.Array], Batch]
Objective = Callable[..., tuple[Losses, Metrics]]


class Recipe(NamedTuple):
  """What is learnt, and from what: all that the steps need but an optimiser.

  init: (key, a batch of any size) -> the variables before the first step. augment draws of every batch, with one key at
  evaluation, as masks ask for; drawn, in its place, of those that are learnt from alone.
  lower: the forward that computes in a type of COMPUTE, where it is more than to give parameters and batch that type.
  """

  init: Callable[[jax.Array, Batch], Mapping]
  forward: Forward
  objective: Objective
  augment: Augment | None = None
  drawn: Augment | None = None
  lower: Callable[[str], Forward] | None = None

  def around(self, wrap: Callable[[Forward], Forward]) -> 'Recipe':
    """The same with its forward wrapped, in whatever type it computes."""
    lower = self.lower or functools.partial(lowered, self.forward)
    return self._replace(forward=wrap(self.forward), lower=lambda compute: wrap(lower(compute)))

  def computing(self, compute: str) -> 'Recipe':
    """The same, its products and what lies between them in a type of COMPUTE. Raises UserError for another.

    Parameters, their gradients and the optimiser's state, the statistics of norms, softmax and losses stay float32.
    """
    if compute not in COMPUTE:
      raise UserError(f'--config.compute: found {compute!r}, expected one of {COMPUTE}{nearest(compute, COMPUTE)}')
    if compute == COMPUTE[0]:
      return self
    return self._replace(forward=self.lower(compute) if self.lower else lowered(self.forward, compute))

  def step(self, tx: optax.GradientTransformation, micro_batches: int = 1) -> Callable:
    """`train_step` with all keywords but `axis` bound."""
    how: dict[str, Any] = dict(forward=self.forward, objective=self.objective, augment=self.drawn or self.augment)
    return functools.partial(train_step, tx=tx, micro_batches=micro_batches, **how)

  def evaluation(self) -> Callable:
    """`eval_step`, likewise."""
    return functools.partial(eval_step, forward=self.forward, objective=self.objective, augment=self.augment)


def recipe(
  model: nn.Module,
  objective: Objective,
  given: Callable[[Batch], tuple] = lambda batch: (batch,),
  augment: Augment | None = None,
  drawn: Augment | None = None,
) -> Recipe:
  """That of a model that is called as model(*given(batch), train=)."""
  init = lambda key, batch: model.init(key, *given(batch), train=False)
  of = functools.partial(forward_of, model, given)
  return Recipe(init, of(), objective, augment, drawn, lower=of)


def init(variables: Mapping, tx: optax.GradientTransformation) -> State:
  """The state before the first step, from the model's fresh (or loaded) variables.

  Their types are fixed: a weak one, as of `jnp.array(0.07)`, is another after a step, which would be compiled twice.
  """
  fixed = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), dict(variables))
  collections, params = flax.core.pop(fixed, 'params')
  return State(jnp.zeros((), jnp.int32), params, tx.init(params), collections, jnp.ones((), bool))


def train_step(
  state: State,
  batch: Batch,
  key: jax.Array,
  *,
  forward: Forward,
  tx: optax.GradientTransformation,
  objective: Objective,
  augment: Augment | None = None,
  micro_batches: int = 1,
  axis: str | None = None,
) -> tuple[State, Metrics]:
  """One update. Pure; global view when axis is None (jit), per-device view otherwise (pmap).

  augment: (batch, key) -> batch, drawn anew at each step, such as the masks of a pre-training task.
  batch: arrays with equal leading axis, cut into micro_batches whose gradients are added. Losses are divided by their
  counts over all devices and micro-batches together. Returns the new state and metric sums {name: (sum, count)}:
  'loss', the objective's losses as 'loss/<name>' where there are several, its metrics, and 'gradient_norm'.
  """
  grads, metrics, collections = gradients(
    state, batch, key, forward=forward, objective=objective, augment=augment, micro_batches=micro_batches, axis=axis
  )
  norm = optax.tree.norm(grads)
  loss_sum, _ = metrics['loss']

  def update(state: State) -> State:
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    return State(state.step + 1, optax.apply_updates(state.params, updates), opt_state, collections, finite)

  finite = state.finite & jnp.isfinite(norm) & jnp.isfinite(loss_sum)
  # a branch updates in place, where a choice number by number would keep what was before: a quarter of BERT's step
  new = lax.cond(finite, update, lambda state: state.replace(finite=finite), state)
  return new, metrics | {'gradient_norm': (norm, jnp.ones(()))}


def gradients(
  state: State,
  batch: Batch,
  key: jax.Array,
  *,
  forward: Forward,
  objective: Objective,
  augment: Augment | None = None,
  micro_batches: int = 1,
  axis: str | None = None,
) -> tuple[Any, Metrics, Any]:
  """(gradients, metric sums, collections) of one step, summed over devices and micro-batches."""
  total = functools.partial(lax.psum, axis_name=axis) if axis else lambda x: x
  key = jax.random.fold_in(key, state.step)
  if axis:
    key = jax.random.fold_in(key, lax.axis_index(axis))
  if augment:
    batch = augment(batch, jax.random.fold_in(key, micro_batches))  # 0 ... micro_batches - 1 are the dropout keys
  rows = min(len(a) for a in jax.tree.leaves(batch))
  if micro_batches > 1 and (rows % micro_batches or any(len(a) % rows for a in jax.tree.leaves(batch))):
    raise UserError(f'micro_batches: found {micro_batches} for {rows} images a device, expected a divisor')

  def cut(a):
    """Every micro_batches-th image with all that is of it, so that each device keeps the rows that it has."""
    if micro_batches == 1:
      return a[None]
    one = a.reshape(rows // micro_batches, micro_batches, len(a) // rows, *a.shape[1:]).swapaxes(0, 1)
    return one.reshape(micro_batches, len(a) // micro_batches, *a.shape[1:])

  micro = jax.tree.map(cut, batch)

  def counts(batch):
    """The losses' counts: they do not depend on the outputs, of which only the shapes are made."""
    out, _ = jax.eval_shape(lambda: forward({'params': state.params, **state.collections}, batch, train=True, key=key))
    losses, _ = objective(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), out), batch, axis)
    return {name: jnp.asarray(count, jnp.float32) for name, (_, count, _) in losses.items()}

  count = total(jax.tree.map(lambda c: c.sum(0), lax.map(counts, micro)))

  def loss(params, collections, batch, key):
    out, collections = forward({'params': params, **collections}, batch, train=True, key=key)
    losses, metrics = objective(out, batch, axis)
    parts = {name: weight * value / jnp.maximum(count[name], 1e-9) for name, (value, _, weight) in losses.items()}
    return sum(parts.values()), (parts, metrics, collections)

  def one(carry, given):
    collections, grads = carry
    n, batch = given
    (_, (parts, metrics, collections)), new = jax.value_and_grad(loss, has_aux=True)(
      state.params, collections, batch, jax.random.fold_in(key, n)
    )
    return (collections, jax.tree.map(jnp.add, grads, new)), (parts, metrics)

  if micro_batches == 1:
    (_, (parts, metrics, collections)), grads = jax.value_and_grad(loss, has_aux=True)(
      state.params, state.collections, batch, jax.random.fold_in(key, 0)
    )
  else:
    start = (state.collections, jax.tree.map(jnp.zeros_like, state.params))
    (collections, grads), summed = lax.scan(one, start, (jnp.arange(micro_batches), micro))
    parts, metrics = jax.tree.map(lambda a: a.sum(0), summed)
  grads, parts, metrics = total((grads, parts, metrics))
  if axis:
    collections = lax.pmean(collections, axis)
  several = {f'loss/{name}': (part, jnp.ones(())) for name, part in parts.items()} if len(parts) > 1 else {}
  return grads, {'loss': (sum(parts.values()), jnp.ones(()))} | several | metrics, collections


def eval_step(
  variables: Mapping,
  batch: Batch,
  *,
  forward: Forward,
  objective: Objective,
  augment: Augment | None = None,
  axis: str | None = None,
) -> Metrics:
  """Metric sums of one batch, without dropout: 'loss/<name>' of each loss, and the objective's metrics.

  augment, if any, gets the same key for every batch, so that evaluations can be compared.
  """
  if augment:
    batch = augment(batch, jax.random.key(0))
  out, _ = forward(variables, batch, train=False, key=None)
  losses, metrics = objective(out, batch, axis)
  sums = {f'loss/{name}': (weight * value, count) for name, (value, count, weight) in losses.items()} | metrics
  return lax.psum(sums, axis) if axis else sums


def divide(sums: Sequence[Metrics]) -> dict[str, np.ma.MaskedArray]:
  """Metric sums of many steps -> means, parts of a loss also added up as 'loss'. Masked where nothing counts."""
  host = jax.device_get(sums)
  mean = {}
  for name in host[0]:
    total, count = (np.sum([np.asarray(step[name][part], np.float64) for step in host], 0) for part in (0, 1))
    mean[name] = np.ma.masked_where(count <= 0, total / np.where(count > 0, count, 1))
  parts = [value for name, value in mean.items() if name.startswith('loss/')]
  if 'loss' not in mean and parts:
    mean['loss'] = np.ma.asarray(sum(part.filled(0.0) for part in parts))  # as in training: no count, no part
  return mean if len(parts) != 1 else {name: value for name, value in mean.items() if not name.startswith('loss/')}
