"""How BLIP is trained: what is shared, what follows slowly, what waits in the queue, which negatives are drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from mmjax import objectives
from mmjax.errors import UserError
from mmjax.models.blip import BLIP, Text
from mmjax.models.blip_pretraining import Pretraining, hard_negative, tied, untied
from mmjax.models.vit import ViT

B, L, VOCAB, QUEUE, OUT = 4, 5, 12, 8, 6


@pytest.fixture(scope='module')
def pre():
  text = lambda **more: Text(
    VOCAB + 2, L, '1*[t<t noffn; t<v]', width=8, heads=2, mlp=16, dropout=0.0, attention_dropout=0.0, scan=False, **more
  )
  image = ViT(image=8, patch=4, schedule='1*[v<v]', width=8, heads=2, mlp=16, scan=False)
  return Pretraining(BLIP(image, text(), text(writes=True), OUT), QUEUE, 0.9, 0.4, 2, (VOCAB, VOCAB + 1))


@pytest.fixture(scope='module')
def batch():
  text = jnp.array([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0], [2, 8, 9, 10, 3], [2, 11, 5, 3, 0]])
  image = jax.random.normal(jax.random.key(1), (B, 8, 8, 3))
  return {'image': image, 'text': text, 'caption': text, 'weight': jnp.ones(B)}


@pytest.fixture(scope='module')
def variables(pre, batch):
  return jax.jit(pre.init)(jax.random.key(0), batch['image'], batch['text'])


@pytest.fixture(scope='module')
def forward(pre):
  return jax.jit(lambda variables, batch, key: pre.forward(variables, batch, train=True, key=key))


def test_the_decoder_shares_all_but_self_attention(pre, variables):
  params = variables['params']['blip']
  own = set(flatten_dict(params['decoder']))
  assert {path[:3] for path in own if path[0] == 'encoder'} == {('encoder', 'group0_0', 'sub0_t')}
  whole = tied(params)
  decoder, encoder = (flatten_dict(whole[part]) for part in ('decoder', 'encoder'))
  alike = {path for path in encoder if decoder[path] is encoder[path]}
  assert alike == {path for path in encoder if 'sub0_t' not in path}
  assert flatten_dict(untied(whole)).keys() == flatten_dict(params).keys()
  shapes = jax.eval_shape(lambda: pre.model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.ones((1, L), int),
                                                 jnp.ones((1, L), bool), train=False))['params']  # fmt: skip
  assert jax.tree.map(jnp.shape, dict(whole)) == jax.tree.map(jnp.shape, dict(shapes))


def test_the_second_model_follows_and_the_queue_moves_on(forward, variables, batch):
  moved = variables | {'params': jax.tree.map(lambda a: a + 1.0, variables['params'])}
  _, kept = forward(moved, batch, jax.random.key(2))
  jax.tree.map(
    lambda slow, before: np.testing.assert_allclose(slow, before + 0.1, rtol=1e-4, atol=1e-5),
    kept['momentum']['params'],
    variables['momentum']['params'],
  )
  before, after = variables['momentum']['image'], kept['momentum']['image']
  np.testing.assert_array_equal(after[B:], before[B:])
  assert not np.allclose(after[:B], before[:B]) and np.allclose(np.linalg.norm(after, axis=1), 1, atol=1e-5)
  _, again = forward(variables | kept, batch, jax.random.key(3))
  np.testing.assert_array_equal(again['momentum']['image'][:B], after[:B])
  assert int(again['momentum']['step']) == 2
  _, third = forward(variables | again, batch, jax.random.key(4))  # the oldest are replaced
  assert not np.allclose(third['momentum']['image'][:B], after[:B])


def test_labels_soften_as_the_steps_go_by(forward, variables, batch):
  for step, share in ((0, 0.0), (1, 0.2), (2, 0.4), (9, 0.4)):
    given = variables | {'momentum': variables['momentum'] | {'step': jnp.array(step)}}
    out, _ = forward(given, batch, jax.random.key(2))
    labels = np.asarray(out['image_labels'])
    assert labels.shape == (B, B + QUEUE)
    np.testing.assert_allclose(labels.sum(1), 1, atol=1e-5)
    assert (labels[np.arange(B), np.arange(B)] >= 1 - share - 1e-6).all()
    assert (labels[:, B:].sum(1) > 0).all() == (share > 0)


def test_matching_reads_each_pair_and_two_negatives(forward, variables, batch):
  out, _ = forward(variables, batch, jax.random.key(2))
  assert out['matched'].shape == (3 * B, 2) and out['words'].shape == (B, L, VOCAB + 2)
  losses, metrics = objectives.blip(out, batch)
  assert {name: float(count) for name, (_, count, _) in losses.items()} == {
    'contrast': B, 'matched': 3 * B, 'words': float((batch['caption'] > 0).sum() - B)}  # fmt: skip
  assert all(np.isfinite(total) for total, _, _ in losses.values())
  assert {'accuracy/matched', 'accuracy/words', 'accuracy/image to text'} <= set(metrics)


def test_every_part_learns(pre, variables, batch):
  def loss(params):
    out, _ = pre.forward(variables | {'params': params}, batch, train=True, key=jax.random.key(0))
    return sum(total / count for total, count, _ in objectives.blip(out, batch)[0].values())

  grads = jax.jit(jax.grad(loss))(variables['params'])
  for path, grad in flatten_dict(grads).items():
    if path[-2:] != ('key', 'bias'):  # a softmax over keys does not move with it
      assert np.abs(grad).max() > 0, path


def test_a_negative_is_another_and_mostly_a_near_one():
  scores = jnp.array([[9.0, 5.0, 0.0], [0.0, 9.0, 5.0], [5.0, 0.0, 9.0]])
  drawn = np.stack([np.asarray(hard_negative(jax.random.key(n), scores)) for n in range(200)])
  assert (drawn != np.arange(3)).all()
  assert ((drawn == [1, 2, 0]).mean(0) > 0.9).all()


def test_what_does_not_fit_is_said(pre, variables, batch):
  with pytest.raises(UserError, match='queue: found 6, expected a multiple of the batch, 4 pairs'):
    pre.replace(queue=6).enqueued(jnp.zeros((6, OUT)), jnp.zeros((4, OUT)), 0)
  with pytest.raises(UserError, match='expected encoder, decoder and out'):
    pre.replace(model=pre.model.clone(decoder=None)).init(jax.random.key(0), batch['image'], batch['text'])
