"""BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding.

Devlin et al. 2019, arXiv:1810.04805. The text encoder that LXMERT, VisualBERT, ViLBERT, UNITER and BLIP descend from.
Sizes default to BERT-base (section 3).

B texts, L words, D width, V vocabulary.

Differs from the paper: nothing.
"""

import jax
from flax import linen as nn

from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedules import BERT as SCHEDULE
from mmjax.layers.blocks import Pooler, Transform, made_of
from mmjax.layers.embed import TextEmbed


class BERT(nn.Module):
  """text [B,L] int, text_mask [B,L] bool (all where not given), types [B,L] int: 0 or 1, the first or second sentence.

  at [1|B,L] int: the words' positions, 0 1 2 ... where not given.
  Returns 't' [B,L,D], with pooler=True 'pooled' [B,D], and with pretrain=True the scores of section 3.1, which are
  logits: 'words' [B,L,V] and 'next' [B,2] (0: the second sentence follows the first).
  """

  vocab: int = 30522
  positions: int = 512
  types: int = 2
  schedule: str = SCHEDULE
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
  pooler: bool = True
  pretrain: bool = False
  scan: bool = True

  @nn.compact
  def __call__(
    self,
    text: jax.Array,
    text_mask: jax.Array | None = None,
    types: jax.Array | None = None,
    at: jax.Array | None = None,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    words = made_of(TextEmbed, self, 'text')
    x = made_of(FusionStack, self, 'encoder')(
      {'t': words(text, types, at, train=train)}, {} if text_mask is None else {'t': text_mask}, train=train
    )
    out = x | ({'pooled': Pooler(self.width, self.init_std, name='pooler')(x['t'])} if self.pooler else {})
    if self.pretrain:
      bias = self.param('word_bias', nn.initializers.zeros, (self.vocab,))
      transform = Transform(self.width, self.eps, self.activation, self.init_std, name='masked_word')
      out['words'] = words.word.attend(transform(x['t'])) + bias
      out['next'] = nn.Dense(2, kernel_init=nn.initializers.normal(self.init_std), name='next')(out['pooled'])
    return out
