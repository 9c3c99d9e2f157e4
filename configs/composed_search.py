"""Configurations of experiments/composed_search.py."""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'products': 'drawn products and wishes about them, whose answers are known (default)',
  'tiny': 'some steps of two of the systems in under a minute',
}


def get_config(variant: str = 'products') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.name = 'products'
  c.data.dir = ''  # where data are prepared; '' is TFDS's own default
  c.data.images = 64  # wishes a step, whose wanted pictures are one another's rivals

  # what is compared: 'image', 'text', 'sum', 'tirg', or a schedule; the last one is shown in the report
  c.systems = ('image', 'text', 'sum', 'tirg', '2*[v<tv]')
  c.model = ConfigDict()
  c.model.channels = (32, 64, 128)
  c.model.width = 64
  c.model.heads = 4
  c.model.mlp = 128
  c.model.out = 64

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 1e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 1000
  c.optim.warmup = 50
  c.optim.clip = 1.0  # of the global norm
  c.optim.decay = 0.01
  c.optim.decay_on = 'kernels'
  c.optim.b2 = 0.98
  c.optim.eps = 1e-8
  c.optim.micro_batches = 1

  c.eval = ConfigDict()
  c.eval.every = 500  # steps between searches in the validation split, each with a checkpoint
  c.log = ConfigDict()
  c.log.every = 50  # steps between lines of metrics.jsonl
  c.parallel = layouts.parallel()

  if variant == 'tiny':
    c.systems = ('sum', '1*[v<tv]')
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 40, 4, 20, 10
  return c
