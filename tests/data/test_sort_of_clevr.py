import hashlib
import itertools

import numpy as np
import pytest

from mmjax.data import pipeline
from mmjax.data import sort_of_clevr as soc
from mmjax.errors import UserError

# red        green      blue      orange    gray      yellow
HAND = soc.Scene(np.array([(10, 10), (37, 38), (38, 60), (60, 37), (60, 10), (10, 60)]), np.array([0, 1, 0, 1, 1, 1]))


@pytest.mark.parametrize(
  'color, question_type, answer',
  [
    ('red', 'shape', 'square'),
    ('green', 'shape', 'circle'),
    ('green', 'left', 'yes'),
    ('blue', 'left', 'no'),
    ('orange', 'top', 'yes'),
    ('green', 'top', 'no'),
    ('red', 'closest', 'circle'),
    ('green', 'closest', 'square'),
    ('gray', 'furthest', 'circle'),
    ('orange', 'furthest', 'square'),
    ('red', 'count', '1'),
    ('gray', 'count', '3'),
  ],
)
def test_hand_made_scene(color, question_type, answer):
  assert soc.solve(HAND, color, question_type) == answer


def slow_answer(center, shape, color, question_type):
  """One object at a time, as a person would count."""
  x, y = center[color]
  away = sorted((np.hypot(x - center[o][0], y - center[o][1]), o) for o in range(6) if o != color)
  if question_type == 'left':
    return 'yes' if x < 37.5 else 'no'
  if question_type == 'top':
    return 'yes' if y < 37.5 else 'no'
  if question_type == 'count':
    return str(sum(shape[o] == shape[color] for o in range(6) if o != color))
  far = min(o for d, o in away if d == away[-1][0])
  return soc.SHAPES[shape[{'shape': color, 'closest': away[0][1], 'furthest': far}[question_type]]]


def test_answers_equal_a_slow_solver():
  scene = soc.scenes(300, np.random.RandomState(0))
  table = soc.answers(scene)
  for m, color, (t, name) in itertools.product(range(300), range(6), enumerate(soc.QUESTION_TYPES)):
    assert soc.ANSWERS[table[m, color, t]] == slow_answer(scene.center[m], scene.shape[m], color, name)


def test_an_object_is_never_its_own_neighbour_and_a_tie_goes_to_the_first_color():
  center = np.array([(35, 35), (5, 35), (65, 35), (35, 69), (69, 69), (5, 69)])  # green and blue 30 px from red
  assert soc.solve(soc.Scene(center, np.array([0, 1, 0, 0, 0, 0])), 'red', 'closest') == 'circle'
  assert soc.solve(soc.Scene(center, np.array([1, 0, 1, 1, 1, 1])), 'red', 'closest') == 'square'


def test_numbers_of_the_paper():
  assert len(set(soc.SENTENCES)) == 36
  assert {name: number for name, (number, _) in soc.SPLITS.items()} == {
    'train': 9800,
    'validation': 500,
    'test200': 200,
    'test2000': 2000,
  }
  assert len({seed for _, seed in soc.SPLITS.values()}) == 4
  arrays, scene = soc.generate(3000, 5)
  assert scene.center.min() == 5 and scene.center.max() == 69
  apart = ((scene.center[:, :, None] - scene.center[:, None]) ** 2).sum(-1)[:, ~np.eye(6, dtype=bool)]
  assert apart.min() == 100
  assert abs(scene.shape.mean() - 0.5) < 0.02
  assert arrays['question_type'].shape == (3000, 20)
  assert (arrays['question_type'][:, :10] < 3).all() and (arrays['question_type'][:, 10:] >= 3).all()
  assert np.allclose(np.bincount(arrays['question_type'].ravel()) / 60000, 1 / 6, atol=0.01)
  share = np.bincount(arrays['answer'].ravel(), minlength=10) / 60000
  np.testing.assert_allclose(share[:4], [1 / 6, 1 / 6, 1 / 4, 1 / 4], atol=0.015)
  np.testing.assert_allclose(share[4:], np.array([1, 5, 10, 10, 5, 1]) / 32 / 6, atol=0.005)  # five fair coins


def test_question_and_answer_belong_together():
  arrays, scene = soc.generate(50, 6)
  for m, q in itertools.product(range(50), range(20)):
    color, kind = divmod(soc.SENTENCES.index(arrays['question'][m, q]), 6)
    assert kind == arrays['question_type'][m, q]
    one = soc.Scene(scene.center[m], scene.shape[m])
    assert soc.ANSWERS[arrays['answer'][m, q]] == soc.solve(one, soc.COLORS[color], soc.QUESTION_TYPES[kind])


def test_regions_show_their_object_in_no_telling_order():
  arrays, scene = soc.generate(2000, 7)
  x1, y1, x2, y2 = np.moveaxis(arrays['boxes'] * soc.SIDE, -1, 0)
  np.testing.assert_allclose(x2 - x1, 11, atol=1e-4)
  each = np.arange(2000)[:, None]
  np.testing.assert_allclose((x1 + x2 - 1) / 2, scene.center[each, arrays['color'], 0], atol=1e-4)
  np.testing.assert_allclose((y1 + y2 - 1) / 2, scene.center[each, arrays['color'], 1], atol=1e-4)
  np.testing.assert_array_equal(arrays['shape'], scene.shape[each, arrays['color']])
  assert (arrays['crops'][:, :, 5, 5] == soc.RGB[arrays['color']]).all()  # the middle is never covered
  colors = np.stack([np.bincount(column, minlength=6) for column in arrays['color'].T]) / 2000
  np.testing.assert_allclose(colors, 1 / 6, atol=0.035)  # every colour in every place
  alone = soc.Scene(HAND.center[None], HAND.shape[None])
  crops = soc.crop(soc.draw(alone), alone.center)[0]
  inside = (crops == soc.RGB[:, None, None]).all(-1)
  np.testing.assert_array_equal(inside, np.stack([soc.CIRCLE if s else np.ones((11, 11)) for s in HAND.shape]))
  assert (crops[~inside] == 255).all()


def test_regions_are_found_again_in_a_bare_picture():
  arrays, scene = soc.generate(300, 8)
  for m in range(300):
    boxes, crops = soc.find_regions(arrays['image'][m])
    np.testing.assert_array_equal(boxes, soc.box(scene.center[m]))
    np.testing.assert_array_equal(crops, arrays['crops'][m][np.argsort(arrays['color'][m])])


def test_other_pictures_are_refused():
  image = soc.generate(1, 9)[0]['image'][0]
  no_red, two_red, tinted = image.copy(), image.copy(), image.copy()
  red = (image == soc.RGB[0]).all(-1)
  no_red[red] = 255
  two_red[0, 0] = two_red[74, 74] = soc.RGB[0]
  tinted[3, 4] = 200, 1, 2
  for bad, why in [
    (np.zeros((64, 64, 3), np.uint8), 'shape (64, 64, 3)'),
    (image / 255, 'float64'),
    (no_red, 'one red object, found none'),
    (two_red, 'red pixels of another form'),
    (tinted, '(200, 1, 2) at x 4 y 3'),
  ]:
    with pytest.raises(UserError) as error:
      soc.find_regions(bad)
    assert why in str(error.value) and '\n' not in str(error.value)


def test_misspelt_question():
  with pytest.raises(UserError, match="'closets' is unknown; did you mean 'closest'"):
    soc.sentence('red', 'closets')
  with pytest.raises(UserError, match="color 'pink'"):
    soc.solve(HAND, 'pink', 'shape')


def test_data_never_change():
  """The same bytes on every machine and with every numpy; a change here needs a new VERSION."""
  arrays, _ = soc.generate(20, 1706)
  digest = hashlib.sha256(b''.join(np.ascontiguousarray(arrays[k]).tobytes() for k in ('image', 'boxes', 'answer')))
  assert digest.hexdigest()[:16] == '45e3c30be871565c'
  assert arrays['question'][0, 0] == 'is the red object at the top'


def test_disk_gives_back_what_was_drawn(tiny, tiny_dir):
  arrays, _ = soc.generate(*tiny.SPLITS['train'])
  source = pipeline.load(tiny, 'train', tiny_dir)
  assert len(source) == 40 and len(pipeline.load(tiny, 'validation', tiny_dir)) == 10
  for m, example in enumerate(source):
    assert [q.decode() for q in example['question']] == arrays['question'][m].tolist()
    for name in set(arrays) - {'question'}:
      np.testing.assert_array_equal(example[name], arrays[name][m])
      assert example[name].dtype == arrays[name].dtype
