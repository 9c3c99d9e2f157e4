"""LiT: Zero-Shot Transfer with Locked-image text Tuning (Zhai et al. 2022, arXiv:2111.07991): CLIP of towers that know.

What learnt before stays as it is; here both towers do, and only what reads a vector off each of them is learnt. So each
image and each text passes its tower once, and what is learnt from is what the towers made of them (`Known`).

B texts, N images, h x w pixels, L words, D width, F features, E size of the shared space.

Differs from the paper: the text tower is locked too, of sentences, not of captions; the image tower is a convolutional
network.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.encoders import efficientnet
from mmjax.encoders.efficientnet import EfficientNetLite
from mmjax.fusion.layers import watched
from mmjax.layers.blocks import mean_there, unit
from mmjax.models.bert import BERT


class Read(nn.Module):
  """What a tower knows -> a vector of the shared space: [B,F] -> [B,E]. dropout: of features, in training."""

  out: int
  dropout: float = 0.0

  @nn.compact
  def __call__(self, features: jax.Array, *, train: bool) -> jax.Array:
    x = nn.LayerNorm(name='norm')(features)
    return nn.Dense(self.out, use_bias=False, name='project')(nn.Dropout(self.dropout, deterministic=not train)(x))


class Known(nn.Module):
  """A tower whose features were computed before: features [B,F] -> (the same, [B,E]). A mask says nothing."""

  out: int
  dropout: float = 0.0

  @nn.compact
  def __call__(self, features: jax.Array, mask: jax.Array | None = None, *, train: bool) -> tuple[jax.Array, jax.Array]:
    return features, Read(self.out, self.dropout, name='read')(features, train=train)


class SentenceTower(nn.Module):
  """text [B,L] int, text_mask [B,L] bool (all where not given) -> ('t' [B,L,D], [B,E]).

  The encoder is one of sentences, whose mean word is what a sentence means (Reimers and Gurevych 2019,
  arXiv:1908.10084, section 3).
  """

  bert: BERT
  out: int = 512

  @nn.compact
  def __call__(
    self, text: jax.Array, text_mask: jax.Array | None = None, *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    x = self.bert(text, text_mask, train=False)['t']
    return x, Read(self.out, name='read')(sentence(x, text_mask), train=train)


class PictureTower(nn.Module):
  """image [N,h,w,3] float, in -1..1 -> ('v' [N,y,x,F] a grid, [N,E]). image: pixels a side."""

  network: EfficientNetLite
  image: int = efficientnet.SIDE
  out: int = 512

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    grid = watched(self, 'grid', self.network(image, train=False)['v'])
    return grid, Read(self.out, name='read')(grid.mean((1, 2)), train=train)


def sentence(words: jax.Array, mask: jax.Array | None = None) -> jax.Array:
  """The mean of words [B,L,D] where mask [B,L], of unit length: [B,D]."""
  return unit(mean_there(words, jnp.ones(words.shape[:2]) if mask is None else mask))
