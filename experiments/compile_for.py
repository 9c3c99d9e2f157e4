"""Whether a paper's training step fits a TPU slice that is not here: compiled for it on this machine, in minutes.

  python -m experiments.compile_for --config=configs/clip.py:base --topology=v5e:2x4
  python -m experiments.compile_for --config=configs/lxmert.py:base --topology=v5e:4x8 --config.parallel.mesh.fsdp=8

Says the memory of a chip, the collectives, the FLOPs, whether the step fits, and the largest batch that does. Batches
have the shapes of the paper's data (experiments/shaped.py), whatever the config's data are; layout, batch and optimiser
are the config's. Needs libtpu, which `pip install -r requirements-tpu.txt` brings, and no TPU. How fast a TPU is, it
cannot say.
"""

import os

from mmjax import cli

CONFIG = 'configs/clip.py:base'
FLAGS: cli.Flags = {
  'topology': ('v5e:2x4', 'KIND:AxB, such as v5e:2x4 (8 chips, 2 hosts), v5p:2x2x2, v6e:4x4'),
  'quick': (
    False,
    'compiles with less care for speed and memory: in half the time, and tells the most that it may take',
  ),
  'largest': (True, 'also looks for the largest batch that fits: three compilations more'),
  'out': ('', 'a file for the numbers, as JSON'),
}
HOW: dict = {'config': CONFIG, 'modes': ('compile',), 'flags': FLAGS, 'doc': __doc__, 'workdir': False}

if __name__ == '__main__':
  cli.check(**HOW)  # a misspelt flag is said before the slow imports
  os.environ['JAX_PLATFORMS'] = 'cpu'  # with libtpu there, JAX would look for a TPU
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
