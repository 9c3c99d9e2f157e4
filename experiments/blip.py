"""BLIP (Li et al. 2022, arXiv:2201.12086) trained on pairs of image and text: contrast, matching and captions at once.

Prepares the data, trains, then writes captions of pictures of concepts that no training picture shows, beside copies of
the nearest training caption, and searches among them by contrast alone and read again by the matching encoder. Prints
both with intervals and writes a report with pictures. The same command goes on where an interrupted run stopped.
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/blip.py:twemoji'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import blip as complete
from experiments import asking, faithful, pairs, telling, training
from mmjax import augment, generate, objectives, train
from mmjax.data import tokens, twemoji
from mmjax.encoders.image import to_float
from mmjax.fusion import relevance
from mmjax.fusion.layers import MAPS
from mmjax.metrics import captions
from mmjax.models.blip import BLIP, Text, writer
from mmjax.models.blip_pretraining import Pretraining
from mmjax.models.vit import ViT
from mmjax.workdir import open_workdir

HELD_OUT = {'new concepts': ('test',), 'new categories': ('unseen',)}  # -> splits
WAYS = ('text to image', 'image to text')
CONTRAST, READ = 'BLIP, contrast alone', 'BLIP, read again by the matching encoder'
WRITTEN, NEAREST, PIXELS = 'BLIP', 'caption of the nearest training picture', 'the same, nearest by pixels'
SHOWN = 12  # captions in the report
AT_ONCE = 2048  # pairs that the matching encoder reads


def build(c, task: pairs.Pairs) -> Pretraining:
  """BLIP and what it needs to be trained. Two ids behind the vocabulary begin what is read and what is written."""
  text = functools.partial(Text, vocab=task.vocab + 2, positions=task.length, **c.model.text)
  model = BLIP(ViT(image=twemoji.SIDE, **c.model.image), text(), text(writes=True), c.model.out)
  return Pretraining(model, first=(task.vocab, task.vocab + 1), **c.contrast)


class Reader:
  """A trained BLIP at work."""

  def __init__(self, c, pre: Pretraining, task: pairs.Pairs, params: Mapping):
    self.c, self.pre, self.task, self.variables = c, pre, task, pre.variables(params)

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
    """Scores [Q,N] of queries for candidates, one of the WAYS, with the probability of a match added to the best.

    That is to the `rerank` best of each row; the rest come behind them, as in the authors' evaluation.
    """
    best = np.argsort(-scores, 1, kind='stable')[:, : self.c.rerank]
    query, candidate = np.repeat(np.arange(len(scores)), best.shape[1]), best.ravel()
    which_text, which_image = (query, candidate) if way == WAYS[0] else (candidate, query)
    reads = self.begun(text)
    seen, match = self.see(image)[0], np.zeros(len(query))
    for start in range(0, len(query), AT_ONCE):
      rows = np.arange(start, start + AT_ONCE) % len(query)  # always so many: compiled once
      match[rows] = _match(self.pre.model, self.variables, reads[which_text[rows]], seen[which_image[rows]])
    again = scores - 100
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
    return np.asarray(_match(self.pre.model, self.variables, reads, self.see(image)[0]))


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
  return jax.nn.softmax(out['matched'])[:, 1]


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5))
def _write(model: Any, variables: Mapping, seen: jax.Array, first: int, length: int, beams: int):
  step, prompt = writer(model, variables, seen, None, length), jnp.full((len(seen), 1), first)
  return generate.beam(step, prompt, beams=beams, length=length, end=tokens.SPECIAL.index('[SEP]'))


def drawn(c, task: pairs.Pairs):
  """What `train.train_step` draws anew of a batch, and its captions: the names alone."""

  def augmented(batch, key):
    caption = augment.closed(batch['text'], batch['part'] <= 1)[:, : c.data.caption]
    batch = augment.pairs(batch, key, **c.augment)
    return {**batch, 'image': to_float(batch['image']), 'caption': caption}

  return augmented


def search(reader: Reader, held: pairs.Arrays) -> dict[str, dict[str, pairs.Score]]:
  """{'system, way': scores} by contrast alone, and with the first of it read again."""
  text, image, right = held['text'], held['image'], np.eye(len(held['text']), dtype=bool)
  found, scores = {}, reader.contrast(text, image)
  for way, table in zip(WAYS, (scores, scores.T)):
    found[f'{CONTRAST}, {way}'] = pairs.search(table, right, held['concept'])
    found[f'{READ}, {way}'] = pairs.search(reader.read_again(table, way, text, image), right, held['concept'])
  return found


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


def describe(reader: Reader, task: pairs.Pairs, held: pairs.Arrays) -> dict[str, list[str]]:
  """{system: its captions of what is held out}."""
  train = task.arrays('train')
  flat = lambda image: image.reshape(len(image), -1).astype(np.float32) / 255
  a, b = flat(held['image']), flat(train['image'])
  by_pixels = 2 * a @ b.T - (b**2).sum(1)
  by_vectors = np.asarray(reader.see(held['image'])[1] @ reader.see(train['image'])[1].T)
  return {
    WRITTEN: reader.write(held['image']),
    NEAREST: nearest(by_vectors, train),
    PIXELS: nearest(by_pixels, train),
  }


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/blip.py')
  task = pairs.prepare(c.data.name, c.data.dir, c.data.length)
  pre = build(c, task)
  first = {key: value[None] for key, value in task.encode(task.splits['train'][0]).items()}
  axis = train.AXIS if c.parallel.how == 'pmap' else None
  fit = training.Fit(
    c,
    jax.jit(lambda key: pre.init(key, to_float(jnp.asarray(first['image'])), jnp.asarray(first['text'])))(
      jax.random.key(c.seed)
    ),
    forward=functools.partial(pre.forward, axis=axis),
    objective=objectives.blip,
    augment=drawn(c, task),
    source=task.splits['train'],
    encode=task.encode,
  )
  reader = lambda: Reader(c, pre, task, fit.state.params)
  workdir = open_workdir(args.workdir, c.to_dict(), fresh=fresh)
  found: dict[str, Any] = {}

  def validate() -> dict[str, float]:
    held = task.arrays('validation')
    scores = reader().contrast(held['text'], held['image'])
    return {'accuracy': pairs.search(scores, np.eye(len(scores), dtype=bool), held['concept'])['R@5'][0]}

  def test() -> dict[str, dict[str, float]]:
    lines = {}
    for name, splits in HELD_OUT.items():
      held, now = task.arrays(*splits), reader()
      written = describe(now, task, held)
      found[name] = {'held': held, 'search': search(now, held), 'written': written}
      found[name]['judged'] = {system: judged(texts, held) for system, texts in written.items()}
      every = held['text'], held['image']
      score = lambda image, now=now, text=held['text']: now.matches(text, image)
      what = 'The probability that a picture matches its text'
      found[name]['faithful'] = faithful.table(score, held['image'], now.maps(*every), held['image'][0, 0, 0], what)
      for system, scores in {**found[name]['search'], **found[name]['judged']}.items():
        lines[f'test, {name}: {system}'] = {k: v[0] if isinstance(v, tuple) else v for k, v in scores.items()}
    return lines

  with training.Course(fit, workdir, args) as course:
    for step, batch in course:
      fit.state, sums = fit.step(fit.state, batch, course.key)
      course.log(step, sums)
      if course.due(step):
        course.save(step, validate)
    course.end(test, WRITTEN)
  finish(c, task, pre, found, fit, workdir, began)


def finish(c, task: pairs.Pairs, pre: Pretraining, found: Mapping, fit: training.Fit, workdir, began: float) -> None:
  """The tables, the pictures and the report."""
  cider = found['new concepts']['judged'][WRITTEN]['CIDEr'][0]
  summary = [
    ('CIDEr', f'{100 * cider:.1f}'),
    ('held out', 'concepts that no training picture shows: new ones of known categories, and ten categories'),
    ('departures from the paper', 'none; sizes, recipe and data are ours, and a text to be captioned is a name alone'),
  ]
  telling.finish(
    c,
    workdir,
    title=f'BLIP: {c.data.name}',
    summary=summary,
    tables=[caption_table(found), search_table(c, found), found['new concepts']['faithful']],
    galleries=[gallery(name, part) for name, part in found.items()],
    params=fit.state.params,
    began=began,
  )
  reading = asking.Reading(twemoji.SIDE, length=task.length, first=pre.first)
  asking.keep(workdir / 'model', pre.model, pre.variables(fit.state.params), task.tokenizer, reading)
  print(f'for experiments.ask: --weights={workdir / "model"}')


def caption_table(found: Mapping) -> dict:
  rows: list[dict] = []
  for name, part in found.items():
    for system, scores in part['judged'].items():
      cells = {k: pairs.shown('', *v) if isinstance(v, tuple) else pairs.shown('', v) for k, v in scores.items()}
      source = 'this run' if system == WRITTEN else 'computed here'
      ours = {'ours': True} if system == WRITTEN else {}
      rows.append({'system': system, 'test': f'{len(part["held"]["name"])} of {name}', 'source': source} | cells | ours)
  return {
    'title': 'Captions',
    'columns': ['system', 'test', 'CIDEr', 'ROUGE-L', 'BLEU-1', 'BLEU-4', 'the very words', 'source'],
    'rows': rows,
    'notes': [
      'All times 100, against the one name that a picture has. In brackets: 95 % intervals of this one run, by drawing '
      'whole concepts. Names have one to four words, so that BLEU-4 has nearly nothing to count.',
      'The nearest training picture is that of the highest cosine of the vectors that this run learnt.',
    ],
  }


def search_table(c, found: Mapping) -> dict:
  rows: list[dict] = []
  for name, part in found.items():
    among = len(part['held']['name'])
    for way in WAYS:
      for system in (CONTRAST, READ):
        scores = {key: pairs.shown(key, *value) for key, value in part['search'][f'{system}, {way}'].items()}
        where = {'what finds what': way, 'among': f'{among:,} of {name}'}
        rows.append({'system': system, 'source': 'this run', 'ours': True} | where | scores)
    chance = {key: pairs.shown(key, value) for key, value in pairs.chance(among).items()}
    where = {'what finds what': 'either', 'among': f'{among:,} of {name}'}
    rows.append({'system': 'chance', 'source': 'computed here'} | where | chance)
  return {
    'title': 'Search among what was not learnt from',
    'columns': ['system', 'what finds what', 'among', 'R@1', 'R@5', 'R@10', 'median rank', 'source'],
    'rows': rows,
    'notes': [f'Read again: the {c.rerank} that contrast puts first, by cosine plus the probability that they match.'],
  }


def gallery(name: str, part: Mapping) -> dict:
  held, written = part['held'], part['written']
  rows = []
  for n in np.linspace(0, len(held['name']) - 1, SHOWN).astype(int):
    own = str(held['name'][n])
    items = [{'text': texts[n], 'score': system, 'right': same(texts[n], own)} for system, texts in written.items()]
    rows.append({'query': {'image': held['image'][n], 'text': own}, 'found': items})
  return {'title': f'Captions of {name}', 'note': 'Beside each picture with its name: what was written.', 'rows': rows}


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
