"""Configurations of experiments/blip.py."""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'twemoji': 'emoji and their names and keywords, which are here already (default)',
  'tiny': '40 steps of the default in under two minutes',
  'base': "ViT-B/16, BERT-base and the paper's recipe for 14 million pairs, to read and to copy",
}


def get_config(variant: str = 'twemoji') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.name = 'twemoji'
  c.data.dir = ''  # where data are prepared; '' is TFDS's own default
  c.data.images = 64  # pairs a step
  c.data.length = 14  # words of a text: a name and the keywords that fit
  c.data.caption = 10  # words of a caption: a name alone

  c.model = ConfigDict()
  c.model.out = 64  # of the space that images and texts share
  c.model.image = ConfigDict()
  c.model.image.patch = 8
  c.model.image.stem = (32, 64, 128)  # of convolutions, without which 1,448 pictures teach a ViT little
  c.model.image.schedule = '3*[v<v]'
  c.model.image.width = 128
  c.model.image.heads = 4
  c.model.image.mlp = 256
  c.model.image.init_std = 0.06  # the paper's 0.02 is meant for width 768
  c.model.image.scan = False  # few layers: unrolled runs faster and compiles as fast
  c.model.text = ConfigDict()  # of the encoder and of the decoder
  c.model.text.schedule = '2*[t<t noffn; t<v]'
  c.model.text.width = 128
  c.model.text.heads = 4
  c.model.text.mlp = 256
  c.model.text.init_std = 0.06
  c.model.text.dropout = 0.1
  c.model.text.attention_dropout = 0.1
  c.model.text.scan = False

  c.contrast = ConfigDict()
  c.contrast.queue = 256  # a multiple of the batch; so short that few of 1,448 pairs meet their own copy in it
  c.contrast.momentum = 0.98  # the paper's 0.995 is meant for 100 times as many steps
  c.contrast.soft = 0.4
  c.contrast.warmup = 200  # steps over which `soft` grows from 0

  c.captions = ConfigDict()  # a second stage: the decoder alone, section 5.2
  c.captions.steps = 1500
  c.captions.warmup = 50
  c.captions.lr = 1.5e-3

  c.augment = ConfigDict()  # the paper has random crops and RandAugment
  c.augment.shift = 3  # pixels, either way
  c.augment.tint = 0.15  # how much stronger or weaker a colour can be
  c.augment.keep = 0.7  # of names and keywords, each

  c.rerank = 16  # how many that contrast puts first are read by the matching encoder
  c.beams = 3  # of a caption

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 1e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 700
  c.optim.warmup = 100
  c.optim.clip = 1.0  # of the global norm
  c.optim.decay = 0.05
  c.optim.decay_on = 'kernels'
  c.optim.b2 = 0.999
  c.optim.eps = 1e-8
  c.optim.micro_batches = 1

  c.eval = ConfigDict()
  c.eval.every = 350  # steps between searches in the validation split, each with a checkpoint
  c.log = ConfigDict()
  c.log.every = 50  # steps between lines of metrics.jsonl
  c.parallel = layouts.parallel()

  if variant == 'tiny':
    c.captions.steps, c.captions.warmup = 20, 2
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 40, 4, 20, 10
  elif variant == 'base':  # configs/pretrain.yaml and models/blip_pretrain.py of the authors' code; section 4.1
    c.data.name, c.data.length, c.data.caption = 'pretrain_14m', 30, 30
    c.data.images = 32 * 75  # 75 a GPU there
    c.model.out = 256
    c.model.image.schedule, c.model.text.schedule = '12*[v<v]', '12*[t<t noffn; t<v]'
    for part in (c.model.image, c.model.text):
      part.width, part.heads, part.mlp, part.scan = 768, 12, 3072, True
      part.init_std = 0.02
    c.model.image.patch, c.model.image.stem = 16, ()
    c.contrast.queue, c.contrast.momentum = 57_600, 0.995
    c.augment.shift, c.augment.tint, c.augment.keep = 0, 0.0, 1.0
    c.rerank = 128
    c.optim.lr, c.optim.warmup, c.optim.clip = 3e-4, 3000, 0.0  # there by 0.9 an epoch down to 1e-6, not cosine
    c.optim.steps = 20 * 14_000_000 // 2400  # 20 epochs
    c.contrast.warmup = 2 * 14_000_000 // 2400  # two epochs
    c.captions.lr, c.captions.warmup = 1e-5, 0  # configs/caption_coco.yaml, of 5 epochs on COCO's captions
    c.captions.steps = 5 * 566_747 // 2400  # there 256 captions a step
    c.eval.every = c.log.every = 1000
  return c
