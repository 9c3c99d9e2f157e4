"""LXMERT: the paper's sizes, the heads by hand, and what must not change its outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.layers import ways
from mmjax.models.lxmert import LXMERT

# N = 2 images with two texts each.
TEXT = jnp.array([[3, 5, 9, 0], [3, 7, 0, 0], [3, 5, 6, 8], [3, 9, 9, 0]])
SMALL = {
  'vocab': 12, 'positions': 6, 'schedule': '1*[t<t] 1*[v<v] 1*[t<v v<t tied noffn; t<t v<v]', 'width': 8, 'heads': 2,
  'mlp': 12, 'init_std': 0.3, 'scan': False,
}  # fmt: skip


@pytest.fixture(scope='module')
def image():
  """regions [2,4,5], boxes [2,4,4]."""
  regions = jax.random.normal(jax.random.key(0), (2, 4, 5))
  return regions, jax.random.uniform(jax.random.key(1), (2, 4, 4))


@pytest.fixture(scope='module')
def small(image):
  """(model, variables, outputs without dropout)."""
  model = LXMERT(7, pretrain=True, num_features=5, num_objects=3, num_attributes=2, **SMALL)
  out, variables = model.init_with_output(jax.random.key(2), TEXT, TEXT > 0, *image, train=False)
  return model, variables, out


def dense(p, x):
  return x @ p['kernel'] + p['bias']


def transform(p, x):
  x = jax.nn.gelu(dense(p['project'], x), approximate=False)
  return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-12) * p['norm']['scale'] + p['norm'][
    'bias'
  ]


def close(found, expected, atol=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


def shapes(model, features=2048):
  """The parameters as shapes, and how many numbers they are."""
  text, regions = jnp.zeros((1, 20), int), jnp.zeros((1, 36, features))
  params = jax.eval_shape(
    lambda: model.init(jax.random.key(0), text, text == 0, regions, regions[..., :4], train=False)
  )['params']  # fmt: skip
  return params, sum(a.size for a in jax.tree.leaves(params))


def test_defaults_are_the_papers_numbers():
  model = LXMERT()
  assert model.schedule == '9*[t<t] 5*[v<v] 5*[t<v v<t tied noffn; t<t v<v]'  # section 3.3: N_L, N_R, N_X = 9, 5, 5
  assert (model.width, model.heads, model.mlp) == (768, 12, 3072)  # BERT-base
  assert (model.vocab, model.positions, model.types) == (30522, 512, 2)  # bert-base-uncased
  assert (model.dropout, model.attention_dropout, model.eps, model.init_std) == (0.1, 0.1, 1e-12, 0.02)
  assert (model.num_features, model.norm, model.geometry, model.pretrain) == (2048, 'post', False, False)
  assert (model.num_answers, model.num_objects, model.num_attributes) == (0, 0, 0)


def test_number_of_parameters_at_the_papers_sizes():
  """As many numbers as the published pre-training checkpoint holds (lxmert-base-uncased, 472 tensors)."""
  dense = lambda inputs, outputs: (inputs + 1) * outputs
  norm = 2 * 768
  attention = 4 * dense(768, 768) + norm  # query, key, value, output
  layer = attention + dense(768, 3072) + dense(3072, 768) + norm
  text = (30522 + 512 + 2) * 768 + norm  # words, positions, segments
  regions = dense(2048, 768) + norm + dense(4, 768) + norm
  layers = 9 * layer + 5 * layer + 5 * (attention + 2 * layer)  # the cross-attention is one for both directions
  encoder = text + regions + layers + dense(768, 768)  # and the pooler
  answers = dense(768, 1536) + 2 * 1536 + dense(1536, 9500)
  words = dense(768, 768) + norm + 30522  # the word table is used a second time, so a bias only
  objects = dense(768, 768) + norm + dense(768, 1600) + dense(768, 400) + dense(768, 2048)
  assert shapes(LXMERT())[1] == encoder == 207_936_768
  model = LXMERT(9500, pretrain=True, num_objects=1600, num_attributes=400)
  assert shapes(model)[1] == encoder + answers + words + dense(768, 2) + objects == 228_051_752


def test_shapes_of_all_outputs(small):
  assert jax.tree.map(jnp.shape, small[2]) == {
    't': (4, 4, 8), 'v': (4, 4, 8), 'pooled': (4, 8), 'answers': (4, 7), 'words': (4, 4, 12), 'matched': (4, 2),
    'features': (4, 4, 5), 'objects': (4, 4, 3), 'attributes': (4, 4, 2),
  }  # fmt: skip


@pytest.mark.parametrize('given, names', [
  ({}, {'t', 'v', 'pooled'}),
  ({'num_answers': 3}, {'t', 'v', 'pooled', 'answers'}),
  ({'pretrain': True}, {'t', 'v', 'pooled', 'words', 'matched', 'features'}),
  ({'pretrain': True, 'num_objects': 3}, {'t', 'v', 'pooled', 'words', 'matched', 'features', 'objects'}),
])  # fmt: skip
def test_only_the_heads_that_have_a_size_are_there(image, given, names):
  model = LXMERT(**SMALL, **given)
  run = lambda: model.init_with_output(jax.random.key(0), TEXT, TEXT > 0, *image, train=False)
  out, variables = jax.eval_shape(run)
  assert set(out) == names
  assert ('answer' in variables['params']) == ('answers' in names)
  assert ('masked_word' in variables['params']) == ('words' in names)


def test_heads_by_hand(small):
  _, variables, out = small
  p = variables['params']
  close(out['pooled'], jnp.tanh(dense(p['pooler']['project'], out['t'][:, 0])))
  close(out['answers'], dense(p['answer_score'], transform(p['answer'], out['pooled'])))
  close(out['matched'], dense(p['matched'], out['pooled']))
  close(out['words'], transform(p['masked_word'], out['t']) @ p['text']['word']['embedding'].T + p['word_bias'])
  seen = transform(p['masked_object'], out['v'])
  close([out[name] for name in ('features', 'objects', 'attributes')],
        [dense(p[f'{name}_score'], seen) for name in ('feature', 'object', 'attribute')])  # fmt: skip
  assert p['answer']['project']['kernel'].shape == (8, 16)  # twice the width, as in the authors' code


def test_padding_cannot_be_seen(small, image):
  model, variables, out = small
  given = [jnp.where(TEXT > 0, TEXT, 11), TEXT > 0, image[0].at[:, 3].set(50.0), image[1]]
  found = model.apply(variables, *given, jnp.arange(4)[None] < jnp.full((2, 1), 3), train=False)
  plain = model.apply(variables, TEXT, TEXT > 0, *image, jnp.arange(4)[None] < jnp.full((2, 1), 3), train=False)
  for name in ('pooled', 'answers', 'matched'):
    close(found[name], plain[name])
  for name in ('v', 'objects'):
    close(found[name][:, :3], plain[name][:, :3])
  close(jnp.where((TEXT > 0)[..., None], found['t'] - plain['t'], 0), jnp.zeros_like(out['t']))
  assert np.abs(plain['answers'] - out['answers']).max() > 1e-4  # a hidden region was seen before


def test_permuting_regions_permutes_what_is_said_of_them_only(small, image):
  model, variables, out = small
  order = jnp.array([2, 0, 3, 1])
  found = model.apply(variables, TEXT, TEXT > 0, *(a[:, order] for a in image), train=False)
  for name in out:
    close(found[name], out[name][:, order] if name in ('v', 'features', 'objects', 'attributes') else out[name])


def test_two_texts_an_image_are_two_copies_of_it(small, image):
  model, variables, out = small
  copies = [jnp.repeat(a, 2, 0) for a in image]
  close(model.apply(variables, TEXT, TEXT > 0, *copies, train=False), out)


def test_boxes_and_segments_are_read(small, image):
  model, variables, out = small
  moved = model.apply(variables, TEXT, TEXT > 0, image[0], image[1][:, ::-1], train=False)
  assert np.abs(moved['answers'] - out['answers']).max() > 1e-4
  segments = model.apply(variables, TEXT, TEXT > 0, *image, None, jnp.ones_like(TEXT), train=False)
  assert np.abs(segments['answers'] - out['answers']).max() > 1e-4


def test_dropout_in_train_only(small, image):
  model, variables, out = small
  run = lambda n: model.apply(variables, TEXT, TEXT > 0, *image, train=True, rngs={'dropout': jax.random.key(n)})[
    'answers'
  ]
  np.testing.assert_array_equal(run(0), run(0))
  assert np.abs(run(0) - run(1)).max() > 1e-3
  assert np.abs(run(0) - out['answers']).max() > 1e-3


def test_pre_norm_ends_each_stream_with_a_norm_of_its_own(image):
  model = LXMERT(**SMALL, norm='pre')
  out, variables = model.init_with_output(jax.random.key(2), TEXT, TEXT > 0, *image, train=False)
  assert {'t_norm', 'v_norm'} <= set(variables['params'])
  for s in 'tv':
    close(out[s].mean(-1), jnp.zeros((4, 4)))
    close(out[s].std(-1), jnp.ones((4, 4)), 1e-4)
  close(out['pooled'], jnp.tanh(dense(variables['params']['pooler']['project'], out['t'][:, 0])))


def test_geometry_is_asked_for_and_acts_on_the_regions_alone(image):
  model = LXMERT(**(SMALL | {'heads': {'t': 2, 'v': 2}, 'schedule': '1*[t<t] 1*[v<v]'}), geometry=True)
  out, variables = model.init_with_output(jax.random.key(2), TEXT, TEXT > 0, *image, train=False)
  without = {'params': {k: v for k, v in variables['params'].items() if k != 'geometry'}}
  plain = model.clone(geometry=False).apply(without, TEXT, TEXT > 0, *image, train=False)
  np.testing.assert_array_equal(out['t'], plain['t'])
  assert np.abs(out['v'] - plain['v']).max() > 1e-3
  assert variables['params']['geometry']['bias']['kernel'].shape == (4 + 32, 2)


def test_text_longer_than_the_positions_is_refused(image):
  with pytest.raises(UserError, match='text of 7 tokens: expected at most 6'):
    jax.eval_shape(lambda: LXMERT(**SMALL).init(
      jax.random.key(0), jnp.ones((2, 7), int), jnp.ones((2, 7), bool), *image, train=False))  # fmt: skip


def test_scan_and_remat_reach_the_stack(image):
  run = lambda **given: str(jax.make_jaxpr(lambda: LXMERT(**(SMALL | given)).init(
    jax.random.key(0), TEXT, TEXT > 0, *image, train=False))())  # fmt: skip
  plain, scan = run(), run(scan=True, schedule='2*[t<t v<v]')
  with ways.using(ways.Ways(remat='full')):
    remat = run()
  assert 'remat' not in plain
  assert 'remat' in remat
  assert 'scan[' not in plain
  assert 'scan[' in scan
