"""The models by name: how our own format writes a model down, and what each is called with."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict

from mmjax.encoders.efficientnet import SIDE, EfficientNetLite
from mmjax.errors import UserError, nearest
from mmjax.models.ast import AST
from mmjax.models.bert import BERT
from mmjax.models.blip import BLIP, Text
from mmjax.models.blip_nlvr import BLIPNLVR
from mmjax.models.clip import CLIP, ImageTower, TextTower
from mmjax.models.dalle import DALLE
from mmjax.models.dvae import DVAE, Decoder, Encoder, ReleasedDVAE
from mmjax.models.gpt import GPT
from mmjax.models.imagegpt import ImageGPT
from mmjax.models.lit import PictureTower, SentenceTower
from mmjax.models.lxmert import LXMERT
from mmjax.models.mult import STREAMS, MulT
from mmjax.models.patchtst import PatchTST
from mmjax.models.timesformer import TimeSformer
from mmjax.models.uniter import UNITER
from mmjax.models.videomae import VideoMAE
from mmjax.models.vilbert import ViLBERT
from mmjax.models.vilt import ViLT
from mmjax.models.visualbert import VisualBERT
from mmjax.models.vit import ViT
from mmjax.models.vivit import ViViT
from mmjax.models.volta import VOLTA
from mmjax.models.whisper import SoundEncoder, TextDecoder, Whisper

OF_TEXT = (BERT, GPT, Text, TextTower, SentenceTower)
OF_IMAGES = (ViT, ImageTower, ImageGPT, DVAE, ReleasedDVAE, Encoder, Decoder, EfficientNetLite, PictureTower)
OF_BOTH = (LXMERT, VisualBERT, ViLBERT, UNITER, VOLTA, ViLT, CLIP, BLIP, BLIPNLVR, DALLE)
OF_SOUND_AND_VIDEO = (AST, VideoMAE, ViViT, TimeSformer, Whisper, SoundEncoder, TextDecoder)
OF_SEQUENCES = (MulT, PatchTST)
MODELS = {kind.__name__: kind for kind in (*OF_TEXT, *OF_IMAGES, *OF_BOTH, *OF_SOUND_AND_VIDEO, *OF_SEQUENCES)}
INTO = (  # kernels that read a region's feature or an image's channels, of which a model has one
  'params/regions/feature/kernel',
  'params/embed/region/kernel',
  'params/embed/look/kernel',
  'params/patches/stem_conv0/kernel',
  'params/patches/project/kernel',
  'params/image/patches/stem_conv0/kernel',
  'params/image/patches/project/kernel',
  'params/tubelets/kernel',
  'params/input/kernel',
  'params/encoder/input/kernel',
  'params/down_0/kernel',
  'params/resnet/stem1/kernel',
  'params/image/resnet/stem1/kernel',
  'params/stem/kernel',
  'params/network/stem/kernel',
  'params/image/network/stem/kernel',
)


def example(model: nn.Module, features: int = 0, box: int = 4) -> tuple:
  """What the model is called with, as small as can be. features: of a region, or channels of an image."""
  images = getattr(model, 'images', 1)
  several = (images,) if images > 1 else ()
  text, regions = jnp.zeros((1, 2), int), jnp.zeros((1, *several, 2, features))
  image = lambda tower: jnp.zeros((1, tower.image, tower.image, features))
  match model:
    case BERT() | GPT() | ImageGPT() | TextTower() | SentenceTower():
      return (text,)
    case ViT() | ImageTower() | PictureTower():
      return (image(model),)
    case AST():
      return (jnp.zeros((1, model.frames, model.bins)),)
    case Whisper():
      return jnp.zeros((1, model.sound.frames, model.sound.bins)), text
    case TextDecoder():
      return text, jnp.zeros((1, 2, model.width))
    case SoundEncoder():
      return (jnp.zeros((1, model.frames, model.bins)),)
    case PatchTST():
      return (jnp.zeros((1, model.context, model.channels)),)
    case VideoMAE() | ViViT() | TimeSformer():
      return (jnp.zeros((1, model.frames, model.image, model.image, features)),)
    case EfficientNetLite():
      return (jnp.zeros((1, SIDE, SIDE, features)),)
    case ViLT():
      return text, text == 0, jnp.zeros((1, images, model.patch, model.patch, features))
    case CLIP():
      return text, image(model.image)
    case Encoder() | DVAE() | ReleasedDVAE():
      side = 2 ** (model.layers if isinstance(model, DVAE) else 4)
      return (jnp.zeros((1, side, side, features)),)
    case Decoder():
      return (jnp.zeros((1, 1, 1, features)),)
    case DALLE():
      return jnp.zeros((1, model.words), int), jnp.zeros((1, 1), int)
    case BLIP():
      return image(model.image), text, text == 0, text, text == 0
    case BLIPNLVR():
      return jnp.zeros((1, 2, *image(model.image).shape[1:])), text, text == 0
    case VisualBERT():
      return text, text == 0, regions
    case UNITER():
      return text, text == 0, regions, jnp.zeros((1, *several, 2, model.BOX))
  return text, text == 0, regions, jnp.zeros((1, *several, 2, box))


def variables_of(model: nn.Module, given: tuple) -> Mapping:
  """The model's variables as shapes; nothing is computed."""
  made = jax.eval_shape(lambda: model.init(jax.random.key(0), *given, train=False))
  return {name: value for name, value in made.items() if name in ('params', 'batch_stats')}


def described(value: Any) -> Any:
  """A model (or what one is made of) as JSON. Raises UserError for a model that could not be read again."""
  if isinstance(value, nn.Module):
    if type(value).__name__ not in MODELS:
      raise UserError(f'{type(value).__name__}: expected one of {", ".join(MODELS)}')
    own = {f.name: getattr(value, f.name) for f in fields(value) if f.name not in ('parent', 'name')}
    return {'model': type(value).__name__, 'arguments': {name: described(v) for name, v in own.items()}}
  return dict(value) if isinstance(value, Mapping) else value


def built(value: Any, where: str) -> nn.Module:
  """The model that was described. Raises UserError that names what is unknown."""
  name, given = value.get('model'), value.get('arguments')
  if not isinstance(name, str) or name not in MODELS or not isinstance(given, dict):
    raise UserError(f'{where}: found model {name!r}, expected one of {", ".join(MODELS)}{nearest(name, MODELS)}')
  known = {f.name for f in fields(MODELS[name])} - {'parent', 'name'}
  for key in given:
    if key not in known:
      raise UserError(f'{where}: unknown argument {key!r} of {name}{nearest(key, known)}')

  def read(v):
    if isinstance(v, dict):
      return built(v, where) if 'model' in v else FrozenDict(v)
    return tuple(map(read, v)) if isinstance(v, list) else v

  try:
    return MODELS[name](**{key: read(v) for key, v in given.items()})
  except TypeError as error:
    raise UserError(f'{where}: {name}: {error}') from error


def shapes_of(model: nn.Module, found: Mapping[str, tuple[int, ...]], where: str) -> Mapping:
  """The variables that the model should have, as shapes; sizes of its inputs are read off what was found."""
  size = next((found[path][-2] for path in INTO if path in found and len(found[path]) > 1), 0)
  if isinstance(model, VOLTA) and model.embedding == 'vl-bert':
    size -= 8 * model.coordinates  # the box's sines and cosines stand beside the feature
  box = found.get('params/regions/box/kernel', (4, 0))[0]
  try:
    if isinstance(model, MulT):  # each stream has a number of features of its own
      sizes = {s: found.get(f'params/project_{s}/kernel', (model.width,))[0] for s in STREAMS}
      return variables_of(model, ({s: jnp.zeros((1, 2, size)) for s, size in sizes.items()},))
    return variables_of(model, example(model, max(size, 1), box))
  except (TypeError, ValueError) as error:  # sizes that do not fit one another
    raise UserError(f'{where}: {type(model).__name__} cannot be made: {error}') from error
