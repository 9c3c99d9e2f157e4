"""What a patient's record says, by a picture, a series of measurements and a note: each alone, and all of them fused.

Trains every system of the config on made-up records (data/records.py; nothing in them is medicine), each in a folder of
its own that an interrupted run goes on from. Measurements are taken now and then, never all at once. A system is a
fusion schedule of three streams; one can learn with parts hidden at random, and all are tested with each part missing.
Since one rule made all labels, the best that fewer parts can reach stands beside.
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/records.py:records'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools
import time
from typing import Any

import numpy as np

from configs import records as complete
from experiments import several, training
from mmjax.data import records, tokens
from mmjax.data.pipeline import load
from mmjax.fusion.schedule import parse
from mmjax.models.multimodal import Multimodal
from mmjax.report.pictures import plotted
from mmjax.workdir import open_workdir

SETS = ('records',)
STREAMS = {'v': 'picture', 's': 'measurements', 't': 'note'}


def words() -> Any:
  """The tokeniser of all notes there can be."""
  return tokens.build([*records.COMPLAINTS, *(said for side in records.SAID for said in side)])


def measured(time: np.ndarray, series: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Measurements [T,C] and which were taken -> what is read [T,C+1], normalised and with the time, in units of the
  whole, and what of it is there, bool [T,C+1]."""
  normal = (series - records.MEAN) / records.SPREAD
  both = np.concatenate([np.where(seen, normal, 0), time[:, None] / records.HOURS], 1).astype(np.float32)
  return both, np.concatenate([seen, seen.any(1, keepdims=True)], 1)


def examples(split: str, folder: str, tokenizer: Any) -> list[several.Arrays]:
  """All of a split: 'v' uint8 [32,32,3], 's' float32 [16,5] (`measured`), 't' int32 [16]."""
  source = list(load(records.Records, split, folder or None))
  notes = tokens.encode(tokenizer, [e['text'].decode() for e in source], records.LENGTH)
  found = []
  for e, note in zip(source, notes, strict=True):
    series, there = measured(e['time'], e['series'], e['seen'])
    found.append(several.example({'v': e['image'], 's': series, 't': note}, {'s': there, 't': note > 0}, e['label']))
  return found


def prepare(c: Any, tokenizer: Any) -> several.Task:
  splits = {split: examples(split, c.data.dir, tokenizer) for split in records.SPLITS}
  return several.Task(splits, STREAMS, records.LABELS, several.limits(tuple(records.PARTS), records.best))


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/records.py')
  training.known_set(c.data.name, SETS)
  tokenizer = words()
  vocab = tokenizer.get_vocab_size()
  model = lambda schedule: Multimodal(tuple(c.encoders), schedule, len(records.LABELS), vocab=vocab, **c.model)
  build = lambda schedule: (model(schedule), parse(schedule).streams)
  systems = several.systems(c.systems, build)
  task = prepare(c, tokenizer)
  recipes = {system.name: several.recipe(system, task) for system in systems}
  variables = training.all_variables(recipes, c.seed, task.first)
  workdir = open_workdir(args.workdir, c.to_dict(), fresh=fresh)
  found = {}
  for system in systems:
    fit = training.Fit(c, recipes[system.name], variables[system.name], source=task.splits['train'], encode=dict)
    with training.Course(fit, training.part(workdir, system.folder, system.name), args) as course:
      for step, batch in course:
        fit.state, sums = fit.step(fit.state, batch, course.key)
        course.log(step, sums)
        if course.due(step):
          course.save(step, functools.partial(fit.evaluate, task.splits['validation']))
      found[system.name] = several.end(course, system, task)
  several.finish(
    c,
    workdir,
    task,
    systems,
    found,
    tiles(task, tokenizer),
    title='What a record says, by picture, measurements and note',
    made='made up by a rule, nothing in it is medicine, see mmjax/data/records.py',
    params=fit.state.params,
    began=began,
  )


def tiles(task: several.Task, tokenizer: Any):
  """The parts of a test record."""

  def show(n: int) -> list[dict]:
    held, count = task.test, len(records.MEASURED)
    values, seen, time = held['s'][n, :, :count], held['s_mask'][n], held['s'][n, :, -1]
    lines = {name: np.where(seen[:, k], values[:, k], np.nan) for k, name in enumerate(records.MEASURED[:2])}
    ids = held['t'][n]
    said = tokens.sentence(tokenizer, ids)
    return [
      {'image': held['v'][n], 'text': said},
      {'image': plotted(time * records.HOURS, lines, 'hours'), 'text': 'in units of a normal spread'},
    ]

  return show


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
