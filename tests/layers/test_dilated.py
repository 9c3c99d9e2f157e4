"""Dilated convolutions: sums by hand, how far back a step reads, and that padding cannot be seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.layers.dilated import TcnBlock, WaveNetBlock, causal_conv
from tests.variables import drawn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 9, 3)).astype(np.float32)
FULL = np.ones((2, 9), bool)


def tcn(x, mask):
  model = TcnBlock(4, 3, 2)
  return np.asarray(model.apply(drawn(model, X, FULL, train=False), x, mask, train=False))


def wavenet(x, mask):
  model = WaveNetBlock(4, 5)
  return np.concatenate(model.apply(drawn(model, X, FULL), x, mask), -1)


BLOCKS = {'tcn': (tcn, 2 * 2 * 2), 'wavenet': (wavenet, 4)}  # -> how many steps back it reads


def test_a_convolution_by_hand():
  kernel = {'params': {'kernel': jnp.array([1.0, 10, 100]).reshape(3, 1, 1), 'bias': jnp.array([0.5])}}
  found = causal_conv(1, 3, 2).apply(kernel, jnp.array([[[1.0], [2], [3], [4], [5], [6]]]))
  np.testing.assert_allclose(found[0, :, 0], [100.5, 200.5, 310.5, 420.5, 531.5, 642.5])


def test_a_wavenet_block_by_hand():
  params = {
    'conv': {'kernel': jnp.array([[[2.0, 3]], [[1, -1]]]), 'bias': jnp.array([0.0, 1])},
    'residual': {'kernel': jnp.array([[10.0]]), 'bias': jnp.array([0.0])},
    'skip': {'kernel': jnp.array([[1.0, 2]]), 'bias': jnp.array([0.0, 5])},
  }
  x, skip = WaveNetBlock(1, 2).apply({'params': params}, jnp.array([[[1.0], [2.0]]]), jnp.ones((1, 2), bool))
  z = np.tanh([1.0, 4]) / (1 + np.exp(-np.array([0.0, 2])))  # filters 1 and 2*1 + 2, gates 1 - 1 and 1 + 3*1 - 2
  np.testing.assert_allclose(x[0, :, 0], [1, 2] + 10 * z, rtol=1e-5)
  np.testing.assert_allclose(skip[0], np.stack([z, 5 + 2 * z], -1), rtol=1e-5)


def test_a_tcn_block_by_hand():
  """Kernels [3, 4] of direction (0.6, 0.8) and length 10, then of length 1; what x has is added."""
  block, x = TcnBlock(1, 2, 1), jnp.array([[[1.0], [-2.0], [1.0]]])
  conv = {'kernel': jnp.array([3.0, 4]).reshape(2, 1, 1), 'bias': jnp.array([0.0])}
  params = {
    'conv0': conv,
    'conv1': conv,
    'norm0': {'conv0/kernel/scale': jnp.array([10.0])},
    'norm1': {'conv1/kernel/scale': jnp.array([1.0])},
  }
  first = np.maximum([8, 6 - 16, -12 + 8], 0)  # 8, 0, 0
  second = [0.8 * first[0], 0.6 * first[0], 0]
  found = block.apply({'params': params}, x, jnp.ones((1, 3), bool), train=False)
  np.testing.assert_allclose(found[0, :, 0], np.maximum([1 + second[0], -2 + second[1], 1], 0), rtol=1e-5)


@pytest.mark.parametrize('name', BLOCKS)
def test_a_step_reads_its_past_as_far_as_it_should_and_no_later_one(name):
  run, back = BLOCKS[name]
  changed = X.copy()
  changed[:, 4] += 1
  same = np.isclose(run(changed, FULL), run(X, FULL), atol=1e-6).all((0, 2))
  assert same[:4].all() and not same[4] and not same[min(4 + back, 8)]
  changed = X.copy()
  changed[:, 0] += 1
  same = np.isclose(run(changed, FULL), run(X, FULL), atol=1e-6).all((0, 2))
  assert not same[back] and same[back + 1 :].all()


@pytest.mark.parametrize('name', BLOCKS)
@pytest.mark.parametrize('there', [slice(0, 6), slice(3, 9)])
def test_padding_cannot_be_seen_on_either_side(name, there):
  run, mask = BLOCKS[name][0], ~FULL
  mask[:, there] = True
  found = run(np.where(mask[..., None], X, 100.0).astype(np.float32), mask)
  np.testing.assert_allclose(found[:, there], run(X[:, there], FULL[:, there]), atol=1e-5)


def test_whole_channels_are_dropped_in_train_only():
  model = TcnBlock(64, 2, 1, dropout=0.5)
  variables = drawn(model, X, FULL, train=False)
  variables['params']['project'] = jax.tree.map(jnp.zeros_like, variables['params']['project'])
  run = lambda train, key: model.apply(variables, X, FULL, train=train, rngs={'dropout': jax.random.key(key)})
  np.testing.assert_array_equal(run(False, 0), run(False, 1))
  dead = (np.asarray(run(True, 0)) == 0).all(1)
  assert 0.3 < dead.mean() < 0.8 and (np.asarray(run(True, 1)) == 0).all(1).tolist() != dead.tolist()


def test_a_mask_that_does_not_fit_is_one_line():
  for model in (TcnBlock(4, 3, 2), WaveNetBlock(4, 5)):
    with pytest.raises(UserError) as error:
      model.apply({}, X, FULL[:, :3], **({'train': False} if isinstance(model, TcnBlock) else {}))
    assert str(error.value) == 'mask: found bool (2, 3), expected bool (2, 9) (True = is there)'
