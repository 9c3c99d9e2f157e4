"""Configurations of experiments/vilbert.py: as configs/lxmert.py, but for the model."""

from ml_collections import ConfigDict

from configs import lxmert

VARIANTS = {
  'sort_of_clevr': 'Sort-of-CLEVR from its objects, ViLBERT as published in all but its sizes (default)',
  'pixels': 'Sort-of-CLEVR from bare pixels, its regions found by a small detector learnt beside',
  'easy_vqa': 'easy-VQA (PyPI package easy-vqa) from pixels, published split',
  'tiny': '100 steps of the default in under a minute',
  'base': "the paper's sizes and fine-tuning recipe for VQA v2, whose data you bring",
}


def get_config(variant: str = 'sort_of_clevr') -> ConfigDict:
  c = lxmert.get_config('as_published' if variant == 'sort_of_clevr' else variant)
  for key in ('norm', 'geometry', 'pretrain', 'num_features', 'num_objects'):
    del c.model[key]
  c.model.schedule = '1*[t<t] 3*[t<v v<t; v<v t<t]'  # the paper's 6 and 6 layers made small
  for key in ('width', 'heads', 'mlp'):  # each stream has its own
    size = c.model[key]
    del c.model[key]
    c.model[key] = ConfigDict({'t': size, 'v': size})
  c.model.pooled = 64
  c.place = 10.0
  if variant == 'easy_vqa':
    c.place = 0.0
  if variant == 'base':  # the authors' bert_base_6layer_6conect.json and vlbert_tasks.yml
    c.model.schedule = '6*[t<t] 6*[t<v v<t 8x128; v<v t<t]'
    c.model.pooled = c.model.width.v = c.model.mlp.v = 1024
    c.model.heads.v = 8
    c.data.images, c.optim.lr, c.optim.decay_on = 256, 4e-5, 'kernels'
    c.optim.steps = 20 * 443_757 // 256  # 20 epochs
    c.optim.warmup = c.optim.steps // 10
  return c
