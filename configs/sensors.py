"""Configurations of experiments/sensors.py.

A modality pair or triple is made here: an encoder a stream (mmjax/models/modalities.py says which there are), and
schedules of these streams.
"""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'robot': 'camera, range sensor and odometry, alone and fused, with and without sensors hidden in training (default)',
  'others': 'other encoders of the same sensors: bare patches, PatchTST, a dilated TCN',
  'tiny': 'some steps of two of the systems in under a minute',
}


def get_config(variant: str = 'robot') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.name = 'robot'
  c.data.dir = ''  # where data are prepared; '' is TFDS's own default
  c.data.images = 32  # scenes a step

  c.encoders = ('v: image grid', 'r: series patches', 'o: series patches')
  # 'NAME: SCHEDULE', and behind a bar how often a sensor is hidden in training; the last one is shown in the report
  c.systems = (
    'camera alone: 2*[v<v]',
    'range alone: 2*[r<r]',
    'odometry alone: 2*[o<o]',
    'late: 2*[v<v r<r o<o]',
    'each reads the others: 1*[v<v r<r o<o] 1*[v<ro r<vo o<vr]',
    'merged: 2*[v<vro r<vro o<vro tied]',
    'merged, sensors hidden in training: 2*[v<vro r<vro o<vro tied] | 0.3',
  )
  c.model = ConfigDict()
  c.model.width = 64
  c.model.heads = 4
  c.model.mlp = 128
  c.model.layers = 2  # of encoders that are transformers
  c.model.channels = (16, 32, 64)  # of convolutions
  c.model.patch = 8  # pixels or beams
  c.model.dropout = 0.0
  c.model.attention_dropout = 0.0

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 2e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 2500  # what is in the way is a comparison of two sensors, which is found late and at once
  c.optim.warmup = 50
  c.optim.clip = 1.0  # of the global norm
  c.optim.decay = 0.05
  c.optim.decay_on = 'kernels'
  c.optim.b2 = 0.98
  c.optim.eps = 1e-8
  c.optim.micro_batches = 1

  c.eval = ConfigDict()
  c.eval.every = 500  # steps between evaluations on the validation split, each with a checkpoint
  c.eval.images = 100
  c.log = ConfigDict()
  c.log.every = 50  # steps between lines of metrics.jsonl
  c.parallel = layouts.parallel()

  if variant == 'others':
    c.encoders = ('v: image patches', 'r: series patchtst', 'o: series tcn')
  elif variant == 'tiny':
    c.systems = ('camera alone: 1*[v<v]', 'merged: 1*[v<vro r<vro o<vro tied] | 0.3')
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 40, 4, 20, 10
  return c
