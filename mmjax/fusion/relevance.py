"""What an output rests on: attention weighed by its gradient (Chefer et al. 2021, arXiv:2103.15679).

Attention says where a layer looked; times the gradient of one number by it, averaged over heads where it is positive,
how much that number gained by looking there (equation 5). Layers are chained from the input on (equations 6 to 11).

B batch, H heads, Q queries, K keys, N layers of a scanned group.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.fusion.layers import MAPS, TOUCH
from mmjax.fusion.schedule import edge, parse

Relevance = dict[tuple[str, str], jax.Array]  # (stream, stream) -> [B,Q,K]: what each token of one has of the other


def maps_and_gradients(
  apply: Callable[[Mapping], tuple[Any, Mapping]], number: Callable[[Any], jax.Array]
) -> tuple[Any, Mapping, Mapping]:
  """(what the model says, its attention maps, the gradient of a number by them).

  apply: more collections -> (output, captured), as `lambda more: model.apply({**variables, **more}, ...,
  mutable=[MAPS])`; number: output -> the number [B], of each row by itself.
  """
  _, shapes = jax.eval_shape(lambda: apply({}))
  nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes[MAPS])

  def score(touch):
    out, captured = apply({TOUCH: touch})
    return number(out).sum(), (out, captured[MAPS])

  gradient, (out, maps) = jax.grad(score, has_aux=True)(nothing)
  return out, maps, gradient


def chained(maps: Mapping, gradients: Mapping, schedule: str, lengths: Mapping[str, int]) -> Relevance:
  """The relevance of every token for every other, after the whole stack.

  maps, gradients: of one stack, {group: {'sub0/t<tv': [N,B,H,Q,K]}}, or without N of an unrolled one; lengths: tokens
  of each stream. An item that reads its own stream too is one softmax over all it reads, and follows the rule of
  self-attention (equations 6 and 7); one that reads others alone, that of cross-attention (10 and 11).
  """
  batch = jax.tree.leaves(maps)[0].shape[-4]
  streams = list(lengths)
  found: Relevance = {
    (a, b): jnp.broadcast_to(jnp.eye(lengths[a], lengths[b]) * (a == b), (batch, lengths[a], lengths[b]))
    for a in streams
    for b in streams
  }
  for g, group in enumerate(parse(schedule).groups):
    for n in range(group.repeats):
      scanned = f'group{g}' in maps
      own = lambda tree, name, g=g, n=n, scanned=scanned: (
        tree[f'group{g}'][name][n] if scanned else tree[f'group{g}_{n}'][name]
      )
      for s, sub in enumerate(group.subs):
        before = found
        for item in sub.items:
          if item.sources:
            name = f'sub{s}/{edge(item)}'
            gain = jax.nn.relu(own(maps, name) * own(gradients, name)).mean(1)  # equation 5
            found = found | _read(before, item.reader, [source.stream for source in item.sources], gain, lengths)
  return found


def grad_cam(grid: jax.Array, gradient: jax.Array) -> jax.Array:
  """What a number has of the cells of a convolutional grid [B,y,x,F], by its gradient: [B,y,x], nowhere negative.

  Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
  """
  return jax.nn.relu((grid * gradient.mean((1, 2), keepdims=True)).sum(-1))


def _read(found: Relevance, reader: str, sources: list[str], gain: jax.Array, lengths: Mapping[str, int]) -> Relevance:
  """What the reader has after it read its sources, by gain [B,Q,K] of all of them in a row."""
  parts, start = [], 0
  for source in sources:
    parts.append((source, gain[..., start : start + lengths[source]]))
    start += lengths[source]
  if reader in sources:
    return {(reader, b): found[reader, b] + sum(part @ found[source, b] for source, part in parts) for b in lengths}
  new = {(reader, reader): found[reader, reader]}
  for source, part in parts:
    context = jnp.swapaxes(normed(found[reader, reader]), 1, 2) @ part @ normed(found[source, source])
    new[reader, source] = found[reader, source] + context
    new[reader, reader] += part @ found[source, reader]
  return new


def normed(own: jax.Array) -> jax.Array:
  """Equations 8 and 9 of [B,K,K]: rows of what self-attention mixed in, with sum 1, beside the token itself."""
  eye = jnp.eye(own.shape[-1])
  mixed = own - eye
  total = mixed.sum(-1, keepdims=True)
  return jnp.where(total > 0, mixed / jnp.where(total > 0, total, 1), 0) + eye
