"""ImageGPT: Generative Pretraining from Pixels (Chen et al. 2020, ICML).

A picture as a sequence of colours of a palette, row by row, which GPT-2 predicts one after the other. Its norms take
no mean off. Sizes default to iGPT-S (section 3.4: 24 layers of width 512; 32 x 32 pixels, 512 colours).

B images, L colours of an image, D width, V colours of the palette, and one more id, with which a sequence begins.

Differs from the paper: nothing.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedules import IMAGE_GPT as SCHEDULE
from mmjax.layers.attention import causal
from mmjax.layers.blocks import made_of
from mmjax.layers.embed import Embed


class ImageGPT(nn.Module):
  """colours [B,L] int, of 0..V, where V is the id with which a sequence begins; mask [B,L] bool (all if not given).

  Returns 'v' [B,L,D], normed, and 'colours' [B,L,V]: logits of the colour that follows each.
  Raises UserError for a sequence longer than `positions`.
  """

  colours: int = 512
  positions: int = 1024
  schedule: str = SCHEDULE
  width: int = 512
  heads: int = 8
  mlp: int = 2048
  eps: float = 1e-5
  activation: str = 'quick_gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  init_std: float = 0.02
  scan: bool = True

  @nn.compact
  def __call__(self, colours: jax.Array, mask: jax.Array | None = None, *, train: bool) -> dict[str, jax.Array]:
    length = colours.shape[1]
    if length > self.positions:
      raise UserError(f'{length} colours: expected at most {self.positions} (positions)')
    embed = lambda size, name: Embed(size, self.width, init_std=self.init_std, name=name)
    x = embed(self.colours + 1, 'colour')(colours) + embed(self.positions, 'position')(jnp.arange(length)[None])
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    stack = made_of(FusionStack, self, 'encoder', norm='pre', norms='rms')
    x = stack({'v': x}, {} if mask is None else {'v': mask}, {'v<v': causal(length)}, train=train)['v']
    x = nn.RMSNorm(epsilon=self.eps, name='norm')(x)
    kernel_init = nn.initializers.normal(self.init_std)
    return {'v': x, 'colours': nn.Dense(self.colours, use_bias=False, kernel_init=kernel_init, name='score')(x)}
