"""VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training (Tong et al. 2022,
arXiv:2203.12602).

An encoder that reads the tubelets of a video that are shown, and a small decoder that paints the others (section 3.3).
Positions are fixed sinusoids; keys have no bias. Sizes default to ViT-B (table 10 of the paper's appendix).

B videos, T frames, h x w pixels, N tubelets, of which S are shown and M hidden, D width, A answers (classes).

Differs from the paper: nothing.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.encoders.video import TubeletEmbed, sinusoids
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedules import VIDEO_MAE as SCHEDULE
from mmjax.layers.blocks import made_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, by which the videos given are normalised
DECODER_EPS = 1e-5  # of the decoder's last norm


class VideoMAE(nn.Module):
  """video [B,T,h,w,3] float, normalised by MEAN and STD; for pre-training which tubelets are shown and which are
  hidden, int [B,S] and [B,M] in order of time, row, column.

  Returns 'f' [B,N or S,D]; where num_answers is not 0, 'answers' [B,A] (logits) off the mean of all tokens; with hidden
  ones 'pixels' [B,M,t*p*q*3], see encoders.video.pixels_to_predict. mean=False: the encoder ends with a norm, and
  answers are read off the first token.
  """

  num_answers: int = 0
  image: int = 224  # pixels a side
  frames: int = 16
  tubelet: tuple[int, int, int] = (2, 16, 16)
  schedule: str = SCHEDULE
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.0
  attention_dropout: float = 0.0
  init_std: float = 0.02
  key_bias: bool = False
  mean: bool = True
  decoder: str = ''  # a schedule; '' for none
  decoder_width: int = 384
  decoder_heads: int = 6
  decoder_mlp: int = 1536
  scan: bool = True

  @nn.compact
  def __call__(
    self, video: jax.Array, shown: jax.Array | None = None, hidden: jax.Array | None = None, *, train: bool
  ) -> dict[str, jax.Array]:
    x = made_of(TubeletEmbed, self, 'tubelets')(video)
    count = x.shape[1]
    x = x + sinusoids(count, self.width)
    if shown is not None:
      x = jnp.take_along_axis(x, shown[..., None], 1)
    x = made_of(FusionStack, self, 'encoder', norm='pre')({'f': x}, train=train)['f']
    if not self.mean:
      x = nn.LayerNorm(epsilon=self.eps, name='norm')(x)
    out = {'f': x}
    if self.num_answers:
      read = nn.LayerNorm(epsilon=self.eps, name='answer_norm')(x.mean(1)) if self.mean else x[:, 0]
      kernel_init = nn.initializers.normal(self.init_std)
      out['answers'] = nn.Dense(self.num_answers, kernel_init=kernel_init, name='answer_score')(read)
    if self.decoder:
      shown = jnp.arange(count)[None] if shown is None else shown
      hidden = shown[:, :1] if hidden is None else hidden
      out['pixels'] = self.paint(x, shown, hidden, count, video.shape[-1], train)
    return out

  def paint(
    self, x: jax.Array, shown: jax.Array, hidden: jax.Array, count: int, colours: int, train: bool
  ) -> jax.Array:
    """What the decoder makes of the hidden tubelets, from those that are shown."""
    init = nn.initializers.normal(self.init_std)
    x = nn.Dense(self.decoder_width, use_bias=False, kernel_init=init, name='to_decoder')(x)
    token = self.param('hidden', init, (self.decoder_width,))
    place = jnp.asarray(sinusoids(count, self.decoder_width))
    x = jnp.concatenate(
      [x + place[shown], jnp.broadcast_to(token + place[hidden], (len(x), *hidden.shape[1:], len(token)))], 1
    )
    sizes = {'width': self.decoder_width, 'heads': self.decoder_heads, 'mlp': self.decoder_mlp}
    x = made_of(FusionStack, self, 'painter', schedule=self.decoder, norm='pre', **sizes)({'f': x}, train=train)['f']
    x = nn.LayerNorm(epsilon=DECODER_EPS, name='painter_norm')(x[:, -hidden.shape[1] :])
    return nn.Dense(self.pixels(colours), kernel_init=init, name='paint')(x)

  def pixels(self, colours: int) -> int:
    """Numbers of a tubelet."""
    t, p, q = self.tubelet
    return t * p * q * colours


def split(hidden: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
  """Which are hidden, bool [B,N], `count` in each row -> (shown [B,S], hidden [B,M]), as the model asks."""
  order = jnp.argsort(hidden, axis=1, stable=True)
  return order[:, : order.shape[1] - count], order[:, order.shape[1] - count :]
