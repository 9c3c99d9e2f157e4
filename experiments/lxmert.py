"""LXMERT (Tan and Bansal 2019, arXiv:1908.07490) trained to answer questions about images.

Prepares the data, trains, evaluates, prints the accuracies beside the published ones and writes a report. The same
command goes on where an interrupted run stopped.
"""

from experiments import FLAGS
from mmjax import cli

CONFIG = 'configs/lxmert.py:sort_of_clevr'

if __name__ == '__main__':
  cli.check(config=CONFIG, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools
import time
from typing import Any

import jax

from experiments import showing
from experiments import visual_questions as task_of
from mmjax import optim, train
from mmjax import run as runs
from mmjax.checkpoint import Checkpoints, sha256
from mmjax.data.pipeline import prefetch, train_batches
from mmjax.logging import Logger, device_line, parameter_table
from mmjax.models.lxmert import LXMERT
from mmjax.workdir import check_workdir, open_workdir


def run(c, args, kind=LXMERT) -> None:
  began = time.time()
  task_of.check(c.to_dict())
  showing.check(c.data.name, args)
  config = c.to_dict() | ({'pretrained': args.pretrained} if args.pretrained else {})
  check_workdir(args.workdir, config, fresh=args.mode == 'train')
  runs.keep_compiled()
  runs.keep_memory()
  task, model, loaded = task_of.build(kind, c, args.pretrained)
  launch = train.Launch(c.parallel.how, c.data.images, c.optim.micro_batches)
  rate = optim.schedule(c.optim.schedule, c.optim.lr, c.optim.steps, c.optim.warmup)
  how = {key: c.optim[key] for key in ('clip', 'decay', 'decay_on', 'b2', 'eps')}
  tx = optim.build(c.optim.name, rate, **how)
  parts: dict[str, Any] = dict(
    forward=train.forward_of(model), objective=task_of.objective(c.objective, task), augment=task_of.augment(task)
  )
  step = launch.compile_step(functools.partial(train.train_step, tx=tx, micro_batches=c.optim.micro_batches, **parts))
  eval_step = launch.compile_eval(functools.partial(train.eval_step, **parts))
  variables, said = task_of.first_variables(model, task, c.seed, loaded)
  state: train.State = launch.place(train.init(variables, tx))
  evaluate = lambda split: task_of.evaluate(task, split, eval_step, state.variables, launch, c.eval.images)
  batches_from = lambda example: train_batches(
    task.splits['train'], task.encode, images=c.data.images, seed=c.seed, start=example
  )
  key, steps = launch.place(jax.random.key(c.seed + 1)), c.optim.steps
  workdir = open_workdir(args.workdir, config, fresh=args.mode == 'train')

  with Checkpoints(workdir) as checkpoints:
    state, start, example = runs.resumed(checkpoints, state, fresh=args.mode == 'train', best=args.checkpoint == 'best')
    if args.mode == 'predict':
      return showing.predict(task, model, state.variables, args, start, workdir)
    if args.mode == 'train':
      questions = c.data.images * task.questions  # a step
      with Logger(workdir, total=steps, start=start, batch=questions) as log:
        origin = [f'going on from step {start:,}'] if start else said
        log.say('\n'.join([parameter_table(state.params), device_line(), *origin]))
        with prefetch(batches_from(example), launch.put) as batches, cli.Signals() as signals:
          window = runs.Window(questions)
          for done in range(start + 1, steps + 1):
            state, sums = step(state, next(batches), key)
            window.add(sums)
            log.progress(done, lambda: task_of.named(train.divide(window.sums), task))
            if done % c.log.every == 0 or done == steps:
              log.write(done, 'train', task_of.named(window.close(batches.waited), task) | {'lr': rate(done - 1)})
            if done % c.eval.every == 0 or done == steps or signals.term:
              runs.stop_if_not_finite(state, lambda at: next(batches_from(at * c.data.images)), workdir)
              with runs.aside(window, log):
                scores = evaluate('validation')
                log.write(done, 'validation', scores)
                rank = {'accuracy': scores.get('accuracy', -scores['loss'])}  # pre-training: no one accuracy
                checkpoints.save(done, state, {'example': done * c.data.images}, rank)
            if signals.term:
              checkpoints.wait()
              raise cli.Preempted(f'saved step {done:,} of {steps:,} in {workdir}; the same command goes on from there')
        results = {split: evaluate(split) for split in task.tests}
        for split, scores in results.items():
          log.write(steps, split, scores)
        log.write(steps, 'final', {'system': showing.system(model), 'parameters_sha256': sha256(state.params)})
    else:
      results = {split: evaluate(split) for split in task.tests}
  showing.finish(c, task, model, state.variables, results, workdir, began)


if __name__ == '__main__':
  cli.main(run, config=CONFIG, flags=FLAGS, doc=__doc__)
