"""MBT: sound and video that exchange what they know through a few tokens (Nagrani et al. 2021, arXiv:2107.00135).

Each modality has a transformer of its own (section 3.1). From layer `fusion` on (middle fusion, section 3.3) each reads
its own tokens and a few bottleneck tokens, which its layer changes too; the two versions of these are then averaged
(section 3.2, eq. 8 and 9). What one modality tells the other has to pass through them.

Differs from the paper: no stochastic depth, mixup, label smoothing or SpecAugment; one class an example; the loss is
that of the averaged logits, where the authors' code (google-research/scenic, projects/mbt) averages the losses of both.

B batch, T frames of the spectrogram, M mel bins, h x w pixels, D width, A answers.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.encoders.audio import SpectrogramEmbed
from mmjax.encoders.video import TubeletEmbed
from mmjax.errors import UserError, nearest
from mmjax.fusion.layers import FusionStack
from mmjax.layers.blocks import made_of, mean_there

MODALITIES = 'af'  # sound, video frames
READ = ('mean', 'token')
EXCHANGE = '1*[a<ap p<ap tied; f<fq q<fq tied]'  # p and q: the bottlenecks, as sound and as video leave them
EVERYTHING = "[a<af tied; f<a'f tied]"  # without bottlenecks: all tokens read all, by the weights of their own kind


class MBT(nn.Module):
  """inputs 'a' spectrogram [B,T,M] float (log-mel, normalised) and 'f' video [B,frames,h,w,3] float in -1..1; there
  {'a': bool [B]}, whether an example has it, all where not given.

  modalities: those that there are; with one alone there is no fusion. bottlenecks: 0 for none, every token is read.
  read: 'mean' of all tokens (the released config), or a learnt 'token' of each modality, whose logits are averaged.
  Returns 'answers' [B,A] (logits) and the tokens 'a' [B,N,D] and 'f' [B,N,D]. Raises UserError for other modalities,
  other ways to read, a layer that there is not, and inputs of another size.
  """

  num_answers: int
  modalities: str = MODALITIES
  frames: int = 800  # T; eight spectrograms of 100 frames, each of a second
  bins: int = 128
  clip: int = 32  # frames of a video
  image: int = 224  # pixels a side
  patch: int = 16
  tubelet: int = 2  # frames of a patch
  layers: int = 12
  fusion: int = 8
  bottlenecks: int = 4
  read: str = 'mean'
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-6
  activation: str = 'gelu_tanh'
  dropout: float = 0.0
  attention_dropout: float = 0.0
  init_std: float = 0.02
  scan: bool = True

  @nn.compact
  def __call__(
    self, inputs: Mapping[str, jax.Array], there: Mapping[str, jax.Array] | None = None, *, train: bool
  ) -> dict[str, jax.Array]:
    self.check()
    token = int(self.read == 'token')
    x = {}
    if 'a' in self.modalities:
      strides = (self.patch, self.patch)
      x['a'] = made_of(SpectrogramEmbed, self, 'sound', strides=strides, tokens=token)(inputs['a'])
    if 'f' in self.modalities:
      x['f'] = self.frames_of(inputs['f'], token)
    x = {s: nn.Dropout(self.dropout, deterministic=not train)(value) for s, value in x.items()}
    masks = {s: jnp.broadcast_to(here[:, None], x[s].shape[:2]) for s, here in (there or {}).items() if s in x}
    x = self.encode(x, masks, train)
    norm = nn.LayerNorm(epsilon=self.eps, name='norm')
    x = {s: norm(x[s]) for s in self.modalities}
    score = nn.Dense(self.num_answers, kernel_init=nn.initializers.normal(self.init_std), name='answer_score')
    if token:
      return x | {'answers': _mean([score(x[s][:, :1]) for s in x], [masks.get(s) for s in x])}
    return x | {'answers': score(_mean(list(x.values()), [masks.get(s) for s in x]))}

  def check(self) -> None:
    if not self.modalities or set(self.modalities) - set(MODALITIES):
      raise UserError(f'modalities: found {self.modalities!r}, expected some of {MODALITIES!r}')
    if self.read not in READ:
      raise UserError(f'read: found {self.read!r}, expected one of {READ}{nearest(self.read, READ)}')
    if not 0 <= self.fusion <= self.layers:
      raise UserError(f'fusion: found {self.fusion}, expected a layer, 0 to {self.layers}')

  def frames_of(self, video: jax.Array, token: int) -> jax.Array:
    """Tubelets with learnt positions, behind a learnt token where there is one."""
    wanted = (self.clip, self.image, self.image)
    if video.shape[1:4] != wanted:
      raise UserError(f'video {video.shape[1:4]}: expected {wanted}')
    init = nn.initializers.normal(self.init_std)
    x = made_of(TubeletEmbed, self, 'tubelets', tubelet=(self.tubelet, self.patch, self.patch))(video)
    if token:
      first = self.param('video_token', init, (self.width,))
      x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, self.width)), x], 1)
    return x + self.param('video_position', init, x.shape[1:])

  def encode(self, x: dict[str, jax.Array], masks: dict[str, jax.Array], train: bool) -> dict[str, jax.Array]:
    """All layers: each modality alone, then with the other."""
    stack = lambda name, schedule: made_of(FusionStack, self, name, schedule=schedule, norm='pre')
    together = self.layers - self.fusion if len(self.modalities) > 1 else 0
    if together < self.layers:
      alone = ' '.join(f'{s}<{s}' for s in self.modalities)
      x = stack('alone', f'{self.layers - together}*[{alone}]')(x, masks, train=train)
    if together and not self.bottlenecks:
      return stack('together', f'{together}*{EVERYTHING}')(x, masks, train=train)
    if together:
      tokens = self.param('bottleneck', nn.initializers.normal(self.init_std), (self.bottlenecks, self.width))
      rows = len(x['a'])
      x |= dict.fromkeys('pq', jnp.broadcast_to(tokens, (rows, *tokens.shape)))
    for n in range(together):
      x = stack(f'together{n}', EXCHANGE)(x, masks, train=train)
      x |= dict.fromkeys('pq', (x['p'] + x['q']) / 2)
    return x


def _mean(tokens: list[jax.Array], masks: list[jax.Array | None]) -> jax.Array:
  """The mean of all tokens [B,N,·] of the modalities that are there; 0 where none is."""
  here = [
    jnp.ones(x.shape[:2], bool) if mask is None else jnp.broadcast_to(mask[:, :1], x.shape[:2])
    for x, mask in zip(tokens, masks, strict=True)
  ]
  return mean_there(jnp.concatenate(tokens, 1), jnp.concatenate(here, 1))
