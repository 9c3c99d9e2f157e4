"""Encoders of series: what they read of steps, of time and of what is missing, and that padding cannot be seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.encoders.series import SeriesPatches, SeriesRNN, SeriesTCN, steps, time_features
from mmjax.errors import UserError
from tests.variables import drawn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 7, 3)).astype(np.float32)
TIME = np.cumsum(RNG.uniform(0.1, 3, (2, 7)), 1).astype(np.float32)
FULL = np.ones((2, 7), bool)
ENCODERS = {
  'lstm': SeriesRNN('lstm', 4, 2, both_ways=True),
  'gru': SeriesRNN('gru', 4),
  'tcn': SeriesTCN(4, (1, 2)),
  'patches': SeriesPatches(4, 3, 2, 6),
}


def made(name, mask=FULL, time=None):
  """The encoder with random variables: (series, mask, time) -> tokens, mask."""
  model = ENCODERS[name]
  variables = drawn(model, X, mask, time, train=False)
  return jax.jit(lambda *given: model.apply(variables, *given, train=False))


def close(found, wanted):
  """Tokens that are there are the same, and the same ones are."""
  np.testing.assert_array_equal(found[1], wanted[1])
  there = np.asarray(found[1])
  np.testing.assert_allclose(np.asarray(found[0])[there], np.asarray(wanted[0])[there], atol=1e-5)


def test_time_features_by_hand():
  time = jnp.array([[100.0, 3.0, 100.1, 102.1]])
  found = time_features(time, jnp.array([[True, False, True, True]]), 2)
  np.testing.assert_allclose(found[0, :, 0], np.log1p([0, 0, 0.1, 2]), atol=1e-5)  # what is masked has no time
  angle = 2 * np.pi * np.array([0, 0.1, 2.1])[:, None] / [0.1, 1e4]
  wanted = np.concatenate([np.sin(angle), np.cos(angle)], -1)
  np.testing.assert_allclose(found[0, [0, 2, 3], 1:], wanted, atol=1e-3)  # 0.1 s of 100 in float32


def test_what_is_read_of_a_step_by_hand():
  series = jnp.array([[[1.0, np.nan], [np.nan, np.nan], [3.0, 4.0]]])
  seen = jnp.array([[[True, False], [False, False], [True, True]]])
  read, there = steps(series, seen, None)
  assert there.tolist() == [[True, False, True]]
  assert read[0].tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [3, 4, 0, 0]]  # channels, then which are missing
  read, there = steps(jnp.nan_to_num(series), seen.any(-1), None)
  assert read[0].tolist() == [[1, 0], [0, 0], [3, 4]] and there.tolist() == [[True, False, True]]


@pytest.mark.parametrize('name', ENCODERS)
@pytest.mark.parametrize('time', [None, TIME], ids=['even', 'time'])
def test_padding_cannot_be_seen(name, time):
  """A series alone is the same as one that is filled up, with whatever stands there."""
  run, short = made(name, FULL, time), slice(0, 5)
  mask = FULL.copy()
  mask[:, 5:] = False
  clock = None if time is None else time[:, short]
  alone = run(X[:, short], FULL[:, short], clock)
  for noise in (100.0, np.nan):
    shouted = np.where(mask[..., None], X, noise).astype(np.float32)
    found = run(shouted, mask, None if time is None else np.where(mask, time, noise).astype(np.float32))
    count = alone[0].shape[1]
    close((found[0][:, :count], found[1][:, :count]), alone)
    assert not found[1][:, count:].any()


@pytest.mark.parametrize('name', ENCODERS)
def test_what_was_not_measured_is_not_read_but_that_it_was_not_is(name):
  seen = np.ones(X.shape, bool)
  seen[:, 2, 1] = False
  run = made(name, seen)
  close(run(np.where(seen, X, np.nan).astype(np.float32), seen), run(np.where(seen, X, 9).astype(np.float32), seen))
  zero = np.where(seen, X, 0).astype(np.float32)
  assert np.abs(np.asarray(run(zero, seen)[0] - run(zero, np.ones_like(seen))[0])).max() > 1e-3


@pytest.mark.parametrize('name', ENCODERS)
def test_time_matters_but_not_when_the_clock_began(name):
  run = made(name, FULL, TIME)
  other = np.asarray(run(X, FULL, TIME * 3)[0])
  assert np.abs(other - np.asarray(run(X, FULL, TIME)[0])).max() > 1e-3
  whole = np.round(TIME)  # exact in float32 when moved
  close(run(X, FULL, whole + 1024), run(X, FULL, whole))


@pytest.mark.parametrize('name', ENCODERS)
def test_a_missing_series_leaves_numbers_and_gradients(name):
  model = ENCODERS[name]
  variables = drawn(model, X, FULL, train=False)

  def total(variables):
    tokens, mask = model.apply(variables, jnp.full(X.shape, jnp.nan), ~FULL, train=False)
    return (tokens * mask[..., None]).sum(), mask

  (value, mask), grads = jax.value_and_grad(total, has_aux=True)(variables)
  assert value == 0 and not mask.any()
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_patches_by_hand():
  """Of 7 steps 3 patches of 3, two apart; each step of one channel by its place, and whether it is there."""
  model = SeriesPatches(1, 3, 2, 4)
  kernel = jnp.array([1.0, 10, 100, 1000, 1000, 1000])[:, None]
  params = {'project': {'kernel': kernel, 'bias': jnp.zeros(1)}, 'position': jnp.array([[0.1], [0.2], [0.3], [0.4]])}
  series, mask = jnp.arange(1.0, 8)[None, :, None], jnp.arange(7)[None] < 6
  tokens, there = model.apply({'params': params}, series, mask, train=False)
  np.testing.assert_allclose(tokens[0, :, 0], [3321.1, 3543.2, 2065.3])
  assert there.tolist() == [[True] * 3]
  tokens, there = model.apply({'params': params}, series[:, :2], mask[:, :2], train=False)
  np.testing.assert_allclose(tokens[0, :, 0], [2021.1])  # shorter than a patch
  with pytest.raises(UserError, match='series of 10 steps: 5 patches, expected at most 4'):
    model.apply({'params': params}, jnp.zeros((1, 10, 1)), jnp.ones((1, 10), bool), train=False)


@pytest.mark.parametrize('mask, time, words', [
  (FULL[:, :3], None, 'mask: found bool (2, 3), expected bool (2, 7) or (2, 7, 3)'),
  (FULL.astype(np.int32), None, 'mask: found int32'),
  (FULL, TIME[:, :3], 'time: found (2, 3), expected (2, 7), in seconds'),
])  # fmt: skip
def test_what_does_not_fit_is_one_line(mask, time, words):
  with pytest.raises(UserError) as error:
    steps(X, mask, time)
  assert words in str(error.value) and '\n' not in str(error.value)
