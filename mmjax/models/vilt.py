"""ViLT: Vision-and-Language Transformer Without Convolution or Region Supervision (Kim et al. 2021, arXiv:2102.03334).

Words and the linear projections of image patches in one sequence through one ViT (section 3.1). Sizes default to
ViLT-B/32.

B texts, I images a text, h x w pixels, L words, P patches, D width, V vocabulary, A answers.

Differs from the paper: all patches of an image are read, never a random choice of them (section 4.2, "max_image_length"
in the code).
"""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack
from mmjax.layers.blocks import Pooler, Transform, made_of
from mmjax.layers.embed import Embed, TextEmbed
from mmjax.models.images import each, side_by_side, which


class MaskedPatches(nn.Module):
  """Images of many shapes, padded to one: image [B,h,w,3], mask [B,h,w] bool -> ([B,1+P,D], bool [B,1+P]).

  An image stands in the upper left corner of its mask. Learnt positions, of a square `grid`, are stretched over what
  each image fills, bilinearly and corner to corner; padding has none and is masked. The first token is a learnt one.
  """

  width: int
  patch: int
  grid: int
  dropout: float = 0.0
  init_std: float = 0.02

  @nn.compact
  def __call__(self, image: jax.Array, mask: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    init, patch = nn.initializers.normal(self.init_std), (self.patch, self.patch)
    x = nn.Conv(self.width, patch, patch, 'VALID', kernel_init=init, name='project')(image)
    token = self.param('token', init, (self.width,))
    position = self.param('position', init, (1 + self.grid**2, self.width))
    rows, columns = x.shape[1:3]
    seen = by_patch(jnp.asarray(mask), rows, columns)
    y = stretch(self.grid, seen[:, :, 0].sum(1), rows)
    across = stretch(self.grid, seen[:, 0].sum(1), columns)
    table = rearrange(position[1:], '(y x) D -> y x D', y=self.grid)
    x += jnp.einsum('BYy,BXx,yxD->BYXD', y, across, table)
    first = jnp.broadcast_to(token + position[0], (len(x), 1, self.width))
    x = jnp.concatenate([first, rearrange(x, 'B y x D -> B (y x) D')], 1)
    seen = jnp.pad(rearrange(seen, 'B y x -> B (y x)'), ((0, 0), (1, 0)), constant_values=True)
    return nn.Dropout(self.dropout, deterministic=not train)(x), seen


def by_patch(mask: jax.Array, rows: int, columns: int) -> jax.Array:
  """A mask of pixels as one of patches, each as its first pixel: [B,h,w] -> [B,rows,columns]."""
  y, x = np.arange(rows) * mask.shape[1] // rows, np.arange(columns) * mask.shape[2] // columns
  return mask[:, y][:, :, x]


def stretch(old: int, filled: jax.Array, size: int) -> jax.Array:
  """Linear weights of `old` learnt places in each of `size`, of which the first filled [B] count: [B,size,old]."""
  at = jnp.arange(size) * ((old - 1) / jnp.maximum(filled - 1, 1))[:, None]
  weights = jnp.maximum(1 - abs(at[..., None] - jnp.arange(old)), 0)
  return jnp.where((jnp.arange(size) < filled[:, None])[..., None], weights, 0)


class ViLT(nn.Module):
  """text [B,L] int, text_mask [B,L] bool, image [B,h,w,3] float in -1..1, image_mask [B,h,w] bool (all if not given).

  Several images a text (as NLVR2's pairs) are image [B,I,h,w,3] and image_mask [B,I,h,w]; the text is read with each of
  them, and answers are read off all their pooled vectors side by side. Raises UserError for another number of images.
  Returns 't' [B,L,D], 'v' [B,1+P,D], 'v_mask' bool [B,1+P] and, all of them logits, 'words' [B,L,V] (words=True) and
  'alignment' [B] (retrieval=True: how well text and image fit); with pooler=True 'pooled' [B,D], and where num_answers
  is not 0, 'answers' [B,A]. With I images all but 'answers' have B * I rows.
  """

  num_answers: int = 0
  vocab: int = 30522
  positions: int = 40
  types: int = 2
  modalities: int = 2  # 3 where two images are told apart
  images: int = 1  # that a text is read with
  image: int = 384  # pixels a side that the positions are learnt for
  patch: int = 32
  schedule: str = schedules.SINGLE_STREAM
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.0
  attention_dropout: float = 0.0
  word_padding: int = -1
  init_std: float = 0.02
  pooler: bool = True
  words: bool = False
  retrieval: bool = False
  classifier: int = 1536
  scan: bool = True

  @nn.compact
  def __call__(
    self,
    text: jax.Array,
    text_mask: jax.Array,
    image: jax.Array,
    image_mask: jax.Array | None = None,
    types: jax.Array | None = None,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    init = nn.initializers.normal(self.init_std)
    mask = jnp.ones(image.shape[:-1], bool) if image_mask is None else image_mask
    (text, text_mask, types), (image, mask) = each(self.images, [text, text_mask, types], [image, mask], rank=4)
    words = made_of(TextEmbed, self, 'text')
    modality = Embed(self.modalities, self.width, init_std=self.init_std, name='modality')
    patches = MaskedPatches(
      self.width, self.patch, self.image // self.patch, self.dropout, self.init_std, name='patches'
    )
    v, v_mask = patches(image, mask, train=train)
    v += modality(which(self.images, len(v)))[:, None]
    t = words(text, types, train=train) + modality(jnp.zeros((), int))
    x = made_of(FusionStack, self, 'encoder', norm='pre')({'t': t, 'v': v}, {'t': text_mask, 'v': v_mask}, train=train)
    norm = nn.LayerNorm(epsilon=self.eps, name='norm')
    out = {s: norm(x[s]) for s in x} | {'v_mask': v_mask}
    if self.pooler:
      out['pooled'] = Pooler(self.width, self.init_std, name='pooler')(out['t'])
    score = lambda size, name: nn.Dense(size, kernel_init=init, name=name)
    if self.num_answers:
      hidden = score(self.classifier, 'answer')(side_by_side(out['pooled'], self.images))
      hidden = nn.gelu(nn.LayerNorm(epsilon=1e-5, name='answer_norm')(hidden), approximate=False)
      out['answers'] = score(self.num_answers, 'answer_score')(hidden)
    if self.words:
      bias = self.param('word_bias', nn.initializers.zeros, (self.vocab,))
      transform = Transform(self.width, self.eps, self.activation, self.init_std, name='masked_word')
      out['words'] = words.word.attend(transform(out['t'])) + bias
    if self.retrieval:
      out['alignment'] = score(1, 'alignment')(out['pooled'])[..., 0]
    return out
