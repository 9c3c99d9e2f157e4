"""Configurations of experiments/mult.py."""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'witnesses': 'made-up scenes told by a report, a sound and a video, one of which may lie (default)',
  'base': 'the recipe of the released code on features of CMU-MOSEI, data.file',
  'tiny': 'some steps of two of the systems in under a minute',
}


def get_config(variant: str = 'witnesses') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.name = 'witnesses'  # or 'mosi': CMU-MOSI or MOSEI, from data.file
  c.data.dir = ''  # where data are prepared; '' is TFDS's own default
  c.data.file = ''  # of features, see mmjax/data/mosi.py
  c.data.padding = 'masked'  # or 'read', as in the released code: no step is masked
  c.data.images = 32  # samples a step

  # what is compared: 'text', 'audio' or 'vision' alone, 'late' fusion or 'mult'; the last one is shown in the report
  c.systems = ('text', 'audio', 'vision', 'late', 'mult')
  c.model = ConfigDict()  # of MulT; the others have the same stacks, each reading itself
  c.model.targets = 'taf'  # the modalities that read the others
  c.model.width = 20
  c.model.heads = 4
  c.model.layers = 2  # the paper's 5 made small; its memory has 3 at least
  # an event may stand anywhere, so the step that is answered from must see all of both: no causal mask
  c.model.causal = False
  c.model.quirks = ()  # every step has its position, all features are projected
  c.model.attention_dropout = 0.0
  c.model.relu_dropout = 0.0
  c.model.dropout = 0.0
  c.model.embed_dropout = 0.0
  c.model.out_dropout = 0.0
  c.model.init_std = 0.1
  c.model.scan = True
  c.apart = ConfigDict()  # what reads one modality, or several each by itself
  c.apart.layers = 4

  c.augment = ConfigDict()
  c.augment.drop = 0.1  # how often a training sample lacks one of its modalities

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 3e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 1500
  c.optim.warmup = 100
  c.optim.clip = 0.8  # of the global norm, as in the released code
  c.optim.decay = 0.01
  c.optim.decay_on = 'kernels'
  c.optim.b2 = 0.98
  c.optim.eps = 1e-8
  c.optim.micro_batches = 1

  c.eval = ConfigDict()
  c.eval.every = 500  # steps between evaluations on the validation split, each with a checkpoint
  c.eval.images = 128
  c.log = ConfigDict()
  c.log.every = 50  # steps between lines of metrics.jsonl
  c.parallel = layouts.parallel()

  if variant == 'base':  # main.py of the released code, for mosei_senti
    c.data.name, c.data.padding, c.data.images = 'mosi', 'read', 24
    c.systems = ('text', 'audio', 'vision', 'late', 'mult')
    c.model.width, c.model.heads, c.model.layers = 30, 5, 5
    c.model.causal, c.model.quirks = True, ('no projection', 'no position')
    c.model.attention_dropout = c.model.relu_dropout = c.model.dropout = 0.1
    c.model.embed_dropout, c.model.out_dropout = 0.25, 0.0
    c.model.init_std = 0.02
    c.apart.layers, c.augment.drop = 10, 0.0
    c.optim.lr, c.optim.decay, c.optim.b2, c.optim.warmup = 1e-3, 0.0, 0.999, 0
    # departure: the code divides the rate by 10 after 20 epochs without a lower validation loss; here it stays
    c.optim.schedule = 'constant'
    c.optim.steps = 40 * 16_322 // 24  # 40 epochs of unaligned MOSEI (A2Zadeh/CMU-MultimodalSDK#223)
    c.eval.every = 16_322 // 24  # an epoch; --checkpoint=best is what the code tests
    c.eval.images = 24
  elif variant == 'tiny':
    c.systems = ('text', 'mult')
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 40, 4, 20, 10
  return c
