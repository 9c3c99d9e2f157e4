"""What stands around the loop: the numbers of a config, evaluations. Whole runs are in test_runs."""

import types

import jax
import numpy as np
import pytest

from configs import clip
from configs import lxmert as complete
from experiments import training
from mmjax.data.pipeline import train_batches
from mmjax.errors import UserError


def check(config):
  training.check(config, complete.get_config().to_dict(), 'configs/lxmert.py', free=('model',))


@pytest.mark.parametrize('seed', [0, 2**32 - 2])
def test_every_seed_that_is_let_through_can_be_used(seed):
  check(complete.get_config().to_dict() | {'seed': seed})
  keys = [jax.random.key(seed), jax.random.key(seed + 1)]  # as a run does
  assert jax.random.bits(keys[0]) != jax.random.bits(keys[1])
  batches = train_batches(range(4), lambda i: {'i': np.array(i)}, images=2, seed=seed)
  assert sorted(np.concatenate([next(batches)['i'] for _ in range(2)])) == [0, 1, 2, 3]


def test_what_a_config_lacks_is_said_in_one_line():
  config = complete.get_config().to_dict()
  del config['log'], config['optim']['clip'], config['model']['dropout']  # `model` differs from model to model
  with pytest.raises(UserError, match=r'^config: lacks log\.every, optim\.clip; expected the keys of [^\n]*$'):
    check(config)
  with pytest.raises(UserError, match=r'lacks model; '):
    check(complete.get_config().to_dict() | {'model': {}})


@pytest.mark.parametrize('devices, images, found', [(8, 100, 104), (8, 96, 96), (1, 100, 100)])
def test_an_evaluation_is_rounded_up_to_the_devices(monkeypatch, devices, images, found):
  monkeypatch.setattr(training, 'eval_batches', lambda source, encode, images, shard: [images])
  monkeypatch.setattr(training.train, 'divide', lambda sums: {'images': sums[0]})
  fit = types.SimpleNamespace(
    c=types.SimpleNamespace(eval=types.SimpleNamespace(images=images)),
    launch=types.SimpleNamespace(parts=devices, shard=(0, 1), put=lambda batch: batch, place=dict),
    eval_step=lambda variables, batch: batch, named=training.scalars, encode=dict,
    state=types.SimpleNamespace(variables={}),
  )  # fmt: skip
  assert training.Fit.evaluate(fit, ()) == {'images': found}


def test_a_key_that_no_config_has_is_said():
  config = complete.get_config().to_dict()
  with pytest.raises(UserError, match=r'^config: found optim\.lrr; expected the keys of configs/lxmert\.py$'):
    check(config | {'optim': config['optim'] | {'lrr': 1.0}})


@pytest.mark.parametrize(
  'key, value, expected',
  [
    ('model.text.width', 0, 'at least 1'),
    ('model.image.patch', -8, 'at least 1'),
    ('model.out', 0, 'at least 1'),
    ('data.length', 2, 'at least 3'),
    ('augment.keep', 1.5, 'at most 1'),
    ('augment.shift', -1, 'at least 0'),
    ('model.text.attention_dropout', 1.0, '0 to below 1'),
    ('bag.steps', 0, 'at least 1'),
  ],
)
def test_a_number_of_clip_that_makes_no_sense_is_said(key, value, expected):
  config = clip.get_config()
  with config.unlocked():
    config.update_from_flattened_dict({key: value})
  with pytest.raises(UserError, match=rf'^--config\.{key}: found {value}, expected {expected}$'):
    training.check(config.to_dict(), clip.get_config().to_dict(), 'configs/clip.py')


def test_a_mean_of_nothing_is_left_out_and_one_that_is_no_number_is_not():
  found = training.scalars({'a': np.ma.masked_where(True, 1.0), 'b': np.ma.asarray(np.nan), 'c': np.ma.asarray(0.5)})
  assert list(found) == ['b', 'c'] and np.isnan(found['b']) and found['c'] == 0.5


def test_every_system_has_a_folder_of_its_own():
  assert training.folders(['LSTM', 'Merged, all', 'last']) == {'LSTM': 'lstm', 'Merged, all': 'merged_all', 'last': ''}
  for names, words in (
    (['—', 'a'], "found name '—'"),
    (['Checkpoints', 'a'], 'none of'),
    (['A', 'a', 'b'], 'for both'),
  ):
    with pytest.raises(UserError, match=words):
      training.folders(names)
