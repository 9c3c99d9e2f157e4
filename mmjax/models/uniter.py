"""UNITER: UNiversal Image-TExt Representation Learning (Chen et al. 2020, arXiv:1909.11740).

BERT over words and regions in one sequence; what a region shows and where it stands are projected, normed and added.
Sizes default to UNITER-base (section 3.1 and the authors' config).

B texts, N images (B a multiple of N: text b asks about image b // (B / N), or image_of[b]), I images a text, L text,
R regions, F features, D width, V vocabulary, A answers, O object classes; T positions of P parts of the texts
(layers/packed.py).

Differs from the paper: nothing.
"""

from functools import partial

import jax
from flax import linen as nn

from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack
from mmjax.layers.blocks import Pooler, Transform, made_of
from mmjax.layers.embed import TextEmbed
from mmjax.models.images import alone, each, side_by_side, which


class RegionEmbed(nn.Module):
  """LN(LN(feature) + LN(box) + type) (section 3.1). regions [B,R,F], boxes [B,R,7], masked [B,R] bool -> [B,R,D].

  type [D] or [B,R,D]: an embedding from the text's own segment table. A masked region, whose features are zeros, gets a
  learnt vector instead.
  """

  width: int
  eps: float = 1e-12
  dropout: float = 0.1
  init_std: float = 0.02
  can_mask: bool = True

  def setup(self):
    dense = partial(nn.Dense, self.width, kernel_init=nn.initializers.normal(self.init_std))
    self.feature, self.box = dense(), dense()
    self.feature_norm, self.box_norm, self.norm = (nn.LayerNorm(epsilon=self.eps) for _ in range(3))
    self.drop = nn.Dropout(self.dropout)

  @nn.compact
  def __call__(
    self, regions: jax.Array, boxes: jax.Array, type: jax.Array, masked: jax.Array | None = None, *, train: bool
  ) -> jax.Array:
    if self.can_mask:
      table = self.param('masked', nn.initializers.normal(self.init_std), (2, regions.shape[-1]))  # its row 0 is unused
      regions += 0 if masked is None else masked[..., None] * table[1]
    x = self.feature_norm(self.feature(regions)) + self.box_norm(self.box(boxes)) + type
    return self.drop(self.norm(x), deterministic=not train)

  def back(self, x: jax.Array) -> jax.Array:
    """[B,R,D] -> features [B,R,F] by the projection's own weights, transposed."""
    return x @ self.feature.variables['params']['kernel'].T


class UNITER(nn.Module):
  """text [B,L] int, text_mask [B,L] bool, regions [N,R,F] float, boxes [N,R,7] float (BOX, all in 0..1).

  Several images a text (NLVR2's pairs) are regions [B,I,R,F], boxes [B,I,R,7], regions_mask and masked [B,I,R]: the
  text is read with each, whose regions have the segments 1, 2 ... (types), and answers are read off all their pooled
  vectors side by side ("paired" in the authors' code); the other outputs have B * I rows. Raises UserError for another
  number of images.
  masked [B,R] bool: regions whose features were hidden (and are zeros). at [1|B,L] int: positions of the words.
  Returns 't' [B,L,D], 'v' [B,R,D], 'pooled' [B,D] and, all of them logits: where num_answers is not 0, 'answers' [B,A];
  with pretrain=True (section 3.2) 'words' [B,L,V], 'matched' [B,2] (1: text and image belong together), 'features'
  [B,R,F] (regressed) and 'objects' [B,R,O]; with retrieval=True 'alignment' [B] (how well text and image fit), with
  grounding=True 'grounding' [B,R] (which region the text means), with choice=True 'choice' [B,2] (1: the answer in the
  text, one of VCR's, is the right one).
  """

  BOX = 7  # numbers of a box: x1 y1 x2 y2, width, height, area

  num_answers: int = 0
  vocab: int = 28996
  positions: int = 512
  types: int = 2
  schedule: str = schedules.SINGLE_STREAM
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  masking: str = 'replace'
  word_padding: int = 0
  init_std: float = 0.02
  pretrain: bool = False
  num_objects: int = 1601
  retrieval: bool = False
  grounding: bool = False
  choice: bool = False
  images: int = 1  # that a text is read with
  scan: bool = True

  @nn.compact
  def __call__(
    self,
    text: jax.Array,
    text_mask: jax.Array | None,
    regions: jax.Array,
    boxes: jax.Array,
    regions_mask: jax.Array | None = None,
    masked: jax.Array | None = None,
    types: jax.Array | None = None,
    at: jax.Array | None = None,
    image_of: jax.Array | None = None,
    places: jax.Array | None = None,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    of_text, of_image = [text, text_mask, types], [regions, boxes, regions_mask, masked]
    alone(self.images, image_of, places)
    (text, text_mask, types), (regions, boxes, regions_mask, masked) = each(self.images, of_text, of_image, rank=3)
    segment = which(self.images, len(regions))[:, None]
    words = made_of(TextEmbed, self, 'text')
    place = RegionEmbed(self.width, self.eps, self.dropout, self.init_std, name='regions')
    t = words(text, types, at, train=train)
    v = place(regions, boxes, words.type(segment), masked, train=train)
    mask = {s: m for s, m in (('t', text_mask), ('v', regions_mask)) if m is not None}
    stack = made_of(FusionStack, self, 'encoder')
    x = stack({'t': t, 'v': v}, mask, row_of={'v': image_of}, places={'t': places}, train=train)
    out = x | {'pooled': Pooler(self.width, self.init_std, name='pooler')(x['t'])}
    score = lambda size, name: nn.Dense(size, kernel_init=nn.initializers.normal(self.init_std), name=name)
    transform = lambda width, name: Transform(width, self.eps, 'gelu', self.init_std, name=name)
    if self.num_answers:
      read = side_by_side(out['pooled'], self.images)
      read = transform(2 * self.width, 'answer')(read) if self.images == 1 else read
      out['answers'] = score(self.num_answers, 'answer_score')(read)
    if self.pretrain:
      bias = self.param('word_bias', nn.initializers.zeros, (self.vocab,))
      out['words'] = words.word.attend(transform(self.width, 'masked_word')(x['t'])) + bias
      out['matched'] = score(2, 'matched')(out['pooled'])
      bias = self.param('feature_bias', nn.initializers.zeros, (regions.shape[-1],))
      out['features'] = place.back(transform(self.width, 'masked_feature')(x['v'])) + bias
      out['objects'] = score(self.num_objects, 'object_score')(transform(self.width, 'masked_object')(x['v']))
    if self.retrieval:
      out['alignment'] = score(1, 'alignment')(out['pooled'])[..., 0]
    if self.grounding:
      out['grounding'] = score(1, 'grounding')(x['v'])[..., 0]
    if self.choice:
      hidden = Transform(2 * self.width, self.eps, 'relu', self.init_std, name='choice')(out['pooled'])
      out['choice'] = score(2, 'choice_score')(hidden)
    return out
