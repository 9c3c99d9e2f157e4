"""AST: Audio Spectrogram Transformer (Gong, Chung and Glass 2021, arXiv:2104.01778).

A ViT on overlapping patches of a log-mel spectrogram, behind two learnt tokens: that of ViT and, as it begins with
DeiT's weights, the one that DeiT learns to distil by. Sizes default to the paper's (sections 2.1 and 3.1): 10.24 s in
frames of 10 ms, 128 bins, patches of 16 by 16 that overlap by 6.

B recordings, T frames, M mel bins, P patches, D width, A answers (classes).

Differs from the paper: nothing.
"""

import jax
from flax import linen as nn

from mmjax.encoders.audio import SpectrogramEmbed
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedules import AST as SCHEDULE
from mmjax.layers.blocks import made_of


class AST(nn.Module):
  """spectrogram [B,T,M] float, log-mel energies with mean 0 and standard deviation 0.5 over the training set.

  Returns 'a' [B,2+P,D], 'pooled' [B,D], the mean of the two tokens, and, where num_answers is not 0, 'answers' [B,A]
  (logits). Raises UserError for a spectrogram of another size.
  """

  num_answers: int = 0
  frames: int = 1024
  bins: int = 128
  patch: int = 16
  strides: tuple[int, int] = (10, 10)  # along frequency, along time
  schedule: str = SCHEDULE
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.0
  attention_dropout: float = 0.0
  init_std: float = 0.02
  scan: bool = True

  @nn.compact
  def __call__(self, spectrogram: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    x = nn.Dropout(self.dropout, deterministic=not train)(made_of(SpectrogramEmbed, self, 'patches')(spectrogram))
    x = made_of(FusionStack, self, 'encoder', norm='pre')({'a': x}, train=train)
    norm = lambda name: nn.LayerNorm(epsilon=self.eps, name=name)
    a = norm('norm')(x['a'])
    out = {'a': a, 'pooled': (a[:, 0] + a[:, 1]) / 2}
    if self.num_answers:
      kernel_init = nn.initializers.normal(self.init_std)
      score = nn.Dense(self.num_answers, kernel_init=kernel_init, name='answer_score')
      out['answers'] = score(norm('answer_norm')(out['pooled']))
    return out
