"""TIRG: an image and what should be different of it, as one query (Vo et al. 2019, arXiv:1812.07119), and its rivals.

A picture and a few words become one vector, which is to be near that of the picture that is wanted. TIRG lets the words
gate the picture's vector and add to it (equations 1 to 3). A schedule instead lets words and cells of the picture read
one another first, as this project's other models do.

B queries, N images, h x w pixels, L words, P cells, D width, E size of the space.

Differs from the paper: TIRG's variant on the last layer, not the convolutional one; a small tower and word vectors in
place of ResNet-17 and an LSTM.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.encoders.image import ConvGrid
from mmjax.errors import UserError, nearest
from mmjax.fusion.layers import FusionStack
from mmjax.layers.blocks import unit
from mmjax.layers.embed import Embed

HOW = ('image', 'text', 'sum', 'tirg')


class Composer(nn.Module):
  """how: 'image' or 'text' alone, their 'sum', 'tirg', or a schedule of the streams t and v.

  text [B,L] int, 0 for padding; image [B,h,w,3] and wanted [N,h,w,3] uint8. Returns 'text' [B,E] (the query) and
  'image' [N,E] (what it looks for), both of unit length, and 'scale', as CLIP does. Raises UserError for another how.
  """

  vocab: int
  positions: int
  how: str = 'tirg'
  channels: tuple[int, ...] = (32, 64, 128)
  width: int = 64
  heads: int = 4
  mlp: int = 128
  out: int = 64

  def setup(self):
    if self.how not in HOW and '[' not in self.how:
      raise UserError(f'how: found {self.how!r}, expected one of {HOW}{nearest(self.how, HOW)}, or a schedule')
    self.grid, self.cell = ConvGrid(self.channels), nn.Dense(self.width)
    self.place = self.param('place', nn.initializers.normal(0.02), (self.positions, self.width))
    self.word = Embed(self.vocab, self.width, init_std=0.1)
    sizes: Any = {'dropout': 0.0, 'attention_dropout': 0.0, 'scan': False, 'norm': 'pre'}
    stack = lambda schedule: FusionStack(schedule, self.width, self.heads, self.mlp, **sizes)
    self.phrase = stack('1*[t<t]')
    self.of_image, self.of_text = nn.Dense(self.out), nn.Dense(self.out)
    if self.how == 'tirg':
      hidden, out = (lambda: nn.Dense(2 * self.out)), (lambda: nn.Dense(self.out))
      self.gate, self.more = nn.Sequential([hidden(), nn.relu, out()]), nn.Sequential([hidden(), nn.relu, out()])
      self.weights = self.param('weights', nn.initializers.ones, (2,))
    elif self.how not in HOW:
      self.fuse, self.fused = stack(self.how), nn.Dense(self.out)
    self.log_scale = self.param('log_scale', nn.initializers.constant(jnp.log(1 / 0.07)), ())

  def see(self, image: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    """The cells [N,P,D] of images, and a vector of each [N,E], not of unit length."""
    cells = self.cell(self.grid(image, train=train)[0])
    return cells, self.of_image(nn.relu(cells).mean(1))

  def query(self, text: jax.Array, image: jax.Array, *, train: bool) -> jax.Array:
    """The vector [B,E] of what is wanted."""
    mask = text > 0
    words = self.phrase({'t': self.word(text) + self.place[: text.shape[1]]}, {'t': mask}, train=train)['t']
    mean = (words * mask[..., None]).sum(1) / jnp.maximum(mask.sum(1, keepdims=True), 1)
    cells, seen = self.see(image, train=train)
    said = self.of_text(mean)
    if self.how == 'tirg':
      both = nn.relu(jnp.concatenate([seen, said], -1))
      return unit(self.weights[0] * nn.sigmoid(self.gate(both)) * seen + self.weights[1] * self.more(both))
    if self.how not in HOW:
      read = self.fuse({'t': words, 'v': cells}, {'t': mask}, train=train)
      return unit(seen + self.fused(read['v'].mean(1)))
    return unit({'image': seen, 'text': said, 'sum': seen + said}[self.how])

  def wanted(self, image: jax.Array, *, train: bool) -> jax.Array:
    """The vectors [N,E] of pictures that can be wanted."""
    return unit(self.see(image, train=train)[1])

  def __call__(self, text: jax.Array, image: jax.Array, wanted: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    query, found = self.query(text, image, train=train), self.wanted(wanted, train=train)
    return {'text': query, 'image': found, 'scale': jnp.exp(self.log_scale)}
