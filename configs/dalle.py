"""Configurations of experiments/dalle.py. A group of a stage overrides the common numbers under `optim`."""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'scenes': 'two shapes side by side, told in words, whose pictures a program can read (default)',
  'tiny': 'some steps of each stage of the default, in under two minutes',
  'base': "the sizes and recipe of the paper's 12-billion-parameter model, to read and to copy",
}


def get_config(variant: str = 'scenes') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.name = 'scenes'
  c.data.dir = ''  # where data are prepared; '' is TFDS's own default
  c.data.images = 64  # pairs a step

  c.dvae = ConfigDict()  # stage 1: pictures as codes
  c.dvae.codes = 64
  c.dvae.entry = 64
  c.dvae.layers = 2  # halvings: a code for each 4 x 4 pixels
  c.dvae.residuals = 1
  c.dvae.width = 48
  c.dvae.temperature = 1.0  # of the Gumbel noise, at first;
  c.dvae.lowest = 0.0625  # at the end, the paper's 1/16
  c.dvae.uniform = 0.0  # weight of the divergence from equally frequent codes; as DALLE-pytorch's default
  c.dvae.steps = 2_400
  c.dvae.lr = 2e-3
  c.dvae.warmup = 50

  c.model = ConfigDict()  # stage 2: words, then codes
  c.model.width = 96
  c.model.depth = 3
  c.model.heads = 4
  c.model.head_size = 24
  c.model.attention = ('full', 'axial_row', 'axial_col')  # of each layer in turn
  c.model.rotary = True
  c.model.shift = True
  c.model.dropout = 0.0
  c.image_weight = 7.0  # of the codes' loss, against 1 of the words'; section 2.2

  c.classifier = ConfigDict()  # stage 3: who judges besides the program
  c.classifier.channels = (16, 32, 64)
  c.classifier.steps = 500
  c.classifier.lr = 2e-3
  c.classifier.warmup = 50

  c.clip = ConfigDict()  # stage 4: who ranks samples
  c.clip.out = 64
  c.clip.width = 64
  c.clip.layers = 2
  c.clip.patch = 8
  c.clip.steps = 500
  c.clip.lr = 1e-3
  c.clip.warmup = 50

  c.sample = ConfigDict()
  c.sample.texts = 100  # of each test split
  c.sample.candidates = 8  # samples of a text
  c.sample.temperature = 1.0
  c.sample.top_k = 0
  c.sample.top_p = 0.95

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 1e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 2000
  c.optim.warmup = 100
  c.optim.clip = 1.0  # of the global norm
  c.optim.decay = 0.0
  c.optim.decay_on = 'kernels'
  c.optim.b2 = 0.96  # appendix B.2
  c.optim.eps = 1e-8
  c.optim.micro_batches = 1

  c.eval = ConfigDict()
  c.eval.every = 500  # steps between evaluations on the validation split, each with a checkpoint
  c.eval.images = 100
  c.log = ConfigDict()
  c.log.every = 50  # steps between lines of metrics.jsonl
  c.parallel = layouts.parallel()

  if variant == 'tiny':
    for stage in (c.dvae, c.classifier, c.clip, c.optim):
      stage.steps, stage.warmup = 20, 2
    c.eval.every, c.log.every, c.sample.texts, c.sample.candidates = 10, 5, 4, 2
  elif variant == 'base':  # section 2, appendices A and B
    c.data.name, c.data.images = 'text_image_250m', 1024
    c.dvae.codes, c.dvae.layers, c.dvae.uniform, c.dvae.steps = 8192, 3, 6.6, 3_000_000
    c.model.width, c.model.depth, c.model.heads, c.model.head_size = 62 * 64, 64, 62, 64
    c.model.attention = ('axial_row', 'axial_col', 'axial_row', 'axial_row')  # and a last layer of conv_like
    c.model.rotary = c.model.shift = False
    c.optim.lr, c.optim.steps, c.optim.warmup, c.optim.clip, c.optim.decay = 4.5e-4, 430_000, 5000, 4.0, 0.045
    c.sample.candidates = 512
    # sections 2.4 and 2.5; here parameters and moments are kept in float32
    c.compute, c.parallel.remat = 'bfloat16', 'full'
    c.parallel.mesh.data, c.parallel.mesh.fsdp = 1, -1
    c.eval.every = c.log.every = 1000
  return c
