"""Made-up records: the rule behind the labels, what each part shows, and what it leaves open."""

import numpy as np
import pytest

from mmjax.data import records
from mmjax.data.pipeline import load


@pytest.fixture(scope='module')
def drawn():
  return records.generate(600, 3)


def test_labels_follow_the_rule_and_are_balanced(drawn):
  factors = np.stack([drawn[name] for name in records.FACTORS], 1)
  assert drawn['label'].tolist() == [records.assess(*record) for record in factors]
  assert (np.bincount(drawn['label'], minlength=4) > 100).all()


@pytest.mark.parametrize(('record', 'label'), [
  ((0, 0, 0), 'well'), ((1, 0, 1), 'well'), ((0, 1, 1), 'infection elsewhere'), ((1, 0, 0), 'new shadow'),
  ((1, 1, 0), 'pneumonia'),
])  # fmt: skip
def test_the_rule_by_hand(record, label):
  assert records.LABELS[records.assess(*record)] == label


def test_all_parts_tell_and_none_does_alone():
  assert records.best(*records.PARTS) == pytest.approx(1)
  assert [records.best(part) for part in records.PARTS] == pytest.approx([5 / 12, 1 / 2, 5 / 12])


def test_the_note_says_what_was_known(drawn):
  for text, known in zip(drawn['text'], drawn['known'], strict=True):
    assert [any(said in text for said in side) for side in records.SAID] == [not known, bool(known)]
    assert len(text.split()) + 2 <= records.LENGTH


def test_the_picture_has_the_shadow(drawn):
  """The brightest small patch inside the lungs."""
  grey = drawn['image'][..., 0].astype(float)
  inside = [(y, x) for y in range(10, 21) for x in (7, 8, 9, 10, 19, 20, 21, 22)]
  patches = np.stack([grey[:, y : y + 3, x : x + 3].mean((1, 2)) for y, x in inside], 1)
  bright = patches.max(1) - np.median(patches, 1)
  assert bright[drawn['shadow'] == 1].mean() > bright[drawn['shadow'] == 0].mean() + 25


def test_measurements_show_fever_and_are_taken_now_and_then(drawn):
  warm = np.where(drawn['seen'][..., 1], drawn['series'][..., 1], 0).max(1)
  assert ((warm > 37.6) == drawn['fever'].astype(bool)).mean() > 0.9
  assert 0.4 < drawn['seen'].mean() < 0.6 and drawn['seen'][:, -3:, 1].any(1).all()
  assert not drawn['series'][~drawn['seen']].any()
  assert (np.diff(drawn['time'], axis=1) >= 0).all() and drawn['time'].max() <= records.HOURS


def test_it_is_read_back_as_drawn(tmp_path, monkeypatch):
  monkeypatch.setattr(records.Records, 'SPLITS', {'train': (5, 3)})
  source, first = load(records.Records, 'train', tmp_path), records.generate(5, 3)
  for name in ('image', 'time', 'series', 'seen', 'label'):
    np.testing.assert_array_equal(source[2][name], first[name][2])
  assert source[2]['text'].decode() == first['text'][2]
