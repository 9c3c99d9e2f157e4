"""What is drawn anew of a pair: that nothing but the place, the colour and the choice of keywords changes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import augment

KEY = jax.random.key(0)
TEXT = np.array([[2, 10, 11, 12, 13, 14, 3, 0], [2, 20, 3, 0, 0, 0, 0, 0]])
PART = np.array([[0, 1, 1, 2, 3, 3, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0]])


def test_an_image_moves_by_at_most_so_many_pixels():
  image = np.zeros((200, 9, 9, 3), np.float32)
  image[:, 4, 4] = 1
  places = np.argwhere(np.asarray(augment.shifted(KEY, image, 2))[..., 0])
  near = {(y, x) for y in range(2, 7) for x in range(2, 7)}
  assert len(places) == 200 and {tuple(place) for place in places[:, 1:]} == near
  np.testing.assert_array_equal(augment.shifted(KEY, image, 0), image)


def test_edges_are_repeated():
  image = np.full((50, 6, 6, 3), 7.0, np.float32)
  np.testing.assert_array_equal(augment.shifted(KEY, image, 3), image)


def test_colours_are_scaled_each_by_itself():
  image = np.full((100, 2, 2, 3), 100.0, np.float32)
  found = np.asarray(augment.tinted(KEY, image, 0.2))
  assert (found == found[:, :1, :1]).all() and 80 <= found.min() < 85 and 115 < found.max() <= 120
  assert len(np.unique(found[:, 0, 0])) > 250
  np.testing.assert_array_equal(augment.tinted(KEY, np.full((9, 2, 2, 3), 250.0), 1.0).max(), 255)


def test_parts_of_a_text_are_kept_whole_and_closed_up():
  parts = [(10, 11), (12,), (13, 14)]
  chosen = itertools.chain.from_iterable(itertools.combinations(parts, n) for n in (1, 2, 3))
  framed = [(2, *itertools.chain(*some), 3) for some in chosen]
  whole = {(*ids, *[0] * (8 - len(ids))) for ids in framed}
  many = [np.repeat(rows[:1], 500, 0) for rows in (TEXT, PART)]
  assert set(map(tuple, np.asarray(augment.thinned(KEY, *many, 0.5)).tolist())) == whole


def test_a_text_is_never_left_without_words():
  np.testing.assert_array_equal(augment.thinned(KEY, TEXT, PART, 0.0), TEXT)
  np.testing.assert_array_equal(augment.thinned(KEY, TEXT, PART, 1.0), TEXT)


def test_a_pair_keeps_what_is_not_drawn():
  batch = {'image': np.full((2, 4, 4, 3), 9, np.uint8), 'text': TEXT, 'part': PART, 'weight': np.ones(2)}
  found = jax.jit(lambda b, k: augment.pairs(b, k, shift=1, tint=0.0, keep=1.0))(batch, KEY)
  assert found['image'].dtype == jnp.float32
  for name, value in batch.items():
    np.testing.assert_array_equal(found[name], value)
