"""ViT: An Image is Worth 16x16 Words (Dosovitskiy et al. 2021, arXiv:2010.11929).

Patches of an image, projected, behind one learnt token, through a pre-norm transformer. Sizes default to ViT-B/16
(table 1).

B images, h x w pixels, P patches, D width, A answers (classes).

Differs from the paper: nothing by default. HuggingFace's pooler (dense, tanh) and a stem of convolutions can be asked
for.
"""

import jax
from flax import linen as nn

from mmjax.encoders.image import PatchEmbed
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedules import VIT as SCHEDULE
from mmjax.layers.blocks import Pooler, made_of


class ViT(nn.Module):
  """image [B,h,w,3] float, in -1..1 for the published weights.

  Where the image has another number of patches than `image` / `patch`, learnt positions are resized (section 3.2).
  Returns 'v' [B,1+P,D], the first token the learnt one, with pooler=True 'pooled' [B,D] and, where num_answers is not
  0, 'answers' [B,A]: logits read off the first token. Raises UserError for an image that the patches do not tile.
  """

  num_answers: int = 0
  image: int = 224  # pixels a side that the positions are learnt for
  patch: int = 16
  schedule: str = SCHEDULE
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-6
  activation: str = 'gelu'
  dropout: float = 0.0
  attention_dropout: float = 0.0
  init_std: float = 0.02
  stem: tuple[int, ...] = ()  # channels of convolutions before the patches, see PatchEmbed
  pooler: bool = False
  scan: bool = True

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    grid = self.image // self.patch
    patches = made_of(PatchEmbed, self, 'patches', grid=(grid, grid))
    x = nn.Dropout(self.dropout, deterministic=not train)(patches(image))
    x = made_of(FusionStack, self, 'encoder', norm='pre')({'v': x}, train=train)
    out = {'v': nn.LayerNorm(epsilon=self.eps, name='norm')(x['v'])}
    if self.pooler:
      out['pooled'] = Pooler(self.width, self.init_std, name='pooler')(out['v'])
    if self.num_answers:
      kernel_init = nn.initializers.normal(self.init_std)
      out['answers'] = nn.Dense(self.num_answers, kernel_init=kernel_init, name='answer_score')(out['v'][:, 0])
    return out
