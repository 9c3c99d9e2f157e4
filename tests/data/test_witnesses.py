"""Made-up scenes: who contradicts whom, that one witness tells nothing of it, and that all three tell it."""

import itertools

import numpy as np
import pytest

from mmjax.data import witnesses
from mmjax.data.pipeline import load
from mmjax.data.witnesses import ANSWERS, BEST, CASES, LASTS, WORDS, contradicts, features, generate, solve, tables

TURN = len(CASES)


@pytest.fixture(scope='module')
def scenes():
  return generate(20 * TURN, 3)


def test_who_contradicts_by_hand():
  report, sound, video = np.array(list(itertools.product(range(2), repeat=3))).T
  found = [ANSWERS[n] for n in contradicts(report, sound, video)]
  assert found == ['nobody', 'video', 'sound', 'report', 'report', 'sound', 'video', 'nobody']


def test_the_solver_is_always_right(scenes):
  for split in (scenes, generate(4 * TURN, 4)):
    np.testing.assert_array_equal(solve(split['words'], split['sound'], split['video']), split['answer'])


def known(case, *of):
  """What some witnesses have of a scene, as numbers [M]: of each, the event it names and which way, or both ways."""
  named = case[:, 0]
  way = lambda m: np.where(named == 0, 2 * case[:, m] + case[:, m + 2], 2 * case[:, m + 2] + case[:, m])
  told = {'report': 2 * named + case[:, 1], 'sound': way(2), 'video': way(3)}
  return sum(told[name] * 4**n for n, name in enumerate(of))


@pytest.mark.parametrize('who', BEST)
def test_what_some_of_them_can_know(who):
  """The most frequent answer to all that they have: how often it is right, over all cases."""
  of = ('report', 'sound', 'video') if who == 'all three' else who.split(' and ')
  case = np.array(CASES)
  answer, have = contradicts(*case[:, 1:4].T), known(case, *of)
  right = sum(np.bincount(answer[have == one], minlength=len(ANSWERS)).max() for one in np.unique(have))
  assert right / TURN == BEST[who]


def test_one_witness_has_every_answer_equally_often(scenes):
  """By what is in the data, not by what they were made of: words, and the nearest pattern of each series."""
  told = scenes['words'].max(1)  # the name stands behind all fillers
  has = {'report': (told - 1 - len(witnesses.FILLERS)) // len(witnesses.NAMES[0])}
  for what in ('sound', 'video'):
    like = (scenes[what] @ tables()[what].T).max(1)
    has[what] = 2 * like[:, :2].argmax(1) + like[:, 2:].argmax(1)
  for seen in has.values():
    counts = np.array([np.bincount(scenes['answer'][seen == one], minlength=len(ANSWERS)) for one in range(4)])
    assert (counts == 20 * TURN // 16).all()


def test_cases_are_equally_frequent_whatever_the_seed():
  for seed in (1, 2):
    case = generate(3 * TURN, seed)['case']
    assert (np.unique(case, axis=0, return_counts=True)[1] == 3).all()
  assert all(number % TURN == 0 for number, _ in witnesses.SPLITS.values())


def test_times_say_nothing_of_the_answer_and_are_not_aligned(scenes):
  at, steps = scenes['at'], scenes['steps']
  for m, lasts in ((1, LASTS['sound']), (2, LASTS['video'])):
    begins = np.sort(at[..., m], 1)
    assert (begins[:, 0] >= 0).all() and (begins[:, 0] + lasts <= begins[:, 1]).all()
    assert (begins[:, 1] + lasts <= steps[:, m]).all()
    for answer in range(len(ANSWERS)):
      assert abs(begins[scenes['answer'] == answer].mean() - begins.mean()) < 0.4
  assert ((at[:, 0, 1] < at[:, 1, 1]) == (at[:, 0, 2] < at[:, 1, 2])).all()  # one scene: the order is the same
  sound, video = at[:, 0, 1] / steps[:, 1], at[:, 0, 2] / steps[:, 2]
  assert np.abs(sound - video).max() > 0.3 and 0.3 < np.corrcoef(sound, video)[0, 1] < 0.95


def test_behind_the_end_there_is_nothing_and_the_mask_says_so(scenes):
  x, mask = features(scenes)
  for n, s in enumerate('taf'):
    assert x[s].dtype == np.float32 and (mask[s].sum(1) == scenes['steps'][:, n]).all()
    assert (x[s][~mask[s]] == 0).all() and (np.abs(x[s][mask[s]]).sum(-1) > 0).all()
  assert np.array_equal(scenes['words'] > 0, mask['t'])
  one, of_one = features({key: array[0] for key, array in scenes.items()})
  for s in 'taf':
    np.testing.assert_array_equal(one[s], x[s][0])
    np.testing.assert_array_equal(of_one[s], mask[s][0])


def test_the_report_names_one_event_once(scenes):
  names = scenes['words'] > len(witnesses.FILLERS)
  assert (names.sum(1) == 1).all()
  named = scenes['case'][:, 0]
  each = np.arange(len(named))
  assert (names.argmax(1) == scenes['at'][each, named, 0]).all() and (scenes['at'][each, 1 - named, 0] == -1).all()
  word = WORDS[scenes['words'][0][names[0]][0]]
  assert word in witnesses.NAMES[2 * named[0] + scenes['case'][0, 1]]


def test_the_builder_gives_what_was_drawn(tmp_path, monkeypatch):
  monkeypatch.setattr(witnesses.Witnesses, 'SPLITS', {'train': (3, 7), 'test': (2, 8)})
  source, arrays = load(witnesses.Witnesses, 'test', tmp_path), generate(2, 8)
  for i, example in enumerate(source):
    assert set(example) == set(arrays)
    for key, array in arrays.items():
      np.testing.assert_array_equal(example[key], array[i])
