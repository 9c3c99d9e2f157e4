"""Images with texts: what is read, how a search is scored, and the parts of CLIP's and BLIP's experiments."""

import numpy as np
import pytest

from experiments import pairs
from mmjax.data import twemoji
from mmjax.errors import UserError


@pytest.fixture(scope='module')
def task():
  return pairs.prepare('twemoji', '', 20)


def test_all_pairs_are_there_and_words_are_those_of_training(task):
  assert sum(len(source) for source in task.splits.values()) == 1911
  held = task.arrays('test', 'unseen')
  assert held['image'].shape == (317, 32, 32, 3) and held['text'].shape == (317, 20)
  assert set(held['label'][121:].tolist()) <= set(range(-1, 10)) and len(task.labels) == 10
  assert not set(held['concept'].tolist()) & set(task.arrays('train')['concept'].tolist())
  n = held['name'].tolist().index('red apple')
  assert held['words'][n].startswith('red apple, ')
  said = task.said(['red heart', 'zyzzyva'])['text']
  assert said[0, [0, 3]].tolist() == [2, 3] and said[1, :3].tolist() == [2, 3, 0]  # of a strange word nothing is left


def test_an_unknown_set_is_refused():
  with pytest.raises(UserError, match=r"data\.name: found 'twemojo', expected one of .*did you mean 'twemoji'"):
    pairs.prepare('twemojo', '', 20)


def test_a_search_by_hand():
  """Four queries in three concepts: found first, second, third and last."""
  scores = np.array([[4, 3, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1]], float)
  found = pairs.search(scores, np.eye(4, dtype=bool), np.array([0, 0, 1, 2]))
  assert found['R@1'][0] == 0.25 and found['R@5'][0] == 1 and found['median rank'][0] == 2.5
  assert found['R@1'][1:] == (0, 0.5)  # never more than both of the first concept's, of which one is found
  assert found['R@5'][1:] == (1, 1)


def test_accuracy_and_chance_by_hand():
  found = pairs.accuracy(np.array([[1, 0], [1, 0], [0, 1]]), np.array([0, 1, 1]), np.arange(3))
  assert found[0] == pytest.approx(2 / 3) and 0 <= found[1] <= found[0] <= found[2] <= 1
  assert pairs.chance(20) == pytest.approx({'R@1': 0.05, 'R@5': 0.25, 'R@10': 0.5, 'median rank': 10.5})


def test_how_scores_are_shown():
  assert pairs.shown('R@1', 0.1234, 0.1, 0.2) == '12.3 (10.0–20.0)'
  assert pairs.shown('median rank', 21.0) == '21' and pairs.shown('', 0.5) == '50.0'


def test_labels_are_the_held_out_categories(task):
  assert task.labels == tuple(twemoji.HELD_OUT.values())
