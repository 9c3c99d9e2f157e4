"""Regions of an image (detected boxes and their features) -> tokens.

B batch, R regions, F features, H heads, D width.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.layers.attention import LOWEST
from mmjax.layers.blocks import activation


def box_numbers(boxes: jax.Array, count: int) -> jax.Array:
  """Corners [...,4], x1 y1 x2 y2 in 0..1, as a model reads a box: as they are (4), with the area behind (5, ViLBERT),
  or with width, height and area (7, UNITER)."""
  size = boxes[..., 2:] - boxes[..., :2]
  area = size.prod(-1, keepdims=True)
  return jnp.concatenate([boxes, *{4: [], 5: [area], 7: [size, area]}[count]], -1)


class RegionEmbed(nn.Module):
  """LXMERT's object embedding (Tan and Bansal 2019, eq. 1-3): the mean of two layer norms, then dropout.

  regions [B,R,F] float, boxes [B,R,4] float, x1 y1 x2 y2 in 0..1 -> [B,R,D].
  """

  width: int
  eps: float = 1e-12
  dropout: float = 0.1
  init_std: float = 0.02

  @nn.compact
  def __call__(self, regions: jax.Array, boxes: jax.Array, *, train: bool) -> jax.Array:
    dense = partial(nn.Dense, self.width, kernel_init=nn.initializers.normal(self.init_std))
    norm = partial(nn.LayerNorm, epsilon=self.eps)
    look = norm(name='feature_norm')(dense(name='feature')(regions))
    place = norm(name='box_norm')(dense(name='box')(boxes))
    return nn.Dropout(self.dropout, deterministic=not train)((look + place) / 2)


class BoxGeometry(nn.Module):
  """A bias on the attention between regions from where they lie to one another, a vector of it for each head.

  boxes [B,R,4] float, x1 y1 x2 y2 in 0..1 -> [B,H,R,R], reader first. In the spirit of object-relation networks
  (Hu et al. 2018, arXiv:1711.11575, eq. 5): features of the pair are dx, dy, their distance and its logarithm, and
  a score is `gain` times a linear map of these and of a small hidden layer over them. The bias is the logarithm of the
  scores' softmax over the other regions, times their number, and 0 for the region itself: it deals out among the others
  what they get, and leaves how much a reader attends to itself, to them and to the words to the model. A free bias
  lets heads of VisualBERT turn to the words alone, or to the region itself, as its own nearest neighbour, and some
  seeds then never learn to read the nearest one. Not part of any model here as published.
  """

  heads: int
  hidden: int = 32
  gain: float = 8.0

  @nn.compact
  def __call__(self, boxes: jax.Array) -> jax.Array:
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    apart = centre[:, None, :] - centre[:, :, None]  # [B,reader,read,2]
    distance = jnp.sqrt((apart**2).sum(-1, keepdims=True) + 1e-8)
    pair = jnp.concatenate([apart, distance, jnp.log(distance + 0.05)], -1)
    deep = activation('gelu')(nn.Dense(self.hidden, name='hidden')(pair))
    scores = self.gain * jnp.moveaxis(nn.Dense(self.heads, name='bias')(jnp.concatenate([pair, deep], -1)), -1, 1)
    itself, others = jnp.eye(boxes.shape[1], dtype=bool), max(boxes.shape[1] - 1, 1)
    return jnp.where(itself, 0.0, jax.nn.log_softmax(jnp.where(itself, LOWEST, scores)) + jnp.log(others))
