"""Any modality, raw -> tokens [B,N,D] and which of them are there [B,N], by any encoder that this project has.

An encoder is named by its modality and its kind, as in 'audio wavenet' (KINDS): so a config says with one word how a
modality is encoded. Small encoders make tokens that a fusion schedule goes on with; the models of papers are whole
transformers, of `layers` layers, whose last states are the tokens.

B batch, N tokens, D width; what is read, by modality:
  text    int [B,L]
  image   [B,h,w,3] uint8, or float in 0..255
  video   [B,T,h,w,3], likewise
  audio   a log-mel spectrogram float [B,T,M], normalised; for 'wavenet' a wave float [B,S] in -1..1
  series  float [B,T,C]
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from mmjax.encoders.audio import SpectrogramConv, WaveNet
from mmjax.encoders.efficientnet import EfficientNetLite
from mmjax.encoders.image import to_float
from mmjax.encoders.resnet import ResNet
from mmjax.encoders.series import SeriesPatches, SeriesRNN, SeriesTCN
from mmjax.encoders.series import steps as read_steps
from mmjax.encoders.text import WordRNN
from mmjax.encoders.video import FrameRNN, TubeletEmbed, VideoConv
from mmjax.errors import UserError, nearest
from mmjax.layers.blocks import convolved, made_of, zero_missing
from mmjax.layers.embed import Embed
from mmjax.models.ast import AST
from mmjax.models.bert import BERT
from mmjax.models.gpt import GPT
from mmjax.models.patchtst import PatchTST
from mmjax.models.timesformer import TimeSformer
from mmjax.models.videomae import VideoMAE
from mmjax.models.vit import ViT
from mmjax.models.vivit import ViViT
from mmjax.models.whisper import SoundEncoder

Tokens = tuple[jax.Array, jax.Array]
Encode = Callable[['Encoder', jax.Array, jax.Array, bool], Tokens]


AXES = {'text': 'BL', 'image': 'Bhw3', 'video': 'BThw3', 'audio': 'BTM', 'series': 'BTC'}


class Encoder(nn.Module):
  """x as its modality has it, mask bool [B], [B,L], [B,T], [B,S] or of a series [B,T,C], True where something is there
  -> tokens [B,N,D], mask [B,N].

  what: 'MODALITY KIND'. mask [B] says of a whole whether it is there. Whole transformers read clips of one length, as
  they do in their papers: of their masks only counts whether anything is there. Raises UserError for a modality or a
  kind that is none, for what is of another modality, and what the encoder raises.
  """

  what: str
  width: int
  heads: int = 4
  mlp: int = 128
  layers: int = 2
  vocab: int = 0  # of text
  channels: tuple[int, ...] = (16, 32, 64)  # of convolutions
  patch: int = 8  # pixels, mel bins or steps
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> Tokens:
    encode = kind_of(self.what)
    modality = self.what.split()[0]
    self.check(modality, x)
    if modality in ('image', 'video'):
      x = to_float(x)
    x = zero_missing(x, mask)
    if mask.ndim == 1 and modality != 'image':
      mask = jnp.broadcast_to(mask[:, None], x.shape[:2])
    elif mask.ndim == 3 and modality != 'series':
      mask = mask.any(-1)
    return encode(self, x, mask, train)

  def check(self, modality: str, x: jax.Array) -> None:
    axes = 'BS' if self.what.split()[1] == 'wavenet' else AXES[modality]
    kinds = (jnp.integer,) if modality == 'text' else (jnp.floating, jnp.uint8)
    if x.ndim != len(axes) or not any(jnp.issubdtype(x.dtype, kind) for kind in kinds):
      wanted = f'{"int" if modality == "text" else "numbers"} [{",".join(axes)}]'
      raise UserError(f'encoder {self.what!r}: found {x.dtype} {list(x.shape)}, expected {wanted}')
    if modality == 'text' and self.vocab < 1:
      raise UserError(f'encoder {self.what!r}: found a vocabulary of {self.vocab} words, expected that of a text')
    if not self.channels or self.width % 2:
      raise UserError(
        f'encoder {self.what!r}: found channels {self.channels}, width {self.width}; expected one or more, an even one'
      )


def kind_of(what: str) -> Encode:
  """The encoder of that name. Raises UserError for none."""
  modality, _, kind = what.strip().partition(' ')
  if modality not in KINDS:
    raise UserError(
      f'encoder {what!r}: found {modality!r}, expected one of {", ".join(KINDS)}{nearest(modality, KINDS)}'
    )
  kinds = KINDS[modality]
  if kind not in kinds:
    raise UserError(f'encoder {what!r}: found {kind!r}, expected one of {", ".join(kinds)}{nearest(kind, kinds)}')
  return kinds[kind]


def whole(tokens: jax.Array, mask: jax.Array) -> Tokens:
  """Tokens [B,N,D] that are all there where anything is."""
  here = mask.reshape(len(mask), -1).any(1, keepdims=True)
  return tokens, jnp.broadcast_to(here, tokens.shape[:2])


def small(made: Callable[[Encoder], Any]) -> Encode:
  """An encoder that takes a mask and gives one."""
  return lambda m, x, mask, train: made(m)(x, mask, train=train)


def words(m: Encoder, ids: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  return Embed(m.vocab, m.width, init_std=0.1, name='word')(ids), mask


def steps(m: Encoder, series: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  x, there = read_steps(series, mask, None)
  return nn.Dense(m.width, name='project')(x), there


def bert(m: Encoder, ids: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  model = made_of(BERT, m, 'encoder', schedule=f'{m.layers}*[t<t]', positions=ids.shape[1], pooler=False)
  return model(ids, mask, train=train)['t'], mask


def gpt(m: Encoder, ids: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  model = made_of(GPT, m, 'encoder', schedule=f'{m.layers}*[t<t]', positions=ids.shape[1], words=False)
  return model(ids, mask, train=train)['t'], mask


def grid(m: Encoder, image: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  cells = convolved(image, m.channels)
  return whole(nn.Dense(m.width, name='project')(rearrange(cells, 'B y x F -> B (y x) F')), mask)


def patches(m: Encoder, image: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  side = (m.patch, m.patch)
  if image.shape[1] % m.patch or image.shape[2] % m.patch:
    raise UserError(f'image {image.shape[1:3]}: expected a multiple of the patch size {m.patch}')
  cells = nn.Conv(m.width, side, side, 'VALID', name='project')(image)
  return whole(rearrange(cells, 'B y x D -> B (y x) D'), mask)


def resnet(m: Encoder, image: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  cells = ResNet((1, 1, 1, 1), m.channels[0], name='encoder')(image, train=train)
  return whole(nn.Dense(m.width, name='project')(rearrange(cells, 'B y x F -> B (y x) F')), mask)


def efficientnet(m: Encoder, image: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  cells = EfficientNetLite(name='encoder')(image, train=train)['v']
  return whole(nn.Dense(m.width, name='project')(rearrange(cells, 'B y x F -> B (y x) F')), mask)


def vit(m: Encoder, image: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  model = made_of(ViT, m, 'encoder', schedule=f'{m.layers}*[v<v]', image=image.shape[1])
  return whole(model(image, train=train)['v'], mask)


def tubelets(m: Encoder, video: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  return whole(TubeletEmbed(m.width, (2, m.patch, m.patch), name='encoder')(video), mask)


def of_tubelets(kind: type[ViViT] | type[VideoMAE]) -> Encode:
  def encode(m: Encoder, video: jax.Array, mask: jax.Array, train: bool) -> Tokens:
    size = {'image': video.shape[2], 'frames': video.shape[1], 'tubelet': (2, m.patch, m.patch)}
    return whole(made_of(kind, m, 'encoder', schedule=f'{m.layers}*[f<f]', **size)(video, train=train)['f'], mask)

  return encode


def timesformer(m: Encoder, video: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  model = made_of(TimeSformer, m, 'encoder', image=video.shape[2], frames=video.shape[1])
  return whole(model(video, train=train)['f'], mask)


def ast(m: Encoder, spectrogram: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  size = {'frames': spectrogram.shape[1], 'bins': spectrogram.shape[2], 'strides': (m.patch, m.patch)}
  model = made_of(AST, m, 'encoder', schedule=f'{m.layers}*[a<a]', **size)
  return whole(model(spectrogram, train=train)['a'], mask)


def whisper(m: Encoder, spectrogram: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  if spectrogram.shape[1] % 2:
    raise UserError(f'encoder {m.what!r}: found {spectrogram.shape[1]} frames, expected an even number')
  size = {'frames': spectrogram.shape[1], 'bins': spectrogram.shape[2]}
  model = made_of(SoundEncoder, m, 'encoder', schedule=f'{m.layers}*[a<a]', **size)
  return whole(model(spectrogram, train=train), mask)


def series_patches(m: Encoder, series: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  most = -(-series.shape[1] // m.patch)
  return made_of(SeriesPatches, m, 'encoder', stride=m.patch, positions=most)(series, mask, train=train)


def patchtst(m: Encoder, series: jax.Array, mask: jax.Array, train: bool) -> Tokens:
  size = {
    'channels': series.shape[2],
    'context': series.shape[1],
    'stride': m.patch,
    'norms': 'layernorm',
    'scaling': 'none',
  }
  seen = jnp.broadcast_to(mask if mask.ndim == 3 else mask[..., None], series.shape)
  x = made_of(PatchTST, m, 'encoder', **size)(jnp.where(seen, series, 0), seen, train=train)['s']
  return whole(rearrange(x, 'B C S D -> B (C S) D'), mask)


KINDS: dict[str, dict[str, Encode]] = {
  'text': {
    'words': words,
    'lstm': small(lambda m: made_of(WordRNN, m, 'encoder', kind='lstm')),
    'gru': small(lambda m: made_of(WordRNN, m, 'encoder', kind='gru')),
    'bert': bert,
    'gpt': gpt,
  },
  'image': {'grid': grid, 'patches': patches, 'resnet': resnet, 'efficientnet': efficientnet, 'vit': vit},
  'video': {
    'conv3d': small(lambda m: made_of(VideoConv, m, 'encoder')),
    'lstm': small(lambda m: made_of(FrameRNN, m, 'encoder', kind='lstm')),
    'gru': small(lambda m: made_of(FrameRNN, m, 'encoder', kind='gru')),
    'tubelets': tubelets,
    'vivit': of_tubelets(ViViT),
    'videomae': of_tubelets(VideoMAE),
    'timesformer': timesformer,
  },
  'audio': {
    'conv': small(lambda m: made_of(SpectrogramConv, m, 'encoder')),
    'wavenet': small(lambda m: made_of(WaveNet, m, 'encoder', channels=m.channels[0])),
    'ast': ast,
    'whisper': whisper,
  },
  'series': {
    'steps': steps,
    'lstm': small(lambda m: made_of(SeriesRNN, m, 'encoder', kind='lstm')),
    'gru': small(lambda m: made_of(SeriesRNN, m, 'encoder', kind='gru')),
    'tcn': small(lambda m: made_of(SeriesTCN, m, 'encoder')),
    'patches': series_patches,
    'patchtst': patchtst,
  },
}
