"""Configurations of experiments/series.py."""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'all': 'BasicMotions, JapaneseVowels and GunPoint, one after the other (default)',
  'basic_motions': 'four motions by six channels of a smart watch, 40 series to learn from',
  'japanese_vowels': 'nine speakers by twelve coefficients of two vowels, 270 series of 7 to 26 steps',
  'gun_point': 'a gun drawn or a finger pointed by the place of a hand, 50 series',
  'italy_power': 'the days of winter or summer by 24 hours of power, 67 series',
  'base': 'all four sets, four times the steps and wider models',
  'tiny': 'some steps of two systems on GunPoint in under a minute',
}
SETS = {
  'basic_motions': ('BasicMotions',),
  'japanese_vowels': ('JapaneseVowels',),
  'gun_point': ('GunPoint',),
  'italy_power': ('ItalyPowerDemand',),
  'base': ('BasicMotions', 'JapaneseVowels', 'GunPoint', 'ItalyPowerDemand'),
  'tiny': ('GunPoint',),
}


def get_config(variant: str = 'all') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.sets = SETS.get(variant, ('BasicMotions', 'JapaneseVowels', 'GunPoint'))
  c.data.held_out = 0.2  # of each class's training series, to validate on
  c.data.images = 32  # series a step

  c.systems = ('lstm', 'gru', 'tcn', 'patches')  # each is trained on each set; their mean is in the table too
  c.model = ConfigDict()
  c.model.width = 64
  c.model.layers = 2  # of LSTM and GRU, which read both ways
  c.model.dilations = (1, 2, 4, 8, 16, 32)  # of the TCN: a token reads up to 253 steps
  c.model.kernel = 3
  c.model.patch = 8  # steps
  c.model.stride = 4
  c.model.schedule = '3*[s<s]'  # of the patches
  c.model.heads = 4
  c.model.mlp = 128
  c.model.dropout = 0.1

  c.augment = ConfigDict()
  c.augment.jitter = 0.05  # added to each value, in deviations of its channel
  c.augment.scale = 0.1  # of a channel's gain
  c.augment.warp = 0.5  # of the pace
  c.augment.crop = 0.2  # of the steps

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 2e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 500
  c.optim.warmup = 50
  c.optim.clip = 1.0  # of the global norm
  c.optim.decay = 0.05
  c.optim.decay_on = 'kernels'
  c.optim.b2 = 0.98
  c.optim.eps = 1e-8
  c.optim.micro_batches = 1

  c.eval = ConfigDict()
  c.eval.every = 100  # steps between evaluations on the validation split, each with a checkpoint
  c.eval.images = 60
  c.log = ConfigDict()
  c.log.every = 20  # steps between lines of metrics.jsonl
  c.parallel = layouts.parallel()

  if variant == 'base':
    c.model.width, c.model.mlp, c.optim.steps, c.optim.warmup, c.optim.lr = 128, 512, 2000, 200, 1e-3
  if variant == 'tiny':
    c.systems = ('gru', 'patches')
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 40, 4, 20, 10
  return c
