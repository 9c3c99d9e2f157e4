"""A cell of the grid: one fusion with one seed, in a folder of its own, trained, tested, and then never touched again.

  cells/FUSION/SEED/          as any run's: config.json, metrics.jsonl, checkpoints while it lasts
    cell.json                 what came out; written last, so that a cell that has it is done
    answers.npz               which answers were right, image by image

Whoever holds the lock of the folder works at the cell; the lock goes with its process, and what that left another goes
on with.
"""

import dataclasses
import functools
import hashlib
import json
import shutil
import time
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn

from experiments import training
from experiments import visual_questions as task_of
from experiments.lab.broken import BROKEN
from experiments.lab.grid import Sized, model_of
from mmjax.checkpoint import sha256
from mmjax.data.pipeline import Examples, eval_batches
from mmjax.errors import UserError
from mmjax.fusion import maps
from mmjax.fusion.layers import MAPS
from mmjax.logging import device_line
from mmjax.workdir import close_workdir, differing, flatten, open_workdir, replacing, write_atomic

DONE, ANSWERS = 'cell.json', 'answers.npz'
NOT_OF_A_CELL = ('fusions', 'reference', 'seeds', 'seed')  # keys of the grid's config
TESTED = 'answers'  # of the whole test, in answers.npz; with a name of BROKEN behind it, of the broken ones
SHOWN = 1  # the question of the first test image whose attention is kept: 'left', which a look at one region answers


@dataclasses.dataclass(frozen=True)
class Cell:
  sized: Sized
  seed: int
  folder: Path

  @property
  def name(self) -> str:
    return f'{self.sized.fusion.name}, seed {self.seed}'

  @property
  def done(self) -> bool:
    return (self.folder / DONE).is_file()


def config_of(c: Any, cell: Cell) -> dict[str, Any]:
  """What a cell's result depends on, and what its config.json holds."""
  own = {key: value for key, value in c.to_dict().items() if key not in NOT_OF_A_CELL}
  own.pop('budget')
  return own | {'fusion': cell.sized.fusion.line, 'mlp': cell.sized.mlp, 'seed': cell.seed}


def run(c: Any, task: task_of.Task, cell: Cell, begins: Callable[[], None], told: Callable[[int, float], None]) -> None:
  """Trains and tests a cell, from where its folder says. begins: called when it is ours; told: (steps done, seconds a
  step).

  c: the grid's config. Raises InUse where another process is at it, and what training raises.
  """
  config = config_of(c, cell)
  workdir = open_workdir(cell.folder, config)
  try:
    if cell.done:  # by another process, meanwhile
      return
    begins()
    own = types.SimpleNamespace(**{key: c[key] for key in c if key not in NOT_OF_A_CELL}, seed=cell.seed)
    model = model_of(c, task, cell.sized.fusion, cell.sized.mlp)
    recipe = task_of.recipe(c.objective, task, model)
    fit = training.Fit(
      own,
      recipe,
      task_of.first_variables(recipe, model, task, cell.seed)[0],
      source=task.splits['train'],
      encode=task.encode,
      rows=task.questions,
      named=lambda mean: task_of.named(mean, task),
    )
    args = types.SimpleNamespace(mode='train', checkpoint='latest')
    began, first = time.perf_counter(), None
    with training.Course(fit, workdir, args, quiet=True) as course:
      told(course.start, float('nan'))
      for step, batch in course:
        fit.state, sums = fit.step(fit.state, batch, course.key)
        course.log(step, sums)
        if step % c.log.every == 0:
          first = first or (step, time.perf_counter())  # after what was compiled
          spent = time.perf_counter() - first[1]
          told(step, spent / (step - first[0]) if step > first[0] else float('nan'))
        if course.due(step):
          course.save(step, lambda: fit.evaluate(task.splits['validation']))
    took = time.perf_counter() - began if not course.start else None  # else an earlier process did a part
    _finish(c, task, cell, model, fit, workdir, took)
  finally:
    close_workdir(workdir)


def _finish(
  c: Any, task: task_of.Task, cell: Cell, model: nn.Module, fit: Any, workdir: Path, took: float | None
) -> None:
  """Tests, writes what came out, and removes what was needed to go on. took: seconds of training, where known."""
  variables = fit.state.variables
  test = task.splits[c.test.split]
  few = [test[n] for n in range(min(c.test.broken_images, len(test)))]
  arrays = {TESTED: answered(task, model, variables, test, c.eval.images)}
  for name in c.test.broken:
    arrays[f'{TESTED} {name}'] = answered(task, model, variables, few, c.eval.images, name)
  arrays |= attention(task, model, variables, c.test.split)
  with replacing(workdir / ANSWERS) as out:
    np.savez_compressed(out, allow_pickle=False, **arrays)
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  speed = [row['examples_per_s'] for row in rows if row['split'] == 'train'][1:]
  due = lambda step: step % c.eval.every == 0 or step == c.optim.steps  # not those of a run that was asked to end
  steps_a_second = np.median(speed) / (c.data.images * task.questions) if speed else float('nan')
  content = {
    'fusion': cell.sized.fusion.name,
    'line': cell.sized.fusion.line,
    'seed': cell.seed,
    'mlp': cell.sized.mlp,
    'parameters': cell.sized.parameters,
    'moved': moved(fit.state),
    'flops': cell.sized.flops,
    'steps': c.optim.steps,
    'step_ms': round(1000 / steps_a_second, 3) if speed else None,
    'seconds': took and round(took, 1),
    'device': device_line(),
    'validation': [[row['step'], row['accuracy']] for row in rows if row['split'] == 'validation' and due(row['step'])],
    'parameters_sha256': sha256(fit.state.params),
    'answers_sha256': hashlib.sha256((workdir / ANSWERS).read_bytes()).hexdigest(),
  }
  write_atomic(workdir / DONE, json.dumps(content | {'sha256': checksum(content)}, indent=1) + '\n')
  shutil.rmtree(workdir / 'checkpoints', ignore_errors=True)


def checksum(content: Mapping) -> str:
  """Of what a cell.json says, but for the checksum itself."""
  said = {key: value for key, value in content.items() if key != 'sha256'}
  return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def moved(state: Any) -> int | None:
  """How many parameters ever had a gradient, by Adam's second moments: no answer reads the others. None without."""
  seen = optax.tree.get(state.opt_state, 'nu', default=None)
  return None if seen is None else sum(x.size for x in jax.tree.leaves(seen) if np.asarray(x).any())


def batches(task: task_of.Task, test: Examples, images: int, broken: str = '') -> Iterator[dict[str, np.ndarray]]:
  """The batches of a test, as they are or broken; noise is the same for all systems and seeds."""
  rng = np.random.default_rng(0)
  for batch in eval_batches(test, task.encode, images=images):
    yield BROKEN[broken](batch, rng) if broken else batch


def answered(
  task: task_of.Task, model: nn.Module, variables: Mapping, test: Examples, images: int, broken: str = ''
) -> np.ndarray:
  """Which answers are right: uint8 [M,K], 1 right, 0 wrong, 2 not asked."""
  found = []
  for batch in batches(task, test, images, broken):
    best = np.asarray(_best(model, variables, batch)).reshape(batch['answer'].shape)
    found.append(np.where(batch['weight'] > 0, best == batch['answer'], 2).astype(np.uint8))
  return np.concatenate(found)[: len(test)]


@functools.partial(jax.jit, static_argnums=0)
def _best(model: Any, variables: Mapping, batch: Mapping) -> jax.Array:
  return model.apply(variables, batch, train=False)['answers'].argmax(-1)


def attention(task: task_of.Task, model: nn.Module, variables: Mapping, split: str) -> dict[str, np.ndarray]:
  """What words read of regions in one question: 'attention' float16 [words,R], mean of layers and heads, with 'boxes'
  [R,4] that were read; nothing where no word reads a region."""
  encoder = getattr(model, 'encoder', None)
  batch = {name: value[None] for name, value in task.encode(task.splits[split][0]).items()}
  batch['question'] = batch['question'][:, SHOWN : SHOWN + 1]
  if encoder is None:
    return {}
  out, captured = jax.jit(lambda v, b: model.apply(v, b, train=False, mutable=[MAPS]))(variables, batch)
  inside = captured.get(MAPS, {}).get('encoder', {}).get('encoder')
  lengths = {'t': batch['question'].shape[-1], 'v': out['boxes'].shape[1]}
  layers = maps.read(inside, encoder.schedule, lengths, 't', 'v') if inside else {}
  if not layers:
    return {}
  words = batch['question'][0, 0] > 0
  mean = np.mean([layer[0].mean(0)[words] for layer in layers.values()], 0)
  return {'attention': mean.astype(np.float16), 'boxes': np.asarray(out['boxes'][0], np.float32)}


def read(c: Any, cell: Cell) -> tuple[dict, dict[str, np.ndarray]]:
  """(cell.json, arrays) of a done cell. Raises UserError that names it where it is damaged, or of another config."""
  try:
    found = json.loads((cell.folder / DONE).read_text())
    config = json.loads((cell.folder / 'config.json').read_text())
    content = (cell.folder / ANSWERS).read_bytes()
    if not isinstance(config, dict):
      raise TypeError('config.json holds no config')
    damaged = ''
    if checksum(found) != found['sha256']:
      damaged = DONE
    elif hashlib.sha256(content).hexdigest() != found['answers_sha256']:
      damaged = ANSWERS
    if not damaged:
      with np.load(cell.folder / ANSWERS, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
  except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
    raise UserError(
      f'cell {cell.folder} is damaged ({type(error).__name__}: {error}); remove the folder to have it made again'
    ) from error
  if damaged:
    raise UserError(
      f'cell {cell.folder} is damaged ({damaged} does not match its checksum); remove the folder to have it made again'
    )
  wanted = json.loads(json.dumps(config_of(c, cell)))
  if differ := differences(config, wanted):
    raise UserError(
      f'cell {cell.folder} was made with {differ}; '
      'go back to the old values, give the fusion another name, or take another workdir'
    )
  return found, arrays


def differences(before: Mapping, now: Mapping) -> str:
  """How two configs of a cell differ in what its result depends on, in words; '' where they do not."""
  old, new = flatten(dict(before)), flatten(dict(now))
  keys = differing(old, new)
  said = [f'{key} {old.get(key, "absent")}, now {new.get(key, "absent")}' for key in keys[:3]]
  return ', '.join([*said, *[f'and {len(keys) - 3} more'] * (len(keys) > 3)])
