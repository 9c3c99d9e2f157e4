"""BLIP that reads two images (Li et al. 2022, arXiv:2201.12086, section 5.4 and figure 5b): is a sentence true of both?

Each layer of text has two cross-attentions, one an image, with weights of their own. What both bring is averaged in the
first layers, and joined by a learnt projection in the later ones. The first token says whether the sentence is true.

B texts with two images each, h x w pixels, L words, P patches, D width, H heads, C head size.

Differs from the paper: nothing. Which layers average, and the head, are the authors' code's.
"""

from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from mmjax.fusion.layers import weighing
from mmjax.fusion.owner import Owner, head_shape
from mmjax.layers.attention import attend
from mmjax.layers.blocks import Transform, made_of
from mmjax.layers.embed import TextEmbed
from mmjax.models.vit import ViT


class TwinLayer(nn.Module):
  """Text [B,L,D] reads itself, then both of seen [B,2,P,F], then feed-forward; each is added and layer-normed.

  merges: what the images bring passes one projection side by side; else it is averaged.
  """

  width: int
  heads: int
  mlp: int
  merges: bool
  eps: float
  activation: str
  dropout: float
  attention_dropout: float
  masking: str
  init_std: float

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, seen: jax.Array, *, train: bool) -> jax.Array:
    drop = nn.Dropout(self.dropout, deterministic=not train)
    size = head_shape(self.width, self.heads, 't')
    owner = partial(Owner, self.width, *size, self.mlp, self.eps, self.activation, 0.0, self.init_std)

    def read(mine: Owner, source: jax.Array, mask: jax.Array | None, name: str) -> jax.Array:
      drop_weights = nn.Dropout(self.attention_dropout, deterministic=not train)
      query, (key, value) = mine.split(mine.query(x)), mine.keys_values(source)
      values = attend(query, key, value, mask, masking=self.masking, weigh=weighing(self, name, drop_weights))
      return mine.out(rearrange(values, 'B Q H C -> B Q (H C)'))

    text = owner(name='text')
    x = text.norm(x + drop(read(text, x, mask[:, None], 't<t')))
    brought = [read(owner(name=f'image{n}'), seen[:, n], None, f't<v{n}') for n in (0, 1)]
    if self.merges:
      merge = nn.Dense(self.width, kernel_init=nn.initializers.normal(self.init_std), name='merge')
      both = merge(jnp.concatenate(brought, -1))
    else:
      both = (brought[0] + brought[1]) / 2
    x = nn.LayerNorm(epsilon=self.eps, name='image_norm')(x + drop(both))
    return text.ffn_norm(x + drop(text.ffn(x, train=train)))


class BLIPNLVR(nn.Module):
  """image [B,2,h,w,3] float, normalised as the weights were trained; text [B,L] int, begun by the id that reads an
  image; text_mask [B,L] bool. Returns 'v' [B,2,P,F], 't' [B,L,D] and 'answers' [B,2], logits (1: it is true).
  """

  image: ViT
  vocab: int = 30524
  positions: int = 512
  layers: int = 12
  averages: int = 6  # how many of them, the first ones, average
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  masking: str = 'add'
  init_std: float = 0.02

  @nn.compact
  def __call__(self, image: jax.Array, text: jax.Array, text_mask: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    seen = self.image(rearrange(image, 'B two h w c -> (B two) h w c'), train=train)['v']
    seen = rearrange(seen, '(B two) P F -> B two P F', two=2)
    x = made_of(TextEmbed, self, 'text', types=0)(text, train=train)
    for n in range(self.layers):
      x = made_of(TwinLayer, self, f'layer{n}', merges=n >= self.averages)(x, text_mask, seen, train=train)
    answer = Transform(self.width, activation='relu', init_std=self.init_std, norm=False, name='answer')(x[:, 0])
    score = nn.Dense(2, kernel_init=nn.initializers.normal(self.init_std), name='answer_score')
    return {'v': seen, 't': x, 'answers': score(answer)}
