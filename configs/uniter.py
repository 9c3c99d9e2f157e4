"""Configurations of experiments/uniter.py: as configs/lxmert.py, but for the model."""

from ml_collections import ConfigDict

from configs import lxmert

VARIANTS = lxmert.shared_variants('UNITER')


def get_config(variant: str = 'sort_of_clevr') -> ConfigDict:
  c = lxmert.shared_config(variant)
  c.model.schedule = '4*[t<tv v<tv tied]'  # the paper's 12 layers made small
  if variant == 'easy_vqa':
    c.model.schedule = '3*[t<tv v<tv tied]'
  if variant == 'base':  # the authors' config/train-vqa-base-4gpu.json; what is not named is LXMERT's
    c.model.schedule = '12*[t<tv v<tv tied]'
    c.data.images, c.optim.micro_batches = 2000, 5  # theirs: 5 x 4 GPUs x 5,120 tokens
    # their head's rate is 10 times as high
    c.optim.name, c.optim.lr, c.optim.clip, c.optim.decay_on = 'adamw', 8e-5, 2.0, 'kernels'
    c.optim.b2, c.optim.steps, c.optim.warmup = 0.98, 6000, 600
  return c
