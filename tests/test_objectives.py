"""Objectives by hand: sums, counts and weights, and what must not change them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.objectives import (
  absolute_error,
  answer_distribution,
  answer_metrics,
  answers,
  captions,
  contrastive,
  dalle,
  detection,
  dvae,
  lxmert_pretraining,
  overlap,
  smoothed,
  soft_answers,
  words_of_image,
)

LN3 = np.log(3.0)
SCORES = jnp.array([[LN3, 0.0], [0.0, LN3], [LN3, 0.0]])  # probabilities 3/4 and 1/4
BATCH = {
  'answer': jnp.array([0, 0, 1]),
  'weight': jnp.array([1.0, 1.0, 0.0]),
  'question_type': jnp.array([[True, False], [False, True], [True, True]]),
}


def test_answers_by_hand():
  losses, metrics = answers({'answers': SCORES}, BATCH)
  total, count, weight = losses['answer']
  assert total == pytest.approx(np.log(4 / 3) + np.log(4), rel=1e-6)  # the third row has weight 0
  assert (float(count), weight) == (2.0, 1.0)
  np.testing.assert_array_equal(metrics['accuracy'], [[1, 0], [1, 1]])  # right and asked, of each type


def test_absolute_error_by_hand():
  out = {'answers': jnp.array([[1.0], [-2.0], [9.0]])}
  losses, metrics = absolute_error(out, {'target': jnp.array([0.5, 1.0, 0.0]), 'weight': BATCH['weight']})
  total, count, weight = losses['error']
  assert (float(total), float(count), weight, metrics) == (3.5, 2.0, 1.0, {})  # the third row has weight 0


def test_accuracy_counts_each_type_of_a_question():
  batch = BATCH | {'weight': jnp.ones(3), 'answer': jnp.array([0, 0, 0])}
  np.testing.assert_array_equal(answer_metrics(SCORES, batch)['accuracy'], [[2, 1], [2, 2]])


def test_soft_answers_by_hand():
  labels = jnp.array([[1.0, 0.3], [0.0, 0.0], [1.0, 1.0]])
  losses, metrics = soft_answers({'answers': SCORES}, BATCH | {'answer_scores': labels})
  bce = lambda p, y: -(y * np.log(p) + (1 - y) * np.log(1 - p))
  expected = bce(0.75, 1.0) + bce(0.5, 0.3) + bce(0.5, 0.0) + bce(0.75, 0.0)  # sigmoid of ln 3 is 3/4
  assert losses['answer'][0] == pytest.approx(expected, rel=1e-6)
  assert losses['answer'][1:] == (2.0, 1.0)
  np.testing.assert_array_equal(metrics['accuracy'], [[1, 0], [1, 1]])


def test_soft_answers_without_scores_are_one_hot():
  found = soft_answers({'answers': SCORES}, BATCH)[0]['answer'][0]
  told = soft_answers({'answers': SCORES}, BATCH | {'answer_scores': jax.nn.one_hot(BATCH['answer'], 2)})[0]['answer'][
    0
  ]
  assert found == pytest.approx(float(told), rel=1e-6)


def test_answer_distribution_by_hand():
  labels = jnp.array([[0.5, 0.5], [1.0, 0.0], [0.3, 0.9]])
  losses, metrics = answer_distribution({'answers': SCORES}, BATCH | {'answer_scores': labels})
  divergence = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)  # of (1/2, 1/2) from (3/4, 1/4)
  assert losses['answer'][0] == pytest.approx(divergence + np.log(4), rel=1e-6)  # 0 log 0 is 0
  assert losses['answer'][1:] == (2.0, 1.0)
  np.testing.assert_array_equal(metrics['accuracy'], [[1, 0], [1, 1]])


def test_answer_distribution_without_scores_is_the_loss_of_one_answer():
  found = answer_distribution({'answers': SCORES}, BATCH)[0]['answer'][0]
  assert found == pytest.approx(float(answers({'answers': SCORES}, BATCH)[0]['answer'][0]), rel=1e-6)


# LXMERT's five losses on two rows of three words and two regions; row 1 has weight 0 in some tests.
OUT = {
  'words': jnp.zeros((2, 3, 4)).at[0, 0, 2].set(np.log(5.0)),  # 5 of 8 on word 2, else 1 of 4 on each
  'matched': jnp.array([[0.0, LN3], [0.0, 0.0]]),
  'answers': jnp.zeros((2, 5)),
  'objects': jnp.zeros((2, 2, 3)).at[0, 1, 1].set(np.log(2.0)),
  'attributes': jnp.zeros((2, 2, 6)),
  'features': jnp.array([[[0.5, 2.0], [1.0, 1.0]], [[0.0, 0.0], [3.0, 0.0]]]),
}
PRETRAIN = {
  'word_label': jnp.array([[2, -1, 3], [-1, 0, -1]]),
  'matched': jnp.array([1, 0]),
  'answer': jnp.array([-1, 4]),
  'object': jnp.array([[0, 1], [2, 2]]),
  'object_weight': jnp.array([[1.0, 0.5], [0.0, 0.2]]),
  'attribute': jnp.array([[0, 1], [2, 2]]),
  'attribute_weight': jnp.array([[0.1, 0.0], [1.0, 0.0]]),
  'feature': jnp.zeros((2, 2, 2)),
  'feature_weight': jnp.array([[1.0, 0.0], [0.0, 1.0]]),
  'weight': jnp.ones(2),
}


@pytest.fixture(scope='module')
def pretrained():
  return jax.jit(lxmert_pretraining)(OUT, PRETRAIN)


@pytest.mark.parametrize('name, total, count, weight', [
  ('words', np.log(8 / 5) + np.log(4) + np.log(4), 3, 1.0),   # three labelled words of six
  ('matched', np.log(4 / 3) + np.log(2), 2, 1.0),
  ('answers', np.log(5), 1, 1.0),   # one labelled row
  ('objects', np.log(3) + 0.5 * np.log(2) + 0.2 * np.log(3), 4, 1 / 0.15),   # by confidence, over all regions
  ('attributes', 0.1 * np.log(6) + np.log(6), 4, 1 / 0.15),
  ('features', (0.125 + 1.5) / 2 + (2.5 + 0) / 2, 4, 1 / 0.15),   # smooth L1: x^2 / 2 within 1, |x| - 1/2 beyond
])  # fmt: skip
def test_pretraining_losses_by_hand(pretrained, name, total, count, weight):
  found = pretrained[0][name]
  assert found[0] == pytest.approx(total, rel=1e-5)
  assert float(found[1]) == count
  assert found[2] == pytest.approx(weight)


def test_pretraining_accuracies_by_hand(pretrained):
  metrics = pretrained[1]
  found = {name: tuple(map(float, value)) for name, value in metrics.items()}
  assert found == {
    'accuracy/words': (2, 3),   # word 2 of row 0 and word 0 of row 1, where all scores are equal and the first wins
    'accuracy/matched': (2, 2),
    'accuracy/answers': (0, 1),
    'accuracy/objects': (2, 3),   # regions of weight 0 are not asked
    'accuracy/attributes': (1, 2),
  }  # fmt: skip


def test_pretraining_leaves_out_what_the_model_does_not_score():
  out = {name: a for name, a in OUT.items() if name in ('words', 'features')}
  losses, metrics = jax.eval_shape(lxmert_pretraining, out, PRETRAIN)
  assert set(losses) == {'words', 'features'}
  assert set(metrics) == {'accuracy/words'}


OBJECTIVES = [
  (answers, {'answers': SCORES}, BATCH),
  (soft_answers, {'answers': SCORES}, BATCH),
  (answer_distribution, {'answers': SCORES}, BATCH),
  (lxmert_pretraining, OUT, PRETRAIN | {'weight': jnp.array([1.0, 0.0])}),
]
NAMES = [objective.__name__ for objective, _, _ in OBJECTIVES]


@pytest.mark.parametrize('objective, out, batch', OBJECTIVES, ids=NAMES)
def test_rows_of_weight_0_change_nothing(objective, out, batch):
  drop = np.asarray(batch['weight']) == 0
  rng = np.random.default_rng(0)
  noise = lambda a: jnp.where(drop.reshape(-1, *[1] * (a.ndim - 1)), rng.normal(size=a.shape) * 9, a)
  other = {name: noise(a) for name, a in out.items()}
  labels = {name: a.at[np.flatnonzero(drop)].set(a[0]) for name, a in batch.items() if name != 'weight'}
  run = jax.jit(objective)
  found, expected = run(other, batch | labels), run(out, batch)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
  keep = np.flatnonzero(~drop)
  shorter = run({name: a[keep] for name, a in out.items()}, {name: a[keep] for name, a in batch.items()})
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), shorter, expected)
  grads = jax.jit(jax.grad(lambda out: sum(total for total, _, _ in objective(out, batch)[0].values())))(out)
  for name, g in grads.items():
    assert not np.asarray(g)[drop].any(), name
    assert np.isfinite(g).all()
  assert any(np.asarray(g)[~drop].any() for g in grads.values())


@pytest.mark.parametrize('objective, out, batch', OBJECTIVES, ids=NAMES)
def test_counts_depend_on_the_batch_only(objective, out, batch):
  run = jax.jit(objective)
  counts = [{name: float(count) for name, (_, count, _) in run(o, batch)[0].items()}
            for o in (out, jax.tree.map(lambda a: a * 0 + 7, out))]  # fmt: skip
  assert counts[0] == counts[1]
  assert all(count > 0 for name, count in counts[0].items() if name != 'answers')


def test_labels_to_ignore_take_no_part():
  loss = jax.jit(lambda out: lxmert_pretraining(out, PRETRAIN)[0])
  words = OUT['words'].at[0, 1].set(jnp.arange(4.0)).at[1, 0].set(9.0)
  moved = OUT | {'words': words, 'answers': OUT['answers'].at[0].set(jnp.arange(5.0))}
  for name in ('words', 'answers'):
    assert float(loss(moved)[name][0]) == float(loss(OUT)[name][0])
  grads = jax.grad(lambda out: loss(out)['words'][0])(OUT)['words']
  np.testing.assert_array_equal(np.abs(grads).max(-1) > 0, PRETRAIN['word_label'] >= 0)


def test_nothing_to_learn_is_a_count_of_0_and_no_nan():
  batch = PRETRAIN | {'word_label': -jnp.ones((2, 3), int), 'answer': -jnp.ones(2, int)}
  losses, metrics = jax.jit(lxmert_pretraining)(OUT, batch)
  for name in ('words', 'answers'):
    assert tuple(map(float, losses[name])) == (0, 0, 1)
    assert tuple(map(float, metrics[f'accuracy/{name}'])) == (0, 0)


def test_overlap_by_hand():
  a = jnp.array([[[0, 0, 2, 2], [3, 3, 3, 3]]]) / 4
  b = jnp.array([[[1, 0, 3, 2], [0, 0, 2, 2], [2, 2, 4, 4]]]) / 4
  np.testing.assert_allclose(overlap(a, b), [[[1 / 3, 1, 0], [0, 0, 0]]], atol=1e-6)


def test_detection_by_hand():
  truth = jnp.array([[[0.0, 0.0, 0.2, 0.2], [0.6, 0.5, 0.8, 1.0]]] * 2)  # centres in cells (0, 0) and (1, 2) of 2 x 3
  boxes = jnp.zeros((2, 2, 3, 4)).at[:, 0, 0].set(truth[0, 0]).at[:, 1, 2].set(truth[0, 1] + jnp.array([0.1, 0, 0, 0]))
  scores = jnp.full((2, 2, 3), -LN3).at[:, 0, 0].set(LN3)  # 1/4 everywhere, 3/4 in the first cell
  out = {'objectness': scores, 'cell_boxes': boxes, 'boxes': boxes[:, [0, 1], [0, 2]]}
  batch = {'boxes': truth, 'weight': jnp.array([[1.0, 0.0], [0.0, 0.0]])}  # the second image only fills up
  losses, metrics = detection(out, batch)
  total, count, weight = losses['objectness']
  assert total == pytest.approx(5 * np.log(4 / 3) + np.log(4), rel=1e-5)
  assert (float(count), weight) == (2.0, 1.0)
  total, count, _ = losses['corners']
  assert (float(total), float(count)) == (pytest.approx(0.1 * 3 / 4, rel=1e-4), 2.0)  # in cells, of four numbers
  assert tuple(map(float, metrics['objects found'])) == (1.0, 2.0)  # the second is overlapped by exactly a half


# --- pairs of text and image -----------------------------------------------------------------------------------------


def test_labels_are_smoothed_by_hand():
  scores = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]))
  found = smoothed(scores, jnp.array([0, -1]), 0.3)  # 0.8 for the right one, 0.1 for each of the others
  assert found[0] == pytest.approx(0.8 * np.log(2) + 0.2 * np.log(4), rel=1e-6)
  assert found[1] == 0


def test_captions_by_hand():
  scores = jnp.log(jnp.array([0.5, 0.25, 0.25]))
  out = {'words': jnp.tile(scores, (2, 4, 1))}
  batch = {'text': jnp.array([[2, 0, 1, 2], [2, 0, 0, 0]]), 'weight': jnp.array([1.0, 0.0]),
           'text_mask': jnp.array([[True, True, True, False], [True] * 4])}  # fmt: skip
  losses, metrics = captions(out, batch, smoothing=0.0)
  assert losses['words'][0] == pytest.approx(np.log(2) + np.log(4), rel=1e-6)  # of the words 0 and 1
  assert float(losses['words'][1]) == 2 and [float(n) for n in metrics['accuracy/words']] == [1, 2]


def pairs(rows=6, seed=0):
  text, image = jax.random.normal(jax.random.key(seed), (2, rows, 4))
  unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
  return {'text': unit(text), 'image': unit(image), 'scale': jnp.float32(3.0)}


def test_contrast_by_hand():
  out = {'text': jnp.eye(2), 'image': jnp.array([[1.0, 0.0], [1.0, 0.0]]), 'scale': jnp.float32(LN3)}
  losses, metrics = contrastive(out, {'weight': jnp.ones(2)})
  # text 0: alike, 1/2; text 1: alike; image 0: 3/4 on text 0; image 1: 1/4 on its own
  assert losses['contrast'][0] == pytest.approx((2 * np.log(2) + np.log(4 / 3) + np.log(4)) / 2, rel=1e-6)
  assert [float(n) for n in metrics['accuracy/image to text']] == [1, 2]


def test_a_row_that_fills_up_is_no_rival():
  out, weight = pairs(), jnp.array([1.0, 1, 1, 1, 0, 0])
  whole = contrastive(out, {'weight': weight})
  cut = contrastive({k: v[:4] if v.ndim else v for k, v in out.items()}, {'weight': weight[:4]})
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, cut)
  grad = jax.grad(lambda text: contrastive(out | {'text': text}, {'weight': weight})[0]['contrast'][0])(out['text'])
  assert np.isfinite(grad).all() and not grad[4:].any() and grad[:4].any()


def test_contrast_over_devices_is_that_of_one():
  out, weight = pairs(), jnp.array([1.0, 1, 1, 1, 1, 0])
  whole = contrastive(out, {'weight': weight})
  shard = lambda x: x.reshape(3, 2, *x.shape[1:])
  each = jax.vmap(
    lambda text, image, row: contrastive(
      {'text': text, 'image': image, 'scale': out['scale']}, {'weight': row}, 'data'
    ),
    axis_name='data',
  )(shard(out['text']), shard(out['image']), shard(weight))
  total = jax.tree.map(lambda a: a.sum(0), each)
  np.testing.assert_allclose(total[0]['contrast'][0], whole[0]['contrast'][0], rtol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), total[1], whole[1])


def test_words_of_an_image_by_hand():
  """Two words of equal share against a softmax of four; special ids and padding are no words."""
  out = {'bag': jnp.log(jnp.array([[0.0, 0, 0, 0, 0, 0.5, 0.25, 0.25], [1.0] * 8]) + 1e-9)}
  batch = {'text': jnp.array([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0]]), 'weight': jnp.array([1.0, 0.0])}
  (total, count, weight), metrics = *words_of_image(out, batch)[0].values(), words_of_image(out, batch)[1]
  assert float(total) == pytest.approx(-(np.log(0.5) + np.log(0.25)) / 2, rel=1e-5)
  assert (float(count), weight, metrics) == (1, 1, {})


def test_a_contrast_uses_no_larger_scale_than_the_papers():
  vectors = jnp.eye(2)[:, ::-1]
  loss = lambda scale: float(
    contrastive({'text': vectors, 'image': -vectors, 'scale': jnp.array(scale)}, {'weight': jnp.ones(2)})[0][
      'contrast'
    ][0]
  )
  assert loss(1e4) == loss(100.0) > loss(50.0)


def test_dalle_by_hand():
  """Two words and one code of four ids; all are wrong alike but the code, which is right."""
  logits = jnp.zeros((1, 3, 4)).at[0, 2, 3].set(50.0)
  losses, metrics = dalle(
    {'logits': logits, 'next': jnp.array([[0, 1, 3]])}, {'text': jnp.ones((1, 2), int), 'weight': jnp.ones(1)}
  )
  words, codes = losses['words'], losses['codes']
  assert float(words[0]) == pytest.approx(2 * np.log(4)) and (float(words[1]), words[2]) == (2, 1 / 8)
  assert float(codes[0]) == pytest.approx(0, abs=1e-5) and (float(codes[1]), codes[2]) == (1, 7 / 8)
  assert tuple(map(float, metrics['accuracy/codes'])) == (1, 1)


def test_dvae_by_hand():
  out = {'image': jnp.ones((2, 2, 2, 3)), 'target': jnp.zeros((2, 2, 2, 3)), 'logits': jnp.zeros((2, 1, 1, 8))}
  losses, _ = dvae(out, {'weight': jnp.array([1.0, 0.0])}, uniform=2.0)
  assert tuple(map(float, losses['pixels'])) == (1, 1, 1)
  assert losses['uniform'][2] == 2 and float(losses['uniform'][0]) == pytest.approx(0, abs=1e-6)
  assert list(dvae(out, {'weight': jnp.ones(2)})[0]) == ['pixels']
