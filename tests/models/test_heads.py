"""Heads of tasks that no stored output covers: pairs of images, retrieval, regions of a phrase, choices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.models.lxmert import LXMERT
from mmjax.models.uniter import UNITER
from tests.models.test_lxmert import close, dense, transform
from tests.variables import drawn

TEXT = jnp.array([[3, 5, 9, 0], [3, 7, 0, 0]])
SIZES = {'vocab': 12, 'positions': 6, 'width': 8, 'heads': 2, 'mlp': 12, 'scan': False}
KINDS = {
  LXMERT: (4, '1*[t<t] 1*[v<v] 1*[t<v v<t tied noffn; t<t v<v]'),
  UNITER: (7, '1*[t<tv v<tv tied]'),
}


def regions(box, *lead):
  draw = lambda seed, size: jax.random.uniform(jax.random.key(seed), (*lead, 3, size))
  return draw(0, 5), draw(1, box)


def made(kind, *lead, **given):
  """(model, variables, what it is called with, its outputs)."""
  box, schedule = KINDS[kind]
  model = kind(schedule=schedule, **SIZES, **given)
  called = (TEXT, TEXT > 0, *regions(box, 2, *lead))
  variables = drawn(model, *called, train=False)
  return model, variables, called, jax.jit(lambda v, c: model.apply(v, *c, train=False))(variables, called)


@pytest.fixture(scope='module', params=KINDS, ids=lambda kind: kind.__name__)
def pair(request):
  return made(request.param, 2, images=2, num_answers=2, **({'types': 3} if request.param is UNITER else {}))


def test_a_pair_is_answered_from_both_images_side_by_side(pair):
  model, variables, (text, mask, look, boxes), out = pair
  params = variables['params']
  assert out['pooled'].shape == (4, 8) and out['answers'].shape == (2, 2)
  read = np.concatenate([out['pooled'][::2], out['pooled'][1::2]], -1)
  if isinstance(model, LXMERT):  # UNITER's pairs have the one linear layer
    read = transform(params['answer'], read)
  close(out['answers'], dense(params['answer_score'], read))
  swapped = model.apply(variables, text, mask, look[:, ::-1], boxes[:, ::-1], train=False)['pooled']
  same = np.abs(swapped - out['pooled'].reshape(2, 2, 8)[:, ::-1].reshape(4, 8)).max()
  assert (same < 1e-5) == isinstance(model, LXMERT)  # UNITER tells the second image by its segment


def test_each_image_of_a_pair_is_read_by_itself(pair):
  model, variables, (text, mask, look, boxes), out = pair
  moved = model.apply(variables, text, mask, look.at[1, 1].add(1.0), boxes, train=False)
  close(moved['pooled'][:3], out['pooled'][:3])
  assert np.abs(moved['pooled'] - out['pooled'])[3].max() > 1e-4
  with pytest.raises(UserError, match='found 1 images a text, expected 2'):
    model.apply(variables, text, mask, look[:, 0], boxes[:, 0], train=False)


def test_uniters_heads_by_hand():
  _, variables, _, out = made(UNITER, retrieval=True, grounding=True, choice=True)
  params = variables['params']
  close(out['alignment'], dense(params['alignment'], out['pooled'])[:, 0])
  close(out['grounding'], dense(params['grounding'], out['v'])[..., 0])
  hidden = np.maximum(dense(params['choice']['project'], out['pooled']), 0)
  hidden = (hidden - hidden.mean(-1, keepdims=True)) / np.sqrt(hidden.var(-1, keepdims=True) + 1e-12)
  norm = params['choice']['norm']
  close(out['choice'], dense(params['choice_score'], hidden * norm['scale'] + norm['bias']))
