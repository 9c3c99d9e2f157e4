"""The fusion family: lines, shapes, what an answer can see, padding, and bottlenecks against their rule by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.encoders.regions import RegionEmbed
from mmjax.errors import UserError
from mmjax.fusion.layers import FusionStack
from mmjax.layers.embed import TextEmbed
from mmjax.models.fused import JOINS, Fused, parse_fusion
from tests.variables import drawn

SIZES = {'num_answers': 5, 'vocab': 11, 'positions': 6, 'width': 8, 'heads': 2, 'mlp': 12, 'init_std': 0.3}
MBT = '1*[t<t v<v] 2*[t<tp p<tp tied; v<vq q<vq tied]'
LINES = (
  'raw | 2*[t<tv v<tv tied]',
  '2*[t<tv v<tv tied]',
  '2*[t<tv v<tv]',
  '1*[t<t v<v] 1*[t<tv v<tv tied]',
  '2*[t<v v<t tied noffn; t<t v<v]',
  "2*[t<t v<v noffn; t<v' v<t']",
  '2*[t<t v<v noffn; t<v]',
  '2*[t<t v<v noffn; v<t] | image',
  MBT,
  *(f'1*[t<t v<v] | {join}' for join in JOINS),
  '2*[t<t]',
  '2*[v<v] | image',
)


def batch(images=2, questions=3, words=6, regions=4):
  random = np.random.default_rng(0)
  text = random.integers(1, 11, (images * questions, words))
  text[:, 4:] = 0
  corners = np.sort(random.random((images, regions, 2, 2)), -2)
  return (
    jnp.asarray(text),
    jnp.asarray(text > 0),
    jnp.asarray(random.normal(size=(images, regions, 7)), jnp.float32),
    jnp.asarray(corners.reshape(images, regions, 4), jnp.float32),
  )


def made(line, given, **more):
  model = Fused(line, dropout=0.0, attention_dropout=0.0, **SIZES, **more)
  return model, drawn(model, *given, train=False)


@pytest.mark.parametrize('line', LINES)
def test_every_line_answers_and_sees_what_it_says(line):
  given = batch()
  model, variables = made(line, given, geometry=True)
  answers = jax.jit(lambda *given: model.apply(variables, *given, train=False)['answers'])
  first = answers(*given)
  assert first.shape == (6, 5) and jnp.isfinite(first).all()
  text, mask, regions, boxes = given
  other = answers(text, mask, regions[::-1], boxes)
  assert bool(jnp.abs(other - first).max() > 1e-6) == parse_fusion(line).sees('v')
  other = answers(jnp.where(mask, text % 10 + 1, 0), mask, regions, boxes)
  assert bool(jnp.abs(other - first).max() > 1e-6) == parse_fusion(line).sees('t')
  padded = answers(jnp.where(mask, text, 3), mask, regions, boxes)
  np.testing.assert_allclose(padded, first, atol=1e-6)  # what is hidden is not read


def test_a_bottleneck_is_the_mean_of_what_either_side_left():
  given = batch()
  model, variables = made('2*[t<tp p<tp tied; v<vq q<vq tied]', given, bottlenecks=3)
  out = model.apply(variables, *given, train=False)
  mask, params = given[1], variables['params']
  words = TextEmbed(11, 6, 0, 8).apply({'params': params['text']}, given[0], train=False)
  places = RegionEmbed(8).apply({'params': params['regions']}, *given[2:], train=False)
  x = {'t': words, 'v': jnp.repeat(places, 3, 0)}
  token = jnp.broadcast_to(params['bottleneck'], (6, 3, 8))
  x |= {'p': token, 'q': token}
  for n in range(2):
    stack = FusionStack('1*[t<tp p<tp tied; v<vq q<vq tied]', 8, 2, 12, scan=False)
    y = stack.apply({'params': params[f'layer{n}']}, x, {'t': mask}, train=False)
    x = y | {'p': (y['p'] + y['q']) / 2, 'q': (y['p'] + y['q']) / 2}
  np.testing.assert_allclose(out['t'], x['t'], atol=1e-5)
  np.testing.assert_allclose(out['v'], x['v'], atol=1e-5)


def test_decisions_are_the_mean_of_two_opinions():
  given = batch()
  model, variables = made('1*[t<t v<v] | decisions', given)
  share = jnp.exp(model.apply(variables, *given, train=False)['answers'])
  np.testing.assert_allclose(share.sum(-1), 1, atol=1e-5)
  half = model.apply(variables, given[0], given[1], given[2][::-1], given[3][::-1], train=False)['answers']
  assert (jnp.abs(jnp.exp(half) - share).sum(-1) <= 1 + 1e-5).all()  # the words alone decide half


@pytest.mark.parametrize('line, words, image', [
  ('4*[t<t v<v]', True, False),
  ('4*[t<t v<v] | image', False, True),
  ('4*[t<t v<v] | concat', True, True),
  ('1*[t<v]', True, True),
  ('1*[v<t] 1*[t<t]', True, False),
  ('1*[v<t; t<v]', True, True),
  ("1*[v<t; t<v'] | text", True, True),
  ('1*[t<tp p<tp tied; v<vq q<vq tied]', True, False),  # one layer: the mean comes too late
  ('2*[t<tp p<tp tied; v<vq q<vq tied]', True, True),
])  # fmt: skip
def test_what_an_answer_can_see(line, words, image):
  assert (parse_fusion(line).sees('t'), parse_fusion(line).sees('v')) == (words, image)


@pytest.mark.parametrize('line, said', [
  ('2*[t<tv v<tv tied] | txt', "found join 'txt', expected one of text, image.*; did you mean 'text'"),
  ('2*[t<tx]', "position 4: found stream 'x', expected one of t, v, p, q"),
  ('1*[t<tp p<tp]', 'found one of the bottlenecks p and q, expected both or neither'),
  ('raw', "found 'r'|found 'raw'"),
  ('1*[t<v] | text | text', 'found 2 parts behind the schedule'),
  ('', 'found the end'),
])  # fmt: skip
def test_a_line_that_cannot_be_read_is_one_error(line, said):
  with pytest.raises(UserError, match=said):
    parse_fusion(line)


@pytest.mark.parametrize('line', LINES)
def test_a_line_reads_back(line):
  assert parse_fusion(str(parse_fusion(line))) == parse_fusion(line)
