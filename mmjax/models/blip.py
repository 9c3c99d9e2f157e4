"""BLIP: Bootstrapping Language-Image Pre-training (Li et al. 2022, arXiv:2201.12086).

A ViT sees; a BERT works in three ways (section 3.1, figure 2): alone, as the text encoder of a contrastive loss; with
cross-attention to the image, as an encoder that says whether the two match; and, with causal self-attention, as a
decoder that writes. The layers of text are one line, schedules.BLIP, which reads:

  12*[t<t noffn; t<v]  12 layers: text reads text, then text reads the image, then feed-forward; each is added to what
                       it was given, and the sum is layer-normed. Alone, text passes over the second step

B texts, N images, h x w pixels, L words, P patches (the first a learnt token), D width of text, V vocabulary, E size of
the shared space.

Differs from the paper: nothing. Where HuggingFace's code and the authors' differ (heads of text, eps of the ViT, what
cosines are multiplied by, the first word of a text to be matched), arguments and callers choose; defaults are the
authors'.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.fusion import schedules
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedule import parse, sees_future
from mmjax.layers.attention import causal
from mmjax.layers.blocks import Transform, made_of, unit
from mmjax.layers.cache import CACHE, stepping
from mmjax.layers.embed import TextEmbed
from mmjax.models.vit import ViT


class Text(nn.Module):
  """The text transformer (section 3.1, figure 2). text [B,L] int, text_mask [B,L] bool, seen [N,P,F] float or None.

  seen: an encoded image (or another encoded text), seen_mask [N,P] bool; None leaves its attention out. B is a multiple
  of N. writes: self-attention is causal, and the words that follow are scored.
  rows and at: how many words are kept in the collection `layers.cache.CACHE` for later calls, and the position of the
  first one given; text_mask is then [B,rows], and `seen` without rows stands for one that was given before.
  Returns 't' [B,L,D] and, where it writes, 'words' [B,L,V]: logits.
  Raises UserError for a writer whose schedule lets a word learn of later ones.
  """

  vocab: int = 30524
  positions: int = 512
  schedule: str = schedules.BLIP
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  masking: str = 'add'
  init_std: float = 0.02
  writes: bool = False
  own_scores: bool = False  # a writer's output layer is one of its own, not the table of words
  scan: bool = True

  @nn.compact
  def __call__(
    self,
    text: jax.Array,
    text_mask: jax.Array,
    seen: jax.Array | None,
    seen_mask: jax.Array | None = None,
    rows: int = 0,
    at: jax.Array | int = 0,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    length = text.shape[1]
    words = made_of(TextEmbed, self, 'text', types=0)
    x = {'t': words(text, at=at + jnp.arange(length)[None], train=train)}
    mask = {'t': text_mask}
    if seen is not None:
      x['v'] = seen
      mask |= {} if seen_mask is None else {'v': seen_mask}
    edge_mask = {}
    if self.writes:
      if sees_future(parse(self.schedule), 't'):
        raise UserError(f'schedule {self.schedule!r}: a word that is written would learn of those behind it')
      edge_mask['t<t'] = causal(length, rows or length, at)
    memory = {'t': (rows, at), 'v': (0, 0)} if rows else None
    width = {'t': self.width} | ({} if seen is None else {'v': seen.shape[-1]})
    stack = made_of(FusionStack, self, 'encoder', width=width)
    x = stack(x, mask, edge_mask, memory=memory, without='v' if seen is None else '', train=train)
    out = {'t': x['t']}
    if self.writes:
      found = Transform(self.width, self.eps, self.activation, self.init_std, name='masked_word')(x['t'])
      if self.own_scores:
        out['words'] = nn.Dense(self.vocab, kernel_init=nn.initializers.normal(self.init_std), name='word_score')(found)
      else:
        out['words'] = words.word.attend(found) + self.param('word_bias', nn.initializers.zeros, (self.vocab,))
    return out


class BLIP(nn.Module):
  """An image, and what the text transformers make of it: what of `encoder` and `decoder` is there says what for.

  encoder and out: contrast and matching (section 3.2); decoder: captions; encoder and decoder without out: questions,
  where the decoder answers from the encoded question (section 5.3, figure 5a).

  image [N,h,w,3] float, normalised as the weights were trained; text [B,L] int, text_mask [B,L] bool, which all that is
  there reads; where it answers, answer [B,L] int and answer_mask [B,L] bool are what is written instead.
  Returns 'v' [N,P,F] and, where they can be had, 'image' [N,E] and 'text' [B,E] of unit length, 'alone' [B,L,D] (text
  that saw no image), 't' [B,L,D] (text that read the image), 'matched' [B,2] (1: they belong together) and 'words'
  [B,L,V], the scores of the word that follows. All scores are logits.
  """

  image: ViT
  encoder: Text | None = None
  decoder: Text | None = None
  out: int = 256
  reads_padding: bool = False  # HuggingFace's decoder reads the padding of a question too

  def setup(self):
    if self.out:
      dense = lambda size: nn.Dense(size, kernel_init=nn.initializers.normal(self.image.init_std))
      self.image_project, self.text_project, self.match = dense(self.out), dense(self.out), dense(2)

  def __call__(
    self,
    image: jax.Array,
    text: jax.Array,
    text_mask: jax.Array,
    answer: jax.Array | None = None,
    answer_mask: jax.Array | None = None,
    *,
    train: bool,
  ) -> dict[str, jax.Array]:
    seen = self.image(image, train=train)['v']
    out = {'v': seen}
    if self.out:
      out |= {'image': self.of_image(seen)} | self.alone(text, text_mask, train=train)
    if self.encoder:
      out |= self.read(text, text_mask, seen, train=train)
    if self.decoder and (self.out or not self.encoder):
      out |= {'words': self.write(text, text_mask, seen, train=train)}
    elif self.decoder and answer is not None and answer_mask is not None:
      question_mask = None if self.reads_padding else text_mask
      out |= {'words': self.write(answer, answer_mask, out['t'], question_mask, train=train)}
    return out

  def part(self, name: str) -> Text:
    """The encoder or the decoder. Raises UserError where it is not there."""
    found = getattr(self, name)
    if found is None:
      raise UserError(f'BLIP without {name}: expected one with {name}=Text(...)')
    return found

  def shared(self) -> None:
    """Raises UserError where there is no space that images and texts share."""
    if not self.out:
      raise UserError('BLIP with out=0: expected the size of a space that images and texts share')

  def of_image(self, seen: jax.Array) -> jax.Array:
    """The image's vector: [N,E], off the first patch. Raises UserError for out=0, as `alone`."""
    self.shared()
    return unit(self.image_project(seen[:, 0]))

  def alone(self, text: jax.Array, text_mask: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    """The text by itself: 'text' [B,E], off its first word."""
    self.shared()
    x = self.part('encoder')(text, text_mask, None, train=train)['t']
    return {'alone': x, 'text': unit(self.text_project(x[:, 0]))}

  def read(self, text: jax.Array, text_mask: jax.Array, seen: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    """The text that reads the image, and whether they match, off its first word."""
    x = self.part('encoder')(text, text_mask, seen, train=train)['t']
    return {'t': x} | ({'matched': self.match(x[:, 0])} if self.out else {})

  def write(self, text: jax.Array, text_mask: jax.Array, seen: jax.Array, seen_mask=None, rows=0, at=0, *, train: bool):
    """Scores of the word that follows each: [B,L,V]; rows and at as in `Text`."""
    return self.part('decoder')(text, text_mask, seen, seen_mask, rows, at, train=train)['words']


def writer(model: BLIP, variables: Mapping, seen: jax.Array, seen_mask: jax.Array | None, rows: int):
  """What `generate` decodes with: texts of at most `rows` words about what is seen [N,P,F] (`BLIP.read`, or 'v')."""
  how: dict[str, Any] = {'train': False, 'method': 'write', 'mutable': [CACHE]}

  def score(state, ids, at, first):
    about = seen if first else seen[:, :0]  # kept from the first time on
    return model.apply(state, ids, jnp.ones((len(ids), rows), bool), about, seen_mask, rows, at, **how)

  return stepping(variables, score)
