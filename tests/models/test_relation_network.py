"""The baselines of Sort-of-CLEVR: what each may depend on, and eq. 1 by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mmjax.encoders.image import grid_boxes
from mmjax.errors import UserError
from mmjax.models.relation_network import BagOfWords, Cells, ConvMlp, RelationNetwork, word_set
from tests.variables import drawn

IMAGE = np.random.default_rng(0).integers(0, 256, (2, 33, 33, 3), dtype=np.uint8)
BATCH = {'image': IMAGE, 'question': jnp.array([[[1, 4, 2, 0], [1, 5, 2, 0]], [[1, 3, 4, 2], [1, 2, 0, 0]]])}


@pytest.mark.parametrize('kind, sees', [(RelationNetwork, True), (ConvMlp, True), (BagOfWords, False)])
def test_what_an_answer_depends_on(kind, sees):
  model = kind(5, 7, width=8)
  variables = drawn(model, BATCH, train=False)
  answers = jax.jit(lambda batch: model.apply(variables, batch, train=False)['answers'])
  first = answers(BATCH)
  assert first.shape == (4, 5)
  assert np.allclose(answers(BATCH | {'image': IMAGE[::-1].copy()}), first) != sees
  assert not np.allclose(answers(BATCH | {'question': BATCH['question'][:, ::-1]}), first)
  turned = BATCH['question'].at[1, 0].set(jnp.array([4, 3, 1, 2]))
  np.testing.assert_allclose(answers(BATCH | {'question': turned}), first, atol=1e-5)  # a set has no order


def test_words_are_a_set_without_padding():
  assert word_set(jnp.array([[[3, 1, 3, 0]]]), 5).tolist() == [[[0, 1, 0, 1, 0]]]


def test_a_relation_network_is_equation_1():
  """Pair by pair, with the first layer of g as one matrix over (object, other, question)."""
  model = RelationNetwork(5, 7, width=8, depth=2, place=3.0)
  variables = drawn(model, BATCH, train=False)
  p = variables['params']
  cells = Cells().apply({'params': p['cells'], 'batch_stats': variables['batch_stats']['cells']}, IMAGE, train=False)
  boxes = grid_boxes(*cells.shape[1:3])
  objects = jnp.concatenate([cells[1].reshape(9, 24), 3 * (boxes[:, :2] + boxes[:, 2:] - 1)], -1)
  words = word_set(BATCH['question'], 7)[1, 0]
  kernel = jnp.concatenate([p[f'g0_{part}']['kernel'] for part in ('first', 'second', 'question')])
  total = jnp.zeros(8)
  for one in objects:
    for other in objects:
      x = nn.relu(jnp.concatenate([one, other, words]) @ kernel + p['g0_first']['bias'])
      total += nn.relu(x @ p['g1']['kernel'] + p['g1']['bias'])
  dense = lambda x, part: x @ p['f'][part]['kernel'] + p['f'][part]['bias']
  wanted = dense(nn.relu(dense(nn.relu(dense(total, 'f0')), 'f1')), 'score')
  found = model.apply(variables, BATCH, train=False)['answers']
  np.testing.assert_allclose(found[2], wanted, rtol=2e-4, atol=2e-4)


def test_statistics_move_in_training_only():
  model = ConvMlp(5, 7, width=8)
  variables = drawn(model, BATCH, train=False)
  _, moved = model.apply(
    variables, BATCH, train=True, mutable=['batch_stats'], rngs={'dropout': jax.random.key(0)}
  )  # fmt: skip
  before, after = (jax.tree.leaves(v) for v in (variables['batch_stats'], moved['batch_stats']))
  assert all(not np.allclose(a, b) for a, b in zip(before, after))


def test_known_objects_have_no_order_and_are_seen():
  rng = np.random.default_rng(1)
  regions = rng.normal(size=(2, 3, 6)).astype(np.float32)
  corner = rng.uniform(0, 0.5, (2, 3, 2)).astype(np.float32)
  batch = {'question': BATCH['question'], 'regions': regions, 'boxes': np.concatenate([corner, corner + 0.2], -1)}
  model = RelationNetwork(5, 7, width=8)
  variables = drawn(model, batch, train=False)
  assert 'cells' not in variables['params']
  answers = jax.jit(lambda batch: model.apply(variables, batch, train=False)['answers'])
  turned = {name: a if name == 'question' else a[:, [2, 0, 1]] for name, a in batch.items()}
  np.testing.assert_allclose(answers(turned), answers(batch), rtol=1e-4, atol=1e-4)
  assert not np.allclose(answers(batch | {'boxes': batch['boxes'] + 0.1}), answers(batch), atol=1e-4)


def test_a_cnn_without_an_image_is_refused():
  batch = {'question': BATCH['question'], 'regions': np.zeros((2, 3, 6)), 'boxes': np.zeros((2, 3, 4))}
  with pytest.raises(UserError, match=r"CNN\+MLP: found no image, expected data.setting 'pixels'"):
    ConvMlp(5, 7).init(jax.random.key(0), batch, train=False)
