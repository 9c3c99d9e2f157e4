"""Grids of a bare image and a detector on it: whose boxes they are, in which order, and what is in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.encoders.image import ConvGrid, Detector, Patches, crops, grid_boxes, to_float
from mmjax.errors import UserError


def test_to_float_spans_minus_one_to_one():
  found = to_float(jnp.array([0, 51, 255], jnp.uint8))
  np.testing.assert_allclose(found, [-1, -0.6, 1], atol=1e-6)
  assert found.dtype == jnp.float32


def test_grid_boxes_by_hand():
  expected = [[0, 0, 1 / 3, 1 / 2], [1 / 3, 0, 2 / 3, 1 / 2], [2 / 3, 0, 1, 1 / 2],
              [0, 1 / 2, 1 / 3, 1], [1 / 3, 1 / 2, 2 / 3, 1], [2 / 3, 1 / 2, 1, 1]]  # fmt: skip
  np.testing.assert_allclose(grid_boxes(2, 3), expected, atol=1e-6)
  assert grid_boxes(2, 3).dtype == jnp.float32


def test_patches_are_row_major_inside_and_out():
  image = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3) % 256
  features, boxes = Patches(2).apply({}, jnp.asarray(image, jnp.uint8), train=False)
  assert features.shape == (2, 6, 12)
  assert boxes.shape == (2, 6, 4)
  for b, y, x in np.ndindex(2, 2, 3):
    patch = image[b, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
    np.testing.assert_allclose(features[b, 3 * y + x], patch.ravel() / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(boxes[b, 3 * y + x], [x / 3, y / 2, (x + 1) / 3, (y + 1) / 2], atol=1e-6)


@pytest.mark.parametrize('shape', [(1, 5, 4, 3), (1, 4, 5, 3)])
def test_a_patch_that_does_not_divide_the_image_is_refused(shape):
  with pytest.raises(UserError, match=rf'image \({shape[1]}, {shape[2]}\): expected a multiple of the patch size 2'):
    Patches(2).apply({}, jnp.zeros(shape, jnp.uint8), train=False)


@pytest.fixture(scope='module')
def grid():
  module, image = ConvGrid((4, 6)), jax.random.randint(jax.random.key(0), (2, 12, 16, 3), 0, 256).astype(jnp.uint8)
  variables = module.init(jax.random.key(1), image, train=False)
  return module, variables, image, jax.jit(lambda image: module.apply(variables, image, train=False))


def test_conv_grid_halves_once_a_convolution(grid):
  module, variables, image, run = grid
  features, boxes = run(image)
  assert features.shape == (2, 12, 6)
  np.testing.assert_allclose(boxes, np.broadcast_to(grid_boxes(3, 4), (2, 12, 4)), atol=1e-6)
  assert jax.tree.map(jnp.shape, variables['params'])['conv1']['kernel'] == (3, 3, 4, 6)
  odd = jax.eval_shape(lambda: module.apply(variables, jnp.zeros((1, 75, 64, 3), jnp.uint8), train=False))
  assert odd[0].shape == (1, 19 * 16, 6)  # 75 -> 38 -> 19
  assert odd[1].shape == (1, 19 * 16, 4)


def test_conv_grid_cells_stand_where_their_boxes_say(grid):
  _, _, image, run = grid
  before = run(image)[0]
  for y, x in ((0, 0), (0, 3), (2, 0), (2, 3)):
    spot = image.at[:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].set(255 - image[:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4])
    moved = np.abs(run(spot)[0] - before).max((0, 2))
    assert moved[4 * y + x] > 1e-3
    far = (2 - y if y != 1 else 0) * 4 + (3 - x)
    assert moved[far] == 0


def test_conv_grid_normalises_every_cell_over_its_channels(grid):
  _, variables, image, _ = grid
  one = ConvGrid((4,)).apply({'params': {k: variables['params'][k] for k in ('conv0', 'norm0')}}, image, train=False)[0]
  kernel, bias = variables['params']['conv0']['kernel'], variables['params']['conv0']['bias']
  pixels = np.asarray(to_float(image))[:, 4:7, 4:7]  # cell (2, 2) of stride 2, 'SAME' on an even side: rows 4 to 6
  x = np.einsum('bijc,ijcf->bf', pixels, kernel) + bias
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
  np.testing.assert_allclose(one.reshape(2, 6, 8, 4)[:, 2, 2], np.maximum(x, 0), atol=1e-4)


def test_crops_of_whole_pixels_are_those_pixels():
  image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 8, 3)), jnp.float32)
  boxes = jnp.array([[[1 / 8, 2 / 6, 5 / 8, 6 / 6], [0, 0, 1, 1]]] * 2)
  found = crops(image, boxes, 4).reshape(2, 2, 4, 4, 3)
  np.testing.assert_allclose(found[:, 0], image[:, 2:6, 1:5], atol=1e-5)
  first, second = (image[:, 1, x] / 4 + image[:, 2, x] * 3 / 4 for x in (0, 1))  # the second bin down is at pixel 1.75,
  np.testing.assert_allclose(found[:, 1, 1, 0], (first + second) / 2, atol=1e-5)  # the first across at 0.5


def test_crops_repeat_the_edges():
  image = jnp.arange(4.0).reshape(1, 2, 2, 1)
  found = crops(image, jnp.array([[[0, 0, 1, 1]]]), 8).reshape(8, 8)
  np.testing.assert_allclose(found[0], found[1], atol=1e-6)
  np.testing.assert_allclose([found[0, 0], found[-1, -1], found[0, -1]], [0, 3, 1], atol=1e-6)


@pytest.fixture(scope='module')
def detector():
  module = Detector(3, crop=4, window=5, channels=4)
  image = jax.random.randint(jax.random.key(0), (2, 15, 20, 3), 0, 256).astype(jnp.uint8)
  return module, module.init(jax.random.key(1), image, train=False), image


def test_a_detector_gives_the_best_cells(detector):
  module, variables, image = detector
  features, boxes, own = module.apply(variables, image, train=False)
  assert features.shape == (2, 3, 48) and boxes.shape == (2, 3, 4)
  assert own['objectness'].shape == (2, 3, 4) and own['cell_boxes'].shape == (2, 3, 4, 4)
  for b in range(2):
    best = np.argsort(-np.ravel(own['objectness'][b]))[:3]
    assert (boxes[b, :, 2:] >= boxes[b, :, :2]).all()
    np.testing.assert_allclose(boxes[b], np.clip(own['cell_boxes'][b].reshape(-1, 4)[best], 0, 1), atol=1e-6)
  np.testing.assert_allclose(features, crops(to_float(image), boxes, 4), atol=1e-6)


def test_what_is_done_with_regions_does_not_move_the_detector(detector):
  module, variables, image = detector

  def total(variables, own):
    features, boxes, learnt = module.apply(variables, image, train=True)
    return learnt['cell_boxes'].sum() + learnt['objectness'].sum() if own else features.sum() + boxes.sum()

  assert not any(np.asarray(g).any() for g in jax.tree.leaves(jax.grad(total)(variables, False)))
  assert all(np.asarray(g).any() for g in jax.tree.leaves(jax.grad(total)(variables, True)['params']['edges']))


def test_more_regions_than_cells_are_refused():
  with pytest.raises(UserError, match=r'image \(10, 15\): its 6 cells are fewer than 7 regions'):
    Detector(7).init(jax.random.key(0), jnp.zeros((1, 10, 15, 3), jnp.uint8), train=False)
