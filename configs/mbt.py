"""Configurations of experiments/mbt.py. Sizes and recipe of the paper are those of `base`."""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'clips': 'made-up clips with sound, five systems (default)',
  'base': "the paper's sizes and optimiser for AudioSet, on made-up clips made larger; asks for GPUs",
  'tiny': 'some steps of two of the systems in under a minute',
}


def get_config(variant: str = 'clips') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.name = 'clips'
  c.data.dir = ''  # where data are prepared; '' is TFDS's own default
  c.data.images = 64  # clips a step

  # 'NAME: KIND', see KINDS of the experiment, and behind a bar how often a modality is hidden in training; the last one
  # is shown in the report
  c.systems = (
    'sound alone: sound',
    'video alone: video',
    'late: late',
    'all tokens read all: all tokens',
    'bottlenecks: bottlenecks',
  )
  c.model = ConfigDict()
  c.model.frames = 48  # of the spectrogram, 10 ms each
  c.model.bins = 32
  c.model.clip = 8  # frames of the video
  c.model.image = 32  # pixels a side
  c.model.patch = 8
  c.model.tubelet = 2
  c.model.layers = 4
  c.model.fusion = 1  # the layer from which on modalities meet
  c.model.bottlenecks = 4
  c.model.read = 'mean'
  c.model.width = 64
  c.model.heads = 4
  c.model.mlp = 128
  c.model.dropout = 0.0
  c.model.attention_dropout = 0.0
  c.model.init_std = 0.1

  c.teach = 0.5  # weight of what moves and what sounds, beside the class

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 1.5e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 600
  c.optim.warmup = 50
  c.optim.clip = 1.0  # of the global norm
  c.optim.decay = 0.05
  c.optim.decay_on = 'kernels'
  c.optim.b2 = 0.98
  c.optim.eps = 1e-8
  c.optim.micro_batches = 1

  c.eval = ConfigDict()
  c.eval.every = 250  # steps between evaluations on the validation split, each with a checkpoint
  c.eval.images = 100
  c.log = ConfigDict()
  c.log.every = 50  # steps between lines of metrics.jsonl
  c.parallel = layouts.parallel()

  if variant == 'base':  # the authors' configs/audioset/balanced_audioset_base.py
    c.model.frames, c.model.bins = 800, 128  # eight seconds
    c.model.clip, c.model.image, c.model.patch, c.model.tubelet = 32, 224, 16, 2
    c.model.layers, c.model.fusion, c.model.bottlenecks = 12, 8, 4
    c.model.width, c.model.heads, c.model.mlp, c.model.init_std = 768, 12, 3072, 0.02
    c.parallel.remat = 'full'  # 3,536 tokens an example
    c.teach = 0.0  # it begins with a trained ViT there, which is not here
    epoch = 20_361 // 64  # steps for the clips of AudioSet's balanced part
    c.optim.name, c.optim.lr, c.optim.decay = 'momentum', 0.5, 0.0
    c.optim.steps, c.optim.warmup, c.eval.every = 50 * epoch, 5 * epoch // 2, epoch
  elif variant == 'tiny':
    c.systems = ('sound alone: sound', 'bottlenecks: bottlenecks | 0.2')
    c.model.layers, c.model.fusion, c.model.width, c.model.heads, c.model.mlp = 2, 1, 32, 2, 64
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 40, 4, 20, 10
  return c
