"""A published checkpoint's folder -> the model here and its variables."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from safetensors.numpy import load_file

from mmjax.convert import lxmert, visualbert
from mmjax.convert.names import Row, from_theirs
from mmjax.errors import UserError, nearest


def load(folder: str | Path) -> tuple[nn.Module, dict]:
  """config.json + model.safetensors -> (model, {'params': ...}), every tensor and parameter accounted for.

  Raises UserError for a folder without these files, an unknown class, and for tensors that do not fit.
  """
  model, rows, features, tensors = read(folder)
  return model, {'params': from_theirs(rows, tensors, _shapes(model, features))}


def read(folder: str | Path) -> tuple[nn.Module, list[Row], int, dict[str, np.ndarray]]:
  """The model, its name map, the size of a region's feature, and the file's tensors (those with two names once)."""
  files = {name: Path(folder) / name for name in ('config.json', 'model.safetensors')}
  for name, file in files.items():
    if not file.is_file():
      raise UserError(f'{folder}: no {name}, expected a folder with {" and ".join(files)}')
  config, tensors = json.loads(files['config.json'].read_text()), load_file(files['model.safetensors'])
  tied = lxmert.TIED if set(lxmert.TIED) <= set(tensors) else {}
  for name, other in tied.items():
    if not np.array_equal(tensors.pop(name), tensors[other]):
      raise UserError(f'{folder}: {name} differs from {other}, expected one table under two names')
  kind = (
    config['architectures'][0] if 'architectures' in config else 'LXRTPretraining' if 'x_layers' in config else 'none'
  )
  if kind not in FAMILIES:
    raise UserError(f'{folder}: found class {kind!r}, expected one of {tuple(FAMILIES)}{nearest(kind, FAMILIES)}')
  return *FAMILIES[kind](config), tensors


def _lxmert(config, answers=0, prefix=''):
  model = lxmert.from_huggingface(config, answers)
  return model, lxmert.rows(model, config, prefix), config['visual_feat_dim']


def _lxmert_authors(config):
  model = lxmert.from_authors(config)
  return model, lxmert.rows(model, config, 'bert'), config['visual_feat_dim']


def _visualbert(config, answers=0, prefix=''):
  model = visualbert.from_huggingface(config, answers)
  return model, visualbert.rows(model, config, prefix), config['visual_embedding_dim']


def _num_labels(config) -> int:
  return len(config['id2label']) if 'id2label' in config else 2  # HuggingFace's default, which its files leave out


# The one permitted registry: config.json's class -> its model and names.
FAMILIES = {
  'LxmertModel': _lxmert,
  'LxmertForQuestionAnswering': lambda config: _lxmert(config, config['num_qa_labels'], 'lxmert'),
  'LXRTPretraining': _lxmert_authors,
  'VisualBertModel': _visualbert,
  'VisualBertForQuestionAnswering': lambda config: _visualbert(config, _num_labels(config), 'visual_bert'),
}


def _shapes(model: nn.Module, features: int) -> dict:
  """The model's parameters as shapes; nothing is computed."""
  text, mask = jnp.zeros((1, 2), int), jnp.ones((1, 2), bool)
  regions, boxes = jnp.zeros((1, 1, features)), jnp.zeros((1, 1, 4))
  return jax.eval_shape(lambda: model.init(jax.random.key(0), text, mask, regions, boxes, train=False))['params']
