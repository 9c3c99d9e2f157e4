"""Attention: one softmax over keys (Vaswani et al. 2017, arXiv:1706.03762, section 3.2), and the masks it reads.

B batch, Q queries, K keys, H heads, C head size.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from mmjax.errors import UserError, nearest
from mmjax.layers import ways

MASKING = ('replace', 'add')
LOWEST = jnp.finfo(jnp.float32).min  # the score of what may not be read
HALF = (jnp.bfloat16, jnp.float16)  # what cuDNN's attention takes
CUDNN_HEAD = 128  # ... and the largest size of a head


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  mask: jax.Array | None = None,
  *,
  bias: jax.Array | None = None,
  masking: str = 'replace',
  weigh: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
  """Scaled dot-product attention (eq. 1): values [B,Q,H,C]. Softmax in float32.

  q [B,Q,H,C], k and v [B,K,H,C]; mask [B|1,1|Q,K] bool, True where the key may be read, None where all may;
  bias [B|1,H|1,Q,K] float, added to the scores. weigh: what the weights [B,H,Q,K] float32 go through before they read
  v, such as dropout.

  How it is computed says layers/ways.py: 'xla' and 'cudnn' are those of `jax.nn.dot_product_attention`, the latter in a
  half precision on a GPU alone, fused, so that no weights are ever in memory; 'auto' is cuDNN's where it can be, else
  the products below, which are XLA's as well and on a CPU faster. Weights that go through something need these.
  masking 'replace' puts the lowest finite number in place of a masked score: a query that may read nothing returns the
  mean of v. 'add' adds -10000 to it, as BERT's, LXMERT's and VisualBERT's own code does: the same for every query that
  may read something, softmax(scores) for one that may read nothing.
  Raises UserError for a mask that is not bool, an unknown rule, and 'cudnn' where it cannot be.
  """
  if masking not in MASKING:
    raise UserError(f'masking: found {masking!r}, expected one of {MASKING}{nearest(masking, MASKING)}')
  if mask is not None and mask.dtype != bool:
    raise UserError(f'mask: found dtype {mask.dtype}, expected bool (True = may be read)')
  how = ways.now().attention
  if how == 'cudnn' or (how == 'auto' and weigh is None and bias is None and not _not_cudnn(q)):
    if why := _not_cudnn(q) or ('weights that are dropped or looked at' if weigh is not None else ''):
      raise UserError(f"parallel.attention='cudnn': found {why}; expected bfloat16, a GPU, no dropout of weights")
    return _library('cudnn', q, k, v, mask, bias, masking)
  if how == 'xla' and weigh is None:
    return _library('xla', q, k, v, mask, bias, masking)
  scores_BHQK = jnp.einsum('BQHC,BKHC->BHQK', q * q.shape[-1] ** -0.5, k).astype(jnp.float32)
  if bias is not None:
    scores_BHQK += bias
  if mask is not None:
    if masking == 'replace':
      scores_BHQK = jnp.where(mask[:, None], scores_BHQK, LOWEST)
    else:
      scores_BHQK += jnp.where(mask[:, None], 0.0, -10000.0)
  weights_BHQK = jax.nn.softmax(scores_BHQK)
  weights_BHQK = weights_BHQK if weigh is None else weigh(weights_BHQK)
  mixed_BHQC = weights_BHQK.astype(v.dtype) @ v.swapaxes(1, 2)  # on a CPU faster than an einsum to BQHC
  return mixed_BHQC.swapaxes(1, 2)


def _not_cudnn(q: jax.Array) -> str:
  """Why cuDNN cannot be asked, or ''."""
  if jax.default_backend() != 'gpu':
    return f'a {jax.default_backend().upper()}'
  if q.dtype not in HALF:
    return f'{q.dtype}'
  return '' if q.shape[-1] <= CUDNN_HEAD and q.shape[-1] % 8 == 0 else f'heads of {q.shape[-1]}'


def _library(
  how: Literal['xla', 'cudnn'], q: jax.Array, k: jax.Array, v: jax.Array, mask: Any, bias: Any, masking: str
) -> jax.Array:
  """Attention by an implementation of jax.nn, which takes masks that are as large as the scores alone from cuDNN."""
  shape = len(q), 1, q.shape[1], k.shape[1]
  seen = None if mask is None else jnp.broadcast_to(mask[:, None], shape)
  if seen is not None and masking == 'add':
    added = jnp.where(seen, 0.0, -10000.0)
    bias, seen = added if bias is None else bias + added, None
  if bias is not None:
    bias = jnp.broadcast_to(bias, (len(q), q.shape[2], *shape[2:])).astype(q.dtype if how == 'cudnn' else bias.dtype)
  return jax.nn.dot_product_attention(q, k, v, bias, seen, implementation=how)


def causal(length: int, rows: int = 0, at: jax.Array | int = 0) -> jax.Array:
  """The mask of a stream that reads its own past and present only: bool [1, length, rows].

  rows: of keys, of which the queries are those from row `at` on; as many as queries where not given.
  """
  return (jnp.arange(rows or length) <= at + jnp.arange(length)[:, None])[None]
