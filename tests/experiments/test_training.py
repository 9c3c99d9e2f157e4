"""What stands around the loop: the numbers of a config, evaluations. Whole runs are in test_runs."""

import types

import jax
import numpy as np
import pytest

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
  monkeypatch.setattr(training, 'eval_batches', lambda source, encode, images: [images])
  monkeypatch.setattr(training.train, 'divide', lambda sums: {'images': sums[0]})
  fit = types.SimpleNamespace(
    c=types.SimpleNamespace(eval=types.SimpleNamespace(images=images)),
    launch=types.SimpleNamespace(devices=[0] * devices, put=lambda batch: batch),
    eval_step=lambda variables, batch: batch, named=training.scalars, encode=dict,
    state=types.SimpleNamespace(variables={}),
  )  # fmt: skip
  assert training.Fit.evaluate(fit, ()) == {'images': found}


def test_a_mean_of_nothing_is_left_out_and_one_that_is_no_number_is_not():
  found = training.scalars({'a': np.ma.masked_where(True, 1.0), 'b': np.ma.asarray(np.nan), 'c': np.ma.asarray(0.5)})
  assert list(found) == ['b', 'c'] and np.isnan(found['b']) and found['c'] == 0.5
