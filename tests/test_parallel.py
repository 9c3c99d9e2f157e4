"""Layouts: how the arrays of a state are cut by rules on their paths, and what is refused."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import PartitionSpec as P

from mmjax import cli, parallel, train
from mmjax.errors import UserError
from mmjax.fusion.layers import FusionStack
from tests.layouts import FAMILIES, LOW, PRETRAINING

SIZES = {'data': 2, 'fsdp': 2, 'tensor': 2}
SHAPE = jax.ShapeDtypeStruct


@pytest.fixture(scope='module')
def state():
  """Of a stack of two repeats of width 8, and a table of 30 words, of which nothing is computed."""
  stack = FusionStack('2*[t<tv v<tv tied]', 8, 2, 16)
  x = {'t': jnp.ones((1, 3, 8)), 'v': jnp.ones((1, 2, 8))}

  def make():
    params = stack.init(jax.random.key(0), x, train=False)['params']
    return train.init({'params': {'stack': params, 'word': {'embedding': jnp.ones((30, 8))}}}, optax.adam(1e-3))

  return jax.eval_shape(make)


def cut(tree, *path):
  for name in path:
    tree = tree[name]
  return tree


def test_layers_are_cut_by_heads_and_by_hidden_features(state):
  found = parallel.specs(state, SIZES).params
  layer = cut(found, 'stack', 'group0', 'sub0_tied')
  assert cut(layer, 'query', 'kernel') == P(None, 'fsdp', 'tensor')  # the first axis is that of the repeats
  assert cut(layer, 'query', 'bias') == P(None, 'tensor')
  assert cut(layer, 'out', 'kernel') == P(None, 'tensor', 'fsdp')
  assert cut(layer, 'ffn', 'expand', 'kernel') == P(None, 'fsdp', 'tensor')
  assert cut(layer, 'ffn', 'project', 'kernel') == P(None, 'tensor', 'fsdp')
  assert cut(found, 'word', 'embedding') == P('tensor', 'fsdp')
  assert cut(layer, 'norm', 'scale') in (P(), P(None, 'fsdp'))


def test_the_state_of_the_optimiser_is_cut_as_the_parameters(state):
  found = parallel.specs(state, SIZES)
  assert found.opt_state[0].mu == found.params == found.opt_state[0].nu
  assert found.step == found.finite == found.opt_state[0].count == P()


def test_the_table_says_which_rule_cuts_what(state):
  lines = parallel.table(state.params, SIZES, ['word/embedding: - fsdp'])
  cells = [line.split('  ') for line in lines]
  (of_words,) = [[cell.strip() for cell in row if cell.strip()] for row in cells if row[0].startswith('word/')]
  assert of_words == ['word/embedding: - fsdp', '- x fsdp', '1', '240', '120']
  total = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  assert lines[-1].split()[:3] == ['total', str(len(jax.tree.leaves(state.params))), f'{total:,}']
  assert int(lines[-1].split()[-1].replace(',', '')) < total / 2


def test_an_axis_that_does_not_divide_stays_whole(state):
  found = parallel.specs(state, SIZES | {'tensor': 4, 'fsdp': 3})
  assert cut(found.params, 'word', 'embedding') == P()  # 30 words by 4, 8 features by 3
  assert cut(found.params, 'stack', 'group0', 'sub0_tied', 'query', 'kernel') == P(None, None, 'tensor')


def test_what_no_rule_is_of_is_cut_along_its_largest_axis_that_divides():
  tree = {'a': SHAPE((3, 8, 6), jnp.float32), 'b': SHAPE((9, 4), jnp.float32), 'c': SHAPE((8,), jnp.float32)}
  assert parallel.specs(tree, SIZES) == {'a': P(None, 'fsdp'), 'b': P(None, 'fsdp'), 'c': P()}


def test_a_line_of_ones_own_comes_first(state):
  found = parallel.specs(state, SIZES, ('query/kernel: - -', 'word/embedding: fsdp -'))
  assert cut(found.params, 'word', 'embedding') == P('fsdp')
  assert cut(found.params, 'stack', 'group0', 'sub0_tied', 'query', 'kernel') == P()
  assert cut(found.params, 'stack', 'group0', 'sub0_tied', 'key', 'kernel') == P(None, 'fsdp', 'tensor')


@pytest.mark.parametrize('line, words', [
  ('quer/kernel: fsdp', "'quer/kernel: fsdp' is of no parameter"),
  ('word/embedding', "found 'word/embedding', expected 'PATTERN: AXIS ...'"),
  ('word/embedding: fsdb', "found axis 'fsdb', expected one of .*did you mean 'fsdp'"),
  ('word/embedding: fsdp fsdp', 'an axis cuts twice'),
  ('word/embedding: data', "found axis 'data'"),
  ('(word: fsdp', 'no regular expression'),
  ('word/embedding: - fsdp tensor', r'found 3 axes for an array of shape \(30, 8\)'),
])  # fmt: skip
def test_a_line_that_is_none_is_refused(state, line, words):
  with pytest.raises(UserError, match=words):
    parallel.specs(state, SIZES, (line,))


def test_a_line_of_ones_own_has_to_divide(state):
  with pytest.raises(UserError, match=r'found an axis of 30 in shape \(30, 8\), expected a multiple of tensor 4'):
    parallel.specs(state, {'data': 1, 'fsdp': 1, 'tensor': 4}, ('word/embedding: tensor -',))


@pytest.mark.parametrize('sizes, words', [
  ({'data': 3}, 'found data 3, fsdp 1, tensor 1 on 1 devices, expected sizes whose product is 1'),
  ({'data': -1, 'fsdp': -1}, 'at most once'),
  ({'data': 0}, 'found data 0'),
  ({'model': 1}, "found 'model', expected some of"),
])  # fmt: skip
def test_a_mesh_that_is_not_of_the_devices_is_refused(sizes, words):
  with pytest.raises(UserError, match=words):
    parallel.mesh_of(sizes, jax.devices()[:1])


def test_pmap_has_rules_of_no_kind():
  with pytest.raises(UserError, match=r'parallel\.how=pmap: found mesh'):
    parallel.Launch('pmap', 8, devices=jax.devices()[:1], rules=('kernel: fsdp',))


TRIED = ('data 2, fsdp 4', 'data 2, tensor 4', 'data 2, fsdp 2, tensor 2', 'pmap 8', LOW)


@pytest.fixture(scope='module')
def layouts():
  """What python -m tests.layouts finds on eight simulated devices, in the layouts that have all there is."""
  command = [sys.executable, '-m', 'tests.layouts', '--json', f'--layouts={";".join(TRIED)}']
  fast = os.environ | {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}  # it compiles faster
  done = subprocess.run(command, cwd=cli.ROOT, env=fast, capture_output=True, text=True, timeout=1800)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@pytest.mark.slow
def test_every_layout_has_the_gradients_of_one_device(layouts):
  found = {(row['family'], row['layout']): row for row in layouts['steps'] if row['layout'] != LOW}
  every = (*FAMILIES, PRETRAINING)
  assert {family for family, _ in found} == set(every) and len(found) == (len(TRIED) - 1) * len(every) - 2  # APART
  for row in found.values():
    assert row['loss'] <= 2e-6 and row['all'] <= 1e-5 and row['worst_error'] <= 1e-4, row
  assert any(row['all'] > 0 for row in found.values())  # else all would have run on one device


@pytest.mark.slow
def test_steps_in_bfloat16_are_near_those_in_float32(layouts):
  rows = [row for row in layouts['steps'] if row['layout'] == LOW]
  assert len(rows) == len(FAMILIES) + 1
  for row in rows:
    bound = 0.5 if row['family'] == 'CLIP, ResNet' else 0.08  # batch norm over few cells makes much of a little
    assert row['loss'] < 0.02 and 1e-4 < row['all'] < bound, row
    assert row['low'] > 0.95, row  # the rest is the contrast, which stays float32


@pytest.mark.slow
def test_an_evaluation_on_eight_devices_is_that_of_one(layouts):
  assert len(layouts['evaluations']) == 2 and max(layouts['evaluations']) <= 1e-5


@pytest.mark.slow
def test_a_checkpoint_moves_to_fewer_devices_bit_for_bit(layouts):
  assert len(layouts['moved']) == 3 and len(set(layouts['moved'])) == 1


@pytest.mark.slow
def test_the_memory_of_a_contrast_does_not_grow_with_the_devices(layouts):
  memory = {int(devices): size for devices, size in layouts['contrast'].items()}
  assert set(memory) == {1, 2, 4, 8} and max(memory.values()) < 1.2 * memory[1]


@pytest.mark.slow
def test_parameters_that_are_cut_leave_each_device_its_own_rows_alone(layouts):
  memory = layouts['memory']
  assert set(memory) == {'data', 'fsdp'} and memory['fsdp'] < memory['data']


@pytest.mark.slow
def test_each_device_of_pmap_draws_its_own_dropout(layouts):
  assert layouts['draws'] > 1e-3
