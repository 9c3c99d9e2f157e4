"""The numbers of CMU-MOSI and MOSEI by hand: what rounds where, and the three different Acc-2."""

import math

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.metrics.sentiment import ZEROS, scores, weighted_f1

TOLD = np.array([0.5, -0.2, 1.5, 0.0, -4.0])
GIVEN = np.array([0.0, 0.0, 2.0, -1.0, -3.0])


def test_all_by_hand():
  found = scores(TOLD, GIVEN)
  assert found['MAE'] == pytest.approx((0.5 + 0.2 + 0.5 + 1 + 1) / 5)
  assert found['correlation'] == pytest.approx(np.corrcoef(TOLD, GIVEN)[0, 1])
  assert found['Acc-7'] == 4 / 5  # rounded half to even: 0 -0 2 0 -3 against 0 0 2 -1 -3
  assert found['Acc-5'] == 4 / 5  # 0 -0 2 0 -2 against 0 0 2 -1 -2


def test_three_different_accuracies_of_two():
  found = scores(TOLD, GIVEN)
  assert found['Acc-2, without zeros'] == 3 / 3  # 2 -1 -3 against 1.5 0 -4, where 0 is not > 0
  assert found['Acc-2, zeros positive'] == 3 / 5  # + - + + - against + + + - -
  assert found['Acc-2, zeros not positive'] == 4 / 5  # + - + - - against - - + - -


def test_halves_go_to_the_even_side():
  assert scores(np.array([0.5, 1.5, 2.5, -0.5]), np.array([0.0, 2.0, 2.0, 0.0]))['Acc-7'] == 1
  assert scores(np.array([0.5, 1.5, 2.5]), np.array([1.0, 1.0, 3.0]))['Acc-7'] == 0


def test_cut_to_the_scale():
  assert scores(np.array([9.0, -9.0]), np.array([3.0, -3.0]))['Acc-7'] == 1
  found = scores(np.array([3.0, -3.0]), np.array([2.0, -2.0]))
  assert (found['Acc-7'], found['Acc-5']) == (0, 1)


def test_f1_by_hand():
  said, truth = np.array([True, True, False, False, False]), np.array([True, False, False, False, True])
  of_true, of_false = 2 * 1 / (2 + 2), 2 * 2 / (3 + 3)
  assert weighted_f1(said, truth) == pytest.approx(0.4 * of_true + 0.6 * of_false)
  assert weighted_f1(np.zeros(3, bool), np.ones(3, bool)) == 0
  assert weighted_f1(truth, truth) == 1


def test_the_order_of_samples_is_no_matter():
  order = np.array([3, 0, 4, 2, 1])
  first, other = scores(TOLD, GIVEN), scores(TOLD[order], GIVEN[order])
  assert other == pytest.approx(first)


def test_what_cannot_be_told_is_nan():
  found = scores(np.array([1.0, 1.0]), np.array([0.0, 0.0]))
  assert math.isnan(found['correlation']) and math.isnan(found['Acc-2, without zeros'])
  assert found['Acc-2, zeros positive'] == 1 and found['Acc-2, zeros not positive'] == 0
  assert len(ZEROS) == 3


@pytest.mark.parametrize('told, given, words', [
  (np.ones(2), np.ones(3), r'told \[2\], given \[3\]: expected one number each'),
  (np.ones((2, 1)), np.ones((2, 1)), 'expected one number each'),
  (np.ones(0), np.ones(0), 'of 1 or more'),
  (np.array([np.nan]), np.ones(1), 'found nan or inf'),
])  # fmt: skip
def test_what_is_no_score_is_refused_in_one_line(told, given, words):
  with pytest.raises(UserError, match=words) as error:
    scores(told, given)
  assert '\n' not in str(error.value)
