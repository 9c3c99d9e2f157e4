"""LXMERT: Learning Cross-Modality Encoder Representations from Transformers (Tan and Bansal 2019, arXiv:1908.07490).

Three encoders: words among themselves, regions among themselves, and cross-modality layers in which each reads the
other. Sizes default to the paper's (section 3.3 and its code's config). What the encoders are is one line, the schedule
schedules.LXMERT (its grammar: mmjax/fusion/schedule.py; the steps of a layer stand between `;`, and a step reads what
the one before it left), which reads:

  9*[t<t]  9 layers in which text reads text: self-attention, then feed-forward
  5*[v<v]  5 layers of the same for regions
  5*[t<v v<t tied noffn; t<t v<v]
           5 layers that begin with cross-attention: text reads regions and regions read text, both as they came into
           the layer, with the same weights both ways (tied; each of the 5 layers has its own) and no feed-forward
           (noffn); then either stream has self-attention and feed-forward of its own

After every attention and every feed-forward its input is added and the sum is layer-normed (norm='post').

B texts, N images (B a multiple of N: text b asks about image b // (B / N), or image_of[b]), I images a text, L text,
R regions, F features, D width, V vocabulary, A answers; T positions of P parts of the texts (layers/packed.py).

Differs from the paper: nothing by default, but where a text or an image shows nothing at all: masking='replace' gives
all positions the same weight there, as HuggingFace's code does; 'add' reads as if all were shown, as the authors' does.
Departures that can be asked for: norm='pre' (the norms before each sub-layer and one at the end of each stream),
geometry=True (a bias from box geometry wherever regions read regions).
"""

from collections.abc import Mapping

import jax
from flax import linen as nn

from mmjax.encoders.regions import BoxGeometry, RegionEmbed
from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.owner import per_stream
from mmjax.layers.blocks import Pooler, Transform, made_of
from mmjax.layers.embed import TextEmbed
from mmjax.models.images import alone, each, side_by_side


class LXMERT(nn.Module):
  """text [B,L] int (below vocab), text_mask [B,L] bool (True: can be read), regions [N,R,F] float, boxes [N,R,4] float
  (x1 y1 x2 y2 in 0..1), and where given regions_mask [N,R] bool, types [B,L] int (segments, else 0), image_of [B] int
  and places [P,T] int: where texts hold a word, so that what they are filled up with is left out.

  Several images a text (NLVR2's pairs, section 3.2) are regions [B,I,R,F], boxes [B,I,R,4], regions_mask [B,I,R]: the
  text is read with each, and answers are read off all their pooled vectors side by side; the other outputs have B * I
  rows. Raises UserError for another number of images.
  Returns 't' [B,L,D], 'v' [B,R,D], 'pooled' [B,D]; 'answers' [B,A] where num_answers is not 0; and where pretrain is
  True 'words' [B,L,V], 'matched' [B,2] (1: they belong together) and, each where its size is not 0, 'features'
  [B,R,num_features], 'objects' [B,R,num_objects] and 'attributes' [B,R,num_attributes]. All scores are logits.
  """

  num_answers: int = 0
  vocab: int = 30522
  positions: int = 512
  types: int = 2
  schedule: str = schedules.LXMERT  # the three lines above
  width: int = 768
  heads: int | Mapping[str, int] = 12
  mlp: int | Mapping[str, int] = 3072
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  masking: str = 'replace'
  init_std: float = 0.02
  norm: str = 'post'
  geometry: bool = False
  pretrain: bool = False
  num_features: int = 2048  # F of the features to predict back; this and what follows: pre-training only
  num_objects: int = 0
  num_attributes: int = 0
  images: int = 1  # that a text is read with
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
    width, eps, init_std = self.width, self.eps, self.init_std
    # several images a text: from here on, a row is one text with one image
    of_text, of_image = [text, text_mask, types], [regions, boxes, regions_mask]
    alone(self.images, image_of, places)
    (text, text_mask, types), (regions, boxes, regions_mask) = each(self.images, of_text, of_image, rank=3)
    # section 2.1: word-level sentence embeddings; row 0 of words, positions and segments is the code's padding_idx:
    # no gradient by look-ups. `made_of` hands on every field above that the module has too
    words = made_of(TextEmbed, self, 'text', word_padding=0, position_padding=0, type_padding=0)
    # object-level image embeddings: feature and box, each projected and normed, and their mean (then dropout)
    x = {
      't': words(text, types, train=train),
      'v': RegionEmbed(width, eps, self.dropout, init_std, name='regions')(regions, boxes, train=train),
    }
    mask = {'t': text_mask} | ({} if regions_mask is None else {'v': regions_mask})
    bias = {}
    if self.geometry:  # on the scores of regions that read regions
      bias['v<v'] = BoxGeometry(per_stream(self.heads, 'v', 'heads'), name='geometry')(boxes)
    # section 2.2: object-relationship, language and cross-modality encoders are the schedule; where N is less than B,
    # the regions of an image become those of each of its texts when they first meet
    stack = made_of(FusionStack, self, 'encoder')
    x = stack(x, mask, bias=bias, row_of={'v': image_of}, places={'t': places}, train=train)
    if self.norm == 'pre':
      x = {s: nn.LayerNorm(epsilon=eps, name=f'{s}_norm')(x[s]) for s in x}
    out = x | {'pooled': Pooler(width, init_std, name='pooler')(x['t'])}  # section 2.3: the first word, through tanh
    return out | self.outputs(out, words)

  def outputs(self, x: dict[str, jax.Array], words: TextEmbed) -> dict[str, jax.Array]:
    """The outputs of section 3.1 (pre-training tasks) and 3.2 (answers), from the encoded streams.

    `transform` is Dense, activation, layer norm; in the answer head the activation is GELU whatever the encoders' is.
    """
    kernel_init = nn.initializers.normal(self.init_std)
    score = lambda size, name: nn.Dense(size, kernel_init=kernel_init, name=name)
    transform = lambda width, name, activation='gelu': Transform(width, self.eps, activation, self.init_std, name=name)
    out = {}
    if self.num_answers:
      out['answers'] = score(self.num_answers, 'answer_score')(
        transform(2 * self.width, 'answer')(side_by_side(x['pooled'], self.images))
      )
    if self.pretrain:
      bias = self.param('word_bias', nn.initializers.zeros, (self.vocab,))
      out['words'] = words.word.attend(transform(self.width, 'masked_word', self.activation)(x['t'])) + bias
      out['matched'] = score(2, 'matched')(x['pooled'])
      sizes = {'feature': self.num_features, 'object': self.num_objects, 'attribute': self.num_attributes}
      seen = transform(self.width, 'masked_object', self.activation)(x['v']) if any(sizes.values()) else None
      out |= {f'{name}s': score(size, f'{name}_score')(seen) for name, size in sizes.items() if size}
    return out
