"""CLIP: Learning Transferable Visual Models From Natural Language Supervision (Radford et al. 2021, arXiv:2103.00020).

A text and an image, each through a tower of its own, meet as two unit vectors. Sizes default to ViT-B/32 (table 20).

B texts, N images, h x w pixels, L words, P patches, D width, E size of the shared space.

Differs from the paper: nothing. The released code, not the paper, has QuickGELU, x * sigmoid(1.702 x).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.encoders.image import PatchEmbed
from mmjax.encoders.resnet import AttentionPool, ResNet
from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack, watched
from mmjax.layers.attention import causal
from mmjax.layers.blocks import made_of, unit
from mmjax.layers.embed import Embed

INIT_STD = 0.02


class TextTower(nn.Module):
  """text [B,L] int, text_mask [B,L] bool (all where not given: a causal tower reads no padding before the end token),
  and, where texts are to be read without what they are filled up with, places [P,T] int (layers/packed.py).

  Returns ('t' [B,L,D] after the last norm, [B,E] read off the end token): the one of the highest id, as in the released
  code, or, with end >= 0, the first of that id. out=0: no projection, E = D.
  """

  vocab: int = 49408
  positions: int = 77
  schedule: str = schedules.BERT
  width: int = 512
  heads: int = 8
  mlp: int = 2048
  out: int = 512
  activation: str = 'quick_gelu'
  eps: float = 1e-5
  end: int = -1
  attention_dropout: float = 0.0
  scan: bool = True

  @nn.compact
  def __call__(
    self, text: jax.Array, text_mask: jax.Array | None = None, places: jax.Array | None = None, *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    length = text.shape[1]
    position = self.param('position', nn.initializers.normal(0.01), (self.positions, self.width))
    x = Embed(self.vocab, self.width, init_std=INIT_STD, name='word')(text) + position[:length]
    x = made_of(FusionStack, self, 'encoder', norm='pre', dropout=0.0)(
      {'t': x},
      {} if text_mask is None else {'t': text_mask},
      {'t<t': causal(length)},
      places={'t': places},
      train=train,
    )['t']
    x = nn.LayerNorm(epsilon=self.eps, name='norm')(x)
    at = text.argmax(1) if self.end < 0 else (text == self.end).argmax(1)
    read = jnp.take_along_axis(x, at[:, None, None], 1)[:, 0]
    return x, nn.Dense(self.out, use_bias=False, name='project')(read) if self.out else read


class ImageTower(nn.Module):
  """image [N,h,w,3] float, normalised as the weights were trained -> ('v', [N,E] the image's vector).

  A ViT ('v' [N,1+P,D], before the last norm), or, with `blocks`, a ResNet of those stages ('v' [N,y,x,32 width]).
  """

  image: int = 224
  patch: int = 32
  schedule: str = schedules.VIT
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  out: int = 512
  blocks: tuple[int, ...] = ()
  activation: str = 'quick_gelu'
  eps: float = 1e-5
  attention_dropout: float = 0.0
  scan: bool = True

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    if self.blocks:
      cells = watched(self, 'grid', ResNet(self.blocks, self.width, name='resnet')(image, train=train))
      return cells, AttentionPool((self.image // 32) ** 2, self.heads, self.out, name='pool')(cells)
    norm = lambda name: nn.LayerNorm(epsilon=self.eps, name=name)
    grid = (self.image // self.patch, self.image // self.patch)
    x = norm('first_norm')(PatchEmbed(self.width, self.patch, grid, bias=False, name='patches')(image))
    x = made_of(FusionStack, self, 'encoder', norm='pre', dropout=0.0)({'v': x}, train=train)['v']
    read = norm('norm')(x[:, 0])
    return x, nn.Dense(self.out, use_bias=False, name='project')(read) if self.out else read


class CLIP(nn.Module):
  """text [B,L] int, image [N,h,w,3] float, text_mask [B,L] bool, places [P,T] int where texts are packed.

  Returns 'text' [B,E] and 'image' [N,E] of unit length, 'scale' (a number: exp of the learnt logarithm, by which the
  cosines are multiplied, section 2.3), the vectors before they were normed, 'text_features' and 'image_features', and
  the towers' 't' and 'v'.
  """

  text: nn.Module  # TextTower, or another that gives the same
  image: nn.Module

  @nn.compact
  def __call__(
    self,
    text: jax.Array,
    image: jax.Array,
    text_mask: jax.Array | None = None,
    places: jax.Array | None = None,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    out, packed = {}, {} if places is None else {'places': places}  # a tower that takes none is not asked to
    out['t'], out['text_features'] = self.text(text, text_mask, train=train, **packed)
    out['v'], out['image_features'] = self.image(image, train=train)
    for name in ('text', 'image'):
      out[name] = unit(out[f'{name}_features'])
    return out | {'scale': jnp.exp(self.param('log_scale', nn.initializers.constant(jnp.log(1 / 0.07)), ()))}
