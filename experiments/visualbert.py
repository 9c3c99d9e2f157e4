"""VisualBERT (Li et al. 2019, arXiv:1908.03557) trained to answer questions about images.

Prepares the data, trains, evaluates, prints the accuracies beside the published ones and writes a report. The same
command goes on where an interrupted run stopped.
"""

from mmjax import cli

CONFIG = 'configs/visualbert.py:sort_of_clevr'
FLAGS = {
  'image': ('', 'mode predict: an image file'),
  'question': ('', 'mode predict: what to ask about it'),
  'checkpoint': ('latest', 'modes eval and predict: latest, or best on the validation split'),
}

if __name__ == '__main__':
  cli.check(config=CONFIG, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools

from experiments import lxmert
from experiments import visual_questions as task_of
from mmjax.models.answering import Answering
from mmjax.models.visualbert import VisualBERT


def build(c) -> tuple[task_of.Task, Answering]:
  """The task and the model of a config."""
  pixels = task_of.pixels(**c.pixels, setting=c.data.setting)
  task = task_of.prepare(c.data.name, c.data.setting, c.data.dir)
  encoder = VisualBERT(len(task.answers), task.tokenizer.get_vocab_size(), task.length, **c.model.to_dict())
  return task, Answering(encoder, pixels, c.place, c.blind)


run = functools.partial(lxmert.run, build=build)  # the loop is LXMERT's, line by line; the model alone is another

if __name__ == '__main__':
  cli.main(run, config=CONFIG, flags=FLAGS, doc=__doc__)
