"""FusionStack: what must not change its outputs, what must, and the layers it must equal, written out in plain jnp."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.fusion import schedules
from mmjax.fusion.layers import MAPS, STATES
from mmjax.fusion.owner import per_stream
from mmjax.fusion.schedule import parse
from mmjax.fusion.unrolled import roll, unroll, unrolled
from mmjax.layers.attention import causal
from mmjax.layers.ways import Ways, using
from tests.fusion.streams import NAMED, bert_layer, dense, feed_forward, layer_norm, read, stack, start, streams


def close(found, expected, atol=1e-5):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


def side_by_side(x):
  return jnp.concatenate([x['t'], x['v']], 1)


# --- every schedule, both kinds of norm -------------------------------------------------------------------------------


ORDER = jnp.array([2, 0, 3, 1])


@pytest.fixture(scope='module', params=[(name, norm) for name in NAMED for norm in ('post', 'pre')], ids='-'.join)
def case(request):
  """A named schedule two layers deep, the last token of each stream hidden, on four rows in one go.

  Row 0 is the base; in row 1 the hidden tokens shout, in row 2 the tokens of one stream are in another order, in row 3
  the first tokens are others. Returns the plan, the stream of row 2, inputs and outputs {stream: [4,·,D]}.
  """
  name, norm = request.param
  module, plan = stack(NAMED[name], norm=norm), parse(NAMED[name])
  base, turned = streams(plan.streams, rows=1), 'v' if 'v' in plan.streams else 'y'
  turn = lambda s, a: a[:, ORDER] if s == turned else a
  hidden = jnp.arange(4)[None] == 3
  x = {s: jnp.concatenate([a, a.at[:, -1].set(100.0), turn(s, a), a.at[:, 0].multiply(-1)]) for s, a in base.items()}
  mask = {s: ~jnp.concatenate([hidden, hidden, turn(s, hidden), hidden]) for s in base}
  return plan, turned, x, module.apply(start(module, x), x, mask, train=False)


def test_runs_and_changes_only_the_streams_that_read(case):
  plan, _, x, y = case
  written = {item.reader for group in plan.groups for sub in group.subs for item in sub.items}
  for s, a in x.items():
    assert y[s].shape == a.shape
    assert np.isfinite(y[s]).all()
    assert (np.abs(y[s] - a)[0].max() > 1e-3) == (s in written), s


def test_padding_cannot_be_seen(case):
  y = case[-1]
  close({s: a[1, :-1] for s, a in y.items()}, {s: a[0, :-1] for s, a in y.items()})


def test_permuting_tokens_permutes_them_and_changes_no_other(case):
  _, turned, _, y = case
  close({s: a[2] for s, a in y.items()}, {s: a[0, ORDER] if s == turned else a[0] for s, a in y.items()})


def test_what_is_not_hidden_is_seen(case):
  plan, _, _, y = case
  for s in {item.reader for group in plan.groups for sub in group.subs for item in sub.items if item.sources}:
    assert np.abs(y[s][3, 1] - y[s][0, 1]).max() > 1e-4, s


def test_rows_know_nothing_of_one_another():
  module, x = stack('2*[t<tv v<tv tied]'), streams('tv')
  variables = start(module, x)
  y, z = (module.apply(variables, {s: a.at[1].mul(k) for s, a in x.items()}, train=False) for k in (1, -2))
  np.testing.assert_array_equal(y['t'][0], z['t'][0])
  assert np.abs(y['t'][1] - z['t'][1]).max() > 1e-2


@pytest.mark.parametrize('name', NAMED)
def test_full_depth_traces_with_a_leading_axis_of_the_repeats(name):
  text = vars(schedules)[name]
  module = stack(text, scan=True)
  x = streams(parse(text).streams)
  params = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))['params']
  for g, group in enumerate(parse(text).groups):
    assert {a.shape[0] for a in jax.tree.leaves(params[f'group{g}'])} == {group.repeats}
  assert len(params) == len(parse(text).groups)


# --- layers written out -----------------------------------------------------------------------------------------------


def test_tied_is_one_bert_over_both_streams():
  module, x = stack('2*[t<tv v<tv tied]'), streams('tv')
  variables = start(module, x)
  mask = {'t': jnp.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool), 'v': jnp.array([[1, 1, 1, 1], [0, 1, 1, 1]], bool)}
  y = side_by_side(x)
  for n in range(2):
    y = bert_layer(variables['params'][f'group0_{n}']['sub0_tied'], y, 2, side_by_side(mask)[:, None])
  close(side_by_side(module.apply(variables, x, mask, train=False)), y)


def test_lxmert_cross_layer_reads_both_streams_as_they_were_before():
  module, x = stack('1*[t<v v<t tied noffn; t<t v<v]'), streams('tv')
  variables = start(module, x)
  seen = jnp.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
  p = variables['params']['group0_0']
  cross = p['sub0_tied']
  t = layer_norm(cross['norm'], x['t'] + read(cross, x['t'], x['v'], 2))
  v = layer_norm(cross['norm'], x['v'] + read(cross, x['v'], x['t'], 2, seen[:, None]))  # x['t'], not the new t
  expected = {'t': bert_layer(p['sub1_t'], t, 2, seen[:, None]), 'v': bert_layer(p['sub1_v'], v, 2)}
  close(module.apply(variables, x, {'t': seen}, train=False), expected)
  one_after_the_other = bert_layer(
    p['sub1_v'], layer_norm(cross['norm'], x['v'] + read(cross, x['v'], t, 2, seen[:, None])), 2
  )
  assert np.abs(one_after_the_other - expected['v']).max() > 1e-2


def test_keys_belong_to_their_source_and_one_softmax_runs_over_all_sources():
  module, x = stack('1*[t<tv noffn]'), streams('tv')
  variables = start(module, x)
  p = variables['params']['group0_0']
  assert set(p['sub0_v']) == {'key', 'value'}  # v is read only: no query, output, norm or feed-forward of its own
  assert set(p['sub0_t']) == {'query', 'key', 'value', 'out', 'norm'}
  split = lambda a: a.reshape(2, -1, 2, 4)
  q = split(dense(p['sub0_t']['query'], x['t']))
  both = lambda part: split(jnp.concatenate([dense(p['sub0_t'][part], x['t']), dense(p['sub0_v'][part], x['v'])], 1))
  weights = jax.nn.softmax(jnp.einsum('bqhc,bkhc->bhqk', q, both('key')) / 2, -1)
  values = jnp.einsum('bhqk,bkhc->bqhc', weights, both('value')).reshape(2, 4, 8)
  expected = layer_norm(p['sub0_t']['norm'], x['t'] + dense(p['sub0_t']['out'], values))
  close(module.apply(variables, x, train=False), {'t': expected, 'v': x['v']})


def test_one_tied_reader_makes_the_keys_of_all_its_sources():
  module, x = stack('1*[x<y tied noffn]'), streams('xy')
  variables = start(module, x)
  p = variables['params']['group0_0']
  assert set(p) == {'sub0_tied'}
  expected = layer_norm(p['sub0_tied']['norm'], x['x'] + read(p['sub0_tied'], x['x'], x['y'], 2))
  close(module.apply(variables, x, train=False), {'x': expected, 'y': x['y']})


def test_a_quote_is_the_stream_as_it_entered_the_bracket():
  module, x = stack("1*[v<t noffn; t<v' noffn; v<v noffn]"), streams('tv')
  variables = start(module, x)
  p = variables['params']['group0_0']
  update = lambda owner, a, source, keys=None: layer_norm(owner['norm'], a + read(owner, a, source, 2, None, keys))
  v = update(p['sub0_v'], x['v'], x['t'], p['sub0_t'])
  t = update(p['sub1_t'], x['t'], x['v'], p['sub1_v'])
  close(module.apply(variables, x, train=False), {'t': t, 'v': update(p['sub2_v'], v, v)})
  now = stack('1*[v<t noffn; t<v noffn; v<v noffn]').apply(variables, x, train=False)
  assert np.abs(now['t'] - t).max() > 1e-2


def test_entry_is_that_of_each_layer_not_of_the_group():
  module, x = stack("2*[v<t noffn; t<v' noffn]"), streams('tv')
  variables = start(module, x)
  y = x
  for n in range(2):
    y = stack("1*[v<t noffn; t<v' noffn]").apply(
      {'params': {'group0_0': variables['params'][f'group0_{n}']}}, y, train=False
    )
  close(module.apply(variables, x, train=False), y)


def test_pre_norm_norms_query_and_source_each_by_its_owner():
  module, x = stack('1*[v<v; t<v; v]', norm='pre'), streams('tv')
  variables = start(module, x)
  p = variables['params']['group0_0']
  assert set(p['sub1_v']) == {'key', 'value', 'norm'}  # the source's own norm stands before its keys
  assert set(p['sub2_v']) == {'ffn', 'ffn_norm'}
  mlp = lambda owner, a: a + feed_forward(owner, layer_norm(owner['ffn_norm'], a))
  v = layer_norm(p['sub0_v']['norm'], x['v'])
  v = mlp(p['sub0_v'], x['v'] + read(p['sub0_v'], v, v, 2))
  query, source = layer_norm(p['sub1_t']['norm'], x['t']), layer_norm(p['sub1_v']['norm'], v)
  t = mlp(p['sub1_t'], x['t'] + read(p['sub1_t'], query, source, 2, None, p['sub1_v']))
  close(module.apply(variables, x, train=False), {'t': t, 'v': mlp(p['sub2_v'], v)})


@pytest.mark.parametrize('norm', ['post', 'pre'])
def test_vilbert_of_unequal_widths(norm):
  module = stack(
    '1*[t<t] 1*[t<v v<t 4x5; v<v t<t]',
    width={'t': 8, 'v': 12},
    heads={'t': 2, 'v': 3},
    mlp={'t': 12, 'v': 20},
    norm=norm,
  )
  x = streams('tv', width={'t': 8, 'v': 12})
  variables = start(module, x)
  shape = lambda *path: functools.reduce(lambda a, name: a[name], path, variables['params']).shape
  assert shape('group1_0', 'sub0_t', 'query', 'kernel') == (8, 20)  # the word's head shape, the stream's width
  assert shape('group1_0', 'sub0_v', 'key', 'kernel') == (12, 20)
  assert shape('group1_0', 'sub0_t', 'out', 'kernel') == (20, 8)
  assert shape('group1_0', 'sub0_v', 'out', 'kernel') == (20, 12)
  assert shape('group1_0', 'sub1_v', 'query', 'kernel') == (12, 12)
  assert shape('group1_0', 'sub1_v', 'ffn', 'expand', 'kernel') == (12, 20)
  assert shape('group0_0', 'sub0_t', 'ffn', 'expand', 'kernel') == (8, 12)
  if norm == 'pre':
    return
  p = variables['params']
  t = bert_layer(p['group0_0']['sub0_t'], x['t'], 2)
  a, b = p['group1_0']['sub0_t'], p['group1_0']['sub0_v']
  after = lambda owner, y, attended: (lambda z: layer_norm(owner['ffn_norm'], z + feed_forward(owner, z)))(
    layer_norm(owner['norm'], y + attended)
  )
  expected = {
    't': bert_layer(p['group1_0']['sub1_t'], after(a, t, read(a, t, x['v'], 4, None, b)), 2),
    'v': bert_layer(p['group1_0']['sub1_v'], after(b, x['v'], read(b, x['v'], t, 4, None, a)), 3),
  }
  close(module.apply(variables, x, train=False), expected)


# --- masks and biases -------------------------------------------------------------------------------------------------


def test_a_mask_and_an_edge_mask_hide_together():
  module, x = stack('1*[t<tv noffn]'), streams('tv')
  variables = start(module, x)
  own = {'t': jnp.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool), 'v': jnp.array([[1, 0, 1, 1], [1, 1, 1, 1]], bool)}
  edges = {'t<t': causal(4), 't<v': jnp.eye(4, dtype=bool)[None] | (jnp.arange(2) == 1)[:, None, None]}
  y, captured = module.apply(variables, x, own, edges, train=False, mutable=[MAPS])
  allowed = jnp.concatenate([own['t'][:, None] & edges['t<t'], own['v'][:, None] & edges['t<v']], -1)
  weights = captured[MAPS]['group0_0']['sub0/t<tv']
  np.testing.assert_array_equal(np.asarray(weights) > 0, np.broadcast_to(allowed[:, None], weights.shape))
  assert np.isfinite(y['t']).all()


def test_an_edge_mask_of_one_source_leaves_the_other_open():
  module, x = stack('1*[t<tv noffn]'), streams('tv')
  _, captured = module.apply(start(module, x), x, None, {'t<t': causal(4)}, train=False, mutable=[MAPS])
  weights = np.asarray(captured[MAPS]['group0_0']['sub0/t<tv'])
  np.testing.assert_array_equal(weights[..., :4] > 0, np.broadcast_to(causal(4), weights[..., :4].shape))
  assert (weights[..., 4:] > 0).all()


def test_a_bias_is_added_to_the_scores_of_its_edge_only():
  module, x = stack('1*[t<tv v<tv tied noffn]'), streams('tv')
  variables = start(module, x)
  bias = {'v<v': jax.random.normal(jax.random.key(9), (2, 2, 4, 4))}
  maps = [module.apply(variables, x, bias=b, train=False, mutable=[MAPS])[1][MAPS]['group0_0'] for b in (None, bias)]
  np.testing.assert_array_equal(maps[0]['sub0/t<tv'], maps[1]['sub0/t<tv'])
  moved = jnp.log(maps[1]['sub0/v<tv']) - jnp.log(maps[0]['sub0/v<tv'])  # the bias, up to a number for each row
  moved = moved - moved[..., :1]
  expected = jnp.concatenate([jnp.zeros((2, 2, 4, 4)), bias['v<v']], -1)
  np.testing.assert_allclose(moved, expected, atol=1e-4)


@pytest.mark.parametrize('masking', ['replace', 'add'])
def test_a_text_that_shows_nothing_is_finite_and_follows_the_rule(masking):
  module, x = stack('1*[v<t noffn]', masking=masking), streams('tv')
  variables = start(module, x)
  mask = {'t': jnp.array([[0, 0, 0, 0], [1, 1, 1, 1]], bool)}
  y, captured = module.apply(variables, x, mask, train=False, mutable=[MAPS])
  weights = captured[MAPS]['group0_0']['sub0/v<t'][0]
  assert np.isfinite(y['v']).all()
  assert (np.abs(weights - 0.25).max() < 1e-6) == (masking == 'replace')


# --- maps and states --------------------------------------------------------------------------------------------------


def test_maps_of_both_directions_and_states_of_every_layer(once):
  module, x, params, _ = once
  y, captured = jax.jit(lambda p: module.apply({'params': p}, x, train=False, mutable=[MAPS, STATES]))(params)
  maps, states = captured[MAPS]['group1'], captured[STATES]['group1']
  assert set(maps) == {'sub0/t<v', 'sub0/v<t', 'sub1/v<tv'}
  for weights in maps.values():
    assert weights.shape[:4] == (2, 2, 2, 4)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert np.abs(weights[0] - weights[1]).max() > 1e-3  # each layer has its own
  assert captured[STATES]['group0']['t'].shape == (1, 2, 4, 8)
  close({s: states[s][-1] for s in 'tv'}, y)
  plain = module.clone(scan=False).apply({'params': unroll(params)}, x, train=False)
  close(plain, y)


def test_a_map_has_a_row_for_each_query_and_a_column_for_each_key():
  module, x = stack('3*[t<tv v<t]', scan=True), streams('tv')
  x = {'t': x['t'], 'v': x['v'][:, :3]}
  params = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))['params']
  _, captured = jax.eval_shape(lambda p: module.apply({'params': p}, x, train=False, mutable=[MAPS]), params)
  shapes = {name: a.shape for name, a in captured[MAPS]['group0'].items()}
  assert shapes == {'sub0/t<tv': (3, 2, 2, 4, 7), 'sub0/v<t': (3, 2, 2, 3, 4)}


def test_captured_maps_are_those_that_make_the_output():
  module, x = stack('1*[v<t noffn]', norm='pre'), streams('tv')
  variables = start(module, x)
  y, captured = module.apply(variables, x, train=False, mutable=[MAPS])
  p = variables['params']['group0_0']
  values = dense(p['sub0_t']['value'], layer_norm(p['sub0_t']['norm'], x['t'])).reshape(2, 4, 2, 4)
  mixed = jnp.einsum('bhqk,bkhc->bqhc', captured[MAPS]['group0_0']['sub0/v<t'], values).reshape(2, 4, 8)
  close(y['v'], x['v'] + dense(p['sub0_v']['out'], mixed))


def test_nothing_is_captured_unasked(once):
  module, x, _, _ = once
  assert set(jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))) == {'params'}


# --- scan, unrolled, remat --------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def once():
  """A scanned stack, its streams and parameters, and (loss, gradients) as a function of the module."""
  module = stack('1*[t] 2*[t<v v<t; v<tv noffn]', scan=True)
  x = streams('tv')
  params = start(module, x)['params']

  def value_and_grad(module, params):
    loss = lambda p: sum((y * jnp.arange(y.size).reshape(y.shape)).sum() for y in module.apply(
      {'params': p}, x, {'t': jnp.ones((2, 4), bool).at[0, 2:].set(False)}, train=False).values())  # fmt: skip
    return jax.value_and_grad(loss)(params)

  return module, x, params, value_and_grad


@pytest.fixture(scope='module')
def scanned(once):
  module, _, params, value_and_grad = once
  return value_and_grad(module, params)


def relative(found, expected):
  """Largest difference of any tensor, over its largest value or, where that is nearly 0 (key biases), over all's."""
  found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
  most = max(np.abs(b).max() for b in expected)
  return max(np.abs(a - b).max() / max(np.abs(b).max(), most / 100) for a, b in zip(found, expected, strict=True))


def test_unroll_and_roll_invert_each_other(once):
  module, x, params, _ = once
  plan = parse(module.schedule)
  flat = unroll(params)
  assert set(flat) == {'group0_0', 'group1_0', 'group1_1'}
  shapes = jax.eval_shape(lambda: module.clone(scan=False).init(jax.random.key(0), x, train=False))['params']
  assert jax.tree.map(jnp.shape, flat) == jax.tree.map(jnp.shape, shapes)
  jax.tree.map(np.testing.assert_array_equal, roll(flat, plan), params)
  jax.tree.map(np.testing.assert_array_equal, unroll(roll(flat, plan)), flat)


def test_scanned_equals_unrolled_in_value_and_gradients(once, scanned):
  module, _, params, value_and_grad = once
  plan = parse(module.schedule)
  value, grads = value_and_grad(module.clone(scan=False), unroll(params))
  assert relative(value, scanned[0]) < 1e-5
  assert jax.tree.structure(roll(grads, plan)) == jax.tree.structure(scanned[1])
  assert relative(roll(grads, plan), scanned[1]) < 1e-5
  assert min(float(np.abs(g).max()) for path, g in jax.tree_util.tree_leaves_with_path(grads)
             if 'key' not in str(path) or 'bias' not in str(path)) > 1e-3  # fmt: skip


@pytest.mark.parametrize('remat', ['dots', 'full'])
def test_remat_has_the_same_gradients_and_keeps_less(once, scanned, remat):
  module, _, params, value_and_grad = once
  program = lambda: str(jax.make_jaxpr(lambda p: value_and_grad(module, p))(params))
  assert 'remat' not in program()
  with using(Ways(remat=remat)):
    assert 'remat' in program()
    value, grads = value_and_grad(module, params)
  assert relative(value, scanned[0]) < 1e-5
  assert relative(grads, scanned[1]) < 1e-5


def test_remat_keeps_the_less_the_more_is_computed_again(once):
  module, x, params, _ = once

  def kept(remat):
    with using(Ways(remat=remat)):
      for_gradient = jax.vjp(lambda p: module.apply({'params': p}, x, train=False)['t'], params)[1]
    return sum(np.size(a) for a in jax.tree.leaves(for_gradient))

  assert kept('none') > kept('dots') > kept('full')


def test_remat_unrolled_has_the_same_outputs():
  module, x = stack('2*[t<v v<t noffn]'), streams('tv')
  variables = start(module, x)
  plain = module.apply(variables, x, train=False)
  with using(Ways(remat='full')):
    close(module.apply(variables, x, train=False), plain)


def test_the_compiled_program_does_not_grow_with_depth():
  def size(repeats, scan):
    module, x = stack(f'{repeats}*[t<tv v<tv tied]', scan=scan), streams('tv')
    params = jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))['params']
    loss = lambda p: module.apply({'params': p}, x, train=False)['t'].sum()
    return len(jax.jit(jax.grad(loss)).lower(params).as_text())

  assert size(24, True) < 1.02 * size(6, True)
  assert size(4, False) > 1.5 * size(2, False)  # which is what a program that grows looks like


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('scan', [True, False])
def test_dropout_in_train_only_and_different_in_every_layer(scan):
  """Attention gives 1 everywhere (output kernel 0, bias 1), so a layer adds 0 or 1 / (1 - rate) to its stream."""
  module = stack('3*[t<t noffn]', norm='pre', dropout=0.25, attention_dropout=0.0, scan=scan)
  x = streams('t')
  fix = lambda path, a: (a * 0 + (path[-1].key == 'bias')) if 'out' in str(path) else a
  params = jax.tree_util.tree_map_with_path(fix, start(module, x)['params'])

  def added(key, train):
    """What each layer adds: [3,2,4,8]."""
    _, captured = module.apply({'params': params}, x, train=train, rngs={'dropout': key}, mutable=[STATES])
    layers = (
      captured[STATES]['group0']['t'] if scan else jnp.stack([captured[STATES][f'group0_{n}']['t'] for n in range(3)])
    )
    return jnp.diff(jnp.concatenate([x['t'][None], layers]), axis=0)

  np.testing.assert_allclose(added(jax.random.key(0), False), 1, atol=1e-5)
  run = jax.jit(lambda key: added(key, True))
  first, again, other = (np.asarray(run(jax.random.key(n))) for n in (0, 0, 1))
  kept = first > 0.5
  np.testing.assert_allclose(first, np.where(kept, 4 / 3, 0), atol=1e-5)
  assert 0.6 < kept.mean() < 0.9
  for n, m in ((0, 1), (0, 2), (1, 2)):
    assert (kept[n] != kept[m]).any()
  np.testing.assert_array_equal(first, again)
  assert (kept != (other > 0.5)).any()


@pytest.mark.parametrize('rate', ['dropout', 'attention_dropout', 'mlp_dropout'])
def test_each_of_the_three_rates_acts(rate):
  module = stack('1*[t<t]', **({'dropout': 0.0, 'attention_dropout': 0.0, 'mlp_dropout': 0.0} | {rate: 0.5}))
  x = streams('t')
  variables = start(module, x)
  run = lambda train: module.apply(variables, x, train=train, rngs={'dropout': jax.random.key(0)})['t']
  assert np.abs(run(True) - run(False)).max() > 1e-2
  calm = module.clone(dropout=0.0, attention_dropout=0.0, mlp_dropout=0.0)
  np.testing.assert_array_equal(
    run(False), calm.apply(variables, x, train=True, rngs={'dropout': jax.random.key(0)})['t']
  )


# --- streams that come normed -----------------------------------------------------------------------------------------


def test_a_stream_that_comes_normed_is_read_as_it_is():
  """Norms of scale 1 and bias 0 do nothing to what is normed: with its own norm, v is then read alike."""
  module, x = stack('2*[t<t noffn; t<v]', norm='pre', eps=1e-12, scan=True), streams('tv')
  x['v'] = layer_norm({'scale': 1.0, 'bias': 0.0}, x['v'])
  variables = start(module, x)
  given = module.clone(normed='v')
  dropped = jax.tree.map(lambda a: a, variables['params'])
  owned = dropped['group0']['sub1_v'].pop('norm')
  assert jax.tree.structure(dropped) == jax.tree.structure(start(given, x)['params'])
  found = given.apply({'params': dropped}, x, train=False)
  plain = jax.tree.map(lambda a: a, variables['params'])
  plain['group0']['sub1_v']['norm'] = {'scale': jnp.ones_like(owned['scale']), 'bias': jnp.zeros_like(owned['bias'])}
  close(found, module.apply({'params': plain}, x, train=False))
  assert np.abs(found['t'] - given.apply({'params': dropped}, x | {'v': 2 * x['v']}, train=False)['t']).max() > 1e-3


# --- N questions an image ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize('schedule', ['1*[v<v] 1*[t<v v<t tied noffn; t<t]', '1*[t<tv v<tv tied]'])
def test_rows_of_an_image_stand_for_as_many_copies_of_it(schedule):
  module = stack(schedule)
  x = streams('tv', rows={'t': 4, 'v': 2})
  variables = start(module, x)
  draw = lambda n, *shape: jax.random.bernoulli(jax.random.key(n), 0.7, shape).at[..., 0].set(True)
  given = [
    {'t': draw(1, 4, 4), 'v': draw(2, 2, 4)},
    {'t<t': draw(3, 1, 4, 4), 't<v': draw(4, 4, 4, 4), 'v<v': draw(5, 2, 4, 4)},
    {'v<v': jax.random.normal(jax.random.key(6), (2, 2, 4, 4))},
  ]
  copied = lambda a: jnp.repeat(a, 2, 0) if len(a) == 2 else a
  weight = streams('tv', seed=5, rows=4)

  def loss(params, x, given):
    y = module.apply({'params': params}, x, *given, train=False)
    y = y | {'v': copied(y['v'])}
    return sum((y[s] * weight[s]).sum() for s in 'tv'), y

  run = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
  (_, shared), (params, inputs) = run(variables['params'], x, given)
  (_, expected), (expected_params, expected_inputs) = run(
    variables['params'], x | {'v': copied(x['v'])}, jax.tree.map(copied, given)
  )
  close(shared, expected)
  assert relative(params, expected_params) < 1e-5
  summed = expected_inputs['v'].reshape(2, 2, 4, 8).sum(1)  # a copy's gradient falls back on the one image
  assert relative(inputs, expected_inputs | {'v': summed}) < 1e-5
  assert np.abs(summed).max() > 1e-2


def test_layers_of_the_image_alone_run_once_an_image():
  module = stack('1*[v<v] 1*[t<v]')
  x = streams('tv', rows={'t': 4, 'v': 2})
  _, captured = module.apply(start(module, x), x, train=False, mutable=[MAPS, STATES])
  assert captured[MAPS]['group0_0']['sub0/v<v'].shape == (2, 2, 4, 4)
  assert captured[STATES]['group0_0']['v'].shape == (2, 4, 8)
  assert captured[MAPS]['group1_0']['sub0/t<v'].shape == (4, 2, 4, 4)


def test_one_image_for_all_rows():
  module = stack('1*[v<v] 1*[t<v v<t noffn]')
  x = streams('tv', rows={'t': 4, 'v': 1})
  variables = start(module, x)
  mask = {'v': jnp.ones((1, 4), bool).at[:, 3].set(False)}
  expected = module.apply(
    variables, x | {'v': jnp.repeat(x['v'], 4, 0)}, {'v': jnp.repeat(mask['v'], 4, 0)}, train=False
  )
  close(module.apply(variables, x, mask, train=False), expected)


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('given, names, message', [
  ({'schedule': '1*[t<t]', 'heads': 3}, 't', "heads: found 3 for width 8 of stream 't'"),
  ({'schedule': '1*[t<tv v<tv tied]', 'width': {'t': 8, 'v': 12}}, 'tv', r'tied streams of width .* one number'),
  ({'schedule': '1*[x<y tied]', 'width': {'x': 8, 'y': 12}}, 'xy', r'tied streams of width .* one number'),
  ({'schedule': '1*[t<t v<v tied]', 'heads': {'t': 2, 'v': 4}}, 'tv', r'tied streams of heads .* one number'),
  ({'schedule': '1*[t<t v<v tied]', 'mlp': {'t': 8, 'v': 4}}, 'tv', r'tied streams of mlp .* one number'),
  ({'schedule': '1*[t<v v<v]', 'heads': {'t': 2, 'v': 4}}, 'tv', r"'v' is read with head shapes \(2, 4\) and \(4, 2\)"),
  ({'schedule': '1*[t<v; v<a]'}, 'tv', r"position 9: found stream 'a', expected one of t, v"),
  ({'schedule': '1*[t<v]', 'mlp': {'t': 8, 'a': 8}}, 'tv', r"mlp: found .*expected a number for stream 'v' too"),
  ({'schedule': '1*[t<v]', 'width': {'t': 8}}, 'tv', r"width: found .*expected a number for stream 'v' too"),
  ({'schedule': '1*[t<v]', 'heads': {'v': 2}}, 'tv', r"heads: found .*expected a number for stream 't' too"),
  ({'schedule': '1*[t<t]', 'norm': 'past'}, 't', r"norm: found 'past', expected 'post' or 'pre'"),
  ({'schedule': '1*[t<t]', 'activation': 'gelo'}, 't', r"activation: found 'gelo'.*did you mean 'gelu'"),
  ({'schedule': '1*[t<t]', 'masking': 'ad'}, 't', r"masking: found 'ad'.*did you mean 'add'"),
])  # fmt: skip
@pytest.mark.parametrize('scan', [True, False])
def test_mistakes_are_one_line_at_trace_time(given, names, message, scan):
  module = stack(scan=scan, **given)
  x = streams(names, width={'t': 8} | given['width'] if 'width' in given and len(given['width']) == 2 else 8)
  with pytest.raises(UserError, match=message) as error:
    jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))
  assert '\n' not in str(error.value)


def test_tied_streams_need_one_number_only_of_what_is_used():
  module = stack('1*[t<t v<v tied noffn 2x4]', heads={'t': 2, 'v': 4}, mlp={'t': 8, 'v': 4})
  params = jax.eval_shape(lambda: module.init(jax.random.key(0), streams('tv'), train=False))['params']
  assert params['group0_0']['sub0_tied']['query']['kernel'].shape == (8, 8)


@pytest.mark.parametrize('dtype', ['int32', 'float32'])
def test_a_mask_that_is_not_bool_is_refused(dtype):
  module, x = stack('1*[t<t]'), streams('t')
  for name, given in (('t', ({'t': jnp.ones((2, 4), dtype)},)), ('t<t', (None, {'t<t': jnp.ones((1, 4, 4), dtype)}))):
    with pytest.raises(UserError, match=f"mask '{name}': found dtype {dtype}, expected bool"):
      jax.eval_shape(lambda given=given: module.init(jax.random.key(0), x, *given, train=False))


def test_rows_that_do_not_divide_are_refused():
  module, x = stack('1*[t<v]'), streams('tv', rows={'t': 5, 'v': 2})
  with pytest.raises(UserError, match="stream 'v' has 2 rows, expected a divisor of the 5 it meets"):
    jax.eval_shape(lambda: module.init(jax.random.key(0), x, train=False))


def test_per_stream():
  assert per_stream(4, 't', 'heads') == 4
  assert per_stream({'t': 4, 'v': 8}, 'v', 'heads') == 8


def test_a_model_with_scanned_stacks_gives_the_same_with_layers_of_their_own():
  from mmjax.models.clip import CLIP, ImageTower, TextTower

  size = {'schedule': '2*[t<t]', 'width': 8, 'heads': 2, 'mlp': 16, 'out': 4}
  model = CLIP(TextTower(vocab=9, positions=5, **size), ImageTower(8, 4, **(size | {'schedule': '2*[v<v]'})))
  given = jnp.array([[1, 2, 8, 0, 0], [3, 8, 0, 0, 0]]), jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  variables = jax.jit(lambda: model.init(jax.random.key(0), *given, train=False))()
  plain, apart = unrolled(model, variables)
  assert not plain.text.scan
  assert not plain.image.scan
  assert set(apart['params']['text']['encoder']) == {'group0_0', 'group0_1'}
  run = lambda model, variables: model.apply(variables, *given, train=False)
  np.testing.assert_allclose(run(plain, apart)['text'], run(model, variables)['text'], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(run(plain, apart)['image'], run(model, variables)['image'], rtol=1e-5, atol=1e-6)
