"""Configurations of experiments/records.py.

A modality pair or triple is made here: an encoder a stream (mmjax/models/modalities.py says which there are), and
schedules of these streams.
"""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'records': 'picture, measurements and note, alone and fused, with and without parts hidden in training (default)',
  'others': 'other encoders of the same parts: a small ViT, an LSTM, a small BERT',
  'tiny': 'some steps of two of the systems in under a minute',
}


def get_config(variant: str = 'records') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.name = 'records'
  c.data.dir = ''  # where data are prepared; '' is TFDS's own default
  c.data.images = 64  # records a step

  c.encoders = ('v: image grid', 's: series gru', 't: text words')
  # 'NAME: SCHEDULE', and behind a bar how often a part is hidden in training; the last one is shown in the report
  c.systems = (
    'picture alone: 2*[v<v]',
    'measurements alone: 2*[s<s]',
    'note alone: 2*[t<t]',
    'late: 2*[v<v s<s t<t]',
    'each reads the others: 1*[v<v s<s t<t] 1*[v<st s<vt t<vs]',
    'merged: 2*[v<vst s<vst t<vst tied]',
    'merged, parts hidden in training: 2*[v<vst s<vst t<vst tied] | 0.3',
  )
  c.model = ConfigDict()
  c.model.width = 64
  c.model.heads = 4
  c.model.mlp = 128
  c.model.layers = 2  # of encoders that are transformers
  c.model.channels = (16, 32, 64)  # of convolutions
  c.model.patch = 8  # pixels
  c.model.dropout = 0.1
  c.model.attention_dropout = 0.0

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

  if variant == 'others':
    c.encoders = ('v: image vit', 's: series lstm', 't: text bert')
  elif variant == 'tiny':
    c.systems = ('picture alone: 1*[v<v]', 'merged: 1*[v<vst s<vst t<vst tied] | 0.3')
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 40, 4, 20, 10
  return c
