"""Name maps: everything of both sides is accounted for, and what does not fit is said at once."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from mmjax.convert import families, names
from mmjax.convert.names import Row, dense, embed, from_theirs, layers, norm, to_theirs, vector
from mmjax.errors import UserError
from tests.convert import published


def plan_of(name):
  return families.plan(published.CONFIGS[name], {n: t.shape for n, t in published.tensors(name).items()}, name)


@pytest.mark.parametrize('name, number, count', [
  ('bert-base-uncased', 206, 110_106_428),
  ('vit-base-patch16-224', 200, 86_567_656),
  ('lxmert-base-uncased', 472, 228_051_752),
  ('airsplay_lxmert_pretraining', 473, 228_051_752),
  ('visualbert-vqa', 205, 113_856_825),
  ('visualbert-vqa-coco-pre', 210, 112_074_812),
  ('uclanlp_visualbert_pretraining', 211, 112_074_812),
  ('clip-vit-base-patch32', 398, 151_277_313),
  ('openai_clip_vit_b32', 302, 151_277_313),
  ('openai_clip_rn50', 489, 102_060_385),
  ('uniter-base_pretraining', 230, 112_938_887),
  ('vilbert_bert_base_6layer_6conect', 533, 239_023_229),
  ('volta_ctrl_lxmert', 515, 211_369_853),
  ('volta_ctrl_uniter_base', 418, 114_497_405),
  ('volta_ctrl_vilbert_base', 509, 242_076_029),
  ('volta_ctrl_visualbert_base', 411, 114_882_941),
  ('volta_ctrl_vl-bert_base', 414, 116_066_941),
  ('volta_vilbert_base', 509, 239_023_229),
  ('blip-image-captioning-base', 471, 223_971_644),
  ('blip-itm-base-coco', 472, 223_744_258),
  ('blip-vqa-base', 787, 361_230_140),
  ('salesforce_blip_caption_base', 474, 247_414_076),
  ('salesforce_blip_itm_base', 473, 223_744_258),
  ('openai_dalle_encoder', 74, 53_786_240),
  ('openai_dalle_decoder', 76, 43_829_766),
  ('ast-finetuned-audioset-10-10-0.4593', 203, 86_594_063),
  ('videomae-base', 248, 94_209_408),
  ('mult_mosei_default_d30', 585, 1_073_731),
])  # fmt: skip
def test_every_published_tensor_has_its_parameter(name, number, count):
  tensors = published.tensors(name)
  plan = plan_of(name)
  assert (len(tensors), names.count(plan.shapes)) == (number, count)
  for second, first in plan.tied.items():
    assert second not in tensors or tensors[second].shape == tensors[first].shape
  once = {n: t for n, t in tensors.items() if n not in plan.tied}
  with pytest.raises(UserError) as error:  # one fault on purpose, so that nothing is stacked into memory
    from_theirs(plan.rows, once | {'extra': np.zeros(3)}, plan.shapes, plan.buffers)
  assert str(error.value) == '1 tensors do not fit the model: extra: left over'


def fine_tuned(name, prefix, heads):
  """A pre-training list with another prefix, without what pre-training alone needs, and with the heads of a task."""
  kept = {n: t.shape for n, t in published.tensors(name).items() if n.startswith(('bert.', 'uniter.'))}
  return {f'{prefix}{n}': shape for n, shape in kept.items()} | heads


def head(name, *sizes):
  """Two dense layers with a norm between, as the authors of LXMERT and UNITER number them; or one."""
  if len(sizes) == 2:
    return {f'{name}.weight': sizes[::-1], f'{name}.bias': sizes[1:]}
  first, middle, last = sizes
  shapes = {'0.weight': (middle, first), '0.bias': (middle,), '2.weight': (middle,), '2.bias': (middle,)}
  return {f'{name}.{n}': s for n, s in (shapes | {'3.weight': (last, middle), '3.bias': (last,)}).items()}


LXMERT, UNITER = 'airsplay_lxmert_pretraining', 'uniter-base_pretraining'


@pytest.mark.parametrize('name, kind, heads, said', [
  (LXMERT, 'VQAModel', head('logit_fc', 768, 1536, 3129), {'num_answers': 3129, 'images': 1}),
  (LXMERT, 'GQAModel', head('logit_fc', 768, 1536, 1842), {'num_answers': 1842, 'images': 1}),
  (LXMERT, 'NLVR2Model', head('logit_fc', 1536, 1536, 2), {'num_answers': 2, 'images': 2}),
  (UNITER, 'UniterForVisualQuestionAnswering', head('vqa_output', 768, 1536, 3129), {'num_answers': 3129}),
  (UNITER, 'UniterForNlvr2Paired', head('nlvr2_output', 1536, 2), {'num_answers': 2, 'images': 2}),
  (UNITER, 'UniterForImageTextRetrieval', head('rank_output', 768, 1) | head('itm_output', 768, 2),
   {'retrieval': True, 'num_answers': 0}),
  (UNITER, 'UniterForReferringExpressionComprehension', head('re_output', 768, 1), {'grounding': True}),
  (UNITER, 'UniterForVisualCommonsenseReasoning', head('vcr_output', 768, 1536, 2), {'choice': True}),
])  # fmt: skip
@pytest.mark.parametrize('named', [True, False], ids=['by its class', 'by its tensors'])
def test_every_tensor_of_a_fine_tuned_checkpoint_has_its_parameter(name, kind, heads, said, named):
  shapes = fine_tuned(name, 'lxrt_encoder.model.' if name == LXMERT else '', heads)
  config = published.CONFIGS[name] | ({'architectures': [kind]} if named else {})
  plan = families.plan({k: v for k, v in config.items() if k != 'num_answers'}, shapes, kind)
  assert {key: getattr(plan.model, key) for key in said} == said
  assert not plan.model.pretrain
  tensors = {n: np.broadcast_to(np.float32(0), shape) for n, shape in shapes.items()}
  with pytest.raises(UserError) as error:  # one fault on purpose, so that nothing is stacked into memory
    from_theirs(plan.rows, tensors | {'extra': np.zeros(3)}, plan.shapes, plan.buffers)
  assert str(error.value) == '1 tensors do not fit the model: extra: left over'


def test_every_published_list_is_tested():
  assert set(published.LISTS) == set(published.CONFIGS)


@pytest.mark.parametrize('name, schedule', [
  ('lxmert-base-uncased', '9*[t<t] 5*[v<v] 5*[t<v v<t tied noffn; t<t v<v]'),
  ('visualbert-vqa', '12*[t<tv v<tv tied]'),
  ('uniter-base_pretraining', '12*[t<tv v<tv tied]'),
  ('vilbert_bert_base_6layer_6conect', '6*[t<t] 6*[t<v v<t 8x128; v<v t<t]'),
  ('volta_ctrl_lxmert', '5*[t<t v<v] 4*[t<t] 5*[t<v v<t tied noffn; t<t v<v]'),
  ('volta_ctrl_vilbert_base', '6*[t<t] 6*[t<v v<t; t<t v<v]'),
  ('volta_vilbert_base', '6*[t<t] 6*[t<v v<t 8x128; t<t v<v]'),
  ('volta_ctrl_vl-bert_base', '12*[t<tv v<tv tied]'),
])  # fmt: skip
def test_a_published_model_is_its_schedule(name, schedule):
  assert plan_of(name).model.schedule == schedule


@pytest.mark.parametrize('name, ours, theirs', [
  ('airsplay_lxmert_pretraining', 'text/type/embedding', 'bert.embeddings.token_type_embeddings.weight'),
  ('airsplay_lxmert_pretraining', 'text/position/embedding', 'bert.embeddings.position_embeddings.weight'),
  ('airsplay_lxmert_pretraining', 'regions/feature/kernel', 'bert.encoder.visn_fc.visn_fc.weight'),
  ('airsplay_lxmert_pretraining', 'regions/box_norm/scale', 'bert.encoder.visn_fc.box_layer_norm.weight'),
  ('airsplay_lxmert_pretraining', 'encoder/group0/sub0_t/key/bias', 'bert.encoder.layer.0.attention.self.key.bias'),
  ('airsplay_lxmert_pretraining', 'encoder/group1/sub0_v/ffn_norm/bias',
   'bert.encoder.r_layers.0.output.LayerNorm.bias'),
  ('airsplay_lxmert_pretraining', 'encoder/group2/sub0_tied/value/kernel',
   'bert.encoder.x_layers.0.visual_attention.att.value.weight'),
  ('airsplay_lxmert_pretraining', 'encoder/group2/sub1_v/ffn/expand/bias',
   'bert.encoder.x_layers.0.visn_inter.dense.bias'),
  ('visualbert-vqa', 'embed/region_type/embedding', 'visual_bert.embeddings.visual_token_type_embeddings.weight'),
  ('visualbert-vqa', 'embed/region_position/embedding', 'visual_bert.embeddings.visual_position_embeddings.weight'),
  ('vilbert_bert_base_6layer_6conect', 'encoder/group1/sub0_t/query/kernel',
   'bert.encoder.c_layer.0.biattention.query2.weight'),
  ('vilbert_bert_base_6layer_6conect', 'encoder/group1/sub0_v/out/kernel',
   'bert.encoder.c_layer.0.biOutput.dense1.weight'),
  ('volta_ctrl_vilbert_base', 'encoder/group1/sub0_v/key/kernel', 'bert.encoder.layer.12.attention_self.v_key.weight'),
  ('volta_ctrl_vilbert_base', 'encoder/group1/sub1_t/ffn/expand/kernel',
   'bert.encoder.layer.15.intermediate.dense.weight'),
  ('clip-vit-base-patch32', 'text/encoder/group0/sub0_t/ffn_norm/scale',
   'text_model.encoder.layers.0.layer_norm2.weight'),
])  # fmt: skip
def test_tensors_of_one_shape_are_told_apart_by_name(name, ours, theirs):
  assert {row.ours: row.theirs[0] for row in plan_of(name).rows}[ours] == theirs


@pytest.mark.parametrize('name', published.LISTS)
def test_layers_are_stacked_in_their_order(name):
  for row in plan_of(name).rows:
    if row.stacked and any('.0.' in tensor for tensor in row.theirs):  # not AST's two tokens, which have names
      numbers = [[int(part) for part in tensor.split('.') if part.isdigit()] for tensor in row.theirs]
      assert numbers == sorted(numbers)
      assert len({tuple(n) for n in numbers}) == len(numbers)


@pytest.mark.parametrize('name', published.LISTS)
def test_no_part_of_a_tensor_and_no_parameter_is_named_twice(name):
  found = plan_of(name).rows
  theirs = [(tensor, row.part) for row in found for tensor in row.theirs]
  assert len(set(theirs)) == len(theirs)
  assert len({row.path for row in found}) == len(found)


ROWS = [
  *dense('a', 'x.fc'),
  *norm('b/norm', 'x.LayerNorm'),
  *embed('table', 'x.words'),
  *vector('bias', 'x.bias'),
  *layers(dense('sub0_t/query', 'self.query'), 'group0', 'x.layer.{n}', range(3)),
]


@pytest.fixture(scope='module')
def params():
  shapes = {
    'a/kernel': (2, 3), 'a/bias': (3,), 'b/norm/scale': (4,), 'b/norm/bias': (4,), 'table/embedding': (5, 2),
    'bias': (6,), 'group0/sub0_t/query/kernel': (3, 4, 2), 'group0/sub0_t/query/bias': (3, 2),
  }  # fmt: skip
  rng = np.random.default_rng(0)
  made = {f'params/{k}': rng.normal(size=v).astype(np.float32) for k, v in shapes.items()}
  return traverse_util.unflatten_dict(made, sep='/')


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
  np.testing.assert_array_equal(tensors['x.fc.weight'], params['params']['a']['kernel'].T)
  np.testing.assert_array_equal(
    tensors['x.words.weight'], params['params']['table']['embedding']
  )  # a table is not transposed
  np.testing.assert_array_equal(
    tensors['x.layer.1.self.query.weight'], params['params']['group0']['sub0_t']['query']['kernel'][1].T
  )


def test_to_theirs_and_from_theirs_invert_each_other(params, tensors):
  back = from_theirs(ROWS, tensors, params)
  assert jax.tree.structure(back) == jax.tree.structure(params)
  jax.tree.map(np.testing.assert_array_equal, back, params)
  again = to_theirs(ROWS, back)
  assert set(again) == set(tensors)
  for name, a in again.items():
    np.testing.assert_array_equal(a, tensors[name])
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
    from_theirs([*ROWS, Row('unknown', ('x.other',))], given, {'params': params['params'] | {'orphan': np.zeros(1)}})
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
  fewer = [*ROWS[:-2], *layers(dense('sub0_t/query', 'self.query'), 'group0', 'x.layer.{n}', range(2))]
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
  assert row.below('group', 'bert') == Row('group/a/kernel', ('bert.fc.weight',), 'dense')
  assert row.below('', '') == row
