"""Region embedding and box geometry by hand, and what must not change them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.encoders.regions import BoxGeometry, RegionEmbed, box_numbers

BOXES = jnp.array([[[0.1, 0.2, 0.3, 0.4], [0.5, 0.1, 0.9, 0.7], [0.0, 0.6, 0.2, 1.0]]])


@pytest.fixture(scope='module')
def regions():
  return jax.random.normal(jax.random.key(0), (1, 3, 5))


@pytest.fixture(scope='module')
def embed(regions):
  module = RegionEmbed(4, dropout=0.5, init_std=1.0)
  params = module.init(jax.random.key(1), regions, BOXES, train=False)['params']
  shake = lambda a: a + 0.3 * jax.random.normal(jax.random.key(a.size), a.shape)
  return module, {'params': jax.tree.map(shake, params)}


def norm(x, p):
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * p['scale'] + p['bias']


def test_the_mean_of_two_layer_norms(embed, regions):
  module, variables = embed
  p = variables['params']
  look = norm(np.asarray(regions @ p['feature']['kernel'] + p['feature']['bias']), p['feature_norm'])
  place = norm(np.asarray(BOXES @ p['box']['kernel'] + p['box']['bias']), p['box_norm'])
  np.testing.assert_allclose(module.apply(variables, regions, BOXES, train=False), (look + place) / 2, atol=1e-5)
  assert set(p) == {'feature', 'feature_norm', 'box', 'box_norm'}


def test_one_dropout_after_the_mean(embed, regions):
  module, variables = embed
  calm = module.apply(variables, regions, BOXES, train=False)
  wild = module.apply(variables, regions, BOXES, train=True, rngs={'dropout': jax.random.key(0)})
  np.testing.assert_allclose(wild, np.where(np.asarray(wild) == 0, 0, 2 * calm), atol=1e-6)
  assert 0 < (np.asarray(wild) == 0).mean() < 1


def test_permuting_regions_permutes_them(embed, regions):
  module, variables = embed
  order = jnp.array([2, 0, 1])
  np.testing.assert_allclose(
    module.apply(variables, regions[:, order], BOXES[:, order], train=False),
    module.apply(variables, regions, BOXES, train=False)[:, order],
    atol=1e-6,
  )


def test_kernels_start_with_the_standard_deviation_asked_for(regions):
  params = RegionEmbed(300, init_std=0.05).init(jax.random.key(1), regions, BOXES, train=False)['params']
  for name in ('feature', 'box'):
    assert params[name]['kernel'].std() == pytest.approx(0.05, rel=0.1)
    assert not params[name]['bias'].any()


@pytest.fixture(scope='module')
def geometry():
  module = BoxGeometry(heads=2, hidden=3)
  return module, module.init(jax.random.key(0), BOXES)


def test_geometry_of_a_pair_by_hand(geometry):
  module, variables = geometry
  p = jax.tree.map(np.asarray, variables['params'])
  bias = module.apply(variables, BOXES)
  assert bias.shape == (1, 2, 3, 3)
  centre = np.array([[0.2, 0.3], [0.7, 0.4], [0.1, 0.8]])
  gelu = lambda x: np.asarray(jax.nn.gelu(x, approximate=False))
  for reader in range(3):
    scores = {}
    for read in {0, 1, 2} - {reader}:
      apart = centre[read] - centre[reader]
      distance = np.sqrt((apart**2).sum() + 1e-8)
      pair = np.array([*apart, distance, np.log(distance + 0.05)])
      deep = gelu(pair @ p['hidden']['kernel'] + p['hidden']['bias'])
      scores[read] = 8 * (np.concatenate([pair, deep]) @ p['bias']['kernel'] + p['bias']['bias'])
    for read, score in scores.items():
      share = np.exp(score) / sum(np.exp(other) for other in scores.values())
      np.testing.assert_allclose(bias[0, :, reader, read], np.log(2 * share), atol=1e-4)


def test_geometry_deals_out_attention_among_the_other_regions(geometry):
  module, variables = geometry
  shares = np.exp(module.apply(variables, BOXES))
  np.testing.assert_allclose(shares.sum(-1), 3, rtol=1e-5)  # the number of regions: as much as without a bias
  np.testing.assert_array_equal(np.diagonal(shares, axis1=2, axis2=3), 1)
  np.testing.assert_array_equal(module.apply(variables, BOXES[:, :1]), np.zeros((1, 2, 1, 1)))  # nothing to deal out


def test_geometry_depends_on_where_boxes_lie_to_one_another_only(geometry):
  module, variables = geometry
  bias = module.apply(variables, BOXES)
  np.testing.assert_allclose(module.apply(variables, BOXES + jnp.array([0.3, -0.2, 0.3, -0.2])), bias, atol=1e-4)
  grown = BOXES + jnp.array([-0.05, -0.1, 0.05, 0.1])  # another size around the same centre
  np.testing.assert_allclose(module.apply(variables, grown), bias, atol=1e-4)
  assert np.abs(module.apply(variables, BOXES * 0.5) - bias).max() > 0.1


def test_geometry_permutes_with_the_boxes(geometry):
  module, variables = geometry
  order = jnp.array([2, 0, 1])
  bias = module.apply(variables, BOXES)
  np.testing.assert_allclose(module.apply(variables, BOXES[:, order]), bias[:, :, order][..., order], atol=1e-4)
  assert np.abs(bias - jnp.swapaxes(bias, 2, 3)).max() > 0.1  # left of is not right of


def test_geometry_has_finite_gradients_at_a_distance_of_zero(geometry):
  module, variables = geometry
  grads = jax.grad(lambda boxes: module.apply(variables, boxes).sum())(jnp.zeros((1, 3, 4)))
  assert np.isfinite(grads).all()


def test_a_box_in_as_many_numbers_as_a_model_reads():
  box = jnp.array([[0.25, 0.5, 0.75, 1.0]])
  np.testing.assert_array_equal(box_numbers(box, 4), box)
  np.testing.assert_allclose(box_numbers(box, 5), [[0.25, 0.5, 0.75, 1.0, 0.25]])
  np.testing.assert_allclose(box_numbers(box, 7), [[0.25, 0.5, 0.75, 1.0, 0.5, 0.5, 0.25]])
