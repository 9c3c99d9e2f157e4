"""VisualBERT: the paper's sizes, embeddings and answers by hand, and what must not change its outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.models.visualbert import VisualBERT, VisualEmbed

# N = 2 images with two texts each.
TEXT = jnp.array([[3, 5, 9, 0], [3, 7, 0, 0], [3, 5, 6, 8], [3, 9, 9, 0]])
SMALL = {
  'vocab': 12, 'positions': 6, 'schedule': '2*[t<tv v<tv tied]', 'width': 8, 'heads': 2, 'mlp': 12, 'init_std': 0.3,
  'scan': False,
}  # fmt: skip


@pytest.fixture(scope='module')
def regions():
  return jax.random.normal(jax.random.key(0), (2, 4, 5))


@pytest.fixture(scope='module')
def small(regions):
  """(model, variables, outputs without dropout)."""
  model = VisualBERT(7, **SMALL)
  out, variables = model.init_with_output(jax.random.key(2), TEXT, TEXT > 0, regions, train=False)
  return model, variables, out


def dense(p, x):
  return x @ p['kernel'] + p['bias']


def close(found, expected, atol=1e-5):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


def test_defaults_are_the_papers_numbers():
  model = VisualBERT()
  assert model.schedule == '12*[t<tv v<tv tied]'  # section 3: BERT-base
  assert (model.width, model.heads, model.mlp) == (768, 12, 3072)
  assert (model.vocab, model.positions, model.types) == (30522, 512, 2)  # bert-base-uncased
  assert (model.dropout, model.attention_dropout, model.eps, model.init_std) == (0.1, 0.1, 1e-12, 0.02)
  assert (model.num_answers, model.norm, model.geometry, model.answer_from) == (0, 'post', False, 'last')


def test_number_of_parameters_at_the_papers_sizes():
  """As many numbers as the published VQA checkpoint holds (visualbert-vqa, 205 tensors)."""
  dense = lambda inputs, outputs: (inputs + 1) * outputs
  norm = 2 * 768
  layer = 4 * dense(768, 768) + norm + dense(768, 3072) + dense(3072, 768) + norm
  text = (30522 + 512 + 2) * 768 + norm  # words, positions, segments; the norm is that of regions too
  regions = dense(2048, 768) + (2 + 512) * 768  # segments and positions of their own
  encoder = text + regions + 12 * layer + dense(768, 768)  # and the pooler
  assert count(VisualBERT()) == encoder == 111_450_624
  assert count(VisualBERT(3129)) == encoder + dense(768, 3129) == 113_856_825


def count(model):
  text, regions = jnp.zeros((1, 20), int), jnp.zeros((1, 36, 2048))
  run = lambda: model.init(jax.random.key(0), text, text == 0, regions, train=False)
  return sum(a.size for a in jax.tree.leaves(jax.eval_shape(run)))


def test_shapes_of_all_outputs(small, regions):
  assert jax.tree.map(jnp.shape, small[2]) == {'t': (4, 4, 8), 'v': (4, 4, 8), 'pooled': (4, 8), 'answers': (4, 7)}
  headless = VisualBERT(**SMALL)
  out = jax.eval_shape(lambda: headless.init_with_output(jax.random.key(0), TEXT, TEXT > 0, regions, train=False))[0]
  assert set(out) == {'t', 'v', 'pooled'}


def test_answers_are_read_off_the_last_token_but_one(small, regions):
  model, variables, out = small
  p = variables['params']
  last = [1, 0, 2, 1]  # three, two, four, three words
  close(out['answers'], dense(p['answer_score'], jnp.stack([out['t'][b, n] for b, n in enumerate(last)])))
  pooled = model.clone(answer_from='pooled').apply(variables, TEXT, TEXT > 0, regions, train=False)
  close(pooled['pooled'], jnp.tanh(dense(p['pooler']['project'], out['t'][:, 0])))
  close(pooled['answers'], dense(p['answer_score'], pooled['pooled']))


def test_an_unknown_place_to_answer_from_is_refused(small, regions):
  model, variables, _ = small
  with pytest.raises(UserError, match=r"answer_from: found 'poled', .*did you mean 'pooled'"):
    model.clone(answer_from='poled').apply(variables, TEXT, TEXT > 0, regions, train=False)


def test_a_text_of_one_word_is_answered_from_that_word(small, regions):
  model, variables, _ = small
  text = jnp.array([[3, 0, 0, 0]] * 4)
  out = model.apply(variables, text, text > 0, regions, train=False)
  close(out['answers'], dense(variables['params']['answer_score'], out['t'][:, 0]))


def test_padding_cannot_be_seen(small, regions):
  model, variables, out = small
  seen = jnp.arange(4)[None] < jnp.full((2, 1), 3)
  shouted = model.apply(
    variables, jnp.where(TEXT > 0, TEXT, 11), TEXT > 0, regions.at[:, 3].set(50.0), None, seen, train=False
  )
  plain = model.apply(variables, TEXT, TEXT > 0, regions, None, seen, train=False)
  close(shouted['answers'], plain['answers'])
  close(shouted['pooled'], plain['pooled'])
  close(shouted['v'][:, :3], plain['v'][:, :3])
  assert np.abs(plain['answers'] - out['answers']).max() > 1e-4  # the hidden region was seen before


def test_permuting_regions_permutes_what_is_said_of_them_only(small, regions):
  model, variables, out = small
  order = jnp.array([2, 0, 3, 1])
  found = model.apply(variables, TEXT, TEXT > 0, regions[:, order], train=False)
  for name in out:
    close(found[name], out[name][:, order] if name == 'v' else out[name])


def test_two_texts_an_image_are_two_copies_of_it(small, regions):
  model, variables, out = small
  close(model.apply(variables, TEXT, TEXT > 0, jnp.repeat(regions, 2, 0), train=False), out)


def test_dropout_in_train_only(small, regions):
  model, variables, out = small
  given = (TEXT, TEXT > 0, regions)
  run = lambda n: model.apply(variables, *given, train=True, rngs={'dropout': jax.random.key(n)})['answers']
  np.testing.assert_array_equal(run(0), run(0))
  assert np.abs(run(0) - run(1)).max() > 1e-3
  assert np.abs(run(0) - out['answers']).max() > 1e-3


def test_pre_norm_ends_both_streams_with_one_norm(regions):
  model = VisualBERT(**SMALL, norm='pre')
  out, variables = model.init_with_output(jax.random.key(2), TEXT, TEXT > 0, regions, train=False)
  assert variables['params']['norm']['scale'].shape == (8,)
  for s in 'tv':
    close(out[s].mean(-1), jnp.zeros((4, 4)))
    close(out[s].std(-1), jnp.ones((4, 4)), 1e-4)


def test_geometry_is_asked_for_and_acts_on_regions_reading_regions(regions):
  boxes = jax.random.uniform(jax.random.key(1), (2, 4, 4))
  model = VisualBERT(**(SMALL | {'schedule': '1*[t<tv v<tv tied]'}), geometry=True)
  out, variables = model.init_with_output(jax.random.key(2), TEXT, TEXT > 0, regions, boxes, train=False)
  without = {'params': {k: v for k, v in variables['params'].items() if k != 'geometry'}}
  plain = model.clone(geometry=False).apply(without, TEXT, TEXT > 0, regions, boxes, train=False)
  np.testing.assert_array_equal(out['t'], plain['t'])  # one layer: only v<v is biased
  assert np.abs(out['v'] - plain['v']).max() > 1e-3
  with pytest.raises(UserError, match='geometry=True: found no boxes'):
    model.apply(variables, TEXT, TEXT > 0, regions, train=False)


def test_text_longer_than_the_positions_is_refused(regions):
  with pytest.raises(UserError, match='text of 7 tokens: expected at most 6'):
    jax.eval_shape(lambda: VisualBERT(**SMALL).init(
      jax.random.key(0), jnp.ones((2, 7), int), jnp.ones((2, 7), bool), regions, train=False))  # fmt: skip


@pytest.fixture(scope='module')
def embed(regions):
  module = VisualEmbed(12, 6, 2, 8, dropout=0.5, init_std=1.0)
  return module, module.init(jax.random.key(0), TEXT[:2], regions, train=False)


@pytest.mark.parametrize('aligned', [False, True])
def test_embeddings_by_hand(embed, regions, aligned):
  module, variables = embed
  p = jax.tree.map(np.asarray, variables['params'])
  text, types, region_types = TEXT[:2], jnp.array([[0, 0, 1, 1]] * 2), jnp.array([[1, 0, 1, 1]] * 2)
  alignment = np.array([[[1, -1], [2, 3], [-1, -1], [0, -1]]] * 2)  # the words of each region, none is -1
  given = (text, regions, jnp.asarray(alignment) if aligned else None, types, region_types)
  out = module.apply(variables, *given, train=False)
  table = lambda name: p[name]['embedding']

  def norm(x):
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return normed * p['norm']['scale'] + p['norm']['bias']

  close(out['t'], norm(table('word')[text] + table('position')[:4] + table('type')[types]))
  v = dense(p['region'], np.asarray(regions)) + table('region_type')[region_types] + table('region_position')[0]
  if aligned:  # the mean position embedding of the words, nothing where there are none
    place = table('position')
    v = v + np.stack([place[1], (place[2] + place[3]) / 2, 0 * place[0], place[0]])
  close(out['v'], norm(v))


def test_regions_are_of_type_one_unless_told(embed, regions):
  module, variables = embed
  ones = jnp.ones((2, 4), int)
  out, told, other = (
    module.apply(variables, TEXT[:2], regions, None, None, types, train=False)['v'] for types in (None, ones, 0 * ones)
  )
  np.testing.assert_array_equal(out, told)
  assert np.abs(out - other).max() > 1e-2


def test_the_word_of_padding_alone_receives_no_gradient(embed, regions):
  module, variables = embed
  loss = lambda p: (module.apply({'params': p}, TEXT[:2], regions, train=False)['t'] * jnp.arange(8)).sum()
  grads = jax.grad(loss)(variables['params'])
  moved = np.abs(grads['word']['embedding']).max(-1) > 0
  np.testing.assert_array_equal(np.flatnonzero(moved), [3, 5, 7, 9])  # 0 is read too
  assert np.abs(grads['position']['embedding'][0]).max() > 0
  assert np.abs(grads['type']['embedding'][0]).max() > 0
