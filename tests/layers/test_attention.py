"""Attention by hand: the weights, what a mask hides, and the two rules of masking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.layers.attention import attend, causal
from mmjax.layers.ways import Ways, using


@pytest.fixture(scope='module')
def qkv():
  """q [2,3,2,4], k and v [2,5,2,4]."""
  shapes = ((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4))
  return [jax.random.normal(jax.random.key(n), shape) for n, shape in enumerate(shapes)]


def both(*given, **how):
  """(values, weights)"""
  seen = []
  values = attend(*given, **how, weigh=lambda weights: seen.append(weights) or weights)
  return values, seen[0]


def by_hand(q, k, v, seen=None, bias=None):
  """Eq. 1 in numpy loops, over the keys that may be read only."""
  q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
  values, weights = np.zeros((*q.shape[:3], v.shape[-1])), np.zeros((q.shape[0], q.shape[2], q.shape[1], k.shape[1]))
  for b, i, h in np.ndindex(q.shape[:3]):
    keys = [j for j in range(k.shape[1]) if seen is None or seen[b, i, j]]
    score = k[b, keys, h] @ q[b, i, h] / q.shape[-1] ** 0.5 + (0 if bias is None else bias[b, h, i, keys])
    weight = np.exp(score - score.max()) / np.exp(score - score.max()).sum()
    weights[b, h, i, keys] = weight
    values[b, i, h] = weight @ v[b, keys, h]
  return values, weights


def test_two_keys_by_hand():
  q = jnp.array([1.0, 0, 0, 0]).reshape(1, 1, 1, 4)
  k = jnp.array([[2 * np.log(3), 0, 0, 0], [0, 5, 5, 5]]).reshape(1, 2, 1, 4)  # scores ln 3 and 0: weights 3/4 and 1/4
  v = jnp.array([[8.0, 0], [0, 4]]).reshape(1, 2, 1, 2)
  values, weights = both(q, k, v)
  np.testing.assert_allclose(weights.ravel(), [0.75, 0.25], rtol=1e-6)
  np.testing.assert_allclose(values.ravel(), [6, 1], rtol=1e-6)


@pytest.mark.parametrize('masking', ['replace', 'add'])
def test_mask_and_bias_equal_leaving_the_keys_out(qkv, masking):
  seen = np.array(jax.random.bernoulli(jax.random.key(7), 0.6, (2, 3, 5)))
  seen[..., 0] = True
  bias = np.array(jax.random.normal(jax.random.key(8), (2, 2, 3, 5)))
  for mask, b in ((None, None), (seen, None), (None, bias), (seen, bias)):
    values, weights = both(*qkv, None if mask is None else jnp.asarray(mask), bias=b, masking=masking)
    expected = by_hand(*qkv, mask, b)
    np.testing.assert_allclose(values, expected[0], atol=1e-6)
    np.testing.assert_allclose(weights, expected[1], atol=1e-6)
    assert mask is None or not np.asarray(weights)[~np.broadcast_to(mask[:, None], weights.shape)].any()


@pytest.mark.parametrize('masking', ['replace', 'add'])
def test_what_is_masked_cannot_be_seen(qkv, masking):
  q, k, v = qkv
  mask = jnp.ones((2, 1, 5), bool).at[:, :, 3:].set(False)
  values = attend(q, k, v, mask, masking=masking)
  shouted = attend(q, k.at[:, 3:].set(99.0), v.at[:, 3:].set(1e4), mask, masking=masking)
  np.testing.assert_array_equal(values, shouted)


@pytest.mark.parametrize('shape', [(1, 1, 5), (2, 1, 5), (1, 3, 5), (2, 3, 5)])
def test_mask_broadcasts_over_batch_and_queries(qkv, shape):
  mask = jax.random.bernoulli(jax.random.key(1), 0.5, shape).at[..., 0].set(True)
  full = jnp.broadcast_to(mask, (2, 3, 5))
  np.testing.assert_array_equal(attend(*qkv, mask), attend(*qkv, full))


@pytest.mark.parametrize('shape', [(1, 1, 3, 5), (2, 1, 3, 5), (1, 2, 3, 5)])
def test_bias_broadcasts_over_batch_and_heads(qkv, shape):
  bias = jax.random.normal(jax.random.key(1), shape)
  full = jnp.broadcast_to(bias, (2, 2, 3, 5))
  np.testing.assert_array_equal(attend(*qkv, bias=bias), attend(*qkv, bias=full))


def test_the_two_rules_differ_only_for_a_query_that_may_read_nothing(qkv):
  v = qkv[2]
  mask = jnp.ones((2, 3, 5), bool).at[0, 1].set(False).at[1, 2, 4].set(False)
  replaced, uniform = both(*qkv, mask)
  added, softmax = both(*qkv, mask, masking='add')
  free, unmasked = both(*qkv)
  np.testing.assert_allclose(uniform[0, :, 1], 1 / 5, atol=1e-6)
  np.testing.assert_allclose(replaced[0, 1], v[0].mean(0), atol=1e-6)
  np.testing.assert_allclose(softmax[0, :, 1], unmasked[0, :, 1], atol=2e-3)  # -10000 costs the scores their last bits
  np.testing.assert_allclose(added[0, 1], free[0, 1], atol=5e-3)
  assert np.abs(uniform[0, :, 1] - softmax[0, :, 1]).max() > 0.05
  others = np.ones((2, 3), bool)
  others[0, 1] = False
  np.testing.assert_allclose(np.asarray(replaced)[others], np.asarray(added)[others], atol=1e-6)


def test_gradient_is_finite_where_nothing_may_be_read(qkv):
  grads = jax.grad(lambda qkv: attend(*qkv, jnp.zeros((2, 3, 5), bool)).sum())(qkv)
  assert all(np.isfinite(g).all() for g in grads)


def test_what_weights_go_through_reads_v(qkv):
  _, weights = both(*qkv)
  values = attend(*qkv, weigh=lambda w: w.at[..., 0].set(0) * 2)
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
  expected = np.einsum('BHQK,BKHC->BQHC', 2 * np.asarray(weights)[..., 1:], np.asarray(qkv[2])[:, 1:])
  np.testing.assert_allclose(values, expected, atol=1e-6)


def test_softmax_is_float32_in_bfloat16(qkv):
  values, weights = both(*(a.astype(jnp.bfloat16) for a in qkv), jnp.ones((1, 1, 5), bool))
  assert (values.dtype, weights.dtype) == (jnp.bfloat16, jnp.float32)
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)


@pytest.mark.parametrize('dtype', ['int32', 'float32'])
def test_mask_that_is_not_bool_is_refused(qkv, dtype):
  with pytest.raises(UserError, match=f'mask: found dtype {dtype}, expected bool'):
    attend(*qkv, jnp.ones((2, 1, 5), dtype))


def test_unknown_rule_names_the_nearest(qkv):
  with pytest.raises(UserError, match=r"masking: found 'replaced', .*did you mean 'replace'"):
    attend(*qkv, masking='replaced')


def test_causal_reads_past_and_present():
  np.testing.assert_array_equal(causal(3), [[[1, 0, 0], [1, 1, 0], [1, 1, 1]]])
  assert causal(3).dtype == bool


def test_causal_hides_what_comes_later(qkv):
  _, k, v = qkv
  first = attend(k, k, v, causal(5))
  later = attend(k.at[:, 3:].set(9.0), k.at[:, 3:].set(9.0), v.at[:, 3:].set(9.0), causal(5))
  np.testing.assert_allclose(first[:, :3], later[:, :3], atol=1e-6)
  np.testing.assert_allclose(first[:, 0], v[:, 0], atol=1e-6)


# --- of another library -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('masking', ['replace', 'add'])
@pytest.mark.parametrize('rows', [1, 3])
def test_xla_has_equal_values_and_gradients(qkv, masking, rows):
  mask = jax.random.bernoulli(jax.random.key(3), 0.6, (2, rows, 5)).at[..., 0].set(True)
  if masking == 'replace':  # 'add' costs scores that may read nothing their last bits
    mask = mask.at[0].set(False)
  bias = jax.random.normal(jax.random.key(4), (2, 2, 3, 5))

  def found(how, mask, bias):
    with using(Ways(how)):
      loss = lambda qkv: (attend(*qkv, mask, bias=bias, masking=masking) * jnp.arange(48.0).reshape(2, 3, 2, 4)).sum()
      return jax.value_and_grad(loss)(qkv), str(jax.make_jaxpr(loss)(qkv))

  for given in ((None, None), (mask, None), (None, bias), (mask, bias)):
    (ours, program), (theirs, other) = found('auto', *given), found('xla', *given)
    assert program != other
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5), ours, theirs)


def test_weights_that_go_through_something_are_computed_here(qkv):
  dropped = lambda weights: weights.at[..., 0].set(0)
  with using(Ways('xla')):
    np.testing.assert_array_equal(attend(*qkv, weigh=dropped), attend(*qkv, weigh=dropped))
    assert not np.allclose(attend(*qkv, weigh=dropped), attend(*qkv))


def test_cudnn_is_for_gpus(qkv):
  with using(Ways('cudnn')), pytest.raises(UserError, match=r"'cudnn': found a CPU; expected bfloat16, a GPU"):
    attend(*qkv)
