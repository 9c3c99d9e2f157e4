"""Scenes: what is drawn is read back, through noise too; what is held out is never told in training."""

import numpy as np
import pytest

from mmjax.data import scenes
from mmjax.data.pipeline import load


@pytest.fixture(scope='module')
def train():
  return scenes.generate(400, 1, unseen=False)


def test_what_is_drawn_is_read_back(train):
  for image, attributes in zip(train['image'], train['attributes']):
    np.testing.assert_array_equal(scenes.read(image), attributes)


def test_a_blurred_and_noisy_picture_is_read_too(train):
  rng = np.random.default_rng(0)
  for image, attributes in zip(train['image'][:100], train['attributes']):
    wide = np.pad(image.astype(float), ((1, 1), (1, 1), (0, 0)), mode='edge')
    blurred = sum(wide[y : y + 32, x : x + 32] for y in range(3) for x in range(3)) / 9
    noisy = np.clip(blurred + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(scenes.read(noisy)[:, 0], attributes[:, 0])


def test_a_wrong_picture_is_told_apart(train):
  image, (left, right) = train['image'][0], train['attributes'][0]
  np.testing.assert_array_equal(scenes.read(image[:, ::-1]), [right, left])
  assert (scenes.read(np.full((32, 32, 3), 255, np.uint8)) == -1).all()
  half = image.copy()
  half[:, 16:] = 255
  np.testing.assert_array_equal(scenes.read(half), [left, (-1, -1)])
  assert (scenes.read(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)) == -1).all()


def test_a_dot_is_no_object():
  image = np.full((32, 32, 3), 255, np.uint8)
  image[10:13, 5:8] = (255, 0, 0)
  assert (scenes.read(image) == -1).all()


def test_a_scene_is_told_from_either_side():
  scene = np.array([(0, 1), (2, 0)])
  assert scenes.sentence(scene) == 'a red circle on the left and a blue square on the right'
  assert scenes.sentence(np.array([(3, 0), (4, 1)])).startswith('an orange square on the left and a gray circle')
  assert scenes.sentence(scene, right_first=True) == 'a blue square on the right and a red circle on the left'


def test_what_is_held_out_is_in_no_other_split(train):
  assert not scenes.held_out(train['attributes']).any()
  unseen = scenes.generate(400, 2, unseen=True)['attributes']
  assert scenes.held_out(unseen).all() and (unseen[:, 0, 0] != unseen[:, 1, 0]).all()
  for n in (0, 1):  # each object is known, their pairs are not
    assert set(map(tuple, unseen[:, n].tolist())) <= set(map(tuple, train['attributes'][:, n].tolist()))
  assert 18 <= len({scene.tobytes() for scene in unseen}) <= 28


def test_the_builder_gives_what_was_drawn(tmp_path, monkeypatch):
  monkeypatch.setattr(scenes.Scenes, 'SPLITS', {'train': (5, 7), 'unseen': (3, 8)})
  source, arrays = load(scenes.Scenes, 'unseen', tmp_path), scenes.generate(3, 8, unseen=True)
  assert len(source) == 3
  for i, example in enumerate(source):
    np.testing.assert_array_equal(example['image'], arrays['image'][i])
    np.testing.assert_array_equal(example['attributes'], arrays['attributes'][i])
    assert example['text'].decode() == arrays['text'][i]
