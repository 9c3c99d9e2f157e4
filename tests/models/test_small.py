"""The models without a stored output of their own: what they must do whatever their weights are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.fusion import schedules
from mmjax.models.bert import BERT
from mmjax.models.gpt import GPT
from mmjax.models.meter import METER
from mmjax.models.vilt import ViLT
from mmjax.models.vit import ViT
from mmjax.models.vlbert import VLBERT

SIZES = {'width': 8, 'heads': 2, 'mlp': 12, 'init_std': 0.3}
TEXT = jnp.array([[3, 4, 5, 6], [7, 8, 0, 0]])
IMAGE = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))


def run(model, *given, **named):
  variables = jax.jit(lambda: model.init(jax.random.key(0), *given, **named, train=False))()
  apply = jax.jit(lambda g, n: model.apply(variables, *g, **n, train=False))
  return lambda *g, **n: apply(g, n)


def test_a_word_of_gpt_reads_its_past_alone():
  model = GPT(vocab=11, positions=6, schedule='2*[t<t]', **SIZES)
  apply = run(model, TEXT)
  out, other = apply(TEXT), apply(TEXT.at[:, 2].set(9))
  np.testing.assert_array_equal(out['words'][:, :2], other['words'][:, :2])
  assert (abs(out['words'] - other['words'])[:, 2:].max(-1) > 1e-4).all()
  with pytest.raises(UserError, match='text of 7 tokens: expected at most 6'):
    apply(jnp.ones((1, 7), int))


@pytest.fixture(scope='module', params=['METER', 'METER_MERGED'])
def meter(request):
  text = BERT(vocab=11, schedule='1*[t<t]', pooler=False, **SIZES)
  image = ViT(image=8, patch=4, schedule='1*[v<v]', width=12, heads=2, mlp=8)
  schedule = getattr(schedules, request.param).replace('6*', '2*').replace('12*', '2*')
  model = METER(text, image, num_answers=3, schedule=schedule, pretrain=True, **SIZES)
  return run(model, TEXT, TEXT > 0, IMAGE)


def test_meter_fuses_either_way(meter):
  out = meter(TEXT, TEXT > 0, IMAGE)
  shapes = {
    't': (2, 4, 8),
    'v': (2, 5, 8),
    'pooled': (2, 16),
    'answers': (2, 3),
    'words': (2, 4, 11),
    'matched': (2, 2),
  }
  assert {name: a.shape for name, a in out.items()} == shapes
  other = meter(TEXT, TEXT > 0, IMAGE.at[0].add(1.0))
  assert abs(out['answers'] - other['answers'])[0].max() > 1e-3  # the image reaches the answer
  np.testing.assert_array_equal(out['answers'][1], other['answers'][1])
  hidden = meter(TEXT.at[1, 3].set(9), TEXT > 0, IMAGE)  # a word behind the mask reaches nothing
  np.testing.assert_allclose(out['pooled'], hidden['pooled'], atol=1e-6)


def test_meter_reads_the_other_stream_as_it_entered_the_layer():
  model = METER(
    BERT(vocab=11, schedule='1*[t<t]', pooler=False, **SIZES),
    ViT(image=8, patch=4, schedule='1*[v<v]', width=12, heads=2, mlp=8),
    schedule=schedules.METER.replace('6*', '1*'),
    **SIZES,
  )
  given = (TEXT, TEXT > 0, IMAGE)
  variables = jax.jit(lambda: model.init(jax.random.key(0), *given, train=False))()
  apply = jax.jit(lambda variables: model.apply(variables, *given, train=False))
  out = apply(variables)
  own = variables['params']['encoder']['group0']['sub0_v']['out']  # what the self-attention of v gives to v
  own['kernel'] = 2 * own['kernel']
  other = apply(variables)
  np.testing.assert_array_equal(out['t'], other['t'])
  assert abs(out['v'] - other['v']).max() > 1e-2


@pytest.fixture(scope='module')
def vlbert():
  model = VLBERT(num_answers=3, vocab=11, coordinates=4, schedule='2*[t<tv v<tv tied]', num_objects=5, pretrain=True,
                 **SIZES)  # fmt: skip
  regions, boxes = jax.random.normal(jax.random.key(2), (2, 3, 6)), jnp.full((2, 3, 4), 0.5)
  return run(model, TEXT, regions, boxes, answer_at=jnp.array([1, 0])), regions, boxes


def test_vlbert_answers_where_the_answer_stands(vlbert):
  apply, regions, boxes = vlbert
  out = apply(TEXT, regions, boxes, answer_at=jnp.array([1, 0]))
  shapes = {'t': (2, 4, 8), 'v': (2, 3, 8), 'answers': (2, 3), 'words': (2, 4, 11), 'objects': (2, 3, 5)}
  assert {name: a.shape for name, a in out.items()} == shapes
  other = apply(TEXT, regions, boxes, answer_at=jnp.array([2, 0]))
  assert abs(out['answers'] - other['answers'])[0].max() > 1e-4
  np.testing.assert_array_equal(out['answers'][1], other['answers'][1])
  with pytest.raises(UserError, match='answer_at: found none'):
    apply(TEXT, regions, boxes)


def test_vilt_pads_what_an_image_does_not_fill():
  model = ViLT(num_answers=3, vocab=11, image=8, patch=4, schedule='2*[t<tv v<tv tied]', classifier=10, **SIZES)
  apply = run(model, TEXT, TEXT > 0, IMAGE)
  alone = apply(TEXT, TEXT > 0, IMAGE[:, :, :4])
  padded = apply(TEXT, TEXT > 0, IMAGE, jnp.broadcast_to(jnp.arange(8) < 4, (2, 8, 8)))
  np.testing.assert_allclose(alone['answers'], padded['answers'], atol=1e-5)
  with pytest.raises(UserError, match='found 2 images a text, expected 1'):
    apply(TEXT, TEXT > 0, jnp.stack([IMAGE, IMAGE], 1))


def test_vilt_tells_the_first_image_from_the_second():
  model = ViLT(num_answers=2, vocab=11, modalities=3, images=2, image=8, patch=4, schedule='1*[t<tv v<tv tied]',
               classifier=10, **SIZES)  # fmt: skip
  pair = jnp.stack([IMAGE, 2 * IMAGE], 1)
  apply = run(model, TEXT, TEXT > 0, pair)
  out = apply(TEXT, TEXT > 0, pair)
  assert out['pooled'].shape == (4, 8) and out['answers'].shape == (2, 2)
  assert abs(out['answers'] - apply(TEXT, TEXT > 0, pair[:, ::-1])['answers']).max() > 1e-4
