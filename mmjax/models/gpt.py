"""GPT-2: Language Models are Unsupervised Multitask Learners (Radford et al. 2019), on GPT (Radford et al. 2018).

A causal text transformer: BERT's layers with the norms before each sub-layer, where a word reads only those before it.
Sizes default to the smallest of the four (table 2; 124 M parameters).

B texts, L words, D width, V vocabulary.

Differs from the paper: projections onto the residual stream are initialised as all others are (section 2.3: smaller by
the square root of their number).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedules import GPT as SCHEDULE
from mmjax.layers.attention import causal
from mmjax.layers.blocks import made_of
from mmjax.layers.embed import Embed


class GPT(nn.Module):
  """text [B,L] int, text_mask [B,L] bool (all where not given), at [1|B,L] int: positions, 0 1 2 ... where not given.

  Returns 't' [B,L,D], normed, and with words=True 'words' [B,L,V]: logits of the word that follows each.
  Raises UserError for a text longer than `positions`.
  """

  vocab: int = 50257
  positions: int = 1024
  schedule: str = SCHEDULE
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-5
  activation: str = 'gelu_tanh'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  init_std: float = 0.02
  words: bool = True
  scan: bool = True

  @nn.compact
  def __call__(
    self, text: jax.Array, text_mask: jax.Array | None = None, at: jax.Array | None = None, *, train: bool
  ) -> dict[str, jax.Array]:
    length = text.shape[1]
    if length > self.positions:
      raise UserError(f'text of {length} tokens: expected at most {self.positions} (positions)')
    word = Embed(self.vocab, self.width, init_std=self.init_std, name='word')
    place = Embed(self.positions, self.width, init_std=self.init_std / 2, name='position')
    x = word(text) + place(jnp.arange(length)[None] if at is None else at)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    mask = {} if text_mask is None else {'t': text_mask}
    x = made_of(FusionStack, self, 'encoder', norm='pre')({'t': x}, mask, {'t<t': causal(length)}, train=train)['t']
    x = nn.LayerNorm(epsilon=self.eps, name='norm')(x)
    return {'t': x} | ({'words': word.attend(x)} if self.words else {})
