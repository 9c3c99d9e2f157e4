"""Scores against all rivals of a batch, on one device and on mapped ones, beside the plain logsumexp."""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.layers.ring import against_all

RNG = np.random.default_rng(0)
ONE, OTHER = (jnp.array(RNG.normal(size=(8, 5)), jnp.float32) for _ in range(2))
RIVALS = jnp.array([True, True, False, True, True, True, True, False])
GAIN = jnp.array(RNG.normal(size=8), jnp.float32)


def plain(one, other):
  return (jax.nn.logsumexp(jnp.where(RIVALS, one @ other.T, -jnp.inf), 1) * GAIN).sum()


def close(found, wanted):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, wanted)


def test_sums_and_gradients_are_those_of_all_scores():
  ring = lambda one, other: (against_all(one, other, RIVALS)[0] * GAIN).sum()
  close(jax.value_and_grad(ring, (0, 1))(ONE, OTHER), jax.value_and_grad(plain, (0, 1))(ONE, OTHER))


def test_mapped_devices_see_all_rivals_one_after_the_other():
  cut = lambda a: a.reshape(4, 2, *a.shape[1:])

  def part(one, other, rivals, gain):
    loss = lambda one, other: (against_all(one, other, rivals, axis='data')[0] * gain).sum()
    value, gradient = jax.value_and_grad(loss, (0, 1))(one, other)
    return jax.lax.psum(value, 'data'), gradient

  value, gradient = jax.vmap(part, axis_name='data')(cut(ONE), cut(OTHER), cut(RIVALS), cut(GAIN))
  whole = jax.tree.map(lambda a: a.reshape(8, 5), gradient)
  close((value[0], whole), jax.value_and_grad(plain, (0, 1))(ONE, OTHER))


def test_a_row_is_first_where_no_rival_is_above_it():
  near = ONE + 0.5 * OTHER  # most rows are nearest to their own, not all
  scores = np.where(RIVALS, np.asarray(ONE @ near.T), -np.inf)
  _, first = against_all(ONE, near, RIVALS)
  assert first.tolist() == (np.diag(scores) >= scores.max(1)).tolist() and 0 < int(first.sum()) < 8
  assert bool(against_all(ONE, jnp.ones((8, 5)), RIVALS)[1][0])  # all alike


def test_where_nobody_is_a_rival_there_is_no_gradient():
  none = jnp.zeros(8, bool)
  assert np.isneginf(np.asarray(against_all(ONE, OTHER, none)[0])).all()
  loss = lambda one, other: jnp.where(none, against_all(one, other, none)[0], 0).sum()
  for gradient in jax.grad(loss, (0, 1))(ONE, OTHER):
    assert not np.asarray(gradient).any()
