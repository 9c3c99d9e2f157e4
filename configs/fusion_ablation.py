"""Configurations of experiments/fusion_ablation.py: a grid of fusions by seeds.

A fusion is one line, `NAME: LINE`; what LINE can be is told in mmjax/models/fused.py and experiments/lab/grid.py.
"""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'sort_of_clevr': 'nineteen ways of fusing words and regions, or neither, ten seeds, equal parameters (default)',
  'quick': 'four of them, three seeds and fewer steps: a look, which can show no difference',
  'full': 'three of them until they have learnt what they can, and the question alone; three seeds',
  'pixels': 'six of them from bare pixels, on regions of a detector learnt beside',
  'easy_vqa': 'six of them on easy-VQA, published split',
  'volta': "VOLTA's five models (arXiv:2011.15124) under one recipe",
  'baselines': 'two of the baselines published for Sort-of-CLEVR, at their budgets: CNN+MLP and the words alone',
  'baselines_regions': 'the third, the Relation Network, and the words alone, on known objects; one seed',
  'baselines_gpu': 'all three from pixels; the pairs of 25 cells ask for a GPU',
  'tiny': 'three fusions, two seeds, twenty steps: a try of the whole in a minute or two',
}

EARLY_RAW = 'early raw: raw | 4*[t<tv v<tv tied]'
EARLY_MERGED = 'early merged: 4*[t<tv v<tv tied]'
HYBRID = 'hybrid from layer {}: {}*[t<t v<v] {}*[t<tv v<tv tied]'
LXMERT = 'co-attention, LXMERT: 1*[t<t] 1*[t<t v<v] 2*[t<v v<t tied noffn; t<t v<v]'
METER = "co-attention, METER: 2*[t<t v<v] 2*[t<t v<v noffn; t<v' v<t'] | concat"  # its answers read both streams
READ = 'words read regions: 2*[t<t v<v] 2*[t<t v<v noffn; t<v]'
LATE = 'late, {0}: 4*[t<t v<v] | {0}'
BOTTLENECKS = 'bottlenecks: 2*[t<t v<v] 2*[t<tp p<tp tied; v<vq q<vq tied] | decisions'  # likewise
QUESTION_ONLY = 'question only: 4*[t<t]'
IMAGE_ONLY = 'image only: 4*[v<v] | image'
ALL = (
  EARLY_MERGED,
  EARLY_RAW,
  'early merged, untied: 4*[t<tv v<tv]',
  *(HYBRID.format(n + 1, n, 4 - n) for n in (1, 2, 3)),
  LXMERT,
  'co-attention, LXMERT untied: 1*[t<t] 1*[t<t v<v] 2*[t<v v<t noffn; t<t v<v]',
  METER,
  READ,
  'regions read words: 2*[t<t v<v] 2*[t<t v<v noffn; v<t] | image',
  BOTTLENECKS,
  *(LATE.format(join) for join in ('concat', 'product', 'gated', 'lowrank', 'decisions')),
  QUESTION_ONLY,
  IMAGE_ONLY,
)
SOME = (EARLY_MERGED, LXMERT, METER, BOTTLENECKS, LATE.format('concat'), QUESTION_ONLY)
VOLTA = (  # the controlled schedules (section 4 of the paper) with 12 layers made 4
  'VisualBERT: volta visualbert | 4*[t<tv v<tv tied]',
  'UNITER: volta uniter | 4*[t<tv v<tv tied]',
  'VL-BERT: volta vl-bert | 4*[t<tv v<tv tied]',
  'LXMERT: volta lxmert | 1*[t<t] 1*[t<t v<v] 2*[t<v v<t tied noffn; t<t v<v]',
  'ViLBERT: volta vilbert | 2*[t<t] 2*[t<v v<t; t<t v<v]',
  QUESTION_ONLY,
)
RELATION_NETWORK, CNN_MLP = 'relation network: relation_network', 'CNN+MLP: cnn_mlp'
WORDS = 'bag of words: bag_of_words'
BASELINES = {  # what a cell costs on one core: CNN+MLP ten minutes, relation network 45 on six objects, 800 on cells
  'baselines': (CNN_MLP, WORDS),
  'baselines_regions': (RELATION_NETWORK, WORDS),
  'baselines_gpu': (RELATION_NETWORK, CNN_MLP, WORDS),
}


def get_config(variant: str = 'sort_of_clevr') -> ConfigDict:
  c = ConfigDict()
  c.fusions = ALL
  c.reference = 'early merged'  # that all others are compared with
  c.seeds = tuple(range(10))  # with fewer, no paired test survives the correction for so many comparisons

  c.budget = ConfigDict()  # every fusion is given the feed-forward width at which it is as large as this:
  c.budget.of = 'parameters'  # 'parameters', 'flops' (of a training step) or 'none'
  c.budget.target = 320e3  # 0: what the reference has at model.mlp

  c.data = ConfigDict()
  c.data.name = 'sort_of_clevr'
  c.data.setting = 'regions'  # or 'pixels'
  c.data.dir = ''  # where data are prepared; '' is TFDS's own default
  c.data.images = 8  # images a step, each with all its questions (20 in Sort-of-CLEVR)

  c.model = ConfigDict()  # what all fusions share
  c.model.width = 64
  c.model.heads = 4
  c.model.mlp = 128  # where budget.of is 'none', or its target 0
  c.model.bottlenecks = 4  # tokens of either
  c.model.dropout = 0.0
  c.model.attention_dropout = 0.0
  c.model.init_std = 0.1
  c.model.norm = 'post'
  c.model.geometry = True  # a bias from where regions lie wherever regions read regions: declared in models/fused.py
  c.model.scan = False

  c.pixels = ConfigDict()
  c.pixels.kind = 'none'  # 'grid', 'patches' or 'detector', where the setting is 'pixels'
  c.pixels.channels = (32, 64, 64, 64)
  c.pixels.patch = 15
  c.pixels.regions = 6
  c.place = 10.0  # boxes, in -1..1 times this, stand among the features too
  c.objective = 'answers'
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 1e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 1000
  c.optim.warmup = 100
  c.optim.clip = 1.0
  c.optim.decay = 0.01
  c.optim.decay_on = 'kernels'
  c.optim.b2 = 0.98
  c.optim.eps = 1e-8
  c.optim.micro_batches = 1

  c.test = ConfigDict()
  c.test.split = 'test2000'
  c.test.broken = ('image hidden', 'words hidden', 'image blurred', 'image noised')  # () for none
  c.test.broken_images = 500  # the first of the test split, of which these tests are made
  c.eval = ConfigDict()
  c.eval.every = 250  # steps between evaluations on the validation split, each with a checkpoint
  c.eval.images = 100
  c.log = ConfigDict()
  c.log.every = 100  # steps between lines of a cell's metrics.jsonl
  c.parallel = layouts.parallel()

  if variant == 'quick':
    c.fusions, c.seeds = (EARLY_MERGED, LXMERT, LATE.format('concat'), QUESTION_ONLY), (0, 1, 2)
    c.optim.steps = 600
  elif variant == 'full':
    c.fusions, c.seeds = (EARLY_MERGED, LXMERT, METER, QUESTION_ONLY), (0, 1, 2)
    c.optim.steps, c.optim.warmup, c.eval.every = 5000, 500, 1000
  elif variant == 'pixels':
    c.fusions, c.seeds = SOME, (0, 1, 2)
    c.data.setting, c.pixels.kind = 'pixels', 'detector'
    c.optim.steps, c.optim.warmup, c.eval.every = 6000, 1000, 1000
  elif variant == 'easy_vqa':
    c.fusions, c.seeds = SOME, (0, 1, 2)
    c.data.name, c.data.setting, c.data.images, c.pixels.kind = 'easy_vqa', 'pixels', 16, 'grid'
    c.model.geometry, c.place, c.test.split, c.budget.target = False, 0.0, 'test', 480e3  # convolutions too
    c.optim.steps, c.optim.warmup, c.eval.every = 3000, 500, 500
  elif variant == 'volta':
    c.fusions, c.reference, c.seeds = VOLTA, 'VisualBERT', tuple(range(10))
    c.model.geometry = False  # no such bias in any of them
  elif variant in BASELINES:  # of the reimplementation: 20 epochs of 9,800 images with 20 questions
    c.fusions, c.seeds = BASELINES[variant], (0, 1, 2)
    c.reference = c.fusions[0].partition(':')[0]
    c.data.setting, c.pixels.kind, c.budget.of = 'pixels', 'grid', 'none'  # each has convolutions of its own
    c.data.images = 4  # 80 questions; there 64
    c.optim.lr, c.optim.decay, c.optim.b2 = 3e-4, 0.0, 0.999  # there 1e-4, constant
    c.optim.steps, c.eval.every = 20 * 9800 // 4, 4900
    if variant == 'baselines_regions':
      c.seeds, c.data.setting, c.pixels.kind = (0,), 'regions', 'none'
    elif variant == 'baselines_gpu':
      c.place = 1.0  # as there
  elif variant == 'tiny':
    c.fusions, c.seeds = (EARLY_MERGED, LATE.format('concat'), QUESTION_ONLY), (0, 1)
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 20, 2, 10, 5
    c.test.split, c.budget.target = 'test200', 300e3
  return c
