"""METER: An Empirical Study of Training End-to-End Vision-and-Language Transformers.

Dou et al. 2022, arXiv:2111.02387. A text and an image encoder, each trained before, and fusion layers on top (section
3). Two ways of fusing are compared (figure 2), and are two schedules here: co-attention, where each stream has
self-attention, cross-attention and feed-forward of its own and reads the other as it entered the layer, and merged
attention, one transformer over both.

B texts and images, h x w pixels, L words, P patches, D width, V vocabulary, A answers.

From the paper, unverified: no published weights or outputs were at hand to hold this to.
Differs from the paper: the encoders are given, BERT and ViT by default in place of RoBERTa and CLIP-ViT (which are
BERT(eps=1e-5, at=...) and ImageTower here).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack
from mmjax.layers.blocks import Pooler, Transform, made_of
from mmjax.layers.embed import Embed
from mmjax.models.bert import BERT
from mmjax.models.vit import ViT


class METER(nn.Module):
  """text [B,L] int, text_mask [B,L] bool, image [B,h,w,3] float, at [1|B,L] int: positions of the words.

  schedule: METER (co-attention) or METER_MERGED of fusion/schedules.py, or any other over t and v.
  Returns 't' [B,L,D], 'v' [B,1+P,D], 'pooled' [B,2D] (both streams' poolers side by side) and, all of them logits:
  where num_answers is not 0, 'answers' [B,A]; with pretrain=True (section 3.3) 'words' [B,L,V] and 'matched' [B,2]
  (1: text and image belong together).
  """

  text: BERT = BERT(pooler=False)
  image: ViT = ViT()
  num_answers: int = 0
  schedule: str = schedules.METER
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  init_std: float = 0.02
  pretrain: bool = False
  scan: bool = True

  @nn.compact
  def __call__(
    self,
    text: jax.Array,
    text_mask: jax.Array,
    image: jax.Array,
    types: jax.Array | None = None,
    at: jax.Array | None = None,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    dense = lambda size, name: nn.Dense(size, kernel_init=nn.initializers.normal(self.init_std), name=name)
    modality = Embed(2, self.width, init_std=self.init_std, name='modality')
    t = self.text(text, text_mask, types, at, train=train)['t']
    v = self.image(image, train=train)['v']
    kind = modality(jnp.arange(2))
    x = {'t': dense(self.width, 'project_t')(t) + kind[0], 'v': dense(self.width, 'project_v')(v) + kind[1]}
    x = made_of(FusionStack, self, 'encoder')(x, {'t': text_mask}, train=train)
    pooled = [Pooler(self.width, self.init_std, name=f'pooler_{s}')(x[s]) for s in 'tv']
    out = x | {'pooled': jnp.concatenate(pooled, -1)}
    transform = lambda size, name: Transform(size, self.eps, 'gelu', self.init_std, name=name)
    if self.num_answers:
      out['answers'] = dense(self.num_answers, 'answer_score')(transform(2 * self.width, 'answer')(out['pooled']))
    if self.pretrain:
      out['words'] = dense(self.text.vocab, 'word_score')(transform(self.width, 'masked_word')(x['t']))
      out['matched'] = dense(2, 'matched')(out['pooled'])
    return out
