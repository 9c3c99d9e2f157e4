"""Debian's asterisk-core-sounds-en-wav as it is."""

import numpy as np
import pytest

from mmjax.data import files, prompts, sounds

pytestmark = pytest.mark.weights


def test_all_clips_of_the_package():
  found = prompts.clips()
  assert len(found) == 568
  strange = {clip.name for clip in found if not clip.speech}
  assert strange == {
    'ascending-2tone', 'descending-2tone', 'beep', 'beeperr', 'confbridge-join', 'confbridge-leave', 'tt-monkeys',
    *(f'silence/{n}' for n in range(1, 11)),
  }  # fmt: skip
  waves, kept = files.readable([clip.path for clip in found], lambda path: sounds.load(path, prompts.RATE))
  assert len(kept) == 568
  assert sum(map(len, waves)) / prompts.RATE == pytest.approx(1528.7, abs=1)
  assert all(np.abs(wave).max() <= 1 for wave in waves)


def test_the_splits_of_the_package():
  parts = prompts.splits(prompts.clips())
  assert {name: len(part) for name, part in parts.items()} == {'train': 386, 'validation': 57, 'test': 108}
  said = {name: {clip.said for clip in part} for name, part in parts.items()}
  assert {name: len(each) for name, each in said.items()} == {'train': 356, 'validation': 51, 'test': 102}
  assert len(set.union(*said.values())) == 356 + 51 + 102
