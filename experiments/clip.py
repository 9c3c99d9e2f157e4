"""CLIP (Radford et al. 2021, arXiv:2103.00020) trained on pairs of image and text.

Prepares the data, trains, searches among pictures of concepts that no training picture shows, prints how well each way
goes beside chance and a bag-of-words baseline, and writes a report with pictures and a page to search in. The same
command goes on where an interrupted run stopped.
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/clip.py:twemoji'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from configs import clip as complete
from experiments import asking, frozen, pairs, telling, training
from mmjax import objectives
from mmjax.data import tokens, twemoji
from mmjax.encoders import efficientnet
from mmjax.fusion.schedule import parse
from mmjax.models.clip import CLIP, ImageTower, TextTower
from mmjax.models.lit import Known
from mmjax.report import search
from mmjax.workdir import open_workdir

HELD_OUT = {'new concepts': ('test',), 'new categories': ('unseen',), 'both': ('test', 'unseen')}  # -> splits
SHOWN, NEAREST = 8, 8  # queries of a gallery, and what is shown for each
SYSTEM, BASELINE = 'CLIP', 'bag of words'
OURS: dict[str, dict] = {SYSTEM: {'ours': True}, BASELINE: {}}
SOURCES = {SYSTEM: 'this run', BASELINE: 'this run; arXiv:2103.00020, figure 2'}


def build(c, task: pairs.Pairs) -> tuple[CLIP, nn.Module]:
  """CLIP, and the baseline: an image tower like its own, which scores all words."""
  if isinstance(task, frozen.FrozenPairs):
    known = functools.partial(Known, dropout=c.frozen.dropout)
    return CLIP(known(c.model.out), known(c.model.out)), known(task.vocab)
  image = functools.partial(ImageTower, image=twemoji.SIDE, **c.model.image)
  text = TextTower(
    vocab=task.vocab,
    positions=task.length,
    out=c.model.out,
    end=tokens.SPECIAL.index('[SEP]'),
    **c.model.text,
  )
  return CLIP(text, image(out=c.model.out)), image(out=task.vocab)


def forward(model: nn.Module, given: Callable = pairs.given):
  """What `train.train_step` runs: CLIP on a batch of pairs."""

  def run(variables, batch, *, train, key):
    return applied(model, variables, given(batch), train, key)

  return run


def forward_bag(model: nn.Module, given: Callable = pairs.given):
  """The same of the baseline, on the images alone."""

  def run(variables, batch, *, train, key):
    (_, bag), kept = applied(model, variables, given(batch)[1:2], train, key)
    return {'bag': bag}, kept

  return run


def applied(model: nn.Module, variables: Mapping, given: tuple, train: bool, key) -> tuple[Any, Mapping]:
  """(what the model says, the collections that it changes: a ResNet's batch statistics)."""
  if not train:
    return model.apply(variables, *given, train=False), {}
  kept = [name for name in variables if name != 'params']
  return model.apply(variables, *given, train=True, rngs={'dropout': key}, mutable=kept)


def fit_of(c, model: nn.Module, forward: Callable, objective: Callable, task: pairs.Pairs, *given) -> training.Fit:
  """What trains one of the two."""
  return training.Fit(
    c,
    jax.jit(functools.partial(model.init, train=False))(jax.random.key(c.seed), *given),
    forward=forward,
    objective=objective,
    augment=functools.partial(task.drawn, **c.augment),
    source=task.splits['train'],
    encode=task.encode,
  )


def scores_of_clip(model: CLIP, variables: Mapping, task: pairs.Pairs, held: pairs.Arrays) -> np.ndarray:
  """The cosine of each of Q texts with each of N images: [Q,N]."""
  out = _apply(model, variables, *task.given(held))
  return np.asarray(out['text'] @ out['image'].T)


def scores_of_bag(model: nn.Module, variables: Mapping, often: np.ndarray, task: pairs.Pairs, held: pairs.Arrays):
  """How much likelier a text's words become by seeing the image: mean of log p(word | image) / p(word), [Q,N].

  often [V]: how often each word stands in the training texts.
  """
  text, image = held['text'], task.given(held)[1]
  gain = jax.nn.log_softmax(_apply(model, variables, image)[1]) - jnp.log(often / often.sum())
  word = (text >= len(tokens.SPECIAL)) * 1.0
  bag = jnp.zeros((len(text), len(often))).at[np.arange(len(text))[:, None], text].add(word)
  return np.asarray(bag @ gain.T / np.maximum(word.sum(1, keepdims=True), 1))


@functools.partial(jax.jit, static_argnums=0)
def _apply(model, variables, *given):
  return model.apply(variables, *given, train=False)


def measure(task: pairs.Pairs, score: Callable) -> dict[str, dict[str, pairs.Score]]:
  """{what was tried: its scores} of score(texts with images), on pictures of concepts that were not learnt from."""
  found = {}
  for name, splits in HELD_OUT.items():
    held = task.arrays(*splits)
    table, right = score(held), np.eye(len(held['text']), dtype=bool)
    found[f'{name}, text to image'] = pairs.search(table, right, held['concept'])
    found[f'{name}, image to text'] = pairs.search(table.T, right, held['concept'])
  unseen = task.arrays('unseen')
  known = unseen['label'] >= 0
  table = score(unseen | task.said(task.labels)).T[known]
  found['zero-shot'] = {'accuracy': pairs.accuracy(table, unseen['label'][known], unseen['concept'][known])}
  return found


def validate(task: pairs.Pairs, score: Callable) -> dict[str, float]:
  """The search for images by text in the validation split; the best checkpoint is that of the highest R@5."""
  held = task.arrays('validation')
  found = pairs.values(pairs.search(score(held), np.eye(len(held['text']), dtype=bool), held['concept']))
  return {'accuracy': found['R@5']} | found


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/clip.py')
  task = pairs.prepare(c.data.name, c.data.dir, c.data.length)
  if c.frozen.text:
    task = frozen.prepare(task, frozen.towers(c.frozen.text, c.frozen.image, c.frozen.side), c.data.name)
  model, bag_model = build(c, task)
  first = task.given({key: value[None] for key, value in task.encode(task.splits['train'][0]).items()})
  fit = fit_of(c, model, forward(model, task.given), objectives.contrastive, task, *first)
  stage, bag_forward = training.stage(c, c.bag), forward_bag(bag_model, task.given)
  bag = fit_of(stage, bag_model, bag_forward, objectives.words_of_image, task, first[1])
  often = 1 + np.bincount(task.arrays('train')['text'].ravel(), minlength=task.vocab)
  score = {
    SYSTEM: lambda held: scores_of_clip(model, fit.state.variables, task, held),
    BASELINE: lambda held: scores_of_bag(bag_model, bag.state.variables, often, task, held),
  }
  workdir = open_workdir(args.workdir, c.to_dict(), fresh=fresh)
  (workdir / 'bag_of_words').mkdir(exist_ok=True)
  found: dict[str, dict] = {}

  def test(system: str) -> dict[str, dict[str, float]]:
    found[system] = measure(task, score[system])
    return {f'test, {what}': pairs.values(part) for what, part in found[system].items()}

  for system, one, folder in ((BASELINE, bag, workdir / 'bag_of_words'), (SYSTEM, fit, workdir)):
    judge = functools.partial(validate, task, score[system])
    with training.Course(one, folder, args) as course:
      for step, batch in course:
        one.state, sums = one.step(one.state, batch, course.key)
        course.log(step, sums)
        if course.due(step):
          course.save(step, judge)
      course.end(functools.partial(test, system), system)
  finish(c, task, model, found, score[SYSTEM], fit, workdir, began)


def finish(c, task: pairs.Pairs, model, found, score: Callable, fit: training.Fit, workdir, began: float) -> None:
  """The tables, the galleries, the report and the page to search in."""
  zero = found[SYSTEM]['zero-shot']['accuracy']
  both = found[SYSTEM]['both, text to image']['R@5']
  summary = [
    ('R@5, text to image', f'{100 * both[0]:.1f} %'),
    ('zero-shot', f'{100 * zero[0]:.1f} %'),
    (
      'held out',
      'pictures of concepts that no training picture shows: new ones of known categories, and ten categories',
    ),
    (
      'departures from the paper',
      'both towers learnt before and stay as they are (LiT, arXiv:2111.07991)'
      if c.frozen.text
      else 'none; sizes, recipe and data are ours',
    ),
  ]
  telling.finish(
    c,
    workdir,
    title=f'{SYSTEM}: {c.data.name}',
    summary=summary,
    tables=[search_table(task, found), zero_shot_table(task, found)],
    galleries=galleries(task, score),
    params=fit.state.params,
    began=began,
  )
  folder, reading = workdir / 'model', asking.Reading(twemoji.SIDE, length=task.length)
  if isinstance(task, frozen.FrozenPairs):
    reading = asking.Reading(efficientnet.SIDE, length=frozen.LONGEST)
    asking.keep(folder, *task.towers.clip(fit.state.params, c.model.out), task.towers.tokenizer, reading)
  else:
    file = workdir / 'search.html'
    search_page(c, task, model, fit.state.variables, file)
    print(f'a page to search in: {file}')
    asking.keep(folder, model, fit.state.variables, task.tokenizer, reading)
  print(f'for experiments.ask: --weights={workdir / "model"}')


def search_table(task: pairs.Pairs, found: Mapping) -> dict:
  rows = []
  for name, splits in HELD_OUT.items():
    among = sum(len(task.splits[split]) for split in splits)
    for way in ('text to image', 'image to text'):
      where = {'what finds what': way, 'among': f'{among:,} of {name}'}
      for system in (SYSTEM, BASELINE):
        scores = {key: pairs.shown(key, *value) for key, value in found[system][f'{name}, {way}'].items()}
        rows.append({'system': system, 'source': SOURCES[system]} | where | scores | OURS[system])
    scores = {key: pairs.shown(key, value) for key, value in pairs.chance(among).items()}
    rows.append(where | {'system': 'chance', 'source': 'computed here', 'what finds what': 'either'} | scores)
  return {
    'title': 'Search among what was not learnt from',
    'columns': ['system', 'what finds what', 'among', 'R@1', 'R@5', 'R@10', 'median rank', 'source'],
    'rows': rows,
    'notes': [
      'R@k: in how many percent of all searches the one right answer is among the first k. In brackets: 95 % intervals '
      'of this one run, by drawing whole concepts.',
      'No concept (a person at work in all genders, the hours of a clock, all flags) lies on both sides of a split.',
    ],
  }


def zero_shot_table(task: pairs.Pairs, found: Mapping) -> dict:
  labels = [label for label in (example['label'] for example in task.splits['unseen']) if label >= 0]
  most = max(map(labels.count, labels)) / len(labels)
  rows = [
    {'system': system, 'accuracy': pairs.shown('', *found[system]['zero-shot']['accuracy']), 'source': SOURCES[system]}
    | OURS[system]
    for system in (SYSTEM, BASELINE)
  ]
  for name, value in (('chance', 1 / len(task.labels)), ('the most frequent category', most)):
    rows.append({'system': name, 'accuracy': pairs.shown('', value), 'source': 'computed here'})
  return {
    'title': 'Zero-shot: which of ten categories that were held out',
    'columns': ['system', 'accuracy', 'source'],
    'rows': rows,
    'notes': [f'Of {len(labels)} pictures; the categories: {", ".join(task.labels)}.'],
  }


def galleries(task: pairs.Pairs, score: Callable) -> list[dict]:
  """Both ways, for queries spread over what is held out."""
  held = task.arrays('test', 'unseen')
  table = score(held)
  queries = np.linspace(0, len(table) - 1, SHOWN).astype(int)
  picture = lambda n: {'image': held['image'][n], 'text': str(held['name'][n])}
  text = lambda n: {'text': str(held['words'][n])}

  def rows(table, query, item):
    order = np.argsort(-table, 1, kind='stable')[:, :NEAREST]
    return [
      {
        'query': query(n),
        'found': [item(m) | {'right': bool(m == n), 'score': f'{table[n, m]:.2f}'} for m in order[n]],
      }
      for n in queries
    ]

  note = f'The nearest of all {len(table)} pictures that were held out; the number is the cosine, ✓ the right one.'
  return [
    {'title': 'Text to image', 'note': note, 'rows': rows(table, text, picture)},
    {'title': 'Image to text', 'note': note.replace('pictures', 'texts'), 'rows': rows(table.T, picture, text)},
  ]


def search_page(c, task: pairs.Pairs, model: CLIP, variables: Mapping, file) -> None:
  """A page to type in, over all pictures."""
  every = task.arrays(*task.splits)
  vectors = _apply(model, variables, *task.given(every))['image']
  tower = variables['params']['text']
  search.write(
    file,
    title=f'{SYSTEM}: search {len(vectors):,} pictures',
    note=f'What is typed is encoded by the text tower that was trained, here in the page. Of the pictures, '
    f'{len(task.splits["train"]):,} were learnt from, with their names and keywords.',
    first='red heart',
    words=tokens.words(task.tokenizer, range(task.vocab)),
    tower={
      'word': tower['word']['embedding'],
      'position': tower['position'],
      'layers': layers(tower['encoder'], c.model.text.schedule, c.model.text.scan),
      'norm': tower['norm'],
      'project': tower['project'],
    },
    how={
      'length': task.length,
      'width': c.model.text.width,
      'heads': c.model.text.heads,
      'activation': c.model.text.activation,
      'eps': model.text.eps,
    },
    images=every['image'],
    names=every['name'].tolist(),
    vectors=vectors,
    learnt=len(task.splits['train']),
  )


def layers(encoder: Mapping, schedule: str, scan: bool) -> list[Mapping]:
  """The parameters of a text stack, layer by layer."""
  found = []
  for n, group in enumerate(parse(schedule).groups):
    for i in range(group.repeats):
      own = jax.tree.map(lambda a, i=i: a[i], encoder[f'group{n}']) if scan else encoder[f'group{n}_{i}']
      found.append(own['sub0_t'])
  return found


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
