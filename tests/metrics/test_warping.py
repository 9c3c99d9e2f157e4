"""Dynamic time warping by hand, against the plain recursion, and what cannot be compared."""

import functools

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.metrics import warping

column = lambda *values: np.array(values, np.float32)[:, None]


def test_by_hand():
  one = [column(0, 1, 2)]
  assert warping.distances(one, [column(0, 0, 1, 1, 2), column(1, 2, 3), column(5)]).tolist() == [[0, 2, 25 + 16 + 9]]


def plain(a, b):
  @functools.cache
  def at(i, j):
    if i < 0 or j < 0:
      return 0.0 if i == j else np.inf
    return float(((a[i] - b[j]) ** 2).sum()) + min(at(i - 1, j), at(i, j - 1), at(i - 1, j - 1))

  return at(len(a) - 1, len(b) - 1)


def test_many_cases_of_many_lengths_are_as_one_by_one():
  rng = np.random.default_rng(0)
  one, other = ([rng.normal(size=(n, 3)) for n in sizes] for sizes in ((4, 7, 1), (5, 2, 6, 9)))
  found = warping.distances(one, other)
  np.testing.assert_allclose(found, [[plain(a, b) for b in other] for a in one])
  np.testing.assert_allclose(found.T, warping.distances(other, one))


def test_the_first_of_the_nearest_has_the_class():
  assert warping.nearest_class(np.array([[2.0, 1, 1], [0, 3, 1]]), np.array([7, 8, 9])).tolist() == [8, 7]


@pytest.mark.parametrize('one, words', [
  ([], 'found no case'),
  ([np.zeros((0, 1))], 'or one without steps'),
  ([np.zeros((2, 2))], r'found cases of \[1, 2\] channels'),
  ([column(1, np.nan)], 'found missing values'),
])  # fmt: skip
def test_what_cannot_be_compared_is_one_line(one, words):
  with pytest.raises(UserError, match=words) as error:
    warping.distances(one, [column(1, 2)])
  assert '\n' not in str(error.value)
