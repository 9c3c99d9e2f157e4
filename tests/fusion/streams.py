"""Small stacks and random streams, and the layers they must equal, written out in plain jnp."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack
from tests.variables import drawn

TOKENS = 4  # of every stream: equal shapes are compiled once
NAMED = {name: re.sub(r'\d+\*', '2*', text) for name, text in vars(schedules).items() if name.isupper()}  # two deep


def stack(schedule, **given):
  """A stack small enough for a test, unrolled, so that it runs without being compiled first."""
  return FusionStack(schedule, **({'width': 8, 'heads': 2, 'mlp': 12, 'init_std': 0.3, 'scan': False} | given))


def streams(names, seed=0, rows=2, width=8):
  """{stream: [rows,TOKENS,width]}; rows and width: one number, or one per stream."""
  number = lambda value, s: value if isinstance(value, int) else value[s]
  rng = np.random.default_rng(seed)
  return {s: jnp.asarray(rng.normal(size=(number(rows, s), TOKENS, number(width, s))), jnp.float32) for s in names}


def start(module, x, seed=0):
  return {'params': drawn(module, x, std=module.init_std, seed=seed, train=False)['params']}


def layer_norm(p, x):
  return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-12) * p['scale'] + p['bias']


def dense(p, x):
  return x @ p['kernel'] + p['bias']


def read(p, query, source, heads, seen=None, source_owner=None):
  """Multi-head attention of `query` [B,Q,D] over `source` [B,K,D], head by head.

  p: the reader's weights, which make keys and values too, unless `source_owner` does; seen [B,1|Q,K].
  """
  s = source_owner or p
  q, k, v = dense(p['query'], query), dense(s['key'], source), dense(s['value'], source)
  size = q.shape[-1] // heads
  parts = []
  for h in range(heads):
    one = slice(h * size, (h + 1) * size)
    scores = q[..., one] @ jnp.swapaxes(k[..., one], 1, 2) / size**0.5
    if seen is not None:
      scores = jnp.where(seen, scores, -jnp.inf)
    parts.append(jax.nn.softmax(scores, -1) @ v[..., one])
  return dense(p['out'], jnp.concatenate(parts, -1))


def feed_forward(p, x):
  return dense(p['ffn']['project'], jax.nn.gelu(dense(p['ffn']['expand'], x), approximate=False))


def bert_layer(p, x, heads, seen=None):
  x = layer_norm(p['norm'], x + read(p, x, x, heads, seen))
  return layer_norm(p['ffn_norm'], x + feed_forward(p, x))
