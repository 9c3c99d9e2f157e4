"""Optimisers and rates: against the published rule in a numpy loop, and at the points that matter."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax.errors import UserError
from mmjax.optim import bert_adam, build, kernels, schedule


@pytest.fixture(scope='module')
def params():
  rng = np.random.default_rng(0)
  shapes = {
    'dense': {'kernel': (3, 2), 'bias': (2,)}, 'norm': {'scale': (2,), 'bias': (2,)}, 'word': {'embedding': (4, 2)},
    'word_bias': (4,),
  }  # fmt: skip
  return jax.tree.map(lambda s: rng.normal(size=s).astype(np.float32), shapes, is_leaf=lambda s: isinstance(s, tuple))


def grads_of(params, steps):
  rng = np.random.default_rng(1)
  return [jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), params) for _ in range(steps)]


def run(tx, params, grads):
  """The parameters after each step."""
  state, found = tx.init(params), []
  update = jax.jit(tx.update)
  for g in grads:
    updates, state = update(g, state, params)
    params = optax.apply_updates(params, updates)
    found.append(params)
  return found


def published(p, grads, rates, b1=0.9, b2=0.999, eps=1e-6, decay=0.01):
  """BertAdam as in BERT's and LXMERT's optimization.py: moments, no bias correction, eps outside of the root, decay."""
  m, v, found = 0.0, 0.0, []
  p = np.asarray(p, np.float64)
  for g, rate in zip(grads, rates, strict=True):
    g = np.asarray(g, np.float64)
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g * g
    update = m / (np.sqrt(v) + eps)
    update += decay * p
    p = p - rate * update
    found.append(p)
  return found


def leaf(tree, path):
  for name in path:
    tree = tree[name.key]
  return tree


@pytest.mark.parametrize('given', [{}, {'b1': 0.8, 'b2': 0.98, 'eps': 0.1, 'decay': 0.2}])
def test_bert_adam_is_the_published_loop(params, given):
  rate = schedule('linear', 0.1, 6, 2)
  grads = grads_of(params, 6)
  found = run(bert_adam(rate, **given), params, grads)
  for path, start in jax.tree_util.tree_leaves_with_path(params):  # every parameter decays, biases and norms too
    expected = published(start, [leaf(g, path) for g in grads], [0, 0.05, 0.1, 0.075, 0.05, 0.025], **given)
    for step, wanted in zip(found, expected, strict=True):
      np.testing.assert_allclose(leaf(step, path), wanted, atol=1e-5)


def test_bert_adam_is_not_adamw(params):
  rate = optax.constant_schedule(0.1)
  ours = run(bert_adam(rate, eps=1e-6), params, grads_of(params, 2))[-1]
  theirs = run(optax.adamw(rate, eps=1e-6, weight_decay=0.01), params, grads_of(params, 2))[-1]
  assert np.abs(ours['dense']['kernel'] - theirs['dense']['kernel']).max() > 0.05  # bias correction


@pytest.mark.parametrize('name', ['adamw', 'bert_adam'])
def test_the_first_step_after_a_warm_up_moves_nothing(params, name):
  tx = build(name, schedule('linear', 0.1, 10, 5), clip=1.0, decay=0.01)
  first, second = run(tx, params, grads_of(params, 2))
  jax.tree.map(np.testing.assert_array_equal, first, params)
  assert np.abs(second['dense']['kernel'] - params['dense']['kernel']).max() > 1e-4


POINTS = [0, 1, 5, 10, 55, 100, 1000]  # of 100 steps with 10 of warm-up, peak 2


@pytest.mark.parametrize('name, expected', [
  ('linear', [0, 0.2, 1, 2, 1, 0, 0]),
  ('cosine', [0, 0.2, 1, 2, 1, 0, 0]),
  ('constant', [0, 0.2, 1, 2, 2, 2, 2]),
])  # fmt: skip
def test_rates_at_key_points(name, expected):
  rate = schedule(name, 2.0, 100, 10)
  np.testing.assert_allclose([rate(n) for n in POINTS], expected, atol=1e-6)


def test_linear_is_the_published_warm_up_and_decay():
  """x / warmup up to the warm-up's share, then (x - 1) / (warmup - 1), of the share x of all steps."""
  rate, share = schedule('linear', 1.0, 200, 20), 0.1
  for n in range(0, 220, 7):
    x = n / 200
    assert float(rate(n)) == pytest.approx(x / share if x < share else max((x - 1) / (share - 1), 0), abs=1e-6)


def test_cosine_falls_slowly_fast_and_slowly():
  rate = schedule('cosine', 1.0, 100, 0)
  found = [float(rate(n)) for n in (0, 25, 50, 75, 100)]
  np.testing.assert_allclose(found, [1, 0.5 + 0.5 * np.sqrt(0.5), 0.5, 0.5 - 0.5 * np.sqrt(0.5), 0], atol=1e-6)


@pytest.mark.parametrize('name', ['linear', 'cosine', 'constant'])
def test_no_warm_up_starts_at_the_peak_and_all_warm_up_ends_below_it(name):
  assert float(schedule(name, 3.0, 10, 0)(0)) == 3
  rate = schedule(name, 3.0, 10, 10)
  np.testing.assert_allclose([rate(n) for n in (0, 5, 9)], [0, 1.5, 2.7], rtol=1e-6)


def test_kernels_are_matrices_and_tables(params):
  assert kernels(params) == {
    'dense': {'kernel': True, 'bias': False}, 'norm': {'scale': False, 'bias': False}, 'word': {'embedding': True},
    'word_bias': False,
  }  # fmt: skip


def test_adamw_decays_kernels_alone(params):
  tx = build('adamw', optax.constant_schedule(0.1), clip=0, decay=0.5)
  nothing = jax.tree.map(jnp.zeros_like, params)
  after = run(tx, params, [nothing])[0]
  expected = jax.tree.map(lambda a, decays: a * (0.95 if decays else 1), params, kernels(params))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), after, expected)


def test_adamw_has_the_numbers_it_is_given(params):
  rate, grads = optax.constant_schedule(0.1), grads_of(params, 3)
  found = run(build('adamw', rate, clip=0, decay=0.2, b1=0.5, b2=0.7, eps=0.1), params, grads)
  expected = run(optax.adamw(rate, 0.5, 0.7, 0.1, weight_decay=0.2, mask=kernels), params, grads)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize('name', ['adamw', 'bert_adam'])
def test_decay_falls_on_kernels_or_on_all(params, name):
  still = jax.tree.map(jnp.zeros_like, params)
  moved = {}
  for on in ('kernels', 'all'):
    tx = build(name, lambda n: 1.0, clip=0, decay=0.5, decay_on=on)
    updates, _ = tx.update(still, tx.init(params), params)
    moved[on] = updates
  both = zip(jax.tree.leaves(moved['kernels']), jax.tree.leaves(moved['all']), jax.tree.leaves(params), strict=True)
  for (some, every, p), kernel in zip(both, jax.tree.leaves(kernels(params)), strict=True):
    np.testing.assert_allclose(every, -0.5 * p, rtol=1e-6)
    np.testing.assert_allclose(some, -0.5 * p if kernel else 0 * p, rtol=1e-6)


def test_bert_adam_has_the_numbers_it_is_given(params):
  rate, grads = optax.constant_schedule(0.1), grads_of(params, 3)
  found = run(build('bert_adam', rate, clip=0, decay=0.2, decay_on='all', b1=0.5, b2=0.7, eps=0.1), params, grads)
  expected = run(bert_adam(rate, 0.5, 0.7, 0.1, 0.2), params, grads)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize('name', ['adamw', 'bert_adam'])
@pytest.mark.parametrize('clip', [0, 0.5, 1e6])
def test_clipping_is_by_the_global_norm_before_the_optimiser(params, name, clip):
  rate, grads = optax.constant_schedule(0.1), grads_of(params, 2)
  norm = lambda g: np.sqrt(sum((a**2).sum() for a in jax.tree.leaves(g)))
  scale = lambda g: min(1, clip / norm(g)) if clip else 1
  scaled = [jax.tree.map(lambda a, g=g: a * np.float32(scale(g)), g) for g in grads]
  given = {'decay': 0.01, 'eps': 0.1}  # a large eps: else Adam hides the scale
  found = run(build(name, rate, clip=clip, **given), params, grads)[-1]
  expected = run(build(name, rate, clip=0, **given), params, scaled)[-1]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
  plain = run(build(name, rate, clip=0, **given), params, grads)[-1]
  assert (np.abs(plain['dense']['kernel'] - found['dense']['kernel']).max() > 1e-3) == (clip == 0.5)


@pytest.mark.parametrize('call, message', [
  (lambda: schedule('cosin', 1.0, 10, 1), r"optim.schedule: found 'cosin', .*did you mean 'cosine'"),
  (lambda: schedule('linear', 1.0, 10, 11), r'optim.warmup: found 11 steps, expected 0 to 10'),
  (lambda: schedule('linear', 1.0, 10, -1), r'optim.warmup: found -1 steps, expected 0 to 10'),
  (lambda: build('adamw', lambda n: 1.0, clip=0, decay=0, decay_on='kernel'), r"decay_on: found 'kernel', .*'kernels'"),
  (lambda: build('bertadam', lambda n: 1.0, clip=0, decay=0), r"optim.name: found 'bertadam', .*mean 'bert_adam'"),
])  # fmt: skip
def test_a_mistake_is_one_line_with_the_nearest(call, message):
  with pytest.raises(UserError, match=message) as error:
    call()
  assert '\n' not in str(error.value)
