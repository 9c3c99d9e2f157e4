"""LXMERT (Tan and Bansal 2019, arXiv:1908.07490) trained to answer questions about images.

Prepares the data, trains, evaluates, prints the accuracies beside the published ones and writes a report. The same
command goes on where an interrupted run stopped.
"""

from experiments import FLAGS
from mmjax import cli

CONFIG = 'configs/lxmert.py:sort_of_clevr'

if __name__ == '__main__':
  cli.check(config=CONFIG, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import time

from configs import lxmert as complete
from experiments import showing, training
from experiments import visual_questions as task_of
from mmjax import run as runs
from mmjax.models.lxmert import LXMERT
from mmjax.workdir import check_workdir, open_workdir


def run(c, args, kind=LXMERT) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.check(c.to_dict(), complete.get_config().to_dict(), 'configs/lxmert.py', free=('model',))
  showing.check(c.data.name, args)
  config = c.to_dict() | ({'pretrained': args.pretrained} if args.pretrained else {})
  check_workdir(args.workdir, config, fresh=fresh)
  runs.keep_compiled()
  runs.keep_memory()
  task, model, loaded = task_of.build(kind, c, args.pretrained)
  recipe = task_of.recipe(c.objective, task, model)
  variables, said = task_of.first_variables(recipe, model, task, c.seed, loaded)
  fit = training.Fit(
    c,
    recipe,
    variables,
    source=task.splits['train'],
    encode=task.encode,
    rows=task.questions,
    named=lambda mean: task_of.named(mean, task),
    text='' if task.setting == 'statements' else 'question',  # those of pre-training are drawn on the devices
  )
  workdir = open_workdir(args.workdir, config, fresh=fresh)
  with training.Course(fit, workdir, args, said) as course:
    for step, batch in course:
      fit.state, sums = fit.step(fit.state, batch, course.key)
      course.log(step, sums)
      if course.due(step):
        course.save(step, lambda: fit.evaluate(task.splits['validation']))
    tests = lambda: {split: fit.evaluate(task.splits[split]) for split in task.tests}
    results = course.end(tests, showing.system(model))
  if args.mode == 'predict':
    return showing.predict(task, model, fit.state.variables, args, int(fit.state.step), workdir)
  showing.finish(c, task, model, fit.state.variables, results, workdir, began)


if __name__ == '__main__':
  cli.main(run, config=CONFIG, flags=FLAGS, doc=__doc__)
