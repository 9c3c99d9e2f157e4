"""Products and wishes: that a wish says what differs, that pictures tell products apart, that held out is held out."""

import numpy as np
import pytest

from mmjax.data import products
from mmjax.data.pipeline import load


@pytest.fixture(scope='module')
def wishes():
  return {unseen: products.generate(300, 5 + unseen, unseen) for unseen in (False, True)}


def test_a_wish_says_what_differs_and_nothing_else(wishes):
  for arrays in wishes.values():
    for one, wanted, text in zip(arrays['attributes'], arrays['wanted'], arrays['text']):
      changed = [name for name, a, b in zip(products.ATTRIBUTES, one, wanted) if a != b]
      assert 1 <= len(changed) <= 2 and len(text.split(' and ')) == len(changed)
      for name, value in zip(products.ATTRIBUTES, wanted):
        assert (products.ATTRIBUTES[name][value] in text.split()) == (name in changed)
  assert products.wish(np.array([0, 0, 0, 0]), np.array([1, 2, 1, 0])) == 'as a mug and in blue and striped'


def test_what_is_held_out_is_wanted_in_unseen_alone(wishes):
  assert (
    not products.held_out(wishes[False]['attributes']).any() and not products.held_out(wishes[False]['wanted']).any()
  )
  assert not products.held_out(wishes[True]['attributes']).any() and products.held_out(wishes[True]['wanted']).all()
  assert products.held_out(products.EVERY).sum() == 24 and len(products.EVERY) == 144


def test_every_product_looks_like_no_other():
  pictures = [products.draw(one, np.array([2, 3]), np.zeros(3, int)) for one in products.EVERY]
  assert len({picture.tobytes() for picture in pictures}) == 144
  assert all(picture.shape == (32, 32, 3) and picture.dtype == np.uint8 for picture in pictures)


def test_a_product_is_where_it_was_put_and_has_its_colour():
  one, other = (
    products.draw(np.array([2, 2, 0, 0]), np.array(corner), np.zeros(3, int)) for corner in ((0, 0), (10, 4))
  )
  np.testing.assert_array_equal(one[:15, :15], other[4:19, 10:25])
  assert (one[:15, :15].reshape(-1, 3) == products.RGB[2]).all(1).sum() > 80
  assert (one[15:] == (236, 236, 240)).all()


def test_light_takes_the_same_from_every_pixel():
  dark, plain = (
    products.draw(np.array([1, 3, 1, 1]), np.array([4, 4]), np.array(light)) for light in ((9, 0, 23), (0,) * 3)
  )
  np.testing.assert_array_equal(dark, np.maximum(plain.astype(int) - (9, 0, 23), 0))


def test_no_picture_of_a_test_is_one_of_training():
  drawn = {
    split: products.generate(*products.SPLITS[split], split == 'unseen') for split in ('train', 'test', 'unseen')
  }
  seen = {
    split: {p.tobytes() for key in ('image', 'wanted_image') for p in arrays[key]} for split, arrays in drawn.items()
  }
  assert not seen['train'] & (seen['test'] | seen['unseen']) and not seen['test'] & seen['unseen']


def test_the_builder_gives_what_was_drawn(tmp_path, monkeypatch):
  monkeypatch.setattr(products.Products, 'SPLITS', {'train': (3, 7), 'unseen': (2, 8)})
  source, arrays = load(products.Products, 'unseen', tmp_path), products.generate(2, 8, unseen=True)
  for i, example in enumerate(source):
    for name in ('image', 'wanted_image', 'attributes', 'wanted'):
      np.testing.assert_array_equal(example[name], arrays[name][i])
    assert example['text'].decode() == arrays['text'][i]
