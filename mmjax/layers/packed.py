"""Rows of unequal length side by side: what is filled up is left out of all work that goes by positions.

A batch of texts is as long as its longest. Products with weights, norms and dropout go over positions alone, so that
they can do with those that hold something, P parts of T positions one behind the other; attention, which goes over
rows, is given its rows back. (Where texts are packed in one row, as in Unified-IO 2, arXiv:2312.17172, masks of
segments keep them apart; here none is needed.)

B rows of L positions, in P parts of B / P rows (as many as devices share the batch); T positions of a part, those that
are left of it filled up.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.errors import UserError

ROOM = 64  # T is a multiple of it: as many programs are compiled as there are lengths


def places(mask: np.ndarray, parts: int = 1, room: int = ROOM) -> np.ndarray:
  """Where the positions of a batch that hold something lie, mask [B,L] bool: int32 [P,T], the number of a position in
  its part, and B / P * L where it only fills up. Made where batches are.

  Raises UserError where P does not divide B.
  """
  rows, length = mask.shape
  if rows % parts:
    raise UserError(f'{rows} rows in {parts} parts: expected a number of rows that these divide')
  held = [np.flatnonzero(part) for part in mask.reshape(parts, -1)]
  most = max(len(part) for part in held)
  found = np.full((parts, max(-(-most // room), 1) * room), rows // parts * length, np.int32)
  for row, part in zip(found, held, strict=True):
    row[: len(part)] = part
  return found


class Packed(NamedTuple):
  """A stream's `places` [P,T], and the inverse [P,B/P*L]: which of the T a position is, T where it holds nothing."""

  places: jax.Array
  back: jax.Array
  rows: int

  def pack(self, x: jax.Array) -> jax.Array:
    """[B,L,...] -> [P,T,...], 0 where a position only fills up."""
    parts = x.reshape(len(self.places), -1, *x.shape[2:])
    return _taken(parts, self.places, self.back)

  def unpack(self, x: jax.Array) -> jax.Array:
    """[P,T,...] -> [B,L,...], 0 where a position holds nothing."""
    found = _taken(x, self.back, self.places)
    return found.reshape(self.rows, -1, *x.shape[2:])


def packed(mask: jax.Array, places: jax.Array) -> Packed:
  """By the mask [B,L] bool of a stream and its `places`. Raises UserError where they are not of one batch."""
  parts, held = places.shape
  if len(mask) % parts:
    raise UserError(f'packed in {parts} parts: expected a divisor of the {len(mask)} rows')
  size = mask.size // parts
  inverse = lambda at: jnp.full(size, held, at.dtype).at[at].set(jnp.arange(held, dtype=at.dtype), mode='drop')
  return Packed(places, jax.vmap(inverse)(places), len(mask))


@jax.custom_vjp
def _taken(x: jax.Array, at: jax.Array, back: jax.Array) -> jax.Array:
  """x [P,N,...] at [P,M] -> [P,M,...], 0 where there is none. `back` is the inverse of `at`, so that the gradient is
  taken as well, and nothing is added up."""
  return jax.vmap(lambda part, where: part.at[where].get(mode='fill', fill_value=0))(x, at)


_taken.defvjp(
  lambda x, at, back: (_taken(x, at, back), (at, back)),
  lambda both, g: (_taken(g, both[1], both[0]), None, None),
)
