"""What stands around the loop: the numbers of a config, evaluations. Whole runs are in test_runs."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import clip
from configs import lxmert as complete
from experiments import training
from mmjax import objectives, train
from mmjax.data.pipeline import train_batches
from mmjax.errors import UserError
from mmjax.models.answering import Answering
from mmjax.models.visualbert import VisualBERT


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
    launch=types.SimpleNamespace(parts=devices, shard=(0, 1), place=dict), put=lambda batch: batch,
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


def fit_of(**parallel):
  """On four images with three questions of unequal length each."""
  c = complete.get_config('tiny')
  c.data.images = c.eval.images = 2
  c.parallel.update(parallel)
  sizes = {'schedule': '1*[t<tv v<tv tied]', 'width': 8, 'heads': 2, 'mlp': 16}
  model = Answering(VisualBERT(num_answers=3, vocab=9, positions=6, dropout=0.0, attention_dropout=0.0, **sizes))

  def objective(out, batch, axis=None):
    kinds = jnp.ones((out['answers'].shape[0], 1), bool)
    rows = {name: batch[name].reshape(-1) for name in ('answer', 'weight')}
    return objectives.answers(out, rows | {'question_type': kinds})

  rng = np.random.default_rng(0)
  words = np.arange(6) < rng.integers(2, 7, (4, 3, 1))
  source = [
    {
      'question': rng.integers(1, 9, (3, 6)) * there,
      'regions': rng.normal(size=(2, 5)).astype(np.float32),
      'boxes': rng.random((2, 4), np.float32),
      'answer': rng.integers(3, size=3),
      'weight': np.ones(3, np.float32),
    }
    for there in words
  ]
  recipe = train.recipe(model, objective)
  first = jax.tree.map(lambda a: np.asarray(a)[None], source[0])
  variables = training.first_variables(recipe, 0, first)
  return training.Fit(c, recipe, variables, source=source, encode=dict, text='question'), source


def test_packed_questions_teach_the_same():
  found = []
  for pack in (False, True):
    fit, source = fit_of(pack=pack)
    batch = fit.put(next(train_batches(source, dict, images=2, seed=0)))
    assert ('places' in batch) == pack
    tested = fit.evaluate(source)
    _, sums = fit.step(fit.state, batch, fit.launch.key(0))
    found.append((tested, train.divide([sums])))
  np.testing.assert_allclose(found[1][0]['loss'], found[0][0]['loss'], rtol=1e-5)
  np.testing.assert_allclose(found[1][1]['gradient_norm'], found[0][1]['gradient_norm'], rtol=1e-5)


@pytest.mark.parametrize(
  'text, sizes, micro_batches, found',
  [
    ('', {'data': 1}, 1, 'a model or a task that reads no texts so'),
    ('question', {'data': 1}, 2, '2 micro_batches'),
    ('question', {'data': 2, 'fsdp': 2, 'tensor': 2}, 1, 'a mesh cut along data, fsdp, tensor'),
  ],
)
def test_what_cannot_be_packed_is_said(text, sizes, micro_batches, found):
  launch = types.SimpleNamespace(sizes=sizes, micro_batches=micro_batches)
  with pytest.raises(UserError, match=f'parallel.pack: found True with {found}, expected False'):
    training.packable(text, launch)
