"""Made-up clips: what moves and what sounds can be read off, and neither alone says anything about the class."""

import numpy as np
import pytest

from mmjax.data import clips
from mmjax.data.pipeline import load


@pytest.fixture(scope='module')
def drawn():
  return clips.generate(400, 3)


def test_classes_are_the_sum_and_independent_of_either(drawn):
  assert drawn['label'].tolist() == ((drawn['motion'] + drawn['sound']) % 4).tolist()
  for name in ('motion', 'sound'):
    table = np.zeros((4, 4), int)
    np.add.at(table, (drawn[name], drawn['label']), 1)
    assert (table == 25).all()  # each motion, and each sound, has each class as often


def test_the_shape_moves_as_it_is_said(drawn):
  """By where the frames differ from the colour of the ground."""
  video = drawn['video'].astype(float)
  away = abs(video - np.median(video, (1, 2, 3), keepdims=True)).sum(-1)
  weight = np.where(away > 100, away, 0)
  rows, columns = np.mgrid[: clips.SIDE, : clips.SIDE]
  x, y = ((weight * at).sum((2, 3)) / weight.sum((2, 3)) for at in (columns, rows))
  right, down = x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]
  way = np.where(abs(right) > abs(down), np.where(right > 0, 0, 2), np.where(down > 0, 1, 3))
  assert (way == drawn['motion']).mean() > 0.99


def test_the_sound_does_as_it_is_said(drawn):
  """By how often the wave crosses zero in the first and the last third, and how loud it is in parts."""
  wave = drawn['wave'].astype(float)
  third = clips.SAMPLES // 3
  crossings = lambda part: (np.diff(np.sign(np.where(abs(part) < 1500, 0, part)), axis=1) != 0).sum(1)
  ratio = np.log2((crossings(wave[:, -third:]) + 1) / (crossings(wave[:, :third]) + 1))
  loud = wave.reshape(len(wave), 20, -1).std(2)
  pulsing = loud.min(1) < loud.max(1) / 4
  found = np.where(pulsing, 3, np.where(ratio > 0.3, 0, np.where(ratio < -0.3, 1, 2)))
  assert (found == drawn['sound']).mean() > 0.95


def test_it_is_read_back_as_drawn(tmp_path, monkeypatch):
  monkeypatch.setattr(clips.Clips, 'SPLITS', {'train': (5, 3)})
  source, first = load(clips.Clips, 'train', tmp_path), clips.generate(5, 3)
  for name in first:
    np.testing.assert_array_equal(source[2][name], first[name][2])
