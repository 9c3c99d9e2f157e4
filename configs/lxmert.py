"""Configurations of experiments/lxmert.py."""

from ml_collections import ConfigDict

from configs import layouts

VARIANTS = {
  'sort_of_clevr': 'Sort-of-CLEVR from its objects, with a declared departure: box-geometry bias (default)',
  'as_published': 'Sort-of-CLEVR from its objects, LXMERT as published in all but its sizes',
  'pixels': 'Sort-of-CLEVR from bare pixels, its regions found by a small detector learnt beside',
  'easy_vqa': 'easy-VQA (PyPI package easy-vqa) from pixels, published split',
  'easy_vqa_blind': 'easy-VQA by the question alone: what the picture adds is the difference',
  'pretrain': "LXMERT's pre-training tasks on Sort-of-CLEVR: masked words, matching, masked regions, answers",
  'tiny': '100 steps of the default in under a minute',
  'base': "the paper's sizes and fine-tuning recipe for VQA v2, whose data you bring",
}


OWN = ('pretrain', 'num_features', 'num_objects')  # keys of config.model that no other model has
DEPARTURES = ('norm', 'geometry')  # keys of config.model that ask for a departure from the paper
SHARED = ('pixels', 'easy_vqa', 'tiny', 'base')  # variants of models without departures, beside their default


def shared_variants(model: str) -> dict[str, str]:
  """The variants of a model that can depart in nothing, with what each is."""
  default = f'Sort-of-CLEVR from its objects, {model} as published in all but its sizes (default)'
  return {'sort_of_clevr': default} | {name: VARIANTS[name] for name in SHARED}


def shared_config(variant: str) -> ConfigDict:
  """What the configs of such models begin with."""
  c = get_config('as_published' if variant == 'sort_of_clevr' else variant)
  for key in (*OWN, *DEPARTURES):
    del c.model[key]
  c.place = 0.0 if variant in ('easy_vqa', 'base') else 10.0
  return c


def get_config(variant: str = 'sort_of_clevr') -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.compute = 'float32'  # or 'bfloat16', see mmjax/train.py

  c.data = ConfigDict()
  c.data.name = 'sort_of_clevr'
  c.data.setting = 'regions'  # 'regions' (the objects' crops and boxes), 'pixels', 'statements' (pre-training)
  c.data.dir = ''  # where data are prepared; '' is TFDS's own default
  c.data.images = 8  # images a step, each with all its questions (20 in Sort-of-CLEVR)

  c.model = ConfigDict()
  c.model.schedule = '1*[t<t] 2*[v<v] 2*[t<v v<t tied noffn; t<t v<v]'  # the paper's 9, 5 and 5 layers made small
  c.model.width = 64
  c.model.heads = 4
  c.model.mlp = 128
  c.model.dropout = 0.0  # 9,800 images are drawn from a program: nothing to overfit in this many steps
  c.model.attention_dropout = 0.0
  c.model.init_std = 0.1  # the paper's 0.02 is meant for width 768
  c.model.norm = 'post'  # the paper's; 'pre' would be a departure
  c.model.geometry = True  # departure: no such bias in the paper
  c.model.pretrain = False  # the outputs of the pre-training tasks, of these sizes:
  c.model.num_features = 363  # an 11 x 11 crop in three colours
  c.model.num_objects = 12  # colour and shape
  c.model.scan = False  # few layers: unrolled runs faster and compiles as fast

  c.pixels = ConfigDict()
  c.pixels.kind = 'none'  # 'grid' (convolutions), 'patches' or 'detector', where the setting is 'pixels'
  c.pixels.channels = (24, 24, 24, 24)  # of the convolutions, stride 2 each; 24 as in the Relation Network
  c.pixels.patch = 15
  c.pixels.regions = 6  # that a detector gives; the paper's gives 36
  c.place = 20.0  # boxes, in -1..1 times this, stand among the features too, where they weigh as much as the crops
  c.blind = False  # True hides the image from the model

  c.optim = ConfigDict()
  c.optim.name = 'adamw'
  c.optim.lr = 1e-3
  c.optim.schedule = 'cosine'
  c.optim.steps = 6000
  c.optim.warmup = 500
  c.optim.clip = 1.0  # of the global norm
  c.optim.decay = 0.01
  c.optim.decay_on = 'kernels'  # 'all': biases and norms too
  c.optim.b2 = 0.98
  c.optim.eps = 1e-8
  c.optim.micro_batches = 1

  c.objective = 'answers'  # 'answers' (softmax), 'soft_answers', 'answer_distribution' or 'lxmert_pretraining'
  c.eval = ConfigDict()
  c.eval.every = 1000  # steps between evaluations on the validation split, each with a checkpoint
  c.eval.images = 100
  c.log = ConfigDict()
  c.log.every = 100  # steps between lines of metrics.jsonl
  c.parallel = layouts.parallel()

  if variant in ('sort_of_clevr', 'pixels', 'tiny'):
    c.place = 10.0  # 20 drowns the crops in LXMERT's layer norm, 5 the places: one seed in three then stands still
    c.optim.steps = 4000
  if variant in ('as_published', 'base'):
    c.model.geometry = False
  if variant == 'as_published':
    c.optim.steps, c.optim.warmup = 16_000, 1000
  elif variant == 'pixels':
    c.data.setting, c.pixels.kind = 'pixels', 'detector'
    c.optim.steps, c.optim.warmup = 6000, 1000  # the first 300 to 500 steps go to the detector
  elif variant in ('easy_vqa', 'easy_vqa_blind'):
    c.data.name, c.data.setting, c.pixels.kind = 'easy_vqa', 'pixels', 'grid'
    c.data.images, c.pixels.channels = 16, (32, 64, 64, 64)
    c.model.schedule = '1*[t<t] 2*[v<v] 1*[t<v v<t tied noffn; t<t v<v]'  # one object: nothing to follow up
    c.model.geometry, c.place, c.optim.steps = False, 0.0, 3000
    c.blind = variant == 'easy_vqa_blind'
  elif variant == 'pretrain':
    c.data.setting, c.objective, c.model.pretrain = 'statements', 'lxmert_pretraining', True
  elif variant == 'base':  # section 3.3 of the paper and its code (src/lxrt, run/vqa_finetune.bash)
    c.data.name, c.data.images = 'vqa_v2', 32
    c.model.schedule = '9*[t<t] 5*[v<v] 5*[t<v v<t tied noffn; t<t v<v]'
    c.model.width, c.model.heads, c.model.mlp = 768, 12, 3072
    c.model.dropout = c.model.attention_dropout = 0.1
    c.model.init_std, c.model.scan = 0.02, True
    c.model.num_features = 2048
    c.place = 0.0
    c.objective = 'soft_answers'
    c.optim.name, c.optim.lr, c.optim.schedule, c.optim.clip = 'bert_adam', 5e-5, 'linear', 5.0
    c.optim.b2, c.optim.eps, c.optim.decay_on = 0.999, 1e-6, 'all'
    c.optim.steps = 4 * 443_757 // 32  # 4 epochs of VQA v2's training questions (the authors add most of validation)
    c.optim.warmup = c.optim.steps // 10
  elif variant == 'tiny':
    c.optim.steps, c.optim.warmup, c.eval.every, c.log.every = 100, 10, 50, 10
  return c
