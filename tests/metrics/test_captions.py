"""Caption scores by hand: the same words, none of them, half of them."""

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.metrics import captions

GIVEN = [['Red heart!'], ['blue car'], ['grinning face'], ['a very long red caption here']]


def test_the_very_words_score_highest_and_others_nothing():
  found = captions.scores(['red heart', 'a tree', 'grinning face', 'a very long red caption here'], GIVEN)
  assert found['ROUGE-L'].tolist() == [1, 0, 1, 1]
  assert found['CIDEr'][3] == pytest.approx(10) and found['CIDEr'][1] == 0
  assert found['CIDEr'][0] == pytest.approx(5)  # two words: of one to four in a row, it has the first two
  one, four = captions.bleu([texts[0] for texts in GIVEN], GIVEN).values()
  assert one == pytest.approx(1) and four == pytest.approx(1)


def test_a_rare_word_counts_for_more():
  given = [['red apple'], ['red car'], ['red ball'], ['blue door']]
  common, rare = (captions.scores([words, 'x', 'x', 'x'], given)['CIDEr'][0] for words in ('red', 'apple'))
  assert rare > common > 0


def test_the_best_of_several_given_counts():
  found = captions.scores(['a car', 'x'], [['a red car', 'a car'], ['y']])
  assert found['ROUGE-L'][0] == 1 and np.isfinite(found['CIDEr']).all()


@pytest.mark.parametrize('written, given', [([], []), (['a'], [])])
def test_a_caption_too_few_is_said(written, given):
  with pytest.raises(UserError, match='expected one each'):
    captions.scores(written, given)
