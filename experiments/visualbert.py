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
  'pretrained': ('', 'a folder with published weights, or ours, to begin with'),
}

if __name__ == '__main__':
  cli.check(config=CONFIG, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools
from collections.abc import Mapping

from experiments import lxmert
from experiments import visual_questions as task_of
from mmjax.models.answering import Answering
from mmjax.models.visualbert import VisualBERT


def build(c, pretrained: str = '') -> tuple[task_of.Task, Answering, Mapping | None]:
  """The task and the model of a config, and the variables of a checkpoint's folder, where one is given."""
  pixels = task_of.pixels(**c.pixels, data=c.data)
  task = task_of.prepare(c.data.name, c.data.setting, c.data.dir, pretrained)
  encoder, loaded = task_of.encoder(VisualBERT, c.model.to_dict(), task, pretrained)
  return task, Answering(encoder, pixels, c.place, c.blind), loaded


run = functools.partial(lxmert.run, build=build)  # the loop is LXMERT's, line by line; the model alone is another

if __name__ == '__main__':
  cli.main(run, config=CONFIG, flags=FLAGS, doc=__doc__)
