"""Scenes drawn from text: how samples are judged, by hand."""

import types

import jax
import numpy as np
import pytest

from experiments import painting, pairs
from mmjax.data import scenes
from mmjax.errors import UserError


@pytest.fixture(scope='module')
def drawn():
  arrays = scenes.generate(6, 3, unseen=False)
  return arrays['image'], arrays['attributes']


def test_real_pictures_show_what_is_said_and_others_do_not(drawn):
  image, said = drawn
  found = painting.scores(image, said, lambda image: said)
  assert found[painting.WHOLE] == (1, 1, 1) and found[painting.JUDGED] == (1, 1, 1)
  wrong = said.copy()
  wrong[:3, 1, 1] = 1 - wrong[:3, 1, 1]  # the shape on the right, of half of them
  found = painting.scores(image, wrong, lambda image: said)
  assert found[painting.WHOLE][0] == found[painting.JUDGED][0] == found['right shape'][0] == 0.5
  assert found['left colour'] == found['left shape'] == found['right colour'] == (1.0,)


def test_samples_of_one_text_are_drawn_together(drawn):
  image, said = (np.repeat(a[:2], 50, 0) for a in drawn)
  wrong = np.concatenate([said[:50], 1 - said[50:]])  # all of the second text are wrong
  low, high = painting.scores(image, wrong, lambda image: said, each=50)[painting.WHOLE][1:]
  assert (low, high) == (0, 1)  # two texts tell no more than that


def test_parts_are_of_one_size_and_in_order():
  sizes, given = [], {'a': np.arange(450), 'b': np.arange(450) * 2}

  def call(part):
    sizes.append(len(part['a']))
    return part['a'] + part['b']

  np.testing.assert_array_equal(pairs.in_parts(call, given, painting.AT_ONCE), 3 * np.arange(450))
  assert sizes == [200, 200, 200]
  numbers = pairs.in_parts(lambda part, n: part * 0 + n, np.arange(250), painting.AT_ONCE, numbered=True)
  assert numbers[[0, 199, 200, 249]].tolist() == [0, 0, 1, 1]


def test_a_perfect_painter_is_judged_perfect(monkeypatch, tmp_path):
  monkeypatch.setattr(scenes.Scenes, 'SPLITS', {name: (8, seed) for name, (_, seed) in scenes.SPLITS.items()})
  task = painting.prepare('scenes', str(tmp_path))
  known = {split: task.examples(split) for split in painting.TESTS}
  by_text = {bytes(e['text']): e['image'] for examples in known.values() for e in examples}
  stages = types.SimpleNamespace(
    draw=lambda text, key: np.stack([by_text[bytes(row)] for row in text]),
    rank=lambda text, image: np.zeros(image.shape[:2]),
    reconstruct=lambda image: image ^ 1,  # each number off by one
    classifier=painting.Classifier((4, 4)),
    variables={},
  )
  image = known['test'][0]['image'][None]
  stages.variables['classifier'] = stages.classifier.init(jax.random.key(0), image, train=False)
  found = painting.judge(stages, task, texts=3, candidates=2, seed=0)
  whole = {name: row[painting.WHOLE][0] for name, row in found['rows'].items()}
  chance = whole.pop('real pictures of other texts (chance)')
  assert set(whole.values()) == {1.0} and chance < 1
  assert found['rows']['real pictures through the codes']['PSNR'] == pytest.approx([20 * np.log10(255)] * 3)
  assert len(painting.galleries(found)) == 3 and painting.table(found)['rows'][0][painting.WHOLE].startswith('100.0')


def test_an_unknown_set_is_refused():
  with pytest.raises(UserError, match=r"data\.name: found 'scene', expected one of .*did you mean 'scenes'"):
    painting.prepare('scene', '')
