"""The loop that trains every model here, in a folder from which an interrupted run goes on. To read, and to copy.

N examples a step.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from mmjax import cli, optim, train
from mmjax import run as runs
from mmjax.checkpoint import Checkpoints, sha256
from mmjax.data.pipeline import Encode, Examples, eval_batches, prefetch, train_batches
from mmjax.errors import UserError
from mmjax.logging import Logger, device_line, parameter_table
from mmjax.workdir import flatten

Scores = Mapping[str, float]

AT_LEAST = {  # low -> the numbers that are not below it
  0: 'seed model.init_std model.image.init_std model.text.init_std model.num_features model.num_objects optim.lr '
  'optim.warmup optim.clip optim.decay optim.eps augment.shift augment.tint augment.keep dvae.uniform dvae.lr '
  'dvae.warmup classifier.lr classifier.warmup clip.lr clip.warmup bag.warmup sample.top_k image_weight',
  1: 'data.images pixels.patch pixels.regions optim.steps optim.micro_batches eval.every eval.images log.every '
  'model.out bag.steps contrast.warmup contrast.queue rerank beams dvae.codes dvae.entry dvae.layers dvae.width '
  'dvae.steps classifier.steps clip.steps clip.out clip.width clip.layers clip.patch sample.texts sample.candidates '
  'model.depth model.head_size',
  3: 'data.length data.caption',  # a word between the two that frame a text
}
AT_MOST = {'seed': 2**32 - 2, 'augment.tint': 1, 'augment.keep': 1}  # the last seed but one: one more is a seed too
SIZES = re.compile(r'model\.(\w+\.)?(width|heads|mlp|patch)')  # at least 1
SHARES = re.compile(r'model\.(\w+\.)?(attention_)?dropout|optim\.b2|contrast\.(momentum|soft)')  # from 0 to below 1


def check(config: Mapping, complete: Mapping, file: str, free: Sequence[str] = ()) -> None:
  """Raises UserError that names what a config lacks, or a number of it that makes no sense, before anything is made.

  complete: a config that has every key, from `file`; free: groups whose keys the model decides.
  """
  flat, inside = flatten(config), lambda key, groups: any(key.startswith(f'{group}.') for group in groups)
  lacks = [key for key in flatten(complete) if key not in flat and not inside(key, free)]
  lacks += [group for group in free if not any(inside(key, [group]) for key in flat)]
  more = [key for key in flat if key not in flatten(complete) and key not in free and not inside(key, free)]
  if more:
    raise UserError(f'config: found {", ".join(more)}; expected the keys of {file}')
  if lacks:
    own = f', `{", ".join(free)}` as its model has' if free else ''
    raise UserError(f'config: lacks {", ".join(lacks)}; expected the keys of {file}{own}')
  low = {key: low for low, names in AT_LEAST.items() for key in names.split()}
  for key, value in flat.items():
    least = 1 if SIZES.match(key) else next((low[name] for name in low if f'{key}.'.startswith(f'{name}.')), None)
    if least is not None and value < least:  # one number, or one a stream
      raise UserError(f'--config.{key}: found {value}, expected at least {least}')
    if key in AT_MOST and value > AT_MOST[key]:
      raise UserError(f'--config.{key}: found {value}, expected at most {AT_MOST[key]}')
    if SHARES.fullmatch(key) and not 0 <= value < 1:
      raise UserError(f'--config.{key}: found {value}, expected 0 to below 1')


def stage(c: Any, group: Mapping) -> ml_collections.ConfigDict:
  """The config of a stage of a run: c, with the numbers of `optim` that the group has."""
  own = ml_collections.ConfigDict(c.to_dict())
  own.optim.update({key: group[key] for key in own.optim if key in group})
  return own


def scalars(mean: Mapping[str, Any]) -> dict[str, float]:
  """Divided metric sums as numbers; those that nothing counted for are left out."""
  return {name: float(value) for name, value in mean.items() if not np.ma.is_masked(value)}


class Fit:
  """A model on its way from first variables to trained ones: `state`.

  c: a config with seed, data.images (N), optim, eval, log and parallel. source: what is learnt from, encode: one of its
  examples -> arrays; rows: how many questions (or pairs) an example stands for, in the speed that is shown; named:
  divided metric sums -> {name: number}. Raises UserError for a number of the config that does not fit.
  """

  def __init__(
    self,
    c: Any,
    variables: Mapping,
    *,
    forward: train.Forward,
    objective: train.Objective,
    source: Examples,
    encode: Encode,
    augment: train.Augment | None = None,
    rows: int = 1,
    named: Callable[[Mapping], dict[str, float]] = scalars,
  ):
    self.c, self.source, self.encode, self.rows, self.named = c, source, encode, rows, named
    self.launch = train.Launch(c.parallel.how, c.data.images, c.optim.micro_batches)
    self.rate = optim.schedule(c.optim.schedule, c.optim.lr, c.optim.steps, c.optim.warmup)
    how = {key: c.optim[key] for key in ('clip', 'decay', 'decay_on', 'b2', 'eps')}
    tx = optim.build(c.optim.name, self.rate, **how)
    parts: dict[str, Any] = dict(forward=forward, objective=objective, augment=augment)
    step = functools.partial(train.train_step, tx=tx, micro_batches=c.optim.micro_batches, **parts)
    self.step = self.launch.compile_step(step)
    self.eval_step = self.launch.compile_eval(functools.partial(train.eval_step, **parts))
    self.state: train.State = self.launch.place(train.init(variables, tx))

  def evaluate(self, source: Examples) -> dict[str, float]:
    """Loss and metrics of one pass, eval.images at a time (or, to divide by the devices, a few more)."""
    images = self.c.eval.images + -self.c.eval.images % len(self.launch.devices)
    batches = eval_batches(source, self.encode, images=images)
    sums = [self.eval_step(self.state.variables, self.launch.put(batch)) for batch in batches]
    return self.named(train.divide(sums))

  def run(
    self,
    workdir: Path,
    args: Any,
    *,
    validate: Callable[[], Scores],
    test: Callable[[], Mapping[str, Scores]],
    system: str,
    said: Sequence[str] = (),
  ) -> Mapping[str, Scores]:
    """Trains from where the folder stands, or, in the modes 'eval' and 'predict', reads its checkpoint.

    Returns test(), nothing in mode 'predict'. validate: the scores at eval.every, whose 'accuracy' (else the loss)
    says which checkpoint is best; system: what stands in metrics.jsonl beside the last line; said: what to say first.
    """
    with Checkpoints(workdir) as checkpoints:
      training, best = args.mode == 'train', args.checkpoint == 'best'
      self.state, start, example = runs.resumed(checkpoints, self.state, fresh=training, best=best)
      if not training:
        return {} if args.mode == 'predict' else test()
      with Logger(workdir, total=self.c.optim.steps, start=start, batch=self.c.data.images * self.rows) as log:
        origin = [f'going on from step {start:,}'] if start else said
        log.say('\n'.join([parameter_table(self.state.params), device_line(), *origin]))
        self._train(workdir, checkpoints, log, start, example, validate)
        results = test()
        for split, scores in results.items():
          log.write(self.c.optim.steps, split, scores)
        log.write(self.c.optim.steps, 'final', {'system': system, 'parameters_sha256': sha256(self.state.params)})
        return results

  def _train(
    self, workdir: Path, checkpoints: Checkpoints, log: Logger, start: int, example: int, validate: Callable[[], Scores]
  ) -> None:
    c, steps, images = self.c, self.c.optim.steps, self.c.data.images
    key = self.launch.place(jax.random.key(c.seed + 1))
    batches_from = lambda example: train_batches(self.source, self.encode, images=images, seed=c.seed, start=example)
    window = runs.Window(images * self.rows)
    with prefetch(batches_from(example), self.launch.put) as batches, cli.Signals() as signals:
      for done in range(start + 1, steps + 1):
        self.state, sums = self.step(self.state, next(batches), key)
        window.add(sums)
        log.progress(done, lambda: self.named(train.divide(window.sums)))
        if done % c.log.every == 0 or done == steps:
          log.write(done, 'train', self.named(window.close(batches.waited)) | {'lr': self.rate(done - 1)})
        if done % c.eval.every == 0 or done == steps or signals.term:
          runs.stop_if_not_finite(self.state, lambda at: next(batches_from(at * images)), workdir)
          with runs.aside(window, log):
            scores = validate()
            log.write(done, 'validation', scores)
            rank = {'accuracy': scores['accuracy'] if 'accuracy' in scores else -scores['loss']}
            checkpoints.save(done, self.state, {'example': done * images}, rank)
        if signals.term:
          checkpoints.wait()
          raise cli.Preempted(f'saved step {done:,} of {steps:,} in {workdir}; the same command goes on from there')
