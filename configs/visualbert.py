"""Configurations of experiments/visualbert.py: as configs/lxmert.py, but for the model."""

from ml_collections import ConfigDict

from configs import lxmert

VARIANTS = {
  'sort_of_clevr': 'Sort-of-CLEVR from its objects, with a declared departure: box-geometry bias (default)',
  'as_published': 'Sort-of-CLEVR from its objects, VisualBERT as published in all but its sizes',
  'pixels': 'Sort-of-CLEVR from bare pixels, its regions found by a small detector learnt beside',
  'easy_vqa': 'easy-VQA (PyPI package easy-vqa) from pixels, published split',
  'easy_vqa_blind': 'easy-VQA by the question alone: what the picture adds is the difference',
  'tiny': '100 steps of the default in under a minute',
  'base': "the paper's sizes and fine-tuning recipe for VQA v2, whose data you bring",
}


def get_config(variant: str = 'sort_of_clevr') -> ConfigDict:
  c = lxmert.get_config(variant)
  for key in lxmert.OWN:
    del c.model[key]
  c.model.schedule = '4*[t<tv v<tv tied]'  # the paper's 12 layers made small
  c.model.answer_from = 'last'
  if variant in ('sort_of_clevr', 'pixels', 'tiny'):
    c.optim.lr, c.place = 1.5e-3, 20.0
  if variant == 'sort_of_clevr':
    c.optim.steps = 4000
  if variant in ('easy_vqa', 'easy_vqa_blind'):
    c.model.schedule = '3*[t<tv v<tv tied]'
  if variant == 'base':  # the authors' configs/vqa/fine-tune.json and models/model_wrapper.py
    c.model.schedule = '12*[t<tv v<tv tied]'
    c.data.images = 64
    c.objective = 'answer_distribution'
    c.optim.lr, c.optim.decay_on = 2e-5, 'kernels'
    c.optim.clip = 1.0  # theirs clips each tensor's gradient to norm 1, this all of them together
    c.optim.steps = 10 * 443_757 // 64  # 10 epochs
    c.optim.warmup = c.optim.steps // 10
  return c
