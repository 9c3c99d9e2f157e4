"""Time series -> patches. B series, T steps, C channels, N patches, P steps of a patch."""

import jax
import jax.numpy as jnp

from mmjax.errors import UserError

SCALINGS = ('std', 'mean', 'none')


def scaled(series: jax.Array, seen: jax.Array, how: str, least: float = 1e-5) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Each channel of a series [B,T,C] by its own steps that were seen, bool [B,T,C]: (scaled, location, scale [B,1,C]).

  how: 'std' takes the mean off and divides by the deviation, 'mean' divides by the mean of absolute values, 'none' does
  neither. least: of a variance, or of a mean. Raises UserError for another.
  """
  if how not in SCALINGS:
    raise UserError(f'scaling: found {how!r}, expected one of {SCALINGS}')
  count = jnp.maximum(seen.sum(1, keepdims=True), 1.0)
  zero, one = jnp.zeros_like(series[:, :1]), jnp.ones_like(series[:, :1])
  if how == 'std':
    location = (series * seen).sum(1, keepdims=True) / count
    scale = jnp.sqrt((((series - location) * seen) ** 2).sum(1, keepdims=True) / count + least)
    return (series - location) / scale, location, scale
  if how == 'mean':
    scale = jnp.maximum((jnp.abs(series) * seen).sum(1, keepdims=True) / count, least)
    return series / scale, zero, scale
  return series, zero, one


def patches(series: jax.Array, length: int, stride: int) -> jax.Array:
  """series [B,T,C] -> [B,C,N,P], patches `stride` steps apart; steps that fill no patch are left out at the start.

  Raises UserError for a series that is shorter than a patch.
  """
  steps = series.shape[1]
  if steps < length:
    raise UserError(f'series of {steps} steps: shorter than a patch of {length}')
  count = (steps - length) // stride + 1
  first = steps - length - stride * (count - 1)
  at = first + stride * jnp.arange(count)[:, None] + jnp.arange(length)
  return series.swapaxes(1, 2)[:, :, at]
