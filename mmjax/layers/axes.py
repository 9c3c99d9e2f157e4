"""The axes by which devices share a batch: their names, and what a module has to know of them, or to say."""

import math

import jax
from jax import lax
from jax.sharding import PartitionSpec

AXIS = 'data'  # of a mapped function (pmap), and the first of a mesh
ROWS = (AXIS, 'fsdp')  # of a mesh


def mapped() -> str | None:
  """AXIS inside of a function that is mapped over it, in which each device sees its own rows alone; else None."""
  try:
    lax.axis_index(AXIS)
  except NameError:  # JAX: unbound axis name
    return None
  return AXIS


def by_rows(x: jax.Array) -> jax.Array:
  """x [rows, ...], of which each device has its own rows, where a mesh is set and cuts them evenly.

  Said to XLA, which otherwise takes over how a weight is cut: under 'fsdp' every device would then have all rows. Not
  said on a mesh cut along three axes, where XLA's partitioner (jaxlib 0.10) swaps rows: see tests/layouts.py.
  """
  mesh = jax.sharding.get_abstract_mesh()
  cut = tuple(axis for axis, size in mesh.shape.items() if size > 1)
  axes = tuple(axis for axis in cut if axis in ROWS)
  if not axes or len(cut) > 2 or len(x) % math.prod(mesh.shape[axis] for axis in axes):
    return x
  return lax.with_sharding_constraint(x, PartitionSpec(axes))
