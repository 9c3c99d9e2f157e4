"""How a run lies on devices and is computed there: what every config has as `parallel`. Results are the same."""

from ml_collections import ConfigDict


def parallel() -> ConfigDict:
  """All devices share the batch, and each has the whole model. What else can be is told in mmjax/parallel.py."""
  c = ConfigDict()
  c.how = 'jit'  # or 'pmap'
  c.mesh = ConfigDict({'data': -1, 'fsdp': 1, 'tensor': 1})  # devices along each axis; -1: what is left
  c.rules = ()  # lines 'PATTERN: AXIS ...', of parameters that are to be cut otherwise
  c.attention = 'auto'  # 'xla', 'cudnn' (bfloat16 on a GPU), or the faster one that can be: see mmjax/layers/ways.py
  c.remat = 'none'  # 'dots', 'full': what is computed again for the gradient, so that it needs no memory
  c.pack = False  # True: texts without what they are filled up with, see mmjax/layers/packed.py
  return c
