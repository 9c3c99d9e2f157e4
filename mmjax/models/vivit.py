"""ViViT: A Video Vision Transformer (Arnab et al. 2021, arXiv:2103.15691), its first model: spatio-temporal attention.

Every tubelet of a video reads every other, behind one learnt token (section 3.3, model 1). Sizes default to
ViViT-B/16x2.

B videos, T frames, h x w pixels, N tubelets, D width, A answers (classes).

Differs from the paper: nothing. HuggingFace's pooler (dense, tanh) can be asked for.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.encoders.video import TubeletEmbed
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedules import VIVIT as SCHEDULE
from mmjax.layers.blocks import Pooler, made_of


class ViViT(nn.Module):
  """video [B,T,h,w,3] float, in -1..1 for the published weights.

  Returns 'f' [B,1+N,D], the first token the learnt one, with pooler=True 'pooled' [B,D] and, where num_answers is not
  0, 'answers' [B,A]: logits read off the first token. Raises UserError for another number of tubelets.
  """

  num_answers: int = 0
  image: int = 224  # pixels a side
  frames: int = 32
  tubelet: tuple[int, int, int] = (2, 16, 16)
  schedule: str = SCHEDULE
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-6
  activation: str = 'gelu_tanh'
  dropout: float = 0.0
  attention_dropout: float = 0.0
  init_std: float = 0.02
  pooler: bool = False
  scan: bool = True

  @nn.compact
  def __call__(self, video: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    x = made_of(TubeletEmbed, self, 'tubelets')(video)
    init = nn.initializers.normal(self.init_std)
    first = jnp.broadcast_to(self.param('token', init, (self.width,)), (len(x), 1, self.width))
    x = jnp.concatenate([first, x], 1) + self.param('position', init, (1 + x.shape[1], self.width))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = made_of(FusionStack, self, 'encoder', norm='pre')({'f': x}, train=train)['f']
    out = {'f': nn.LayerNorm(epsilon=self.eps, name='norm')(x)}
    if self.pooler:
      out['pooled'] = Pooler(self.width, self.init_std, name='pooler')(out['f'])
    if self.num_answers:
      out['answers'] = nn.Dense(self.num_answers, kernel_init=init, name='answer_score')(out['f'][:, 0])
    return out
