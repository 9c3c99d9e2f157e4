"""VisualBERT: A Simple and Performant Baseline for Vision and Language (Li et al. 2019, arXiv:1908.03557).

BERT over words and regions in one sequence: the two find each other by self-attention alone. Sizes default to the
paper's (section 3, BERT-base).

B texts, N images (B a multiple of N: text b asks about image b // (B / N), or image_of[b]), L text, R regions,
F features, D width, W words aligned with a region, A answers; T positions of P parts of the texts (layers/packed.py).

Differs from the paper: nothing by default. Departures that can be asked for: norm='pre', geometry=True (a bias from
box geometry on the attention between regions).
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.encoders.regions import BoxGeometry
from mmjax.errors import UserError, nearest
from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.owner import per_stream
from mmjax.layers.attention import LOWEST
from mmjax.layers.blocks import Pooler, Transform, made_of
from mmjax.layers.embed import Embed

ANSWER_FROM = ('last', 'pooled')


class VisualEmbed(nn.Module):
  """Words and regions as one sequence's embeddings (section 3.2): f_o + f_s + f_p for a region, then BERT's for a word.

  text [B,L] int, regions [B|N,R,F] float, alignment [N,R,W] int (positions of the words a region belongs to, -1 none):
  f_p is their mean position embedding, where given, plus the visual table's row 0, which all regions share.
  at [1|B,L] int: the words' positions, 0 1 2 ... where not given.
  Returns {'t': [B,L,D], 'v': [N,R,D]}, normed by the one layer norm that both share.
  """

  vocab: int
  positions: int
  types: int
  width: int
  eps: float = 1e-12
  dropout: float = 0.1
  word_padding: int = 0
  region_padding: int = -1  # the row of the regions' segment table without gradient
  init_std: float = 0.02

  def setup(self):
    table = partial(Embed, width=self.width, init_std=self.init_std)
    self.word = table(self.vocab, padding=self.word_padding)
    self.position, self.region_position = table(self.positions), table(self.positions)
    self.type, self.region_type = table(self.types), table(self.types, padding=self.region_padding)
    self.region = nn.Dense(self.width, kernel_init=nn.initializers.normal(self.init_std))
    self.norm, self.drop = nn.LayerNorm(epsilon=self.eps), nn.Dropout(self.dropout)

  def __call__(
    self,
    text: jax.Array,
    regions: jax.Array,
    alignment: jax.Array | None = None,
    types: jax.Array | None = None,
    region_types: jax.Array | None = None,
    at: jax.Array | None = None,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    if text.shape[1] > self.positions:
      raise UserError(f'text of {text.shape[1]} tokens: expected at most {self.positions} (positions)')
    t = self.word(text) + self.position(jnp.arange(text.shape[1])[None] if at is None else at)
    t += self.type(jnp.zeros_like(text) if types is None else types)
    v = self.region(regions)
    v += self.region_type(jnp.ones(v.shape[:2], int) if region_types is None else region_types)
    v += self.region_position(jnp.zeros(v.shape[:2], int))
    if alignment is not None:
      aligned = (alignment >= 0)[..., None]
      v += (self.position(jnp.maximum(alignment, 0)) * aligned).sum(2) / jnp.maximum(aligned.sum(2), 1)
    return {s: self.drop(self.norm(x), deterministic=not train) for s, x in {'t': t, 'v': v}.items()}


class Grounding(nn.Module):
  """How well each region fits each word (section 4.4, Flickr30k entities): one head of attention's scores.

  words [B,Q,D], regions [B,R,D], regions_mask [B,R] bool -> [B,Q,R], the lowest number where a region is hidden.
  """

  size: int  # of the head
  init_std: float = 0.02

  @nn.compact
  def __call__(self, words: jax.Array, regions: jax.Array, regions_mask: jax.Array | None = None) -> jax.Array:
    dense = partial(nn.Dense, self.size, kernel_init=nn.initializers.normal(self.init_std))
    scores = jnp.einsum('BQC,BRC->BQR', dense(name='query')(words), dense(name='key')(regions)) * self.size**-0.5
    return scores if regions_mask is None else jnp.where(regions_mask[:, None], scores, LOWEST)


class VisualBERT(nn.Module):
  """text [B,L] int, text_mask [B,L] bool, regions [N,R,F] float (with their boxes among F, where a task needs them);
  image_of [B] int and places [P,T] int, where given: see above.

  Returns 't' [B,L,D], 'v' [B,R,D], 'pooled' [B,D] and, all of them logits:
  where num_answers is not 0, 'answers' [B,A], read off the last token but one of the text (position
  text_mask.sum() - 2), as the authors' code does for VQA, or, with answer_from='pooled', off the pooler, as for NLVR2
  (two answers) and VCR (one: the score of a choice, each choice a row of its own);
  with pretrain=True, 'words' [B,L+R,V] and 'matched' [B,2] (0: text and image belong together);
  with grounding=True, 'grounding' [B,L+R,R]: which region each word means.
  """

  num_answers: int = 0
  vocab: int = 30522
  positions: int = 512
  types: int = 2
  schedule: str = schedules.SINGLE_STREAM
  width: int = 768
  heads: int | Mapping[str, int] = 12
  mlp: int | Mapping[str, int] = 3072
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  masking: str = 'replace'
  word_padding: int = 0
  init_std: float = 0.02
  norm: str = 'post'
  geometry: bool = False
  answer_from: str = 'last'
  pretrain: bool = False
  grounding: bool = False
  scan: bool = True

  @nn.compact
  def __call__(
    self,
    text: jax.Array,
    text_mask: jax.Array,
    regions: jax.Array,
    boxes: jax.Array | None = None,  # read by geometry=True only
    regions_mask: jax.Array | None = None,
    alignment: jax.Array | None = None,
    types: jax.Array | None = None,
    region_types: jax.Array | None = None,
    at: jax.Array | None = None,
    image_of: jax.Array | None = None,
    places: jax.Array | None = None,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    if self.answer_from not in ANSWER_FROM:
      hint = nearest(self.answer_from, ANSWER_FROM)
      raise UserError(f'answer_from: found {self.answer_from!r}, expected one of {ANSWER_FROM}{hint}')
    kernel_init = nn.initializers.normal(self.init_std)
    embed = made_of(VisualEmbed, self, 'embed')
    x = embed(text, regions, alignment, types, region_types, at, train=train)
    mask = {'t': text_mask} | ({} if regions_mask is None else {'v': regions_mask})
    bias = {}
    if self.geometry:
      if boxes is None:
        raise UserError('geometry=True: found no boxes, expected [N,R,4]')
      bias['v<v'] = BoxGeometry(per_stream(self.heads, 'v', 'heads'), name='geometry')(boxes)
    stack = made_of(FusionStack, self, 'encoder')
    x = stack(x, mask, bias=bias, row_of={'v': image_of}, places={'t': places}, train=train)
    if self.norm == 'pre':
      norm = nn.LayerNorm(epsilon=self.eps, name='norm')
      x = {s: norm(x[s]) for s in x}
    out = x | {'pooled': Pooler(self.width, self.init_std, name='pooler')(x['t'])}
    if self.num_answers:
      read = out['pooled']
      if self.answer_from == 'last':
        last = jnp.maximum(text_mask.sum(1) - 2, 0)
        read = jnp.take_along_axis(x['t'], last[:, None, None], 1)[:, 0]
      read = nn.Dropout(self.dropout, deterministic=not train)(read)
      out['answers'] = nn.Dense(self.num_answers, kernel_init=kernel_init, name='answer_score')(read)
    if self.pretrain or self.grounding:
      both = jnp.concatenate([x['t'], x['v']], 1)
    if self.pretrain:
      word_bias = self.param('word_bias', nn.initializers.zeros, (self.vocab,))
      transform = Transform(self.width, self.eps, self.activation, self.init_std, name='masked_word')
      out['words'] = embed.word.attend(transform(both)) + word_bias
      out['matched'] = nn.Dense(2, kernel_init=kernel_init, name='matched')(out['pooled'])
    if self.grounding:
      size = self.width // per_stream(self.heads, 't', 'heads')
      out['grounding'] = Grounding(size, self.init_std, name='grounding')(both, x['v'], mask.get('v'))
    return out
