"""A picture and a wish as one query: what each way may depend on."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.models.tirg import Composer
from tests.variables import drawn

TEXT = jnp.array([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0]])
IMAGE = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
OTHER = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


def made(how):
  model = Composer(9, 5, how, channels=(4, 8), width=8, heads=2, mlp=16, out=6)
  return model, drawn(model, TEXT, IMAGE, OTHER, train=False)


@pytest.mark.parametrize('how, text, image', [
  ('image', False, True), ('text', True, False), ('sum', True, True), ('tirg', True, True), ('1*[v<tv]', True, True),
])  # fmt: skip
def test_a_query_depends_on_what_it_reads(how, text, image):
  model, variables = made(how)
  out = model.apply(variables, TEXT, IMAGE, OTHER, train=False)
  assert out['text'].shape == (2, 6) and out['image'].shape == (3, 6)
  np.testing.assert_allclose(np.linalg.norm(out['text'], axis=1), 1, rtol=1e-5)
  query = lambda *given: model.apply(variables, *given, train=False, method='query')
  assert np.allclose(query(TEXT.at[:, 1].set(8), IMAGE), out['text'], atol=1e-6) != text
  assert np.allclose(query(TEXT, IMAGE[::-1]), out['text'], atol=1e-6) != image


@pytest.mark.parametrize('how', ['sum', 'tirg', '1*[v<tv]'])
def test_padding_cannot_be_seen(how):
  model, variables = made(how)
  query = lambda text: model.apply(variables, text, IMAGE, train=False, method='query')
  np.testing.assert_allclose(query(TEXT)[1], query(TEXT[:, :3])[1], rtol=1e-5, atol=1e-6)


def test_tirg_gates_the_picture_and_adds_to_it():
  """Equations 1 to 3: an open gate and nothing added leave the picture's own vector; a closed one what is added."""
  model, variables = made('tirg')
  _, seen = model.apply(variables, IMAGE, train=False, method='see')
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)

  def query(weights, bias):
    params = {**variables['params'], 'weights': jnp.array(weights)}
    gate = {**params['gate'], 'layers_2': {**params['gate']['layers_2'], 'bias': jnp.full(6, bias)}}
    return np.asarray(model.apply({'params': {**params, 'gate': gate}}, TEXT, IMAGE, train=False, method='query'))

  np.testing.assert_allclose(query([1.0, 0.0], 99.0), unit(np.asarray(seen)), rtol=1e-5, atol=1e-6)
  added = query([1.0, 1.0], -99.0)
  np.testing.assert_allclose(added, query([0.0, 1.0], 5.0), rtol=1e-5, atol=1e-6)
  assert not np.allclose(added, unit(np.asarray(seen)), atol=0.1)


@pytest.mark.parametrize('how', ['tirgg', 'sums'])
def test_an_unknown_way_is_refused(how):
  with pytest.raises(UserError, match=f'how: found {how!r}, expected one of .* or a schedule'):
    Composer(9, 5, how).bind({}).see(IMAGE, train=False)
