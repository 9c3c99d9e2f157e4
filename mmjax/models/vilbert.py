"""ViLBERT: Pretraining Task-Agnostic Visiolinguistic Representations (Lu et al. 2019, arXiv:1908.02265).

Two streams of their own widths that meet in co-attention layers: each reads the other's keys and values (section 3.1).
Sizes default to the released model (bert_base_6layer_6conect of the authors' code).

B texts, N images (B a multiple of N: text b asks about image b // (B / N), or image_of[b]), L text, R regions (the
first one the whole image), F features, D width, V vocabulary, A answers, O object classes; T positions of P parts of
the texts (layers/packed.py).

Differs from the paper: nothing. Where paper and code differ (the pooled vectors' product goes through no further
layer; poolers end in ReLU, not tanh) this is the code.
"""

from collections.abc import Mapping
from functools import partial

import jax
from flax import linen as nn
from flax.core import FrozenDict

from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.owner import per_stream
from mmjax.layers.blocks import Pooler, Transform, made_of
from mmjax.layers.embed import TextEmbed

WIDTH: Mapping[str, int] = FrozenDict({'t': 768, 'v': 1024})
HEADS: Mapping[str, int] = FrozenDict({'t': 12, 'v': 8})
MLP: Mapping[str, int] = FrozenDict({'t': 3072, 'v': 1024})


class PlacedRegions(nn.Module):
  """A region is its feature plus its place, normed (section 3.1): regions [B,R,F], boxes [B,R,5] -> [B,R,D]."""

  width: int
  eps: float = 1e-12
  dropout: float = 0.1
  init_std: float = 0.02

  @nn.compact
  def __call__(self, regions: jax.Array, boxes: jax.Array, *, train: bool) -> jax.Array:
    dense = partial(nn.Dense, self.width, kernel_init=nn.initializers.normal(self.init_std))
    x = nn.LayerNorm(epsilon=self.eps, name='norm')(dense(name='feature')(regions) + dense(name='box')(boxes))
    return nn.Dropout(self.dropout, deterministic=not train)(x)


class ViLBERT(nn.Module):
  """text [B,L] int, text_mask [B,L] bool, regions [N,R,F] float, boxes [N,R,5] float: x1 y1 x2 y2 and area, in 0..1;
  image_of [B] int and places [P,T] int, where given: see above.

  Returns 't' [B,L,Dt], 'v' [B,R,Dv], their poolers' 'pooled_t' and 'pooled_v' [B,pooled], 'pooled' (their product) and,
  all of them logits: where num_answers is not 0, 'answers' [B,A] (section 3.2, VQA); with pretrain=True 'words'
  [B,L,V], 'matched' [B,2] (0: text and image belong together) and 'objects' [B,R,O]; with grounding=True 'grounding'
  [B,R]: how well each region fits the expression; with retrieval=True 'alignment' [B]: how well text and image fit, by
  which captions (retrieval) and choices (VCR) are ranked.
  """

  BOX = 5  # numbers of a box: x1 y1 x2 y2, area

  num_answers: int = 0
  vocab: int = 30522
  positions: int = 512
  types: int = 2
  schedule: str = schedules.VILBERT
  width: int | Mapping[str, int] = WIDTH
  heads: int | Mapping[str, int] = HEADS
  mlp: int | Mapping[str, int] = MLP
  pooled: int = 1024
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  masking: str = 'replace'
  word_padding: int = 0
  init_std: float = 0.02
  pretrain: bool = False
  num_objects: int = 1601
  grounding: bool = False
  retrieval: bool = False
  scan: bool = True

  @nn.compact
  def __call__(
    self,
    text: jax.Array,
    text_mask: jax.Array,
    regions: jax.Array,
    boxes: jax.Array,
    regions_mask: jax.Array | None = None,
    types: jax.Array | None = None,
    image_of: jax.Array | None = None,
    places: jax.Array | None = None,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    width = {s: per_stream(self.width, s, 'width') for s in 'tv'}
    init = nn.initializers.normal(self.init_std)
    words = made_of(TextEmbed, self, 'text', width=width['t'])
    place = PlacedRegions(width['v'], self.eps, self.dropout, self.init_std, name='regions')
    x = made_of(FusionStack, self, 'encoder')(
      {'t': words(text, types, train=train), 'v': place(regions, boxes, train=train)},
      {'t': text_mask} | ({} if regions_mask is None else {'v': regions_mask}),
      row_of={'v': image_of},
      places={'t': places},
      train=train,
    )
    pool = lambda s: Pooler(self.pooled, self.init_std, 'relu', name=f'pooler_{s}')(x[s])
    out = x | {'pooled_t': pool('t'), 'pooled_v': pool('v')}
    out['pooled'] = nn.Dropout(0.1, deterministic=not train)(out['pooled_t'] * out['pooled_v'])
    score = lambda size, name: nn.Dense(size, kernel_init=init, name=name)
    if self.num_answers:
      hidden = nn.relu(score(2 * self.pooled, 'answer')(out['pooled']))
      out['answers'] = score(self.num_answers, 'answer_score')(hidden)
    if self.pretrain:
      transform = lambda s, name: Transform(width[s], self.eps, self.activation, self.init_std, name=name)(x[s])
      bias = self.param('word_bias', nn.initializers.zeros, (self.vocab,))
      out['words'] = words.word.attend(transform('t', 'masked_word')) + bias
      out['objects'] = score(self.num_objects, 'object_score')(transform('v', 'masked_object'))
      out['matched'] = score(2, 'matched')(out['pooled'])
    if self.grounding:
      out['grounding'] = score(1, 'grounding')(x['v'])[..., 0]
    if self.retrieval:
      out['alignment'] = score(1, 'alignment')(out['pooled'])[..., 0]
    return out
