"""The axes by which devices share a batch: their names, and what a module has to know of them."""

from jax import lax

AXIS = 'data'  # of a mapped function (pmap), and the first of a mesh
ROWS = (AXIS, 'fsdp')  # of a mesh


def mapped() -> str | None:
  """AXIS inside of a function that is mapped over it, in which each device sees its own rows alone; else None."""
  try:
    lax.axis_index(AXIS)
  except NameError:  # JAX: unbound axis name
    return None
  return AXIS
