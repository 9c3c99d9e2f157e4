"""Name maps: everything of both sides is accounted for, and what does not fit is said at once."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from mmjax.convert import lxmert, visualbert
from mmjax.convert.names import Row, dense, embed, from_theirs, norm, to_theirs, vector
from mmjax.errors import UserError

# Tensors of published checkpoints: name -> shape; a name with '{n}' is there once a layer, and its shape begins with
# the number of layers. LXMERT: unc-nlp/lxmert-base-uncased and the authors' pre-training model; VisualBERT:
# uclanlp/visualbert-vqa.
PUBLISHED = json.loads((Path(__file__).parent / 'published.json').read_text())

BERT = {'vocab_size': 30522, 'hidden_size': 768, 'num_attention_heads': 12, 'intermediate_size': 3072,
        'max_position_embeddings': 512, 'type_vocab_size': 2}  # fmt: skip
LXMERT = BERT | {'l_layers': 9, 'r_layers': 5, 'x_layers': 5, 'visual_feat_dim': 2048, 'num_answers': 9500,
                 'obj_id_num': 1600, 'attr_id_num': 400}  # fmt: skip
VISUALBERT = BERT | {'num_hidden_layers': 12, 'layer_norm_eps': 1e-12, 'hidden_dropout_prob': 0.1,
                     'attention_probs_dropout_prob': 0.1, 'pad_token_id': 0}  # fmt: skip
CASES = {
  'lxmert-base-uncased': (lxmert.from_authors(LXMERT), lxmert.rows, LXMERT, 'lxmert', {}),
  'airsplay_lxmert_pretraining': (lxmert.from_authors(LXMERT), lxmert.rows, LXMERT, 'bert', lxmert.TIED),
  'visualbert-vqa': (visualbert.from_huggingface(VISUALBERT, 3129), visualbert.rows, VISUALBERT, 'visual_bert', {}),
}


def tensors_of(name):
  """The published tensors, as arrays that take no memory."""
  shapes = {}
  for tensor, shape in PUBLISHED[name].items():
    layers = range(shape[0]) if '{n}' in tensor else [0]
    shapes |= {tensor.replace('{n}', str(n)): shape[1:] if '{n}' in tensor else shape for n in layers}
  return {tensor: np.broadcast_to(np.float32(0), shape) for tensor, shape in shapes.items()}


def parameters_of(model, features=2048):
  text, regions = jnp.zeros((1, 3), int), jnp.zeros((1, 2, features))
  run = lambda: model.init(jax.random.key(0), text, text == 0, regions, regions[..., :4], train=False)
  return jax.eval_shape(run)['params']


@pytest.mark.parametrize('name, number, count', [
  ('lxmert-base-uncased', 472, 228_051_752),
  ('airsplay_lxmert_pretraining', 473, 251_492_648),   # 30522 * 768 more: the word table under its second name
  ('visualbert-vqa', 205, 113_856_825),
])  # fmt: skip
def test_every_published_tensor_has_its_parameter(name, number, count):
  model, rows, config, prefix, tied = CASES[name]
  tensors, params = tensors_of(name), parameters_of(model)
  assert (len(tensors), sum(math.prod(a.shape) for a in tensors.values())) == (number, count)
  for second, first in tied.items():
    assert tensors.pop(second).shape == tensors[first].shape
  with pytest.raises(UserError) as error:  # one fault on purpose, so that nothing is stacked into memory
    from_theirs(rows(model, config, prefix), tensors | {'extra': np.zeros(3)}, params)
  assert str(error.value) == '1 tensors do not fit the model: extra: left over'
  assert sum(a.size for a in jax.tree.leaves(params)) == sum(math.prod(a.shape) for a in tensors.values())


@pytest.mark.parametrize('name, ours, theirs', [
  ('airsplay_lxmert_pretraining', 'text/type/embedding', 'bert.embeddings.token_type_embeddings.weight'),
  ('airsplay_lxmert_pretraining', 'text/position/embedding', 'bert.embeddings.position_embeddings.weight'),
  ('airsplay_lxmert_pretraining', 'regions/feature/kernel', 'bert.encoder.visn_fc.visn_fc.weight'),
  ('airsplay_lxmert_pretraining', 'regions/feature_norm/scale', 'bert.encoder.visn_fc.visn_layer_norm.weight'),
  ('airsplay_lxmert_pretraining', 'regions/box_norm/scale', 'bert.encoder.visn_fc.box_layer_norm.weight'),
  ('airsplay_lxmert_pretraining', 'encoder/group0/sub0_t/key/bias', 'bert.encoder.layer.0.attention.self.key.bias'),
  ('airsplay_lxmert_pretraining', 'encoder/group1/sub0_v/norm/bias',
   'bert.encoder.r_layers.0.attention.output.LayerNorm.bias'),
  ('airsplay_lxmert_pretraining', 'encoder/group1/sub0_v/ffn_norm/bias',
   'bert.encoder.r_layers.0.output.LayerNorm.bias'),
  ('airsplay_lxmert_pretraining', 'encoder/group2/sub0_tied/value/kernel',
   'bert.encoder.x_layers.0.visual_attention.att.value.weight'),
  ('airsplay_lxmert_pretraining', 'encoder/group2/sub1_t/query/kernel',
   'bert.encoder.x_layers.0.lang_self_att.self.query.weight'),
  ('airsplay_lxmert_pretraining', 'encoder/group2/sub1_v/ffn/expand/bias',
   'bert.encoder.x_layers.0.visn_inter.dense.bias'),
  ('airsplay_lxmert_pretraining', 'matched/bias', 'cls.seq_relationship.bias'),
  ('visualbert-vqa', 'embed/type/embedding', 'visual_bert.embeddings.token_type_embeddings.weight'),
  ('visualbert-vqa', 'embed/region_type/embedding', 'visual_bert.embeddings.visual_token_type_embeddings.weight'),
  ('visualbert-vqa', 'embed/position/embedding', 'visual_bert.embeddings.position_embeddings.weight'),
  ('visualbert-vqa', 'embed/region_position/embedding', 'visual_bert.embeddings.visual_position_embeddings.weight'),
  ('visualbert-vqa', 'encoder/group0/sub0_tied/norm/scale',
   'visual_bert.encoder.layer.0.attention.output.LayerNorm.weight'),
])  # fmt: skip
def test_tensors_of_one_shape_are_told_apart_by_name(name, ours, theirs):
  model, rows, config, prefix, _ = CASES[name]
  assert {row.ours: row.theirs[0] for row in rows(model, config, prefix)}[ours] == theirs


@pytest.mark.parametrize('name', CASES)
def test_layers_are_stacked_in_their_order(name):
  model, rows, config, prefix, _ = CASES[name]
  for row in rows(model, config, prefix):
    if row.stacked:
      numbers = [[int(part) for part in tensor.split('.') if part.isdigit()] for tensor in row.theirs]
      assert numbers == [[n] for n in range(len(row.theirs))]


@pytest.mark.parametrize('name', CASES)
def test_no_tensor_and_no_parameter_is_named_twice(name):
  model, rows, config, prefix, _ = CASES[name]
  found = rows(model, config, prefix)
  theirs = [tensor for row in found for tensor in row.theirs]
  assert len(set(theirs)) == len(theirs)
  assert len({row.ours for row in found}) == len(found)


ROWS = [
  *dense('a', 'x.fc'),
  *norm('b/norm', 'x.LayerNorm'),
  *embed('table', 'x.words'),
  *vector('bias', 'x.bias'),
  *(row.layers('group0', 'x.layer.{n}', 3) for row in dense('sub0_t/query', 'self.query')),
]


@pytest.fixture(scope='module')
def params():
  shapes = {
    'a/kernel': (2, 3), 'a/bias': (3,), 'b/norm/scale': (4,), 'b/norm/bias': (4,), 'table/embedding': (5, 2),
    'bias': (6,), 'group0/sub0_t/query/kernel': (3, 4, 2), 'group0/sub0_t/query/bias': (3, 2),
  }  # fmt: skip
  rng = np.random.default_rng(0)
  return traverse_util.unflatten_dict({k: rng.normal(size=v).astype(np.float32) for k, v in shapes.items()}, sep='/')


@pytest.fixture(scope='module')
def tensors(params):
  return to_theirs(ROWS, params)


def test_names_and_layouts_by_hand(params, tensors):
  shapes = {name: a.shape for name, a in tensors.items()}
  assert shapes == {
    'x.fc.weight': (3, 2), 'x.fc.bias': (3,), 'x.LayerNorm.weight': (4,), 'x.LayerNorm.bias': (4,),
    'x.words.weight': (5, 2), 'x.bias': (6,),
    **{f'x.layer.{n}.self.query.weight': (2, 4) for n in range(3)},
    **{f'x.layer.{n}.self.query.bias': (2,) for n in range(3)},
  }  # fmt: skip
  np.testing.assert_array_equal(tensors['x.fc.weight'], params['a']['kernel'].T)
  np.testing.assert_array_equal(tensors['x.words.weight'], params['table']['embedding'])  # a table is not transposed
  np.testing.assert_array_equal(
    tensors['x.layer.1.self.query.weight'], params['group0']['sub0_t']['query']['kernel'][1].T
  )


def test_to_theirs_and_from_theirs_invert_each_other(params, tensors):
  back = from_theirs(ROWS, tensors, params)
  assert jax.tree.structure(back) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, back, params)
  again = to_theirs(ROWS, back)
  assert set(again) == set(tensors)
  for name, a in again.items():
    np.testing.assert_array_equal(a, tensors[name])
    assert a.flags['C_CONTIGUOUS']  # safetensors writes the buffer as it lies
  assert all(a.flags['C_CONTIGUOUS'] for a in jax.tree.leaves(back))


@pytest.mark.parametrize('dtype', ['float16', 'float64'])
def test_floats_of_another_precision_become_the_models(params, tensors, dtype):
  back = from_theirs(ROWS, {name: a.astype(dtype) for name, a in tensors.items()}, params)
  assert {a.dtype for a in jax.tree.leaves(back)} == {np.dtype('float32')}
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3), back, params)


def test_one_error_lists_all_that_does_not_fit(params, tensors):
  given = dict(tensors) | {
    'x.surplus': np.zeros(2, np.float32),
    'x.fc.weight': tensors['x.fc.weight'].T,
    'x.layer.1.self.query.bias': np.zeros(3, np.float32),
    'x.words.weight': tensors['x.words.weight'].astype(np.int64),
  }
  del given['x.bias'], given['x.layer.2.self.query.weight']
  with pytest.raises(UserError) as error:
    from_theirs([*ROWS, Row('unknown', ('x.other',))], given, params | {'orphan': np.zeros(1)})
  line = str(error.value)
  assert line.startswith('9 tensors do not fit the model: ')
  assert set(line.partition('model: ')[2].split('; ')) == {
    'x.bias: missing',
    'x.layer.2.self.query.weight: missing',
    'x.other: missing',
    'x.surplus: left over',
    'orphan: a parameter without a source',
    "x.other: no parameter 'unknown' in the model",
    'x.fc.weight: found shape (2, 3), expected (3, 2)',
    'x.layer.1.self.query.bias: found shape (3,), expected (2,)',
    'x.words.weight: found dtype int64, expected a float',
  }
  assert '\n' not in line


def test_another_number_of_layers_is_said(params, tensors):
  fewer = [*ROWS[:-2], *(row.layers('group0', 'x.layer.{n}', 2) for row in dense('sub0_t/query', 'self.query'))]
  given = {name: a for name, a in tensors.items() if 'layer.2' not in name}
  with pytest.raises(UserError, match='group0/sub0_t/query/bias: found 2 layers, expected 3'):
    from_theirs(fewer, given, params)


def test_what_is_ignored_may_be_left_over_but_nothing_else(params, tensors):
  given = tensors | {'x.position_ids': np.arange(3)}
  assert set(from_theirs(ROWS, given, params, ignored=['x.position_ids'])) == set(params)
  with pytest.raises(UserError, match=r'1 tensors .*: x.position_ids: left over'):
    from_theirs(ROWS, given, params, ignored=['x.position'])


def test_a_row_below_a_prefix():
  row = dense('a', 'fc')[0]
  assert row.below('group', 'bert') == Row('group/a/kernel', ('bert.fc.weight',), transposed=True)
  assert row.below('', '') == row
