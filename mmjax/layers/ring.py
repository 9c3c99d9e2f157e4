"""Scores of the rows of a batch that lies on several devices, each against all others, of which no device holds all.

Every device passes what it has on to the next one, and scores its own rows against what comes by (as Ring Attention
does, Liu et al. 2023, arXiv:2310.01889). So a device holds [b,b] scores at a time, however many devices there are, and
nothing is kept for the gradient: scores are computed again as the rows come by once more, with their gradient.

b rows of a device, E features.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

Axes = tuple[str, ...]  # of the devices that share a batch, () for one device


def against_all(
  one: jax.Array, other: jax.Array, rivals: jax.Array, axes: Axes = (), *, axis: str | None = None
) -> tuple[jax.Array, jax.Array]:
  """(logsumexp of the scores `one @ other.T` over all rivals, whether none is above a row's own): float and bool [B].

  one, other [B,E] float, of which row b belongs to row b; rivals [B] bool: which rows of `other` count. Global view, in
  which the rows are cut by `axes` of the mesh that is set, those of them that it has; or, in a mapped function, the
  rows of a device and its `axis`. -inf, and no gradient, where there is no rival.
  """
  if axis:
    return _ring(one, other, rivals, (axis,))
  mesh = jax.sharding.get_abstract_mesh()
  axes = tuple(name for name in axes if name in mesh.shape and mesh.shape[name] > 1)
  if not axes:
    return _ring(one, other, rivals, ())
  rows = PartitionSpec(axes)
  ring = functools.partial(_ring, axes=axes)
  return jax.shard_map(ring, in_specs=(rows, rows, rows), out_specs=(rows, rows))(one, other, rivals)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _ring(one: jax.Array, other: jax.Array, rivals: jax.Array, axes: Axes) -> tuple[jax.Array, jax.Array]:
  return _forward(one, other, rivals, axes)[0]


def _forward(one, other, rivals, axes):
  def step(carry, n):
    there, most, total, own = carry
    scores = _scores(one, *there)
    own = jnp.where(n == 0, jnp.diagonal(scores), own)  # at first a device has its own
    higher = jnp.maximum(most, scores.max(1))
    kept = jnp.where(jnp.isfinite(higher), higher, 0)  # nothing yet: exp(-inf - 0) is 0
    total = total * jnp.exp(most - kept) + jnp.exp(scores - kept[:, None]).sum(1)
    return (_passed_on(there, axes), higher, total, own), None

  nothing = 0 * one[:, 0].astype(jnp.float32)
  start = ((other, rivals), nothing - jnp.inf, nothing, nothing)
  (_, most, total, own), _ = lax.scan(step, start, jnp.arange(_size(axes)))
  sums = jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1)) + most, -jnp.inf)
  return (sums, own >= most), (one, other, rivals, sums)


def _backward(axes, kept, gradient):
  one, other, rivals, sums = kept
  weight = jnp.where(jnp.isfinite(sums), gradient[0], 0)[:, None]

  def step(carry, _):
    there, of_there, of_one = carry
    share = jnp.exp(_scores(one, *there) - jnp.where(jnp.isfinite(sums), sums, 0)[:, None]) * weight
    of_there, of_one = of_there + share.T @ one, of_one + share @ there[0]
    return (_passed_on(there, axes), _passed_on(of_there, axes), of_one), None

  start = ((other, rivals), jnp.zeros_like(other), jnp.zeros_like(one))
  (_, of_other, of_one), _ = lax.scan(step, start, length=_size(axes))  # all have come back to where they belong
  return of_one, of_other, None


_ring.defvjp(_forward, _backward)


def _scores(one: jax.Array, other: jax.Array, rivals: jax.Array) -> jax.Array:
  return jnp.where(rivals, (one @ other.T).astype(jnp.float32), -jnp.inf)


def _passed_on(x, axes: Axes):
  """What the device before had, in a ring over all devices of the axes."""
  if not axes:
    return x
  size = _size(axes)
  return jax.tree.map(lambda a: lax.ppermute(a, axes, [(n, (n + 1) % size) for n in range(size)]), x)


def _size(axes: Axes) -> int:
  return lax.axis_size(axes) if axes else 1
