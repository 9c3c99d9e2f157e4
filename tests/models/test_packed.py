"""Models that read each image once for all its texts, and texts without what they are filled up with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.fusion.layers import FusionStack
from mmjax.layers.packed import places
from mmjax.models.clip import TextTower
from mmjax.models.lxmert import LXMERT
from mmjax.models.uniter import UNITER
from mmjax.models.vilbert import ViLBERT
from mmjax.models.visualbert import VisualBERT

SIZES = {'vocab': 20, 'positions': 8, 'num_answers': 3}
ONE = {'width': 8, 'heads': 2, 'mlp': 16}
MODELS = {
  'lxmert': LXMERT(**SIZES, **ONE, schedule='1*[t<t] 1*[v<v] 2*[t<v v<t tied noffn; t<t v<v]'),
  'visualbert': VisualBERT(**SIZES, **ONE, schedule='2*[t<tv v<tv tied]'),
  'uniter': UNITER(**SIZES, **ONE, schedule='2*[t<tv v<tv tied]'),
  'vilbert': ViLBERT(
    **SIZES, width={'t': 8, 'v': 12}, heads={'t': 2, 'v': 3}, mlp={'t': 16, 'v': 12}, pooled=8,
    schedule='1*[t<t] 2*[t<v v<t 3x4; t<t v<v]',
  ),
}  # fmt: skip
WORDS = np.array([3, 8, 5, 4, 8, 6])
IMAGE_OF = np.array([2, 0, 0, 1, 2, 2])
RNG = np.random.default_rng(0)
TEXT = RNG.integers(1, 20, (6, 8))
MASK = np.arange(8) < WORDS[:, None]


def seen(model):
  boxes = RNG.random((3, 4, getattr(model, 'BOX', 4))).astype(np.float32)
  return RNG.normal(size=(3, 4, 10)).astype(np.float32), boxes


@pytest.mark.parametrize(('name', 'parts'), [('lxmert', 2), ('visualbert', 1), ('vilbert', 1), ('uniter', 2)])
def test_answers_and_gradients_are_those_of_an_image_for_each_text_and_of_texts_filled_up(name, parts):
  model = MODELS[name]
  regions, boxes = seen(model)
  each = regions[IMAGE_OF], boxes[IMAGE_OF]
  variables = jax.jit(lambda: model.init(jax.random.key(0), TEXT, MASK, *each, train=False))()
  target = jax.random.normal(jax.random.key(1), (6, 3))

  def loss(params, *seen, **laid):
    out = model.apply({'params': params}, TEXT, MASK, *seen, train=False, **laid)
    return (jax.nn.log_softmax(out['answers']) * target).sum(), out

  gradient = jax.jit(jax.grad(loss, has_aux=True))
  with jax.default_matmul_precision('highest'):
    wanted, out = gradient(variables['params'], *each)
    lying = {'image_of': jnp.asarray(IMAGE_OF), 'places': jnp.asarray(places(MASK, parts, room=4))}
    found, laid = gradient(variables['params'], regions, boxes, **lying)
  np.testing.assert_allclose(laid['answers'], out['answers'], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(laid['t'][MASK], out['t'][MASK], rtol=1e-4, atol=1e-5)
  assert not laid['t'][~MASK].any()
  apart = jax.tree.map(lambda a, b: np.abs(a - b).max() / max(np.abs(b).max(), 1e-3), found, wanted)
  assert max(jax.tree.leaves(apart)) < 1e-5


def test_causal_texts_packed():
  tower = TextTower(vocab=20, positions=8, schedule='2*[t<t]', width=8, heads=2, mlp=16, out=4, end=19)
  text = np.where(np.arange(8) == WORDS[:, None] - 1, 19, np.where(MASK, TEXT % 19, 0))
  variables = jax.jit(lambda: tower.init(jax.random.key(0), text, MASK, train=False))()
  _, wanted = tower.apply(variables, text, MASK, train=False)
  _, found = tower.apply(variables, text, MASK, places(MASK, room=4), train=False)
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_work_goes_by_positions_that_hold_something():
  from mmjax import flops

  stack = FusionStack('2*[t<t]', 8, 2, 32)
  x, mask = {'t': jnp.ones((6, 8, 8))}, {'t': jnp.asarray(MASK)}
  variables = jax.eval_shape(lambda: stack.init(jax.random.key(0), x, mask, train=False))
  run = lambda at: flops.count(lambda v, x: stack.apply(v, x, mask, places={'t': at}, train=False), variables, x)
  attention = 2 * 2 * 6 * 8 * 8 * 8 * 2  # layers, products, rows, queries, keys, width, multiply and add
  assert (run(places(MASK, room=1)) - attention) / (run(None) - attention) == pytest.approx(WORDS.sum() / MASK.size)


def test_what_cannot_be_packed_is_refused():
  stack = FusionStack('1*[t<t]', 8, 2, 16)
  x, at = {'t': jnp.ones((6, 8, 8))}, {'t': jnp.asarray(places(MASK))}
  key = jax.random.key(0)
  with pytest.raises(UserError, match="places of 't': found no mask of it"):
    stack.init(key, x, places=at, train=False)
  with pytest.raises(UserError, match='found memory too'):
    stack.init(key, x, {'t': jnp.asarray(MASK)}, memory={'t': (8, 0)}, places=at, train=False)
  with pytest.raises(UserError, match="stream 't' has 6 rows and meets 12; expected as many where it is packed"):
    FusionStack('1*[t<tv v<tv]', 8, 2, 16).init(
      key, x | {'v': jnp.ones((12, 3, 8))}, {'t': jnp.asarray(MASK)}, places=at, train=False
    )
  pairs = LXMERT(**SIZES, **ONE, schedule='1*[t<tv v<tv]', images=2)
  with pytest.raises(UserError, match=r'image_of, places: found 2 images a text \(images\), expected 1'):
    pairs.init(key, TEXT, MASK, jnp.ones((6, 2, 4, 10)), jnp.ones((6, 2, 4, 4)), image_of=IMAGE_OF, train=False)
