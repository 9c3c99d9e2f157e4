"""LSTM and GRU: a step by hand, and what padding and direction may and may not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.layers.recurrent import Recurrent
from tests.variables import drawn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 3)).astype(np.float32)
FULL = np.ones((2, 6), bool)
KINDS = ('lstm', 'gru')


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def made(kind, **more):
  model = Recurrent(kind, 4, **more)
  variables = drawn(model, X, FULL, train=False)
  return lambda x, mask: np.asarray(model.apply(variables, x, mask, train=False))


def params(names, biased):
  """1 for what reads the input, 2 for what reads the state, and a bias of 0.5."""
  kernel = lambda name: {'kernel': jnp.full((1, 1), {'i': 1.0, 'h': 2.0}[name[0]])}
  cell = {name: kernel(name) | ({'bias': jnp.full(1, 0.5)} if name in biased else {}) for name in names}
  return {'params': {'forward0': {'cell': cell}}}


def test_an_lstm_by_hand():
  names = ('ii', 'if', 'ig', 'io', 'hi', 'hf', 'hg', 'ho')
  found = Recurrent('lstm', 1).apply(
    params(names, names[4:]), jnp.array([[[1.0], [-1.0]]]), jnp.ones((1, 2), bool), train=False
  )
  memory = sigmoid(1.5) * np.tanh(1.5)
  shown = sigmoid(1.5) * np.tanh(memory)
  at = -1 + 2 * shown + 0.5
  later = sigmoid(at) * np.tanh(sigmoid(at) * memory + sigmoid(at) * np.tanh(at))
  np.testing.assert_allclose(found[0, :, 0], [shown, later], rtol=1e-5)


def test_a_gru_by_hand():
  names = ('ir', 'iz', 'in', 'hr', 'hz', 'hn')
  found = Recurrent('gru', 1).apply(
    params(names, ('ir', 'iz', 'in', 'hn')), jnp.array([[[1.0], [-1.0]]]), jnp.ones((1, 2), bool), train=False
  )
  first = (1 - sigmoid(1.5)) * np.tanh(1.5 + sigmoid(1.5) * 0.5)
  at = -1 + 2 * first + 0.5
  later = (1 - sigmoid(at)) * np.tanh(-0.5 + sigmoid(at) * (2 * first + 0.5)) + sigmoid(at) * first
  np.testing.assert_allclose(found[0, :, 0], [first, later], rtol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('there', [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 0, 1, 1, 0, 1]])
def test_padding_cannot_be_seen_wherever_it_stands(kind, there):
  """What is masked could as well not be there: both ways, in two layers."""
  there = np.array(there, bool)
  run = made(kind, layers=2, both_ways=True)
  without = run(X[:, there], FULL[:, there])
  shouted = np.where(there[:, None], X, 100.0).astype(np.float32)
  found = run(shouted, np.tile(there, (2, 1)))
  np.testing.assert_allclose(found[:, there], without, atol=1e-6)
  np.testing.assert_allclose(found[:, -1, :4], without[:, -1, :4], atol=1e-6)  # the whole series, forwards
  np.testing.assert_allclose(found[:, 0, 4:], without[:, 0, 4:], atol=1e-6)  # and backwards


@pytest.mark.parametrize('kind', KINDS)
def test_nothing_there_leaves_zero(kind):
  found = made(kind, layers=2, both_ways=True)(X, ~FULL)
  np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize('kind', KINDS)
def test_one_way_reads_no_later_step_and_both_ways_do(kind):
  changed = X.copy()
  changed[:, 4:] += 1
  one, both = made(kind, layers=2), made(kind, layers=2, both_ways=True)
  np.testing.assert_array_equal(one(changed, FULL)[:, :4], one(X, FULL)[:, :4])
  assert np.abs(one(changed, FULL)[:, 4:] - one(X, FULL)[:, 4:]).max() > 1e-3
  assert np.abs(both(changed, FULL)[:, :4] - both(X, FULL)[:, :4]).max() > 1e-4


def test_backwards_is_forwards_of_the_series_turned_round():
  model = Recurrent('gru', 4, both_ways=True)
  variables = drawn(model, X, FULL, train=False)
  cells = variables['params']
  turned = {'params': {'forward0': cells['backward0'], 'backward0': cells['forward0']}}
  found = model.apply(variables, X, FULL, train=False)
  other = model.apply(turned, X[:, ::-1], FULL, train=False)[:, ::-1]
  np.testing.assert_allclose(found, jnp.concatenate([other[..., 4:], other[..., :4]], -1), atol=1e-6)


def test_dropout_is_between_layers_in_train_only():
  run = lambda layers, train, key: Recurrent('gru', 4, layers, dropout=0.5).apply(
    drawn(Recurrent('gru', 4, layers), X, FULL, train=False),
    X,
    FULL,
    train=train,
    rngs={'dropout': jax.random.key(key)},
  )
  np.testing.assert_array_equal(run(1, True, 0), run(1, False, 0))
  np.testing.assert_array_equal(run(2, False, 0), run(2, False, 1))
  assert np.abs(run(2, True, 0) - run(2, True, 1)).max() > 1e-3


@pytest.mark.parametrize('kind, mask, words', [
  ('lsmt', FULL, "kind: found 'lsmt', expected one of ('lstm', 'gru'); did you mean 'lstm'?"),
  ('gru', FULL[:, :5], 'mask: found bool (2, 5), expected bool (2, 6)'),
  ('gru', FULL.astype(np.float32), 'mask: found float32 (2, 6), expected bool'),
])  # fmt: skip
def test_a_mistake_is_one_line(kind, mask, words):
  with pytest.raises(UserError) as error:
    Recurrent(kind, 4).init(jax.random.key(0), X, mask, train=False)
  assert words in str(error.value) and '\n' not in str(error.value)
