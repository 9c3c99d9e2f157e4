"""Feed-forward, pooler and transform by hand; activations at known points."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.layers.blocks import ACTIVATIONS, Mlp, Pooler, Transform, activation

POINTS = np.array([-3.0, -1.0, 0.0, 0.5, 2.0])
PHI = np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in POINTS])


@pytest.mark.parametrize('name, expected', [
  ('gelu', POINTS * PHI),
  ('gelu_tanh', 0.5 * POINTS * (1 + np.tanh(math.sqrt(2 / math.pi) * (POINTS + 0.044715 * POINTS**3)))),
  ('quick_gelu', POINTS / (1 + np.exp(-1.702 * POINTS))),
  ('relu', [0, 0, 0, 0.5, 2]),
])  # fmt: skip
def test_activation_at_known_points(name, expected):
  np.testing.assert_allclose(activation(name)(jnp.asarray(POINTS)), expected, atol=1e-6)


def test_the_gelus_differ():
  found = [np.asarray(ACTIVATIONS[name](jnp.asarray(POINTS))) for name in ('gelu', 'gelu_tanh', 'quick_gelu')]
  assert np.abs(found[0] - found[1]).max() > 1e-4
  assert np.abs(found[0] - found[2]).max() > 1e-3


def test_unknown_activation_names_the_nearest():
  with pytest.raises(UserError, match=r"activation: found 'gelu_tan', .*did you mean 'gelu_tanh'"):
    activation('gelu_tan')


def test_mlp_by_hand():
  module = Mlp(2, 1, 'relu')
  params = {
    'expand': {'kernel': jnp.array([[1.0, -1], [2, 0]]), 'bias': jnp.array([0.0, 1])},
    'project': {'kernel': jnp.array([[3.0], [10]]), 'bias': jnp.array([0.5])},
  }
  x = jnp.array([[1.0, 2], [4, 0]])  # expanded (5, 0) and (4, -3): relu leaves 5, 0 and 4, 0
  np.testing.assert_allclose(module.apply({'params': params}, x, train=False), [[15.5], [12.5]])


def test_mlp_drops_between_the_projections_in_train_only():
  module, x = Mlp(64, 3, dropout=0.5, init_std=1.0), jnp.ones((1, 4))
  variables = module.init(jax.random.key(0), x, train=False)
  run = lambda train, key: module.apply(variables, x, train=train, rngs={'dropout': jax.random.key(key)})
  np.testing.assert_array_equal(run(False, 1), run(False, 2))
  np.testing.assert_array_equal(run(True, 1), run(True, 1))
  assert np.abs(run(True, 1) - run(True, 2)).max() > 1e-3
  assert np.abs(run(True, 1) - run(False, 1)).max() > 1e-3
  assert (np.asarray(run(True, 1)) != 0).all()  # nothing is dropped after the second projection


def test_pooler_reads_the_first_token_only():
  module, x = Pooler(2), jnp.arange(12.0).reshape(2, 2, 3) / 10
  params = {'project': {'kernel': jnp.array([[1.0, 0], [0, 1], [0, 0]]), 'bias': jnp.array([0.0, 1])}}
  found = module.apply({'params': params}, x)
  np.testing.assert_allclose(found, np.tanh([[0.0, 1.1], [0.6, 1.7]]), atol=1e-6)
  np.testing.assert_array_equal(found, module.apply({'params': params}, x.at[:, 1].set(9)))


def test_transform_is_dense_activation_norm():
  module, x = Transform(3, activation='relu'), jnp.array([[1.0, -2]])
  params = {
    'project': {'kernel': jnp.array([[1.0, 0, 3], [0, 1, 0]]), 'bias': jnp.zeros(3)},
    'norm': {'scale': jnp.array([1.0, 1, 2]), 'bias': jnp.array([0.0, 0, 1])},
  }
  relu = np.array([1.0, 0, 3])
  normed = (relu - relu.mean()) / relu.std()
  np.testing.assert_allclose(module.apply({'params': params}, x)[0], normed * [1, 1, 2] + [0, 0, 1], atol=1e-6)
