"""The training step: one division, one key a step, nothing applied that is not finite, the same on every launcher."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.models.visualbert import VisualBERT
from mmjax.objectives import answers
from mmjax.parallel import LAUNCHERS, Launch
from mmjax.train import divide, eval_step, forward_of, gradients, init, train_step

ROWS, FEATURES, ANSWERS = 8, 3, 4


def batch_of(seed=0):
  """Uneven weights: micro-batches of two rows hold 1.5, 0, 2 and 0.25 of weight."""
  rng = np.random.default_rng(seed)
  return {
    'x': jnp.asarray(rng.normal(size=(ROWS, FEATURES)), jnp.float32),
    'answer': jnp.asarray(rng.integers(ANSWERS, size=ROWS)),
    'question_type': jnp.asarray(rng.random((ROWS, 2)) < 0.5),
    'weight': jnp.array([1, 0.5, 0, 0, 1, 1, 0, 0.25]),
  }


def linear(variables, batch, *, train, key):
  """A Forward with dropout of half of the features, and a collection that counts the rows seen."""
  x = batch['x']
  if train:
    x = x * jax.random.bernoulli(key, 0.5, x.shape) * 2
  seen = variables['seen'] + len(x) if train and 'seen' in variables else 0
  return {'answers': x @ variables['params']['w']}, {'seen': seen} if 'seen' in variables else {}


def still(variables, batch, *, train, key):
  """`linear` without dropout."""
  return linear(variables, batch, train=False, key=None)[0], {}


def fresh(tx, seed=0, **collections):
  w = np.random.default_rng(seed).normal(size=(FEATURES, ANSWERS)).astype(np.float32)
  return init({'params': {'w': jnp.asarray(w)}, **collections}, tx)


KEY = jax.random.key(0)
SGD, ADAM = optax.sgd(0.1), optax.adam(0.1)


@functools.cache
def step_of(forward=still, tx=SGD, micro_batches=1, objective=answers):
  return jax.jit(functools.partial(
    train_step, forward=forward, tx=tx, objective=objective, micro_batches=micro_batches))  # fmt: skip


@functools.cache
def gradients_of(micro_batches):
  return jax.jit(functools.partial(gradients, forward=still, objective=answers, micro_batches=micro_batches))


def same(a, b):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# --- one division -----------------------------------------------------------------------------------------------------


def by_hand(w, batch):
  """Mean cross-entropy over the weight of the batch, and its gradient, in numpy."""
  x, weight = np.asarray(batch['x'], np.float64), np.asarray(batch['weight'], np.float64)
  scores = x @ np.asarray(w, np.float64)
  p = np.exp(scores - scores.max(-1, keepdims=True))
  p /= p.sum(-1, keepdims=True)
  hot = np.eye(ANSWERS)[np.asarray(batch['answer'])]
  loss = -(np.log((p * hot).sum(-1)) * weight).sum() / weight.sum()
  return loss, x.T @ ((p - hot) * weight[:, None]) / weight.sum()


@pytest.mark.parametrize('micro_batches', [1, 2, 4])
def test_the_gradient_is_that_of_the_weighted_mean(micro_batches):
  state, batch = fresh(SGD), batch_of()
  loss, gradient = by_hand(state.params['w'], batch)
  after, metrics = step_of(micro_batches=micro_batches)(state, batch, KEY)
  np.testing.assert_allclose(after.params['w'], state.params['w'] - 0.1 * gradient, atol=1e-6)
  assert metrics['loss'][0] == pytest.approx(loss, rel=1e-6)
  assert metrics['gradient_norm'][0] == pytest.approx(np.sqrt((gradient**2).sum()), rel=1e-5)
  assert int(after.step) == 1


def test_four_micro_batches_are_one_batch_where_a_mean_of_means_is_not():
  state, batch = fresh(SGD), batch_of()
  run = lambda batch, n: gradients_of(n)(state, batch, KEY)[0]['w']
  one, four = run(batch, 1), run(batch, 4)
  np.testing.assert_allclose(four, one, atol=1e-6)
  parts = [run(jax.tree.map(lambda a, n=n: a[2 * n : 2 * n + 2], batch), 1) for n in range(4)]
  assert np.abs(np.mean(parts, 0) - one).max() > 1e-2


def test_metrics_of_micro_batches_add_up():
  state, batch = fresh(SGD), batch_of()
  one, four = (step_of(micro_batches=n)(state, batch, KEY)[1] for n in (1, 4))
  assert set(one) == set(four) == {'loss', 'accuracy', 'gradient_norm'}
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), four, one)
  np.testing.assert_allclose(one['accuracy'][1], (batch['question_type'] * batch['weight'][:, None]).sum(0))


def two_losses(out, batch, axis=None):
  """A second loss of another count and weight, as in pre-training."""
  losses, metrics = answers(out, batch, axis)
  second = batch['question_type'][:, 0]
  return losses | {'size': (((out['answers'] ** 2).sum(-1) * second).sum(), second.sum(), 0.5)}, metrics


def test_each_loss_has_its_own_count_and_weight():
  state, batch = fresh(SGD), batch_of()
  second = np.asarray(batch['question_type'][:, 0])
  size = 0.5 * ((np.asarray(batch['x'] @ state.params['w']) ** 2).sum(-1) * second).sum() / second.sum()
  loss, _ = by_hand(state.params['w'], batch)
  for micro_batches in (1, 4):
    metrics = step_of(micro_batches=micro_batches, objective=two_losses)(state, batch, KEY)[1]
    assert set(metrics) == {'loss', 'loss/answer', 'loss/size', 'accuracy', 'gradient_norm'}
    assert metrics['loss/answer'][0] == pytest.approx(loss, rel=1e-5)
    assert metrics['loss/size'][0] == pytest.approx(size, rel=1e-5)
    assert metrics['loss'][0] == pytest.approx(loss + size, rel=1e-5)


def test_a_batch_without_weight_moves_nothing_and_is_finite():
  state, batch = fresh(SGD), batch_of()
  after, metrics = step_of()(state, batch | {'weight': jnp.zeros(ROWS)}, KEY)
  np.testing.assert_array_equal(after.params['w'], state.params['w'])
  assert bool(after.finite)
  assert float(metrics['loss'][0]) == 0


def test_rows_that_micro_batches_do_not_divide_are_refused():
  with pytest.raises(UserError, match='micro_batches: found 3 for 8 images a device, expected a divisor'):
    step_of(micro_batches=3)(fresh(SGD), batch_of(), KEY)


def test_collections_go_through_every_micro_batch():
  state = fresh(SGD, seen=jnp.zeros(()))
  for micro_batches in (1, 4):
    after, _ = step_of(forward=linear, micro_batches=micro_batches)(state, batch_of(), KEY)
    assert float(after.collections['seen']) == ROWS


# --- keys -------------------------------------------------------------------------------------------------------------


def test_dropout_differs_from_step_to_step_and_not_within_one():
  state, batch = fresh(SGD), batch_of()
  loss = lambda n, key=KEY: float(step_of(forward=linear)(state.replace(step=jnp.int32(n)), batch, key)[1]['loss'][0])
  assert loss(0) == loss(0)
  assert len({loss(n) for n in range(5)}) == 5
  assert loss(0, jax.random.key(1)) != loss(0)


def test_micro_batches_draw_their_own_masks():
  drawn = []

  def spy(variables, batch, *, train, key):
    jax.debug.callback(lambda k: drawn.append(tuple(k.tolist())), jax.random.key_data(key))
    return still(variables, batch, train=train, key=key)

  step_of(forward=spy, micro_batches=4)(fresh(SGD), batch_of(), KEY)
  jax.effects_barrier()
  assert len(drawn) == len(set(drawn)) == 4


def test_a_run_cut_in_two_is_the_same_run():
  batches = [batch_of(n) for n in range(6)]
  step = step_of(forward=linear, tx=ADAM)
  run = lambda state, batches: functools.reduce(lambda state, batch: step(state, batch, KEY)[0], batches, state)
  through = run(fresh(ADAM), batches)
  halfway = jax.device_get(run(fresh(ADAM), batches[:3]))
  assert same(run(halfway, batches[3:]), through)


def test_augment_draws_anew_at_each_step_and_the_same_at_each_evaluation():
  def augment(batch, key):
    return batch | {'x': batch['x'] + jax.random.normal(key, batch['x'].shape)}

  state, batch = fresh(SGD), batch_of()
  step = jax.jit(functools.partial(train_step, forward=still, tx=SGD, objective=answers, augment=augment))
  loss = lambda n: float(step(state.replace(step=jnp.int32(n)), batch, KEY)[1]['loss'][0])
  assert loss(0) == loss(0)
  assert len({loss(n) for n in range(4)} | {by_hand(state.params['w'], batch)[0]}) == 5
  evaluate = lambda: eval_step({'params': state.params}, batch, forward=still, objective=answers, augment=augment)
  assert same(evaluate(), evaluate())
  assert not same(evaluate(), eval_step({'params': state.params}, batch, forward=still, objective=answers))


# --- what is not finite is not applied --------------------------------------------------------------------------------


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_not_applied_nor_any_after_it(bad):
  step, batch = step_of(tx=ADAM), batch_of()
  state, _ = step(fresh(ADAM), batch, KEY)
  assert bool(state.finite)
  frozen, metrics = step(state, batch | {'x': batch['x'].at[0, 0].set(bad)}, KEY)
  assert not np.isfinite(metrics['gradient_norm'][0])
  assert not bool(frozen.finite)
  assert same(frozen.replace(finite=state.finite), state)  # step, parameters and optimiser as they were
  later, metrics = step(frozen, batch, KEY)
  assert np.isfinite(metrics['gradient_norm'][0])
  assert same(later, frozen)


@pytest.mark.parametrize('rate', [np.nan, np.inf])
def test_an_update_that_only_the_optimiser_spoils_is_seen_in_the_next_loss(rate):
  """Loss and gradient are finite here: the learning rate is not."""
  state = fresh(optax.adam(1e-2))
  step = step_of(tx=optax.adam(rate))
  spoilt, metrics = step(state, batch_of(), KEY)
  assert np.isfinite(metrics['gradient_norm'][0])
  later, metrics = step(spoilt, batch_of(), KEY)
  assert not np.isfinite(metrics['loss'][0])
  assert not bool(later.finite)
  assert later.step == spoilt.step


def test_a_frozen_state_keeps_its_collections_too():
  state = fresh(SGD, seen=jnp.zeros(()))
  bad = batch_of() | {'x': jnp.full((ROWS, FEATURES), jnp.nan)}
  frozen, _ = step_of(forward=linear)(state, bad, KEY)
  assert float(frozen.collections['seen']) == 0


# --- evaluation -------------------------------------------------------------------------------------------------------


def test_eval_sums_add_up_over_batches_to_the_mean_over_rows():
  state, parts = fresh(SGD), [batch_of(1), batch_of(2) | {'weight': jnp.array([1.0, 1, 1, 0, 0, 0, 0, 0])}]
  evaluate = jax.jit(functools.partial(eval_step, forward=linear, objective=answers))
  found = divide([evaluate({'params': state.params}, batch) for batch in parts])
  whole = jax.tree.map(lambda *a: jnp.concatenate(a), *parts)
  assert found['loss'] == pytest.approx(by_hand(state.params['w'], whole)[0], rel=1e-6)  # and without dropout
  right = np.asarray((whole['x'] @ state.params['w']).argmax(-1) == whole['answer'])
  asked = np.asarray(whole['question_type'] * whole['weight'][:, None])
  np.testing.assert_allclose(found['accuracy'], (asked * right[:, None]).sum(0) / asked.sum(0), rtol=1e-6)
  assert set(found) == {'loss', 'accuracy'}


def test_divide_by_hand():
  sums = [{'accuracy': (np.array([1.0, 0, 2]), np.array([2.0, 0, 4])), 'loss': (3.0, 1.0)},
          {'accuracy': (np.array([2.0, 0, 1]), np.array([2.0, 0, 2])), 'loss': (5.0, 1.0)}]  # fmt: skip
  found = divide(sums)
  np.testing.assert_allclose(found['accuracy'].compressed(), [0.75, 0.5])
  np.testing.assert_array_equal(np.ma.getmaskarray(found['accuracy']), [False, True, False])  # where nothing was asked
  assert found['loss'] == 4
  assert found['loss'].dtype == np.float64


def test_divide_adds_up_the_parts_of_a_loss():
  found = divide([{'loss/a': (6.0, 3.0), 'loss/b': (1.0, 4.0)}, {'loss/a': (0.0, 1.0), 'loss/b': (3.0, 4.0)}])
  assert found == {'loss/a': 1.5, 'loss/b': 0.5, 'loss': 2.0}
  assert divide([{'loss/a': (6.0, 3.0)}]) == {'loss': 2.0}
  assert divide([{'loss': (7.0, 1.0), 'loss/a': (6.0, 1.0), 'loss/b': (1.0, 1.0)}])['loss'] == 7
  assert divide([{'loss/a': (6.0, 3.0), 'loss/b': (0.0, 0.0)}])['loss'] == 2  # what nothing counts for adds nothing


def test_a_loss_that_is_not_a_number_stays_so():
  found = divide([{'loss/a': (np.nan, 3.0), 'loss/b': (1.0, 1.0)}])
  assert np.isnan(found['loss']) and np.isnan(found['loss/a']) and found['loss/b'] == 1
  assert not np.ma.is_masked(found['loss/a'])


def test_divide_adds_in_double_precision():
  """A float32 sum of a long evaluation would stand still at 2 ** 24."""
  assert divide([{'n': (np.float32(2**24), np.float32(2**24))}] + [{'n': (np.float32(1), np.float32(1))}] * 3)['n'] == 1
  assert divide([{'n': (np.float32(2**24), 1.0)}] + [{'n': (np.float32(1), 0.0)}] * 3)['n'] == 2**24 + 3


# --- models -----------------------------------------------------------------------------------------------------------


class Normed(nn.Module):
  """A model with batch statistics and dropout."""

  @nn.compact
  def __call__(self, batch, *, train):
    x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(batch['x'])
    return {'answers': nn.Dense(ANSWERS)(nn.Dropout(0.5, deterministic=not train)(x))}


def test_forward_of_a_model_with_collections():
  model, batch = Normed(), batch_of()
  variables = model.init(jax.random.key(0), batch, train=False)
  forward = forward_of(model)
  state = init(variables, SGD)
  assert set(state.collections) == {'batch_stats'}
  assert 'batch_stats' in variables  # not taken out of the caller's own
  after, _ = step_of(forward=forward)(state, batch, KEY)
  mean = after.collections['batch_stats']['BatchNorm_0']['mean']
  np.testing.assert_allclose(mean, 0.5 * np.asarray(batch['x']).mean(0), atol=1e-6)
  out, updated = forward(variables, batch, train=False, key=None)
  assert updated == {}
  np.testing.assert_array_equal(out['answers'], model.apply(variables, batch, train=False)['answers'])


def test_a_small_visualbert_learns_one_batch_by_heart():
  model = VisualBERT(
    ANSWERS, 12, 6, 2, '1*[t<tv v<tv tied]', 16, 2, 32, dropout=0.0, attention_dropout=0.0, init_std=0.1
  )
  rng = np.random.default_rng(0)
  batch = batch_of() | {
    'weight': jnp.ones(ROWS), 'text': jnp.asarray(rng.integers(1, 12, (ROWS, 3))),
    'regions': jnp.asarray(rng.normal(size=(ROWS, 2, 5)), jnp.float32),
  }  # fmt: skip

  def forward(variables, batch, *, train, key):
    return model.apply(variables, batch['text'], batch['text'] > 0, batch['regions'], train=train), {}

  start = jax.jit(lambda: model.init(KEY, batch['text'], batch['text'] > 0, batch['regions'], train=False))
  state = init(start(), optax.adam(1e-2))
  step = jax.jit(functools.partial(train_step, forward=forward, tx=optax.adam(1e-2), objective=answers))
  losses = []
  for _ in range(60):
    state, metrics = step(state, batch, KEY)
    losses.append(float(metrics['loss'][0]))
  assert losses[0] > 1
  assert losses[-1] < 0.05
  assert (np.asarray(divide([metrics])['accuracy']) == 1).all()


# --- launchers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('how', ['jit', 'pmap'])
def test_a_launch_of_one_device_runs_the_step_and_the_evaluation(how):
  launch, batch = Launch(how, ROWS, devices=jax.devices()[:1]), jax.device_get(batch_of())
  state = launch.place(fresh(ADAM))
  step = launch.compile_step(functools.partial(train_step, forward=still, tx=ADAM, objective=answers), state)
  evaluate = launch.compile_eval(functools.partial(eval_step, forward=still, objective=answers))
  expected, metrics = step_of(tx=ADAM)(fresh(ADAM), batch_of(), KEY)
  after, found = step(state, launch.put(batch), KEY)
  assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, expected)  # no axis for the devices
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after, expected)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, metrics)
  sums = evaluate({'params': after.params}, launch.put(batch))
  expected_sums = eval_step({'params': expected.params}, batch_of(), forward=still, objective=answers)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), sums, expected_sums)


def test_the_state_is_donated():
  launch = Launch('jit', ROWS, devices=jax.devices()[:1])
  state = launch.place(fresh(ADAM))
  step = launch.compile_step(functools.partial(train_step, forward=still, tx=ADAM, objective=answers), state)
  step(state, launch.put(jax.device_get(batch_of())), KEY)
  assert all(a.is_deleted() for a in jax.tree.leaves((state.params, state.opt_state)))


def test_a_step_is_compiled_once_though_a_type_was_weak():
  """A scalar of `jnp.array` has no type of its own, what a step makes of it has."""
  launch, batch = Launch('jit', ROWS, devices=jax.devices()[:1]), jax.device_get(batch_of())
  state = fresh(ADAM)
  state = init({'params': state.params | {'gain': jnp.array(0.5)}}, ADAM)

  def scaled(variables, batch, *, train, key):
    out, kept = still({'params': {'w': variables['params']['w']}}, batch, train=train, key=key)
    return jax.tree.map(lambda a: a * variables['params']['gain'], out), kept

  traced = []
  counted = lambda *args, **how: (traced.append(1), scaled(*args, **how))[1]
  step = launch.compile_step(functools.partial(train_step, forward=counted, tx=ADAM, objective=answers), state)
  state, _ = step(launch.place(state), launch.put(batch), KEY)
  once = len(traced)
  step(state, launch.put(batch), KEY)
  assert len(traced) == once > 0


def test_an_unknown_launcher_names_the_nearest():
  with pytest.raises(UserError, match=r"parallel.how: found 'pmpa', .*did you mean 'pmap'"):
    Launch('pmpa', 8)
  assert LAUNCHERS == ('jit', 'pmap')


def test_a_batch_that_does_not_divide_is_refused():
  with pytest.raises(UserError, match='8 images a batch in 3 micro_batches on 1 devices: expected a multiple'):
    Launch('jit', 8, 3, jax.devices()[:1])
