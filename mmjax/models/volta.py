"""VOLTA: Multimodal Pretraining Unmasked (Bugliarello et al. 2021, arXiv:2011.15124).

One frame for five models, so that they can be compared under equal conditions: what differs between LXMERT, ViLBERT,
VL-BERT, VisualBERT and UNITER is how words and regions are embedded and which stream reads which.

B texts and images, L text, R regions, F features, D width, V vocabulary, A answers, O object classes.

Differs from the paper: nothing. The controlled recipe's region 0 is the whole image.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.encoders.regions import RegionEmbed as LXMERTRegions
from mmjax.errors import UserError, nearest
from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.owner import per_stream
from mmjax.layers.blocks import Pooler, Transform, made_of
from mmjax.layers.embed import TextEmbed
from mmjax.models import uniter, vilbert
from mmjax.models.visualbert import VisualEmbed
from mmjax.models.vlbert import VLEmbed

EMBEDDINGS = {  # name -> the controlled schedule of the model of that name (table 1)
  'lxmert': schedules.LXMERT,
  'vilbert': schedules.VILBERT_VOLTA,
  'vl-bert': schedules.SINGLE_STREAM,
  'visualbert': schedules.SINGLE_STREAM,
  'uniter': schedules.SINGLE_STREAM,
}


class VOLTA(nn.Module):
  """text [B,L] int, text_mask [B,L] bool, regions [B,R,F] float, boxes [B,R,4 or 5] float: x1 y1 x2 y2 (area), in 0..1.

  embedding: one of EMBEDDINGS. Returns 't' [B,L,D], 'v' [B,R,D], 'pooled_t', 'pooled_v' and their product (or, with
  fusion='sum', sum) 'pooled' [B,pooled], and, all of them logits: where num_answers is not 0, 'answers' [B,A]; with
  pretrain=True 'words' [B,L,V], 'matched' [B,2] (0: text and image belong together) and 'objects' [B,R,O].
  """

  embedding: str
  num_answers: int = 0
  vocab: int = 30522
  positions: int = 512
  types: int = 2
  schedule: str = schedules.SINGLE_STREAM
  width: int | Mapping[str, int] = 768
  heads: int | Mapping[str, int] = 12
  mlp: int | Mapping[str, int] = 3072
  pooled: int = 768
  fusion: str = 'mul'
  coordinates: int = 256  # VL-BERT's
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  masking: str = 'replace'
  word_padding: int = 0
  init_std: float = 0.02
  pretrain: bool = False
  num_objects: int = 1601
  object_norm: bool = True  # the norm in the head of object classes; VL-BERT has none
  classifier: int = 1536
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
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    if self.fusion not in ('mul', 'sum'):
      raise UserError(f"fusion: found {self.fusion!r}, expected 'mul' or 'sum'")
    x, word = self.embed(text, regions, boxes, types, train)
    mask = {'t': text_mask} | ({} if regions_mask is None else {'v': regions_mask})
    x = made_of(FusionStack, self, 'encoder')(x, mask, train=train)
    pool = lambda s: Pooler(self.pooled, self.init_std, 'relu', name=f'pooler_{s}')(x[s])
    t, v = pool('t'), pool('v')
    v = jnp.repeat(v, len(t) // len(v), 0)  # where no layer let them meet, regions still have a row an image
    out = x | {'pooled_t': t, 'pooled_v': v, 'pooled': t * v if self.fusion == 'mul' else t + v}
    read = nn.Dropout(0.1, deterministic=not train)(out['pooled'])
    score = lambda size, name: nn.Dense(size, kernel_init=nn.initializers.normal(self.init_std), name=name)
    transform = partial(Transform, eps=self.eps, activation=self.activation, init_std=self.init_std)
    if self.num_answers:
      out['answers'] = score(self.num_answers, 'answer_score')(transform(self.classifier, name='answer')(read))
    if self.pretrain:
      width = {s: per_stream(self.width, s, 'width') for s in 'tv'}
      bias = self.param('word_bias', nn.initializers.zeros, (self.vocab,))
      out['words'] = word.attend(transform(width['t'], name='masked_word')(x['t'])) + bias
      seen = transform(width['v'], norm=self.object_norm, name='masked_object')(x['v'])
      out['objects'] = score(self.num_objects, 'object_score')(seen)
      out['matched'] = score(2, 'matched')(read)
    return out

  def embed(self, text, regions, boxes, types, train):
    """({'t', 'v'}, the word table) by the model whose embedding was asked for."""
    if self.embedding not in EMBEDDINGS:
      hint = nearest(self.embedding, EMBEDDINGS)
      raise UserError(f'embedding: found {self.embedding!r}, expected one of {tuple(EMBEDDINGS)}{hint}')
    width = {s: per_stream(self.width, s, 'width') for s in 'tv'}
    same = {'eps': self.eps, 'dropout': self.dropout, 'init_std': self.init_std}
    makes = lambda kind, name, **own: partial(kind, **same, **own, name=name)
    sizes, words = (self.vocab, self.positions), {'word_padding': self.word_padding}
    if self.embedding == 'visualbert':
      both = makes(VisualEmbed, 'embed', region_padding=0, **words)(*sizes, self.types, width['t'])
      return both(text, regions, None, types, train=train), both.word
    if self.embedding == 'vl-bert':
      both = makes(VLEmbed, 'embed', batch_end=True, **words)(*sizes, width['t'], self.coordinates, self.types)
      each = [jnp.repeat(a, len(text) // len(a), 0) for a in (regions, boxes)]  # its regions hold a word of the text
      return both(text, *each, types, train=train), both.word
    read = makes(TextEmbed, 'text', **words)(*sizes, self.types, width['t'])
    t = read(text, types, train=train)
    if self.embedding == 'uniter':
      places = makes(uniter.RegionEmbed, 'regions', can_mask=False)(width['v'])
      return {'t': t, 'v': places(regions, boxes, read.type(jnp.ones((), int)), train=train)}, read.word
    kind = LXMERTRegions if self.embedding == 'lxmert' else vilbert.PlacedRegions
    return {'t': t, 'v': makes(kind, 'regions')(width['v'])(regions, boxes, train=train)}, read.word
