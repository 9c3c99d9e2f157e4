"""What docs/models.md says of the edges: words and boxes out of range, nothing to read, one row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.models.lxmert import LXMERT
from mmjax.models.uniter import UNITER
from mmjax.models.vilbert import ViLBERT
from mmjax.models.visualbert import VisualBERT
from tests.variables import drawn

SIZES = {'num_answers': 3, 'vocab': 12, 'positions': 6, 'width': 8, 'heads': 2, 'mlp': 12, 'scan': False}
SINGLE = '1*[t<tv v<tv tied]'
MODELS = {
  'LXMERT': (LXMERT(schedule='1*[t<t] 1*[v<v] 1*[t<v v<t tied noffn; t<t v<v]', geometry=True, **SIZES), 4),
  'VisualBERT': (VisualBERT(schedule=SINGLE, geometry=True, **SIZES), 4),
  'UNITER': (UNITER(schedule=SINGLE, **SIZES), 7),
  'ViLBERT': (ViLBERT(schedule='1*[t<t] 1*[t<v v<t; v<v t<t]', pooled=6, **SIZES), 5),
}
TEXT = jnp.array([[3, 5, 9, 11], [3, 7, 0, 0]])
SEEN = jnp.ones((2, 3), bool)


@pytest.fixture(scope='module', params=MODELS)
def family(request):
  """(name, apply, regions [2,3,5], boxes [2,3,box], outputs), apply compiled once for each shape."""
  model, box = MODELS[request.param]
  regions, boxes = jax.random.normal(jax.random.key(0), (2, 3, 5)), jax.random.uniform(jax.random.key(1), (2, 3, box))
  variables = drawn(model, TEXT, TEXT > 0, regions, boxes, SEEN, train=False)
  apply = jax.jit(lambda *given: model.apply(variables, *given, train=False))
  return request.param, apply, regions, boxes, apply(TEXT, TEXT > 0, regions, boxes, SEEN)


def finite(out):
  return all(np.isfinite(np.asarray(a)).all() for a in out.values())


def test_a_word_out_of_range_is_the_nearest_one(family):
  _, apply, regions, boxes, out = family
  found = apply(jnp.array([[3, 5, 9, 400], [3, 7, -5, 0]]), TEXT > 0, regions, boxes, SEEN)
  np.testing.assert_array_equal(found['answers'], out['answers'])


def test_boxes_are_numbers_wherever_they_lie(family):
  _, apply, regions, boxes, _ = family
  for strange in (640 * boxes, boxes[..., ::-1], 0 * boxes, -boxes):
    assert finite(apply(TEXT, TEXT > 0, regions, strange, SEEN))


def test_nothing_that_may_be_read_leaves_finite_numbers(family):
  _, apply, regions, boxes, out = family
  found = apply(TEXT, jnp.zeros_like(TEXT, bool), regions, boxes, ~SEEN)
  assert finite(found)
  half = apply(TEXT, (TEXT > 0).at[1].set(False), regions, boxes, SEEN.at[1].set(False))
  np.testing.assert_allclose(half['answers'][0], out['answers'][0], atol=1e-5)  # the other row does not see it


def test_a_batch_of_one_is_that_row(family):
  _, apply, regions, boxes, out = family
  found = apply(TEXT[:1], TEXT[:1] > 0, regions[:1], boxes[:1], SEEN[:1])
  np.testing.assert_allclose(found['answers'], out['answers'][:1], atol=1e-5)


def test_an_image_of_no_regions_is_one_whose_regions_are_hidden(family):
  name, apply, regions, boxes, _ = family
  none = (TEXT, TEXT > 0, regions[:, :0], boxes[:, :0], SEEN[:, :0])
  if name == 'ViLBERT':  # its answers are read off the first region, the whole image
    with pytest.raises(UserError, match='pooler: found no token to read, expected at least 1'):
      apply(*none)
  else:
    found = apply(*none)
    assert finite(found) and found['v'].shape == (2, 0, 8)
    if name != 'LXMERT':  # there text reads hidden regions' mean, where nothing else is to be read
      np.testing.assert_allclose(found['answers'], apply(TEXT, TEXT > 0, regions, boxes, ~SEEN)['answers'], atol=1e-5)


def test_a_text_without_a_token_is_refused(family):
  _, apply, regions, boxes, _ = family
  with pytest.raises(UserError, match='pooler: found no token to read, expected at least 1'):
    apply(TEXT[:, :0], TEXT[:, :0] > 0, regions, boxes, SEEN)
