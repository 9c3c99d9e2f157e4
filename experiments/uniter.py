"""UNITER (Chen et al. 2020, arXiv:1909.11740) trained to answer questions about images.

Prepares the data, trains, evaluates, prints the accuracies beside the published ones and writes a report. The same
command goes on where an interrupted run stopped.
"""

from experiments import FLAGS
from mmjax import cli

CONFIG = 'configs/uniter.py:sort_of_clevr'

if __name__ == '__main__':
  cli.check(config=CONFIG, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools

from experiments import lxmert
from mmjax.models.uniter import UNITER

run = functools.partial(lxmert.run, kind=UNITER)  # the loop is LXMERT's, line by line; the model alone is another

if __name__ == '__main__':
  cli.main(run, config=CONFIG, flags=FLAGS, doc=__doc__)
