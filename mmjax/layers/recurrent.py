"""Recurrence over time: LSTM (Hochreiter and Schmidhuber 1997) and GRU (Cho et al. 2014, arXiv:1406.1078), masked.

The cells are flax's. B batch, T time, F features, D width.

Differs from the paper: GRU resets what the state says after its projection, as cuDNN and torch do (Cho et al., before).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.errors import UserError, nearest

CELLS = {'lstm': nn.OptimizedLSTMCell, 'gru': nn.GRUCell}


class Step(nn.Module):
  """One step in time: (state, (x [B,F], mask [B] bool)) -> (state, [B,D]). A masked one leaves the state as it was."""

  kind: str
  width: int

  @nn.compact
  def __call__(self, state, given: tuple[jax.Array, jax.Array]):
    x, there = given
    new, _ = CELLS[self.kind](self.width, name='cell')(state, x)
    state = jax.tree.map(lambda new, old: jnp.where(there[:, None], new, old), new, state)
    return state, state[1] if self.kind == 'lstm' else state  # an LSTM's state is its memory, and what it shows


class Recurrent(nn.Module):
  """Layers of LSTM or GRU: x [B,T,F] float, mask [B,T] bool (True = is there) -> [B,T,D], or, both_ways, [B,T,2D].

  A masked step changes no other one, in whichever direction and wherever it stands, and shows the state before it: so
  [:, -1] is what is known of the whole series, and of the half that goes backwards (the second) [:, 0]. dropout: of
  what a layer gives to the next, as in torch. Raises UserError for an unknown kind and a mask that does not fit.
  """

  kind: str
  width: int
  layers: int = 1
  both_ways: bool = False
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> jax.Array:
    if self.kind not in CELLS:
      raise UserError(f'kind: found {self.kind!r}, expected one of {tuple(CELLS)}{nearest(self.kind, CELLS)}')
    check_mask(x, mask)
    zero = jnp.zeros((len(x), self.width), x.dtype)
    begin = (zero, zero) if self.kind == 'lstm' else zero
    for n in range(self.layers):
      if n:
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
      found = []
      for way in ('forward', 'backward')[: 1 + self.both_ways]:
        scanned = nn.scan(
          Step,
          variable_broadcast='params',
          split_rngs={'params': False},
          in_axes=1,
          out_axes=1,
          reverse=way == 'backward',
        )
        found.append(scanned(self.kind, self.width, name=f'{way}{n}')(begin, (x, mask))[1])
      x = jnp.concatenate(found, -1)
    return x


def check_mask(x: jax.Array, mask: jax.Array) -> None:
  """Raises UserError where mask is no bool [B,T] for x [B,T,F]."""
  if mask.dtype != bool or mask.shape != x.shape[:2]:
    raise UserError(f'mask: found {mask.dtype} {mask.shape}, expected bool {x.shape[:2]} (True = is there)')
