"""Masks of pre-training: rates, labels and what may never be shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import masking

MASK, SPECIAL, VOCAB = 4, 5, 50
RIVALS = np.array([[False, True, False], [True, False, False], [False, False, False]])


@pytest.fixture(scope='module')
def words():
  text = jnp.concatenate([jnp.full((4000, 1), 2), jax.random.randint(jax.random.key(0), (4000, 10), SPECIAL, VOCAB)], 1)
  return np.asarray(text), *map(
    np.asarray, masking.masked_words(jax.random.key(1), text, mask=MASK, special=SPECIAL, vocab=VOCAB)
  )


def test_fifteen_percent_of_words_are_to_be_said_again(words):
  text, shown, label = words
  chosen = label >= 0
  assert not chosen[:, 0].any()  # [CLS] is no word
  assert chosen[:, 1:].mean() == pytest.approx(0.15, abs=0.01)
  np.testing.assert_array_equal(label[chosen], text[chosen])
  np.testing.assert_array_equal(shown[~chosen], text[~chosen])


def test_of_these_eight_of_ten_are_masked(words):
  text, shown, label = words
  chosen = label >= 0
  assert (shown[chosen] == MASK).mean() == pytest.approx(0.8, abs=0.02)
  same = 0.1 + 0.1 / (VOCAB - SPECIAL)
  assert (shown[chosen] == text[chosen]).mean() == pytest.approx(same, abs=0.02)
  assert shown[chosen][shown[chosen] != MASK].min() >= SPECIAL


@pytest.fixture(scope='module')
def batch():
  n, k, a, length, r, f = 40, 20, 3, 6, 5, 7
  question = np.full((n, k, length), 10, np.int32)
  statement = np.broadcast_to(np.arange(a, dtype=np.int32)[:, None] + 20, (n, k, a, length)).copy()
  rng = np.random.default_rng(0)
  return {
    'question': question,
    'statement': statement,
    'answer': rng.integers(0, 2, (n, k)).astype(np.int32),
    'regions': rng.normal(size=(n, r, f)).astype(np.float32),
    'region_label': rng.integers(0, 12, (n, r)).astype(np.int32),
    'weight': np.ones((n, k), np.float32),
  }


def draw(batch, key):
  return jax.tree.map(
    np.asarray, masking.lxmert(batch, jax.random.key(key), mask=MASK, special=SPECIAL, vocab=VOCAB, rivals=RIVALS)
  )


def test_half_ask_and_the_rest_state_half_of_it_wrong(batch):
  labels = draw(batch, 0)['labels']
  asks = labels['matched'] == -1
  assert asks.mean() == pytest.approx(0.5, abs=0.06)
  np.testing.assert_array_equal(labels['answer'] >= 0, asks)
  np.testing.assert_array_equal(labels['answer'][asks], batch['answer'].reshape(-1)[asks])
  assert labels['matched'][~asks].mean() == pytest.approx(0.5, abs=0.08)


def test_a_wrong_statement_says_a_rival_answer(batch):
  drawn = draw(batch, 0)
  labels, shown = drawn['labels'], drawn['question'].reshape(-1, 6)
  for row in np.flatnonzero(labels['matched'] >= 0):
    said = shown[row][(labels['word_label'][row] < 0)]
    answer = batch['answer'].reshape(-1)[row]
    assert set(said) <= {20 + (answer if labels['matched'][row] else 1 - answer)}
  asked = shown[labels['matched'] == -1]
  assert (asked[labels['word_label'][labels['matched'] == -1] < 0] == 10).all()  # a bare question shows no answer


def test_masked_regions_are_zero_and_to_be_said(batch):
  drawn = draw(batch, 0)
  hidden = drawn['labels']['feature_weight'].reshape(40, 20, 5)[:, 0] > 0
  assert hidden.mean() == pytest.approx(0.15, abs=0.06)
  assert (drawn['regions'][hidden] == 0).all()
  np.testing.assert_array_equal(drawn['regions'][~hidden], batch['regions'][~hidden])
  np.testing.assert_array_equal(drawn['labels']['feature'], np.repeat(batch['regions'], 20, 0))


def test_another_key_another_mask(batch):
  assert (draw(batch, 0)['question'] != draw(batch, 1)['question']).any()
  np.testing.assert_array_equal(draw(batch, 0)['question'], draw(batch, 0)['question'])
