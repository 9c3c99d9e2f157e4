"""Relevance: the rules by hand, and that gradients by attention are those of a nudge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.fusion import relevance
from mmjax.fusion.layers import MAPS, TOUCH, FusionStack
from tests.variables import drawn

LENGTHS = {'t': 3, 'v': 4}


def stack(schedule, scan):
  return FusionStack(schedule, 8, 2, 16, dropout=0.0, attention_dropout=0.0, scan=scan)


@pytest.fixture(scope='module')
def given():
  keys = jax.random.split(jax.random.key(0), 2)
  return {s: jax.random.normal(key, (2, n, 8)) for key, (s, n) in zip(keys, LENGTHS.items())}


def explained(model, variables, given):
  apply = lambda more: model.apply({**variables, **more}, given, train=False, mutable=[MAPS])
  return relevance.maps_and_gradients(apply, lambda out: out['t'][:, 0, :3].sum(-1))


@pytest.mark.parametrize('scan', [True, False])
def test_gradients_by_attention_are_those_of_a_nudge(given, scan):
  model = stack('2*[t<t v<v; t<v]', scan)
  variables = drawn(model, given, train=False)
  out, maps, gradients = jax.jit(lambda v, g: explained(model, v, g))(variables, given)
  assert jax.tree.map(jnp.shape, maps) == jax.tree.map(jnp.shape, gradients)
  plain = model.apply(variables, given, train=False)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), out, plain)
  leaves, tree = jax.tree.flatten(maps)
  last = -1  # of the last attention, one weight of one head
  nudge = [np.zeros(a.shape, np.float32) for a in leaves]
  at = (0,) * nudge[last].ndim if not scan else (1, 0, 1, 0, 2)
  nudge[last][at] = 1e-2
  moved = model.apply({**variables, TOUCH: jax.tree.unflatten(tree, nudge)}, given, train=False)
  change = (moved['t'] - plain['t'])[0, 0, :3].sum() / 1e-2
  assert float(jax.tree.leaves(gradients)[last][at]) == pytest.approx(float(change), rel=0.05, abs=1e-3)


def test_scanned_and_unrolled_are_chained_alike():
  rng = np.random.default_rng(0)
  names = {'sub0/t<t': (2, 3, 3), 'sub0/v<v': (2, 4, 4), 'sub1/t<v': (2, 3, 4)}
  maps, gradients = (
    {'group0': {name: jnp.asarray(rng.uniform(-0.5, 1, (2, 1, *shape))) for name, shape in names.items()}} for _ in '12'
  )
  apart = lambda tree: {f'group0_{n}': {name: a[n] for name, a in tree['group0'].items()} for n in range(2)}
  schedule = '2*[t<t v<v; t<v]'
  one = relevance.chained(maps, gradients, schedule, LENGTHS)
  other = relevance.chained(apart(maps), apart(gradients), schedule, LENGTHS)
  for edge, found in one.items():
    np.testing.assert_array_equal(found, other[edge])
    assert found.shape == (1, LENGTHS[edge[0]], LENGTHS[edge[1]]) and (found >= 0).all()


def test_self_attention_by_hand():
  """Two layers of one head: R = (I + A2)(I + A1), where a negative gain counts for nothing."""
  a1, a2 = jnp.array([[0.5, 0.5], [0.25, 0.75]]), jnp.array([[1.0, 0.0], [0.5, 0.5]])
  g1, g2 = jnp.array([[1.0, -2.0], [4.0, 0.0]]), jnp.array([[2.0, 1.0], [2.0, 2.0]])
  maps, gradients = (
    {'group0_0': {'sub0/v<v': x[None, None]}, 'group0_1': {'sub0/v<v': y[None, None]}} for x, y in ((a1, a2), (g1, g2))
  )
  found = relevance.chained(maps, gradients, '2*[v<v]', {'v': 2})['v', 'v'][0]
  first = np.eye(2) + [[0.5, 0], [1, 0]]
  np.testing.assert_allclose(found, (np.eye(2) + [[2, 0], [1, 1]]) @ first, atol=1e-6)


def test_cross_attention_by_hand():
  """Text reads an image of which nothing was mixed: R_tv is the gain itself; R_tt stays."""
  gain = jnp.array([[0.2, 0.0, 0.4], [0.0, 0.6, 0.0]])
  maps = {'group0_0': {'sub0/t<v': gain[None, None]}}
  ones = {'group0_0': {'sub0/t<v': jnp.ones((1, 1, 2, 3))}}
  found = relevance.chained(maps, ones, '1*[t<v]', {'t': 2, 'v': 3})
  np.testing.assert_allclose(found['t', 'v'][0], gain)
  np.testing.assert_array_equal(found['t', 't'][0], np.eye(2))


def test_one_softmax_over_both_is_one_self_attention():
  """A merged reader is what the two streams, put in a row, would be."""
  rng = np.random.default_rng(1)
  joint = [rng.uniform(size=(5, 5)) for _ in range(2)]
  split = lambda a: {'sub0/t<tv': jnp.asarray(a[None, None, :2]), 'sub0/v<tv': jnp.asarray(a[None, None, 2:])}
  maps = {f'group0_{n}': split(a) for n, a in enumerate(joint)}
  ones = jax.tree.map(jnp.ones_like, maps)
  found = relevance.chained(maps, ones, '2*[t<tv v<tv tied]', {'t': 2, 'v': 3})
  whole = np.block([[found['t', 't'][0], found['t', 'v'][0]], [found['v', 't'][0], found['v', 'v'][0]]])
  np.testing.assert_allclose(whole, (np.eye(5) + joint[1]) @ (np.eye(5) + joint[0]), rtol=1e-5)
