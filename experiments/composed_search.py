"""Search by a picture and a wish about it: 'this one, but in blue and striped' (Vo et al. 2019, arXiv:1812.07119).

Trains every system of the config on drawn products, each in a folder of its own that an interrupted run goes on from:
picture alone, words alone, their sum, TIRG, and attention between words and picture. Then each searches for products of
training, in new pictures, and for products that no training picture shows, beside chance.
Prints recall with intervals, since which products answer a wish is known, and writes a report with pictures.
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/composed_search.py:products'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from configs import composed_search as complete
from experiments import pairs, telling, training
from mmjax import objectives, train
from mmjax.data import encode, products, tokens
from mmjax.data.pipeline import load
from mmjax.metrics import retrieval
from mmjax.models.tirg import Composer
from mmjax.workdir import open_workdir

SETS = ('products',)
TESTS = {'test': 'known products', 'unseen': 'products held out'}  # split -> what is wanted in it
NAMES = {'image': 'picture alone', 'text': 'words alone', 'sum': 'sum of both', 'tirg': 'TIRG'}
SHOWN, NEAREST = 8, 8


def name_of(how: str) -> str:
  return NAMES.get(how, f'attention, {how}')


def examples(split: str, folder: str, tokenizer) -> list[dict[str, np.ndarray]]:
  """All of a split, in memory: 'image', 'wanted_image' uint8 [h,w,3], 'text' [L], 'wanted' and 'attributes' [4]."""
  source = load(products.Products, split, folder or None)
  return encode.told(source, tokenizer, products.LENGTH, 'image', 'wanted_image', 'wanted', 'attributes')


def words() -> Any:
  """The tokeniser of all wishes there can be."""
  return tokens.build(products.wish(products.EVERY[end], one) for one in products.EVERY for end in (0, -1))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _apply(model: Any, variables: Mapping, method: str, *given):
  return model.apply(variables, *given, train=False, method=method)


def search(model: Composer, variables: Mapping, held: Mapping, shop: Mapping) -> np.ndarray:
  """The cosine of each wish [M] with each wanted picture of a shop [N]: [M,N]."""
  query = _apply(model, variables, 'query', held['text'], held['image'])
  return np.asarray(query @ _apply(model, variables, 'wanted', shop['wanted_image']).T)


def answers(held: Mapping, shop: Mapping) -> np.ndarray:
  """Which pictures answer which wish: all that show the very product, bool [M,N]."""
  return (held['wanted'][:, None] == shop['wanted'][None]).all(-1)


def measure(scores: np.ndarray, held: Mapping, shop: Mapping) -> dict[str, pairs.Score]:
  """Recall with 95 % intervals, wishes for one product drawn together; 'attributes': how much of the first is right."""
  product = np.unique(held['wanted'], axis=0, return_inverse=True)[1]
  right = (shop['wanted'][scores.argmax(1)] == held['wanted']).mean(1)
  return pairs.search(scores, answers(held, shop), product) | {'attributes': pairs.mean(right, product)}


def recipe(model: Composer) -> train.Recipe:
  given = lambda batch: (batch['text'], batch['image'], batch['wanted_image'])
  return train.recipe(model, objectives.contrastive, given)


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/composed_search.py')
  training.known_set(c.data.name, SETS)
  below = training.folders(c.systems)
  tokenizer = words()
  split = {name: examples(name, c.data.dir, tokenizer) for name in products.SPLITS}
  stacked = {name: pairs.stacked(split[name]) for name in ('validation', *TESTS)}
  first = {key: np.asarray(value)[None] for key, value in split['train'][0].items()}
  shop = {key: np.concatenate([stacked[name][key] for name in TESTS]) for key in ('wanted', 'wanted_image')}
  vocab = tokenizer.get_vocab_size()
  models = {how: Composer(vocab, products.LENGTH, how, **c.model) for how in c.systems}
  recipes = {how: recipe(model) for how, model in models.items()}
  variables = training.all_variables(recipes, c.seed, first)
  workdir = open_workdir(args.workdir, c.to_dict(), fresh=fresh)
  found: dict[str, dict] = {}
  for how, model in models.items():
    fit = training.Fit(c, recipes[how], variables[how], source=split['train'], encode=dict)

    def validate(model=model, fit=fit) -> dict[str, float]:
      held = stacked['validation']
      return {'accuracy': measure(search(model, fit.state.variables, held, held), held, held)['R@5'][0]}

    def test(how=how, model=model, fit=fit) -> dict[str, dict[str, float]]:
      scores = {name: search(model, fit.state.variables, stacked[name], shop) for name in TESTS}
      found[how] = {'scores': scores} | {name: measure(table, stacked[name], shop) for name, table in scores.items()}
      return {f'test, {TESTS[name]}': pairs.values(found[how][name]) for name in TESTS}

    folder = training.part(workdir, below[how], name_of(how))
    with training.Course(fit, folder, args) as course:
      for step, batch in course:
        fit.state, sums = fit.step(fit.state, batch, course.key)
        course.log(step, sums)
        if course.due(step):
          course.save(step, validate)
      course.end(test, name_of(how))
  finish(c, found, stacked, shop, fit.state.params, workdir, began)


def finish(c, found: Mapping, stacked: Mapping, shop: Mapping, params: Any, workdir, began: float) -> None:
  """The table, the pictures and the report, of which the last system has the pictures."""
  last = c.systems[-1]
  summary = [
    *((f'R@1, {TESTS[name]}', f'{100 * found[last][name]["R@1"][0]:.1f} %') for name in TESTS),
    ('shown', f'{name_of(last)}; the others are in the table'),
    ('departures from the paper', 'TIRG on vectors, with a small tower; the data are drawn'),
  ]
  telling.finish(
    c,
    workdir,
    title=f'Composed search: {c.data.name}',
    summary=summary,
    tables=[table(c, found, stacked, shop)],
    galleries=[gallery(name, found[last]['scores'][name], stacked[name], shop) for name in TESTS],
    params=params,
    began=began,
  )


def table(c, found: Mapping, stacked: Mapping, shop: Mapping) -> dict:
  rows: list[dict] = []
  for split, what in TESTS.items():
    wishes = f'{len(stacked[split]["text"]):,}, {what}'
    for how in c.systems:
      cells = {key: pairs.shown(key, *value) for key, value in found[how][split].items()}
      rows.append({'system': name_of(how), 'wishes': wishes} | cells | ({'ours': True} if how == c.systems[-1] else {}))
    right = answers(stacked[split], shop)
    cells = {f'R@{k}': pairs.shown('', retrieval.chance(right, k)) for k in pairs.KS}
    rows.append({'system': 'chance', 'wishes': wishes} | cells)
  return {
    'title': 'Search by a picture and a wish',
    'columns': ['system', 'wishes', *(f'R@{k}' for k in pairs.KS), 'median rank', 'attributes'],
    'rows': rows,
    'notes': [
      f'Among {len(shop["wanted"]):,} pictures of both tests, of which all that show the very product (kind, colour, '
      'pattern, size) answer a wish. `attributes`: how many of the four the first picture has right. In brackets: 95 % '
      'intervals of this one run, by drawing whole products.',
      'Held out: no training picture, shown or wanted, is of such a product.',
    ],
  }


def gallery(split: str, scores: np.ndarray, held: Mapping, shop: Mapping) -> dict:
  right = answers(held, shop)
  rows = []
  for n in np.linspace(0, len(scores) - 1, SHOWN).astype(int):
    order = np.argsort(-scores[n], kind='stable')[:NEAREST]
    wish = products.wish(held['attributes'][n], held['wanted'][n])
    items = [
      {'image': shop['wanted_image'][m], 'right': bool(right[n, m]), 'score': f'{scores[n, m]:.2f}'} for m in order
    ]
    rows.append({'query': {'image': held['image'][n], 'text': f'… {wish}'}, 'found': items})
  note = 'The picture and the wish, and what was found; framed in green: the very product that is wanted.'
  return {'title': f'Found: {TESTS[split]}', 'note': note, 'rows': rows}


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
