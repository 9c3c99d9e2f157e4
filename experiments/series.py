"""Time series by their class: LSTM, GRU, a dilated TCN and patches with attention, beside what is published.

Trains every system of the config on every set (BasicMotions, JapaneseVowels, GunPoint; data/series.py), each in a
folder of its own that an interrupted run goes on from, on the published training series but for a share that is held
out. Beside them: the mean of their answers, the nearest training series by dynamic time warping, computed here from
the same files, the most frequent class, and published accuracies. Prints accuracy on the published test series with
intervals, and writes a report with the series of each class and those that were confused.
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/series.py:all'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import dataclasses
import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from configs import series as complete
from experiments import pairs, telling, training, waves
from mmjax import augment, objectives, train
from mmjax.data import series
from mmjax.encoders.series import SeriesPatches, SeriesRNN, SeriesTCN
from mmjax.errors import UserError, nearest
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedule import parse
from mmjax.layers.blocks import mean_there
from mmjax.metrics import warping
from mmjax.workdir import open_workdir

SYSTEMS = {  # -> what a table calls it
  'lstm': 'LSTM, both ways',
  'gru': 'GRU, both ways',
  'tcn': 'TCN',
  'patches': 'patches and attention',
}
ALL = 'the mean of them'  # of the answers of all systems
# Accuracies in percent: of the multivariate sets as the README of github.com/pfmarteau/teNN quotes them, of the others
# 100 less the errors of the UCR archive's DataSummary.csv.
PUBLISHED = (
  ('1-NN by DTW, channels together', 'arXiv:2405.17516, its code', {'BasicMotions': 97.5, 'JapaneseVowels': 94.9}),
  ('1-NN by DTW, channels apart', 'arXiv:2405.17516, its code', {'BasicMotions': 100.0, 'JapaneseVowels': 95.9}),
  ('1-NN by DTW', 'arXiv:1810.07758, archive', {'GunPoint': 90.67, 'ItalyPowerDemand': 95.04}),
  ('1-NN by DTW, window learnt', 'arXiv:1810.07758, archive', {'GunPoint': 91.33, 'ItalyPowerDemand': 95.53}),
)


class Classifier(nn.Module):
  """series [B,T,C] float, seen bool [B,T,C] -> 'answers' [B,A], logits off the mean of an encoder's tokens.

  system: one of SYSTEMS; steps: the most that a series has. Patches read one another by `schedule`, of the stream s.
  """

  system: str
  num_answers: int
  steps: int
  width: int
  layers: int
  dilations: tuple[int, ...]
  kernel: int
  patch: int
  stride: int
  schedule: str
  heads: int
  mlp: int
  dropout: float

  @nn.compact
  def __call__(self, series: jax.Array, seen: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    there = seen.any(-1)  # no set has a step of which some channels are missing
    if self.system == 'tcn':
      encoder: nn.Module = SeriesTCN(self.width, self.dilations, self.kernel, self.dropout, name='encoder')
    elif self.system == 'patches':
      most = max(-(-(self.steps - self.patch) // self.stride), 0) + 1
      encoder = SeriesPatches(self.width, self.patch, self.stride, most, name='encoder')
    else:
      encoder = SeriesRNN(self.system, self.width // 2, self.layers, True, self.dropout, name='encoder')
    x, there = encoder(series, there, train=train)
    if self.system == 'patches':
      sizes: Any = {'dropout': self.dropout, 'attention_dropout': 0.0, 'norm': 'pre', 'name': 'fuse'}
      x = FusionStack(self.schedule, self.width, self.heads, self.mlp, **sizes)({'s': x}, {'s': there}, train=train)[
        's'
      ]
    mean = nn.LayerNorm(name='norm')(mean_there(x, there))
    mean = nn.Dropout(self.dropout, deterministic=not train)(mean)
    return {'answers': nn.Dense(self.num_answers, name='answer')(mean)}


@dataclasses.dataclass(frozen=True)
class Task:
  """A data set: its files' cases, and 'train', 'validation' and 'test' as arrays, normalised by the training series."""

  cases: Mapping[str, series.Cases]
  arrays: Mapping[str, dict[str, np.ndarray]]

  @property
  def classes(self) -> tuple[str, ...]:
    return self.cases['train'].classes

  def examples(self, split: str) -> list[dict[str, np.ndarray]]:
    """'series' and 'seen' [T,C], 'answer', and what `objectives.answers` asks for besides."""
    arrays = self.arrays[split]
    more = {'question_type': np.ones(1, bool), 'weight': np.float32(1)}
    return [{key: value[n] for key, value in arrays.items()} | more for n in range(len(arrays['answer']))]


def prepare(name: str, share: float, seed: int) -> Task:
  """A set of `data.series.SETS`, of whose training series that share of each class is held out by seed."""
  cases = series.load(name)
  train, test = cases['train'], cases['test']
  kept, out = series.held_out(train.label, share, seed)
  parts = {'train': (train, kept), 'validation': (train, out), 'test': (test, np.arange(len(test.values)))}
  numbers = series.statistics([train.values[n] for n in kept])
  longest = max(len(case) for part in cases.values() for case in part.values)
  arrays = {
    split: series.padded([of.values[n] for n in at], longest, *numbers) | {'answer': of.label[at]}
    for split, (of, at) in parts.items()
  }
  return Task(cases, arrays)


def measure(answer: np.ndarray, label: np.ndarray) -> pairs.Score:
  """Accuracy of answers [M], with its interval over test series."""
  return pairs.share(answer == label)


def beside(task: Task) -> dict[str, np.ndarray]:
  """The answers [M] of what is not trained: the nearest by warping of the series as they are, the most frequent."""
  train, test = task.cases['train'], task.cases['test']
  found = warping.distances(test.values, train.values)
  most = np.bincount(train.label).argmax()
  return {
    '1-NN by DTW, computed here': warping.nearest_class(found, train.label),
    'most frequent class': np.full(len(test.label), most),
  }


def check(c) -> None:
  """Raises UserError for what no run can be made of."""
  if not c.data.sets or len(set(c.data.sets)) != len(c.data.sets):
    raise UserError(f'--config.data.sets: found {c.data.sets}, expected one or more, each once')
  for name in c.data.sets:
    training.known_set(name, tuple(series.SETS))
  for system in c.systems:
    if system not in SYSTEMS:
      raise UserError(
        f'--config.systems: found {system!r}, expected some of {tuple(SYSTEMS)}{nearest(system, SYSTEMS)}'
      )
  streams = {stream for group in parse(c.model.schedule).groups for stream in group.streams}
  if streams != {'s'}:
    raise UserError(f'schedule {c.model.schedule!r}: found {sorted(streams)}, expected s alone')
  if c.model.width % 2:
    raise UserError(f'--config.model.width: found {c.model.width}, expected an even number, half for each way')


def recipe(c, model: Classifier) -> train.Recipe:
  given = lambda batch: (batch['series'], batch['seen'])
  return train.recipe(model, objectives.answers, given, drawn=functools.partial(augment.series, **c.augment))


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/series.py')
  check(c)
  runs = [(name, system) for name in c.data.sets for system in c.systems]
  below = training.folders([f'{name} {system}'.lower() for name, system in runs])
  tasks = {name: prepare(name, c.data.held_out, c.seed) for name in c.data.sets}
  models, recipes, variables = {}, {}, {}
  for name, system in runs:
    arrays = tasks[name].arrays['train']
    model = Classifier(system, len(tasks[name].classes), arrays['series'].shape[1], **c.model)
    models[name, system], recipes[name, system] = model, recipe(c, model)
    first = {key: value[:1] for key, value in arrays.items()}
    variables[name, system] = training.first_variables(recipes[name, system], c.seed, first)
  workdir = open_workdir(args.workdir, c.to_dict(), fresh=fresh)
  likely: dict[str, dict[str, np.ndarray]] = {name: {} for name in c.data.sets}
  for (name, system), model in models.items():
    task, part = tasks[name], (name, system)
    fit = training.Fit(c, recipes[part], variables[part], source=task.examples('train'), encode=dict)

    def test(name=name, system=system, model=model, task=task, fit=fit) -> dict[str, dict[str, float]]:
      held = task.arrays['test']
      likely[name][system] = np.asarray(training.likely(model, fit.state.variables, held['series'], held['seen']))
      return {'test': {'accuracy': measure(likely[name][system].argmax(1), held['answer'])[0]}}

    folder = training.part(workdir, below[f'{name} {system}'.lower()], f'{name}, {system}')
    validate = functools.partial(fit.evaluate, task.examples('validation'))
    with training.Course(fit, folder, args) as course:
      for step, batch in course:
        fit.state, sums = fit.step(fit.state, batch, course.key)
        course.log(step, sums)
        if course.due(step):
          course.save(step, validate)
      course.end(test, f'{name}, {system}')
  history = {
    name: {system: validation(workdir / below[f'{name} {system}'.lower()]) for system in c.systems}
    for name in c.data.sets
  }
  finish(c, tasks, likely, history, fit.state.params, workdir, began)


def validation(folder: Path) -> list[float]:
  """The accuracies in percent on the validation split, in the order of a folder's metrics.jsonl."""
  rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  return [100 * row['accuracy'] for row in rows if row['split'] == 'validation']


def finish(c, tasks: Mapping, likely: Mapping, history: Mapping, params: Any, workdir: Path, began: float) -> None:
  """The table, the pictures and the report."""
  answers = {name: {system: found.argmax(1) for system, found in each.items()} for name, each in likely.items()}
  for name, each in answers.items():
    each[ALL] = np.mean(list(likely[name].values()), 0).argmax(1)
    each |= beside(tasks[name])
  scores = {
    name: {system: measure(found, tasks[name].cases['test'].label) for system, found in each.items()}
    for name, each in answers.items()
  }
  summary = [
    *((name, f'{100 * each[ALL][0]:.1f} %') for name, each in scores.items()),
    ('shown', f'{ALL}: of {", ".join(c.systems)}; each is in the table'),
    ('curves', f'of {c.data.sets[-1]}, {c.systems[-1]}; those of the others are in their folders'),
    ('data', 'UEA and UCR archives, with the published splits, out of the package sktime'),
  ]
  drawings = []
  for name, task in tasks.items():
    drawings += waves.of_classes(name, task.cases['train'])
    drawings += waves.of_answers(name, task.cases, answers[name][ALL])
  telling.finish(
    c,
    workdir,
    title='Time series by their class',
    summary=summary,
    tables=[table(c, tasks, scores, history)],
    drawings=drawings,
    params=params,
    began=began,
  )


def table(c, tasks: Mapping, scores: Mapping, history: Mapping) -> dict:
  rows: list[dict] = []
  for system in next(iter(scores.values())):
    cells = {name: pairs.shown('', *each[system]) for name, each in scores.items()}
    rows.append(
      {'system': SYSTEMS.get(system, system), 'source': 'this run'} | cells | ({'ours': True} if system == ALL else {})
    )
  for system, source, found in PUBLISHED:
    cells = {name: pairs.shown('', found[name] / 100) for name in c.data.sets if name in found}
    if cells:
      rows.append({'system': f'{system}, published', 'source': source} | cells)
  sizes = [
    f'{name}: {len(task.arrays["train"]["answer"])} series to learn from, {len(task.arrays["validation"]["answer"])} '
    f'to validate on, {len(task.arrays["test"]["answer"])} of the test, {len(task.classes)} classes'
    for name, task in tasks.items()
  ]
  return {
    'title': 'Accuracy in percent on the published test series',
    'columns': ['system', *c.data.sets, 'source'],
    'rows': rows,
    'notes': [
      "In brackets: Wilson's 95 % intervals of this one run, over test series.",
      *sizes,
      '1-NN reads all training series, those held out here too; DTW without a window, values as they are.',
    ],
    'lines': {'x': 'evaluation', 'y': 'validation accuracy, %', 'panels': history},
  }


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
