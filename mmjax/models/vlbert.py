"""VL-BERT: Pre-training of Generic Visual-Linguistic Representations (Su et al. 2020, arXiv:1908.08530).

BERT over words and regions in one sequence, in which every token has a linguistic and a visual part (section 3.2).

B texts and images, L text, R regions (the last one the whole image), F features, D width, V vocabulary, A answers,
O object classes.

The embedding is held to VOLTA's VL-BERT (Bugliarello et al. 2021, arXiv:2011.15124; models/volta.py). The model around
it is from the paper, unverified.
Differs from the paper: the detector that the authors train along with it is not part of it; regions come with features.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack
from mmjax.layers.blocks import Transform, made_of
from mmjax.layers.embed import Embed

OBJECT = 2  # the segment of regions; words have 0 and 1


class VLEmbed(nn.Module):
  """Figure 2: token + visual + position + segment embedding, layer norm, dropout.

  text [B,L] int (0 = padding), regions [B,R,F] float, boxes [B,R,4] float (x1 y1 x2 y2 in 0..1), types [B,L] int.
  A word's visual part is that of the whole image; a region's linguistic part is one learnt vector, the whole image's
  another ([END]). All regions share the position after the text, padding stands behind them. A region of zeros is
  masked: it gets a learnt feature. batch_end: VOLTA's code, which moves the words behind the end of the shortest text
  of a batch in every row, so that a row's outputs depend on its neighbours.
  Returns {'t': [B,L,D], 'v': [B,R,D]}.
  """

  vocab: int
  positions: int
  width: int
  coordinates: int  # sines and as many cosines for each of a box's four numbers
  types: int = 3
  eps: float = 1e-12
  dropout: float = 0.1
  word_padding: int = 0
  init_std: float = 0.02
  batch_end: bool = False

  def setup(self):
    table = partial(Embed, width=self.width, init_std=self.init_std)
    self.word = table(self.vocab, padding=self.word_padding)
    self.position, self.type = table(self.positions), table(self.types)
    self.object, self.end = table(1), table(1)
    self.look = nn.Dense(self.width, kernel_init=nn.initializers.xavier_uniform())
    zeros = nn.initializers.zeros  # so that a text-only BERT's embeddings are unchanged at first
    self.word_norm, self.object_norm = (nn.LayerNorm(epsilon=self.eps, scale_init=zeros) for _ in range(2))
    self.norm, self.drop = nn.LayerNorm(epsilon=self.eps), nn.Dropout(self.dropout)

  @nn.compact
  def __call__(
    self, text: jax.Array, regions: jax.Array, boxes: jax.Array, types: jax.Array | None = None, *, train: bool
  ) -> dict[str, jax.Array]:
    masked = self.param('masked', nn.initializers.zeros, (regions.shape[-1],))
    regions = jnp.where((regions == 0).all(-1, keepdims=True), masked, regions)
    seen = nn.relu(self.look(self.drop(jnp.concatenate([sines(boxes, self.coordinates), regions], -1), not train)))
    end = (text != 0).sum(1, keepdims=True)  # [B,1]
    at = jnp.arange(text.shape[1])[None]
    t = self.word(text) + self.word_norm(seen[:, -1:])
    t += self.position(jnp.where(at >= (end.min() if self.batch_end else end), at + regions.shape[1], at))
    t += self.type(jnp.zeros_like(text) if types is None else types)
    last = jnp.arange(regions.shape[1]) == regions.shape[1] - 1
    v = jnp.where(last[:, None], self.end(jnp.zeros((), int)), self.object(jnp.zeros((), int)))
    v = v + self.object_norm(seen) + self.position(end + last) + self.type(jnp.full((), OBJECT))
    return {s: self.drop(self.norm(x), not train) for s, x in {'t': t, 'v': v}.items()}


class VLBERT(nn.Module):
  """text [B,L] int (0 = padding), regions [B,R,F] float, boxes [B,R,4] float (x1 y1 x2 y2 in 0..1), types [B,L] int.

  answer_at [B] int: the word that stands for the answer, a [MASK] (section 4.2, VQA).
  Returns 't' [B,L,D], 'v' [B,R,D] and, all of them logits: where num_answers is not 0, 'answers' [B,A]; with
  pretrain=True (section 3.3) 'words' [B,L,V] and 'objects' [B,R,O], the classes of regions whose pixels were hidden.
  """

  num_answers: int = 0
  vocab: int = 30522
  positions: int = 512
  types: int = 3
  coordinates: int = 256
  schedule: str = schedules.SINGLE_STREAM
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  init_std: float = 0.02
  pretrain: bool = False
  num_objects: int = 1601
  scan: bool = True

  @nn.compact
  def __call__(
    self,
    text: jax.Array,
    regions: jax.Array,
    boxes: jax.Array,
    regions_mask: jax.Array | None = None,
    types: jax.Array | None = None,
    answer_at: jax.Array | None = None,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    embed = made_of(VLEmbed, self, 'embed')
    mask = {'t': text != 0} | ({} if regions_mask is None else {'v': regions_mask})
    out = x = made_of(FusionStack, self, 'encoder')(embed(text, regions, boxes, types, train=train), mask, train=train)
    score = lambda size, name: nn.Dense(size, kernel_init=nn.initializers.normal(self.init_std), name=name)
    transform = lambda name: Transform(self.width, self.eps, self.activation, self.init_std, name=name)
    if self.num_answers:
      if answer_at is None:
        raise UserError('answer_at: found none, expected the position [B] of the word that stands for the answer')
      read = jnp.take_along_axis(x['t'], answer_at[:, None, None], 1)[:, 0]
      out = out | {'answers': score(self.num_answers, 'answer_score')(transform('answer')(read))}
    if self.pretrain:
      bias = self.param('word_bias', nn.initializers.zeros, (self.vocab,))
      out = out | {'words': embed.word.attend(transform('masked_word')(x['t'])) + bias}
      out = out | {'objects': score(self.num_objects, 'object_score')(transform('masked_object')(x['v']))}
    return out


def sines(boxes: jax.Array, number: int) -> jax.Array:
  """[B,R,4] -> [B,R,8 number]: centre and size in percent, each as sines and cosines of `number` wave lengths."""
  low, high = boxes[..., :2], boxes[..., 2:4]
  place = jnp.concatenate([(low + high) / 2, high - low], -1) * 100
  angle = place[..., None] / 1000 ** (jnp.arange(number) / number)
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1).reshape(*boxes.shape[:-1], -1)
