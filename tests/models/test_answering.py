"""A batch of images with their questions: what the encoder is given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mmjax.encoders.image import ConvGrid, Patches
from mmjax.models.answering import Answering
from mmjax.models.lxmert import LXMERT
from tests.variables import drawn

QUESTION = jnp.array([[[3, 5, 9, 0], [3, 7, 0, 0]], [[3, 5, 6, 8], [3, 9, 9, 0]]])


class Echo(nn.Module):
  """An encoder that returns what it was given."""

  @nn.compact
  def __call__(self, text, text_mask, regions, boxes, *, train):
    return {'text': text, 'text_mask': text_mask, 'regions': regions, 'given': boxes, 'train': train}


@pytest.fixture(scope='module')
def batch():
  boxes = jax.random.uniform(jax.random.key(1), (2, 4, 4))
  return {'question': QUESTION, 'regions': jax.random.normal(jax.random.key(0), (2, 4, 5)), 'boxes': boxes}


@pytest.mark.parametrize('train', [False, True])
def test_questions_in_rows_and_images_once(batch, train):
  out = Answering(Echo()).apply({}, batch, train=train)
  np.testing.assert_array_equal(out['text'], QUESTION.reshape(4, 4))
  np.testing.assert_array_equal(out['text_mask'], QUESTION.reshape(4, 4) > 0)
  np.testing.assert_array_equal(out['regions'], batch['regions'])
  np.testing.assert_array_equal(out['given'], batch['boxes'])
  np.testing.assert_array_equal(out['boxes'], batch['boxes'])
  assert out['train'] is train


def test_place_puts_boxes_around_zero_behind_the_features(batch):
  out = Answering(Echo(), place=3.0).apply({}, batch, train=False)
  np.testing.assert_array_equal(out['regions'][..., :5], batch['regions'])
  np.testing.assert_allclose(out['regions'][..., 5:], 3 * (2 * batch['boxes'] - 1), rtol=1e-6)


def test_a_box_has_the_numbers_that_the_encoder_reads(batch):
  class Seven(Echo):
    BOX = 7

  out = Answering(Seven()).apply({}, batch, train=False)
  assert out['given'].shape == (2, 4, 7)
  np.testing.assert_array_equal(out['given'][..., :4], out['boxes'])


@pytest.mark.parametrize('place', [0.0, 2.0])
def test_blind_sees_the_question_alone(batch, place):
  out = Answering(Echo(), place=place, blind=True).apply({}, batch, train=False)
  assert (out['regions'] == 1).all()
  np.testing.assert_array_equal(out['given'], np.broadcast_to([0, 0, 1, 1], (2, 4, 4)))
  np.testing.assert_array_equal(out['text'], QUESTION.reshape(4, 4))


@pytest.mark.parametrize('pixels, features', [(Patches(4), 48), (ConvGrid((5, 7)), 7)])
def test_pixels_make_the_regions(pixels, features):
  image = jax.random.randint(jax.random.key(0), (2, 8, 12, 3), 0, 256).astype(jnp.uint8)
  batch = {'question': QUESTION, 'image': image}
  out, _ = Answering(Echo(), pixels).init_with_output(jax.random.key(1), batch, train=False)
  assert out['regions'].shape == (2, 6, features)
  np.testing.assert_allclose(out['boxes'][0, 1], [1 / 3, 0, 2 / 3, 1 / 2], atol=1e-6)


def test_each_question_is_answered_about_its_own_image(batch):
  encoder = LXMERT(
    7, 12, 6, 2, '1*[v<v] 1*[t<v v<t tied noffn; t<t]', width=8, heads=2, mlp=12, init_std=0.3, scan=False
  )
  model = Answering(encoder)
  variables = drawn(model, batch, train=False)
  out = model.apply(variables, batch, train=False)
  assert out['answers'].shape == (4, 7)
  moved = model.apply(variables, batch | {'regions': batch['regions'].at[1].multiply(-1)}, train=False)
  np.testing.assert_allclose(moved['answers'][:2], out['answers'][:2], atol=1e-6)
  assert (np.abs(moved['answers'] - out['answers']).max(-1)[2:] > 1e-4).all()


def test_blind_learns(batch):
  model = Answering(
    LXMERT(7, 12, 6, 2, '1*[t<t] 3*[v<v] 1*[t<v v<t tied noffn; t<t v<v]', width=8, heads=2, mlp=12), blind=True
  )
  variables = drawn(model, batch, train=False)
  grads = jax.jit(jax.grad(lambda v: (model.apply(v, batch, train=False)['answers'] ** 2).sum()))(variables)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
