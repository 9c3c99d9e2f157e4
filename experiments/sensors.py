"""What a robot should do, by its camera, its range sensor and its odometry: each alone, and all of them fused.

Trains every system of the config on made-up scenes (data/robot.py), each in a folder of its own that an interrupted run
goes on from. A system is a fusion schedule of three streams; one can learn with sensors hidden at random, and all are
tested with each sensor missing. Since one rule made all labels, the best that fewer sensors can reach stands beside.
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/sensors.py:robot'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools
import time
from typing import Any

import numpy as np

from configs import sensors as complete
from experiments import several, training
from mmjax.data import robot
from mmjax.data.pipeline import load
from mmjax.fusion.schedule import parse
from mmjax.models.multimodal import Multimodal
from mmjax.report.pictures import plotted
from mmjax.workdir import open_workdir

SETS = ('robot',)
STREAMS = {'v': 'camera', 'r': 'range', 'o': 'odometry'}


def examples(split: str, folder: str) -> list[several.Arrays]:
  """All of a split: 'v' uint8 [32,32,3], 'r' [48,1] in -1..1, 'o' [20,2] of metres and radians a second."""
  found = []
  for e in load(robot.Robot, split, folder or None):
    streams = {'v': e['image'], 'r': (e['range'] / robot.REACH * 2 - 1)[:, None], 'o': e['odometry']}
    masks = {'r': np.ones(robot.BEAMS, bool), 'o': np.arange(robot.STEPS) < e['steps']}
    found.append(several.example(streams, masks, e['action']))
  return found


def prepare(c: Any) -> several.Task:
  splits = {split: examples(split, c.data.dir) for split in robot.SPLITS}
  return several.Task(splits, STREAMS, robot.ACTIONS, several.limits(tuple(robot.SENSORS), robot.best))


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/sensors.py')
  training.known_set(c.data.name, SETS)
  model = lambda schedule: Multimodal(tuple(c.encoders), schedule, len(robot.ACTIONS), **c.model)
  build = lambda schedule: (model(schedule), parse(schedule).streams)
  systems = several.systems(c.systems, build)
  task = prepare(c)
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
    tiles(task),
    title='What a robot should do, by three sensors',
    made='made up by a rule, see mmjax/data/robot.py',
    params=fit.state.params,
    began=began,
  )


def tiles(task: several.Task):
  """What each sensor saw of a test example."""

  def show(n: int) -> list[dict]:
    r, o = task.test['r'][n, :, 0], task.test['o'][n][task.test['o_mask'][n]]
    beams = np.linspace(-robot.VIEW, robot.VIEW, robot.BEAMS)
    return [
      {'image': task.test['v'][n], 'text': 'camera'},
      {'image': plotted(beams, {'metres': (r + 1) / 2 * robot.REACH}, 'degrees'), 'text': 'range'},
      {'image': plotted(np.arange(len(o)), {'m/s': o[:, 0], 'rad/s': o[:, 1]}, 'steps'), 'text': 'odometry'},
    ]

  return show


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
