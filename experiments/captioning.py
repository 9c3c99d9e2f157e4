"""A trained BLIP at work: what it finds, what it writes, and how near that is to what a picture is called.

M pictures or texts, Q queries, N candidates, L words, P patches, F features, E size of the shared space.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import asking, pairs
from experiments.searching import WAYS, Found, both_ways
from mmjax import generate
from mmjax.data import tokens
from mmjax.encoders.image import to_float
from mmjax.fusion import relevance
from mmjax.fusion.layers import MAPS
from mmjax.metrics import captions
from mmjax.models.blip import writer
from mmjax.models.blip_pretraining import Pretraining

CONTRAST, READ = 'BLIP, contrast alone', 'BLIP, read again by the matching encoder'
TUNED, UNTUNED = 'BLIP, tuned for captions', 'BLIP, as pre-trained'
NEAREST, PIXELS = 'caption of the nearest training picture', 'the same, nearest by pixels'
AT_ONCE = 2048  # pairs that the matching encoder reads


class Reader:
  """A trained BLIP at work: one of the variables of `pre.model`."""

  def __init__(self, c, pre: Pretraining, task: pairs.Pairs, variables: Mapping):
    self.c, self.pre, self.task, self.variables = c, pre, task, variables

  def see(self, image: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """image uint8 [N,h,w,3] -> (patches [N,P,F], vectors [N,E])."""
    return _see(self.pre.model, self.variables, image)

  def begun(self, text: np.ndarray) -> np.ndarray:
    """text [Q,L], begun as one that reads an image."""
    return np.concatenate([np.full((len(text), 1), self.pre.first[0]), text[:, 1:]], 1)

  def contrast(self, text: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The cosine of each text [Q,L] with each image [N,h,w,3]: [Q,N]."""
    return np.asarray(_alone(self.pre.model, self.variables, text) @ self.see(image)[1].T)

  def read_again(self, scores: np.ndarray, way: str, text: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Scores [Q,N] of queries for candidates, one of the WAYS, with the logit of a match added to the best.

    That is to the `rerank` best of each row; the rest come behind them (evaluation of the authors' train_retrieval.py).
    """
    best = np.argsort(-scores, 1, kind='stable')[:, : self.c.rerank]
    query, candidate = np.repeat(np.arange(len(scores)), best.shape[1]), best.ravel()
    which_text, which_image = (query, candidate) if way == WAYS[0] else (candidate, query)
    reads, seen = self.begun(text), self.see(image)[0]
    one = lambda part: _match(self.pre.model, self.variables, reads[part['text']], seen[part['image']])[:, 1]
    match = pairs.in_parts(one, {'text': which_text, 'image': which_image}, AT_ONCE)
    again = scores - 1000
    again[query, candidate] = scores[query, candidate] + match
    return again

  def write(self, image: np.ndarray) -> list[str]:
    """A caption of each image [N,h,w,3], by beam search."""
    how = (self.pre.first[1], self.c.data.caption, self.c.beams)
    ids = np.asarray(_write(self.pre.model, self.variables, self.see(image)[0], *how))
    known = (ids >= len(tokens.SPECIAL)) & (ids < self.task.vocab)
    return [' '.join(tokens.words(self.task.tokenizer, row[word])) for row, word in zip(ids, known)]

  def maps(self, text: np.ndarray, image: np.ndarray) -> dict[str, np.ndarray]:
    """Which patches say that each text [M,L] matches its image [M,h,w,3]: raw attention and relevance, [M,P]."""
    reads = self.begun(text)
    found, gradients = _maps(self.pre.model, self.variables, reads, image)
    model: Any = self.pre.model
    patches = 1 + (model.image.image // model.image.patch) ** 2
    into_text = ('encoder/encoder', model.encoder.schedule, {'t': text.shape[1], 'v': patches}, ('t', 'v'))
    within = ('image/encoder', model.image.schedule, {'v': patches}, ('v', 'v'))
    attention, relevant = asking.traced(found, gradients, [into_text, within])
    return {'relevance, all layers': np.asarray(relevant), 'attention, last layer': np.asarray(attention)}

  def matches(self, text: np.ndarray, image: np.ndarray) -> np.ndarray:
    """How likely each text [M,L] matches its image [M,h,w,3]: [M]."""
    reads = self.begun(text)
    return np.asarray(jax.nn.softmax(_match(self.pre.model, self.variables, reads, self.see(image)[0])))[:, 1]


@functools.partial(jax.jit, static_argnums=0)
def _maps(model: Any, variables: Mapping, text: jax.Array, image: jax.Array):
  def matched(m):
    return m.read(text, text > 0, m.image(to_float(image), train=False)['v'], train=False)['matched']

  apply = lambda more: model.apply({**variables, **more}, method=matched, mutable=[MAPS])
  return relevance.maps_and_gradients(apply, lambda out: jax.nn.log_softmax(out)[:, 1])[1:]


@functools.partial(jax.jit, static_argnums=0)
def _see(model: Any, variables: Mapping, image: jax.Array):
  def both(m):
    seen = m.image(to_float(image), train=False)['v']
    return seen, m.of_image(seen)

  return model.apply(variables, method=both)


@functools.partial(jax.jit, static_argnums=0)
def _alone(model: Any, variables: Mapping, text: jax.Array):
  return model.apply(variables, text, text > 0, train=False, method='alone')['text']


@functools.partial(jax.jit, static_argnums=0)
def _match(model: Any, variables: Mapping, text: jax.Array, seen: jax.Array):
  out = model.apply(variables, text, text > 0, seen, train=False, method='read')
  return out['matched']


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5))
def _write(model: Any, variables: Mapping, seen: jax.Array, first: int, length: int, beams: int):
  step, prompt = writer(model, variables, seen, None, length), jnp.full((len(seen), 1), first)
  return generate.beam(step, prompt, beams=beams, length=length, end=tokens.SPECIAL.index('[SEP]'))


def search(reader: Reader, pool: str, held: pairs.Arrays) -> dict[str, Found]:
  """Of contrast alone, and with the first of it read again."""
  text, image, right = held['text'], held['image'], np.eye(len(held['text']), dtype=bool)
  scores, again = reader.contrast(text, image), {}
  for way, table in zip(WAYS, (scores, scores.T)):
    again[f'{pool}, {way}'] = pairs.search(reader.read_again(table, way, text, image), right, held['concept'])
  return {CONTRAST: both_ways(pool, scores, held['concept']), READ: again}


def nearest(near: np.ndarray, train: pairs.Arrays) -> list[str]:
  """The names of the training pictures that are nearest: near [M,N], higher is nearer."""
  return [str(train['name'][n]) for n in near.argmax(1)]


def judged(written: list[str], held: pairs.Arrays) -> dict[str, pairs.Score | float]:
  """Scores of captions against the names, with 95 % intervals over concepts where they are means."""
  given = [[str(name)] for name in held['name']]
  each = captions.scores(written, given)
  each['the very words'] = np.array([same(text, names[0]) for text, names in zip(written, given)], float)
  return {name: pairs.mean(x, held['concept']) for name, x in each.items()} | captions.bleu(written, given)


def same(one: str, other: str) -> bool:
  """Whether two captions have the same words."""
  return captions.plain(one) == captions.plain(other)


def describe(reader: Reader, tuned: Reader, task: pairs.Pairs, held: pairs.Arrays) -> dict[str, list[str]]:
  """{system: its captions of what is held out}."""
  train = task.arrays('train')
  flat = lambda image: image.reshape(len(image), -1).astype(np.float32) / 255
  a, b = flat(held['image']), flat(train['image'])
  by_pixels = 2 * a @ b.T - (b**2).sum(1)
  by_vectors = np.asarray(reader.see(held['image'])[1] @ reader.see(train['image'])[1].T)
  return {
    TUNED: tuned.write(held['image']),
    UNTUNED: reader.write(held['image']),
    NEAREST: nearest(by_vectors, train),
    PIXELS: nearest(by_pixels, train),
  }
