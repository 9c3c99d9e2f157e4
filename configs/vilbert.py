"""Configurations of experiments/vilbert.py: as configs/lxmert.py, but for the model."""

from ml_collections import ConfigDict

from configs import lxmert

VARIANTS = lxmert.shared_variants('ViLBERT')


def get_config(variant: str = 'sort_of_clevr') -> ConfigDict:
  c = lxmert.shared_config(variant)
  c.model.schedule = '1*[t<t] 3*[t<v v<t; v<v t<t]'  # the paper's 6 and 6 layers made small
  for key in ('width', 'heads', 'mlp'):  # each stream has its own
    size = c.model[key]
    del c.model[key]
    c.model[key] = ConfigDict({'t': size, 'v': size})
  c.model.pooled = 64
  if variant == 'base':  # bert_base_6layer_6conect.json and vlbert_tasks.yml; what is not named is LXMERT's
    c.model.schedule = '6*[t<t] 6*[t<v v<t 8x128; v<v t<t]'
    c.model.pooled = c.model.width.v = c.model.mlp.v = 1024
    c.model.heads.v = 8
    c.data.images, c.optim.lr, c.optim.decay_on = 256, 4e-5, 'kernels'
    c.optim.steps = 20 * 443_757 // 256  # 20 epochs
    c.optim.warmup = c.optim.steps // 10
  return c
