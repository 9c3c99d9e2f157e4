"""What a post of a sentence and a picture feels, by the words alone, by the picture alone, and by both fused.

Trains every system of the config on made-up posts (data/posts.py), each in a folder of its own that an interrupted run
goes on from. Since one rule made all labels, the best that words or picture alone can reach is known and stands beside
each. Prints accuracy by what decides a post, with intervals, also on pictures that no training post has, and writes a
report with pictures.
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/sentiment.py:posts'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from configs import sentiment as complete
from experiments import pairs, telling, training
from mmjax import augment, objectives, train
from mmjax.data import encode, posts, tokens
from mmjax.data.pipeline import load
from mmjax.encoders.image import ConvGrid
from mmjax.errors import UserError
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedule import parse
from mmjax.layers.embed import Embed
from mmjax.workdir import open_workdir

SETS = ('posts',)
TESTS = {'test': 'known pictures', 'test_new': 'new pictures'}
ALONE = {'words': '2*[t<t]', 'picture': '2*[v<v]'}  # systems that read one of the two -> their schedule
SHOWN = 12


def name_of(system: str) -> str:
  return f'{system} alone' if system in ALONE else system


def schedule_of(system: str) -> str:
  return ALONE.get(system, system)


class Feeling(nn.Module):
  """text [B,L] int, 0 for padding, image [B,h,w,3] of 0..255 -> 'answers' [B,2]: negative, positive, logits.

  Words and cells of the picture go through a schedule of the streams t and v; the mean of each stream that it has is
  read. Raises UserError for another stream.
  """

  vocab: int
  schedule: str
  channels: tuple[int, ...]
  width: int
  heads: int
  mlp: int

  @nn.compact
  def __call__(self, text: jax.Array, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    streams = {stream for group in parse(self.schedule).groups for stream in group.streams}
    if not streams <= {'t', 'v'}:
      raise UserError(f'schedule {self.schedule!r}: found {sorted(streams)}, expected t and v')
    x, mask = {}, {}
    if 't' in streams:
      place = self.param('place', nn.initializers.normal(0.02), (text.shape[1], self.width))
      x['t'], mask['t'] = Embed(self.vocab, self.width, init_std=0.1, name='word')(text) + place, text > 0
    if 'v' in streams:
      cells, _ = ConvGrid(self.channels, name='grid')(image, train=train)
      place = self.param('cell_place', nn.initializers.normal(0.02), (cells.shape[1], self.width))
      x['v'] = nn.Dense(self.width, name='cell')(cells) + place
    sizes: Any = {'dropout': 0.1, 'attention_dropout': 0.0, 'scan': False, 'norm': 'pre', 'name': 'fuse'}
    x = FusionStack(self.schedule, self.width, self.heads, self.mlp, **sizes)(x, mask, train=train)
    read = []
    for stream in sorted(streams):
      there = mask.get(stream, jnp.ones(x[stream].shape[:2], bool))[..., None]
      read.append((x[stream] * there).sum(1) / there.sum(1))
    both = nn.LayerNorm(name='norm')(jnp.concatenate(read, -1))
    return {'answers': nn.Dense(2, name='answer')(nn.relu(nn.Dense(self.width, name='hidden')(both)))}


def examples(split: str, folder: str, tokenizer) -> list[dict[str, np.ndarray]]:
  """All of a split, in memory: 'image', 'text' [L], 'answer', 'kind', 'question_type' [kinds] bool, 'weight' 1."""
  kinds = np.eye(len(posts.KINDS), dtype=bool)
  found = encode.told(load(posts.Posts, split, folder or None), tokenizer, posts.LENGTH, 'image', 'label', 'kind')
  return [{**e, 'answer': e['label'], 'question_type': kinds[e['kind']]} for e in found]


def drawn(shift: int, tint: float):
  """What `train.train_step` draws anew of a batch: the place and the colours of its pictures."""

  def augmented(batch, key):
    place, colour = jax.random.split(key)
    image = augment.shifted(place, batch['image'].astype(jnp.float32), shift)
    return {**batch, 'image': augment.tinted(colour, image, tint)}

  return augmented


def named(mean: Mapping[str, Any]) -> dict[str, float]:
  """Divided metric sums, the accuracy also as that of each kind of post."""
  if 'accuracy' not in mean:
    return training.scalars(mean)
  each = mean['accuracy']
  return training.scalars({name: value for name, value in mean.items() if name != 'accuracy'} | {
    'accuracy': np.ma.mean(each), **{f'accuracy/{kind}': value for kind, value in zip(posts.KINDS, each)}
  })  # fmt: skip


def measure(likely: np.ndarray, held: Mapping) -> dict[str, pairs.Score]:
  """Accuracy of probabilities [M,2], of all and of each kind of post, with 95 % intervals over pictures."""
  right = (likely.argmax(1) == held['answer']).astype(float)
  picture = np.unique(held['image'].reshape(len(right), -1), axis=0, return_inverse=True)[1]
  parts = {'all': np.ones(len(right), bool)} | {name: held['question_type'][:, n] for n, name in enumerate(posts.KINDS)}
  return {name: pairs.mean(right[of], picture[of]) for name, of in parts.items()}


def recipe(c, model: Feeling) -> train.Recipe:
  given = lambda batch: (batch['text'], batch['image'])
  return train.recipe(model, objectives.answers, given, drawn=drawn(**c.augment))


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/sentiment.py')
  training.known_set(c.data.name, SETS)
  below = training.folders(c.systems)
  tokenizer = tokens.build(part.format(topic) for tone in posts.TEMPLATES for part in tone for topic in posts.TOPICS)
  split = {name: examples(name, c.data.dir, tokenizer) for name in posts.SPLITS}
  held = {name: pairs.stacked(split[name]) for name in TESTS}
  first = {key: np.asarray(value)[None] for key, value in split['train'][0].items()}
  make = lambda system: Feeling(tokenizer.get_vocab_size(), schedule_of(system), c.channels, **c.model)
  models = {system: make(system) for system in c.systems}
  recipes = {system: recipe(c, model) for system, model in models.items()}
  variables = training.all_variables(recipes, c.seed, first)
  workdir = open_workdir(args.workdir, c.to_dict(), fresh=fresh)
  found: dict[str, dict] = {}
  for system, model in models.items():
    fit = training.Fit(c, recipes[system], variables[system], source=split['train'], encode=dict, named=named)

    def test(system=system, model=model, fit=fit) -> dict[str, dict[str, float]]:
      of = lambda split: training.likely(model, fit.state.variables, split['text'], split['image'])
      likely = {name: np.asarray(of(held[name])) for name in TESTS}
      found[system] = {'likely': likely} | {name: measure(likely[name], held[name]) for name in TESTS}
      return {name: pairs.values(found[system][name]) for name in TESTS}

    folder = training.part(workdir, below[system], name_of(system))
    validate = functools.partial(fit.evaluate, split['validation'])
    with training.Course(fit, folder, args) as course:
      for step, batch in course:
        fit.state, sums = fit.step(fit.state, batch, course.key)
        course.log(step, sums)
        if course.due(step):
          course.save(step, validate)
      course.end(test, name_of(system))
  finish(c, found, held, tokenizer, fit.state.params, workdir, began)


def finish(c, found: Mapping, held: Mapping, tokenizer, params: Any, workdir, began: float) -> None:
  """The table, the pictures and the report, of which the last system has the pictures."""
  last = c.systems[-1]
  summary = [
    *((TESTS[name], f'{100 * found[last][name]["all"][0]:.1f} %') for name in TESTS),
    ('shown', f'{name_of(last)}; the others are in the table'),
    ('data', 'posts are made up by templates and a rule, see mmjax/data/posts.py; pictures are Twemoji'),
  ]
  telling.finish(
    c,
    workdir,
    title='Sentiment of posts, by words, picture or both',
    summary=summary,
    tables=[table(c, found, held)],
    galleries=[gallery(found[last]['likely'][name], held[name], name, tokenizer) for name in TESTS],
    params=params,
    began=began,
  )


def table(c, found: Mapping, held: Mapping) -> dict:
  rows: list[dict] = []
  for split, what in TESTS.items():
    test = f'{len(held[split]["answer"]):,} posts, {what}'
    for system in c.systems:
      cells = {kind: pairs.shown('', *value) for kind, value in found[system][split].items()}
      ours = {'ours': True} if system == c.systems[-1] else {}
      rows.append({'system': name_of(system), 'test': test} | cells | ours)
  shares = held['test']['question_type'].mean(0)
  for name, best in posts.BEST.items():
    cells = {kind: pairs.shown('', value) for kind, value in zip(posts.KINDS, best)}
    whole = float(np.dot(best, shares))
    rows.append(
      {'system': f'the best that {name} alone can do', 'test': 'by the rule', 'all': pairs.shown('', whole)} | cells
    )
  return {
    'title': 'Accuracy in percent, by what decides a post',
    'columns': ['system', 'test', 'all', *posts.KINDS],
    'rows': rows,
    'notes': [
      'In brackets: 95 % intervals of this one run, by drawing whole pictures. New pictures: in no training post.',
      'The rule: where the picture feels anything, that is what the post feels; else what the words do.',
    ],
  }


def gallery(likely: np.ndarray, held: Mapping, split: str, tokenizer) -> dict:
  rows = []
  for n in np.linspace(0, len(likely) - 1, SHOWN).astype(int):
    ids = held['text'][n]
    said = tokens.sentence(tokenizer, ids)
    label = int(likely[n].argmax())
    kind = posts.KINDS[int(held['question_type'][n].argmax())]
    answer = {
      'text': posts.LABELS[label],
      'right': label == held['answer'][n],
      'score': f'{100 * likely[n, label]:.0f} %',
    }
    rows.append({'query': {'image': held['image'][n], 'text': said}, 'found': [answer, {'text': kind}]})
  return {'title': f'Posts, {TESTS[split]}', 'note': 'What was answered, and what decides the post.', 'rows': rows}


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
