"""Configurations of experiments/uniter.py: as configs/lxmert.py, but for the model."""

from ml_collections import ConfigDict

from configs import lxmert

VARIANTS = {
  'sort_of_clevr': 'Sort-of-CLEVR from its objects, UNITER as published in all but its sizes (default)',
  'pixels': 'Sort-of-CLEVR from bare pixels, its regions found by a small detector learnt beside',
  'easy_vqa': 'easy-VQA (PyPI package easy-vqa) from pixels, published split',
  'tiny': '100 steps of the default in under a minute',
  'base': "the paper's sizes and fine-tuning recipe for VQA v2, whose data you bring",
}


def get_config(variant: str = 'sort_of_clevr') -> ConfigDict:
  c = lxmert.get_config('as_published' if variant == 'sort_of_clevr' else variant)
  for key in ('norm', 'geometry', 'pretrain', 'num_features', 'num_objects'):
    del c.model[key]
  c.model.schedule = '4*[t<tv v<tv tied]'  # the paper's 12 layers made small
  c.place = 10.0
  if variant == 'easy_vqa':
    c.model.schedule, c.place = '3*[t<tv v<tv tied]', 0.0
  if variant == 'base':  # the authors' config/train-vqa-base-4gpu.json; there the head's rate is 10 times as high
    c.model.schedule = '12*[t<tv v<tv tied]'
    c.data.images, c.optim.micro_batches = 2000, 5  # theirs: 5 x 4 GPUs x 5,120 tokens
    c.optim.name, c.optim.lr, c.optim.clip, c.optim.decay_on = 'adamw', 8e-5, 2.0, 'kernels'
    c.optim.b2, c.optim.steps, c.optim.warmup = 0.98, 6000, 600
  return c
