"""The baselines of Sort-of-CLEVR: A simple neural network module for relational reasoning (Santoro et al. 2017,
arXiv:1706.01427), its CNN+MLP, and the question's words alone.

Each takes a batch of N images with K questions each: 'image' [N,h,w,3] uint8 and 'question' [N,K,L] int (0 = padding),
and gives 'answers' [N*K,A], logits. A question is read as the set of its words. The Relation Network also takes objects
that are known, 'regions' [N,R,F] float and 'boxes' [N,R,4], in the image's place (as the paper's state descriptions,
section 5.1): their pairs are far fewer than those of cells.

Differs from the paper: sizes, norms and dropout are those of the public reimplementation (kimhc6028/relational-
networks, which has 256 units where the paper has 2,000), a question is the set of its words in place of 11 bits (colour
and kind), and dropout is off in tests, where the reimplementation leaves it on.

P grid cells or regions, F features of one, W the set of a question's words.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from mmjax.encoders.image import grid_boxes, to_float
from mmjax.errors import UserError
from mmjax.layers.blocks import batch_norm


def word_set(question: jax.Array, vocab: int) -> jax.Array:
  """question [N,K,L] int -> [N,K,vocab] of 0 and 1, whatever the words' order; the padding is no word."""
  return jax.nn.one_hot(question, vocab).max(-2).at[..., 0].set(0)


class Cells(nn.Module):
  """Four convolutions of 24 kernels, stride 2, each with ReLU and batch norm: [N,h,w,3] uint8 -> [N,y,x,24]."""

  channels: tuple[int, ...] = (24, 24, 24, 24)

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
    x = to_float(image)
    for n, size in enumerate(self.channels):
      x = nn.relu(nn.Conv(size, (3, 3), (2, 2), name=f'conv{n}')(x))
      x = batch_norm(train, name=f'norm{n}')(x)
    return x


class Head(nn.Module):
  """f of eq. 1: two layers of `width`, dropout, and the answers' scores. [...,F] -> [...,A]."""

  answers: int
  width: int
  dropout: float

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    for name in ('f0', 'f1'):
      x = nn.relu(nn.Dense(self.width, name=name)(x))
    return nn.Dense(self.answers, name='score')(nn.Dropout(self.dropout, deterministic=not train)(x))


class RelationNetwork(nn.Module):
  """Eq. 1: f of the sum over all pairs of objects of g(object, other, question).

  Objects are the cells of the grid, or the regions, each with the place of its centre, in -1..1 times `place`: beside
  the many pixels of a region a place of -1..1 is hardly seen. The first layer of g is split into its three parts, which
  gives the same sums with P times fewer products.
  """

  num_answers: int
  vocab: int
  width: int = 256
  depth: int = 4  # layers of g
  dropout: float = 0.5
  place: float = 1.0

  @nn.compact
  def __call__(self, batch: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
    if 'regions' in batch:
      seen, boxes = batch['regions'], batch['boxes']
    else:
      cells = Cells(name='cells')(batch['image'], train=train)
      seen, boxes = rearrange(cells, 'N y x F -> N (y x) F'), grid_boxes(*cells.shape[1:3])
    place = self.place * jnp.broadcast_to(boxes[..., :2] + boxes[..., 2:] - 1, (*seen.shape[:2], 2))
    objects = jnp.concatenate([seen, place], -1)
    words = word_set(batch['question'], self.vocab)
    first = nn.Dense(self.width, name='g0_first')(objects)[:, None, :, None]
    second = nn.Dense(self.width, use_bias=False, name='g0_second')(objects)[:, None, None]
    asked = nn.Dense(self.width, use_bias=False, name='g0_question')(words)[:, :, None, None]
    x = nn.relu(first + second + asked)  # [N,K,P,P,width]
    for n in range(1, self.depth):
      x = nn.relu(nn.Dense(self.width, name=f'g{n}')(x))
    x = rearrange(x.sum((2, 3)), 'N K D -> (N K) D')
    return {'answers': Head(self.num_answers, self.width, self.dropout, name='f')(x, train=train)}


class ConvMlp(nn.Module):
  """CNN+MLP: all cells and the question side by side into the same head."""

  num_answers: int
  vocab: int
  width: int = 256
  dropout: float = 0.5

  @nn.compact
  def __call__(self, batch: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
    if 'image' not in batch:
      raise UserError("CNN+MLP: found no image, expected data.setting 'pixels'")
    words = word_set(batch['question'], self.vocab)
    cells = rearrange(Cells(name='cells')(batch['image'], train=train), 'N y x F -> N (y x F)')
    cells = jnp.broadcast_to(cells[:, None], (*words.shape[:2], cells.shape[-1]))
    x = rearrange(jnp.concatenate([cells, words], -1), 'N K F -> (N K) F')
    return {'answers': Head(self.num_answers, self.width, self.dropout, name='f')(x, train=train)}


class BagOfWords(nn.Module):
  """The question's words alone, into the same head: what can be known without the picture."""

  num_answers: int
  vocab: int
  width: int = 256
  dropout: float = 0.5

  @nn.compact
  def __call__(self, batch: Mapping[str, jax.Array], *, train: bool) -> dict[str, jax.Array]:
    words = rearrange(word_set(batch['question'], self.vocab), 'N K W -> (N K) W')
    return {'answers': Head(self.num_answers, self.width, self.dropout, name='f')(words, train=train)}
