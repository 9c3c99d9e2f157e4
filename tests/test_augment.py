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


STILL = {'jitter': 0.0, 'scale': 0.0, 'warp': 0.0, 'crop': 0.0}
RAMP = np.arange(1.0, 21, dtype=np.float32)[None, :, None].repeat(300, 0)
SEEN = np.arange(20)[None, :, None].repeat(300, 0) < np.where(np.arange(300) < 150, 20, 12)[:, None, None]
SERIES = {'series': np.where(SEEN, RAMP, 0), 'seen': SEEN, 'weight': np.ones(300)}


def drawn(**how):
  return {name: np.asarray(value) for name, value in augment.series(SERIES, KEY, **STILL | how).items()}


def test_a_series_stays_as_it_is_where_nothing_is_drawn():
  for name, value in drawn().items():
    np.testing.assert_allclose(value, SERIES[name], atol=1e-5)


def test_a_series_keeps_its_length_and_what_is_not_there_stays_so():
  found = drawn(jitter=0.3, scale=0.3, warp=0.5, crop=0.4)
  np.testing.assert_array_equal(found['seen'], SEEN)
  assert (found['series'][~SEEN] == 0).all() and not np.allclose(found['series'][SEEN], SERIES['series'][SEEN])


def test_time_is_bent_within_the_series_and_never_turned():
  series = drawn(warp=0.5)['series'][..., 0]
  for rows, last in ((series[:150], 20), (series[150:, :12], 12)):
    np.testing.assert_allclose(rows[:, [0, -1]], [[1, last]] * 150, atol=1e-4)
    pace = np.diff(rows, axis=1)
    assert 0.5 <= pace.min() < 0.7 and 1.3 < pace.max() <= 1.5 + 1e-4


def test_so_much_of_a_series_is_cut_off_at_most():
  series = drawn(crop=0.4)['series'][..., 0]
  first, last = series[:150, 0], series[:150, -1]
  assert 0 <= first.min() - 1 < 0.3 and 3 < first.max() - 1 <= 0.2 * 19 and 20 - 0.2 * 19 <= last.min() < 18
  np.testing.assert_allclose(np.diff(series[:150], axis=1), ((last - first) / 19)[:, None].repeat(19, 1), atol=1e-4)


def test_gains_are_of_a_channel_and_noise_is_of_a_value():
  gain = (drawn(scale=0.1)['series'] / RAMP)[:150, :, 0]
  np.testing.assert_allclose(gain, gain[:, :1].repeat(20, 1), rtol=1e-4)
  assert abs(gain[:, 0].mean() - 1) < 0.03 and abs(gain[:, 0].std() - 0.1) < 0.02
  noise = (drawn(jitter=0.1)['series'] - RAMP)[:150]
  assert abs(noise.mean()) < 0.01 and abs(noise.std() - 0.1) < 0.01


def test_between_a_value_and_none_there_is_none():
  seen = SEEN.copy()
  seen[:, 5] = False
  batch = {'series': np.where(seen, RAMP, 0), 'seen': seen}
  found = {k: np.asarray(v) for k, v in augment.series(batch, KEY, **STILL | {'crop': 0.4}).items()}
  values = found['series'][found['seen']]
  assert (~found['seen'][:, :12].all(1)).all() and values.min() >= 1  # never mixed with the 0 that stands for none
