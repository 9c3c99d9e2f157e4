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

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from configs import clip as complete
from experiments import frozen, pairs, searching, telling, training
from experiments.reading import Reading, keep_model
from mmjax import objectives, train
from mmjax.data import tokens
from mmjax.encoders import efficientnet
from mmjax.errors import UserError
from mmjax.models.clip import CLIP, ImageTower, TextTower
from mmjax.models.lit import Known
from mmjax.workdir import open_workdir

HELD_OUT = {'new concepts': ('test',), 'new categories': ('unseen',), 'both': ('test', 'unseen')}  # -> splits
SYSTEM, BASELINE = 'CLIP', 'bag of words'
ABOUT: dict[str, dict] = {  # what stands in their rows
  SYSTEM: {'source': 'this run', 'ours': True},
  BASELINE: {'source': 'this run; arXiv:2103.00020, figure 2'},
}


def build(c, task: pairs.Pairs) -> tuple[CLIP, nn.Module]:
  """CLIP, and the baseline: an image tower like its own, which scores all words."""
  if isinstance(task, frozen.FrozenPairs):
    known = functools.partial(Known, dropout=c.frozen.dropout)
    return CLIP(known(c.model.out), known(c.model.out)), known(task.vocab)
  image = functools.partial(ImageTower, image=task.side, **c.model.image)
  text = TextTower(
    vocab=task.vocab,
    positions=task.length,
    out=c.model.out,
    end=tokens.SPECIAL.index('[SEP]'),
    **c.model.text,
  )
  return CLIP(text, image(out=c.model.out)), image(out=task.vocab)


def recipes(c, task: pairs.Pairs, model: CLIP, bag: nn.Module) -> tuple[train.Recipe, train.Recipe]:
  """CLIP's, and that of the baseline, on the images alone."""
  drawn = functools.partial(task.drawn, **c.augment)
  own = train.recipe(model, objectives.contrastive, task.given, drawn=drawn)
  words = train.recipe(bag, objectives.words_of_image, lambda batch: task.given(batch)[1:2], drawn=drawn)

  def scoring(forward: train.Forward) -> train.Forward:
    def run(variables, batch, *, train, key):
      (_, scores), kept = forward(variables, batch, train=train, key=key)
      return {'bag': scores}, kept

    return run

  return own, words.around(scoring)


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


def measure(task: pairs.Pairs, score: Callable) -> searching.Found:
  """{what was tried: its scores} of score(texts with images), on pictures of concepts that were not learnt from."""
  found: searching.Found = {}
  for name, splits in HELD_OUT.items():
    held = task.arrays(*splits)
    found |= searching.both_ways(name, score(held), held['concept'])
  unseen = task.arrays('unseen')
  known = unseen['label'] >= 0
  table = score(unseen | task.said(task.labels)).T[known]
  found['zero-shot'] = {'accuracy': pairs.accuracy(table, unseen['label'][known], unseen['concept'][known])}
  return found


def validate(task: pairs.Pairs, score: Callable) -> dict[str, float]:
  """The search in the validation split: the mean R@5 of both ways as 'accuracy', and the scores of text to image."""
  held = task.arrays('validation')
  found = {way: pairs.values(value) for way, value in searching.both_ways('', score(held), held['concept']).items()}
  first, second = found.values()
  return {'accuracy': (first['R@5'] + second['R@5']) / 2} | first


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/clip.py')
  task = pairs.prepare(c.data.name, c.data.dir, c.data.length)
  if bool(c.frozen.text) != bool(c.frozen.image):
    there, lacks = ('text', 'image') if c.frozen.text else ('image', 'text')
    raise UserError(f'--config.frozen.{there} without --config.frozen.{lacks}: expected both towers, or none')
  if c.frozen.text:
    task = frozen.prepare(task, frozen.towers(c.frozen.text, c.frozen.image, c.frozen.side), c.data.name)
  model, bag_model = build(c, task)
  first = {key: value[None] for key, value in task.encode(task.splits['train'][0]).items()}
  fit, bag = (
    training.Fit(
      numbers,
      recipe,
      training.first_variables(recipe, c.seed, first),
      source=task.splits['train'],
      encode=task.encode,
    )
    for numbers, recipe in zip((c, training.stage(c, c.bag)), recipes(c, task, model, bag_model), strict=True)
  )
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
  held = task.arrays('test', 'unseen')
  pools = {name: sum(len(task.splits[split]) for split in splits) for name, splits in HELD_OUT.items()}
  notes = [
    'No concept (a person at work in all genders, the hours of a clock, all flags) lies on both sides of a split.',
    f'CLIP was trained for {c.optim.steps:,} steps, the bag of words for {c.bag.steps:,}.',
  ]
  telling.finish(
    c,
    workdir,
    title=f'{SYSTEM}: {c.data.name}',
    summary=summary,
    tables=[searching.table(pools, found, ABOUT, notes), zero_shot_table(task, found)],
    galleries=searching.galleries(held, score(held)),
    params=fit.state.params,
    began=began,
  )
  folder, reading = workdir / 'model', Reading(task.side, length=task.length)
  if isinstance(task, frozen.FrozenPairs):
    reading = Reading(efficientnet.SIDE, length=frozen.LONGEST)
    keep_model(folder, *task.towers.clip(fit.state.params, c.model.out), task.towers.tokenizer, reading)
  else:
    file = workdir / 'search.html'
    every = task.arrays(*task.splits)
    vectors = _apply(model, fit.state.variables, *task.given(every))['image']
    searching.page(file, task, model, fit.state.variables, every, np.asarray(vectors))
    print(f'a page to search in: {file}')
    keep_model(folder, model, fit.state.variables, task.tokenizer, reading)
  print(f'for experiments.ask: --weights={workdir / "model"}')


def zero_shot_table(task: pairs.Pairs, found: Mapping) -> dict:
  labels = [label for label in (example['label'] for example in task.splits['unseen']) if label >= 0]
  most = max(map(labels.count, labels)) / len(labels)
  rows = [
    {'system': system, 'accuracy': pairs.shown('', *found[system]['zero-shot']['accuracy'])} | ABOUT[system]
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


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
