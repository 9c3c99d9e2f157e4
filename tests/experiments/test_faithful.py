"""Deletion and insertion: by hand, and that a map of what counts beats chance."""

import numpy as np

from experiments import faithful

BLANK = np.array([9, 9, 9])


def test_cells_go_and_come_in_order():
  image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(3, 3) + 100
  order = np.array([[2, 0, 3, 1]])  # of 2 x 2 cells
  gone = faithful.masked(image, order, 1, BLANK, inserted=False)
  assert (
    (gone[0, 2:, :2] == 9).all() and (gone[0, :2] == image[0, :2]).all() and (gone[0, 2:, 2:] == image[0, 2:, 2:]).all()
  )
  come = faithful.masked(image, order, 2, BLANK, inserted=True)
  assert (come[0, :, :2] == image[0, :, :2]).all() and (come[0, :, 2:] == 9).all()
  np.testing.assert_array_equal(faithful.masked(image, order, 0, BLANK, inserted=False), image)
  np.testing.assert_array_equal(faithful.masked(image, order, 4, BLANK, inserted=True), image)


def test_areas_by_hand():
  """A score that is 1 while the first cell is there."""
  image = np.full((2, 2, 2, 3), 50, np.uint8)
  score = lambda pictures: (pictures[:, 0, 0, 0] == 50).astype(float)
  first, last = np.array([[0, 1, 2, 3]] * 2), np.array([[1, 2, 3, 0]] * 2)
  area = lambda order, inserted: faithful.area(faithful.curve(score, image, order, BLANK, inserted))
  np.testing.assert_array_equal(faithful.curve(score, image, first, BLANK, False), [[1, 1], *[[0, 0]] * 4])
  np.testing.assert_allclose(area(first, inserted=False), 1 / 8)
  np.testing.assert_allclose(area(last, inserted=False), 7 / 8)
  np.testing.assert_allclose(area(first, inserted=True), 7 / 8)


def test_a_map_of_what_counts_beats_chance():
  rng = np.random.default_rng(0)
  image = np.full((30, 4, 4, 3), 50, np.uint8)
  counts = rng.integers(0, 4, 30)  # the cell that the score depends on
  at = (counts // 2 * 2, counts % 2 * 2)
  score = lambda pictures: (pictures[np.arange(30), at[0], at[1], 0] == 50).astype(float)
  known = np.eye(4)[counts]
  content = faithful.table(score, image, {'known': known, 'reversed': -known}, BLANK, 'A score')
  value = {row['system']: [float(row[key].split()[0]) for key in ('deletion', 'insertion')] for row in content['rows']}
  assert content['lines']['panels']['deletion']['known'] == [100, 0, 0, 0, 0]
  assert content['lines']['panels']['insertion']['reversed'] == [0, 0, 0, 0, 100]
  assert value['known'] == [12.5, 87.5]
  assert value['known'][0] < value['random order'][0] < value['reversed'][0]
  assert value['known'][1] > value['random order'][1] > value['reversed'][1]
