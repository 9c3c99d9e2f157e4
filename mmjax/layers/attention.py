"""Attention: one softmax over keys (Vaswani et al. 2017, arXiv:1706.03762, section 3.2), and the masks it reads.

B batch, Q queries, K keys, H heads, C head size.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mmjax.errors import UserError, nearest

MASKING = ('replace', 'add')
LOWEST = jnp.finfo(jnp.float32).min  # the score of what may not be read


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  mask: jax.Array | None = None,
  *,
  bias: jax.Array | None = None,
  masking: str = 'replace',
  dropout: Callable[[jax.Array], jax.Array] = lambda weights: weights,
) -> tuple[jax.Array, jax.Array]:
  """Scaled dot-product attention (eq. 1). Softmax in float32.

  q [B,Q,H,C], k and v [B,K,H,C]; mask [B|1,1|Q,K] bool, True where the key may be read, None where all may;
  bias [B|1,H|1,Q,K] float, added to the scores. `dropout` is applied to the weights that read v, not to those returned.
  Returns (values [B,Q,H,C], weights [B,H,Q,K] float32).

  masking 'replace' puts the lowest finite number in place of a masked score: a query that may read nothing returns the
  mean of v. 'add' adds -10000 to it, as BERT's, LXMERT's and VisualBERT's own code does: the same for every query that
  may read something, softmax(scores) for one that may read nothing.
  Raises UserError for a mask that is not bool and for an unknown rule.
  """
  if masking not in MASKING:
    raise UserError(f'masking: found {masking!r}, expected one of {MASKING}{nearest(masking, MASKING)}')
  scores_BHQK = jnp.einsum('BQHC,BKHC->BHQK', q * q.shape[-1] ** -0.5, k).astype(jnp.float32)
  if bias is not None:
    scores_BHQK += bias
  if mask is not None:
    if mask.dtype != bool:
      raise UserError(f'mask: found dtype {mask.dtype}, expected bool (True = may be read)')
    if masking == 'replace':
      scores_BHQK = jnp.where(mask[:, None], scores_BHQK, LOWEST)
    else:
      scores_BHQK += jnp.where(mask[:, None], 0.0, -10000.0)
  weights_BHQK = jax.nn.softmax(scores_BHQK)
  mixed_BHQC = dropout(weights_BHQK).astype(v.dtype) @ v.swapaxes(1, 2)  # on a CPU faster than an einsum to BQHC
  return mixed_BHQC.swapaxes(1, 2), weights_BHQK


def causal(length: int, rows: int = 0, at: jax.Array | int = 0) -> jax.Array:
  """The mask of a stream that reads its own past and present only: bool [1, length, rows].

  rows: of keys, of which the queries are those from row `at` on; as many as queries where not given.
  """
  return (jnp.arange(rows or length) <= at + jnp.arange(length)[:, None])[None]
