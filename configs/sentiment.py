"""Configurations of experiments/sentiment.py."""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'posts': 'made-up posts of a sentence and a picture, whose feeling is known (default)',
  'tiny': 'some steps of two of the systems in under a minute',
}


def get_config(variant: str = 'posts') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.name = 'posts'
  c.data.dir = ''  # where data are prepared; '' is TFDS's own default
  c.data.images = 64  # posts a step

  # what is compared: 'words' or 'picture' alone, or a schedule of both; the last one is shown in the report
  c.systems = ('words', 'picture', '2*[t<t v<v]', '1*[t<t v<v] 1*[t<v v<t]', '2*[t<tv v<tv tied]')
  c.channels = (16, 32, 64)  # of the convolutions that make cells of a picture, stride 2 each
  c.model = ConfigDict()
  c.model.width = 64
  c.model.heads = 4
  c.model.mlp = 128

  c.augment = ConfigDict()
  c.augment.shift = 3  # pixels, either way
  c.augment.tint = 0.15  # how much stronger or weaker a colour can be

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 1e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 800
  c.optim.warmup = 50
  c.optim.clip = 1.0  # of the global norm
  c.optim.decay = 0.05
  c.optim.decay_on = 'kernels'
  c.optim.b2 = 0.98
  c.optim.eps = 1e-8
  c.optim.micro_batches = 1

  c.eval = ConfigDict()
  c.eval.every = 400  # steps between evaluations on the validation split, each with a checkpoint
  c.eval.images = 100
  c.log = ConfigDict()
  c.log.every = 50  # steps between lines of metrics.jsonl
  c.parallel = layouts.parallel()

  if variant == 'tiny':
    c.systems = ('words', '1*[t<tv v<tv tied]')
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 40, 4, 20, 10
  return c
