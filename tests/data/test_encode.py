import numpy as np
import pytest

from mmjax.data import encode, pipeline, sort_of_clevr, tokens
from mmjax.errors import UserError

EXAMPLE = {
  'image': np.zeros((4, 4, 3), np.uint8),
  'question': [b'is it red', b'is it'],
  'question_type': np.int32([1, 0]),
  'answer': np.int32([3, 2]),
}


def test_a_missing_question_is_filled_up_with_weight_0():
  sentences = ('is it', 'is it red')
  batch = encode.pixels(tokens.build(sentences), sentences, 5, 4)(EXAMPLE)
  assert batch['question'].tolist() == [[2, 5, 6, 7, 3], [2, 5, 6, 3, 0], [2, 5, 6, 7, 3], [2, 5, 6, 7, 3]]
  assert batch['weight'].tolist() == [1, 1, 0, 0] and batch['weight'].dtype == np.float32
  assert batch['answer'].tolist() == [3, 2, 3, 3] and batch['question_type'].tolist() == [1, 0, 1, 1]


def test_errors_name_the_question():
  sentences = ('is it',)
  with pytest.raises(UserError, match='2 questions: expected at most 1'):
    encode.pixels(tokens.build(sentences), sentences, 5, 1)(EXAMPLE)
  with pytest.raises(UserError, match="'is it red'"):
    encode.pixels(tokens.build(sentences), sentences, 5, 2)(EXAMPLE)
  with pytest.raises(UserError, match='at most 3 tokens'):
    encode.pixels(tokens.build(sentences), sentences, 3, 2)


def test_boxes_come_along_where_they_are_known():
  encoder = encode.pixels(tokens.build(('is it', 'is it red')), ('is it', 'is it red'), 5, 2)
  assert 'boxes' not in encoder(EXAMPLE)
  boxes = np.float32([[0, 0, 0.5, 0.5]])
  assert encoder(EXAMPLE | {'boxes': boxes})['boxes'] is boxes


def test_regions(tiny, tiny_dir):
  source = pipeline.load(tiny, 'train', tiny_dir)
  tokenizer = tokens.build(sort_of_clevr.SENTENCES)
  out = encode.regions(tokenizer, sort_of_clevr.SENTENCES, sort_of_clevr.LENGTH)(source[3])
  assert {name: (value.dtype.name, value.shape) for name, value in out.items()} == {
    'question': ('int32', (20, 10)),
    'question_type': ('int32', (20,)),
    'answer': ('int32', (20,)),
    'weight': ('float32', (20,)),
    'regions': ('float32', (6, 363)),
    'boxes': ('float32', (6, 4)),
    'region_label': ('int32', (6,)),
  }
  np.testing.assert_allclose(out['regions'], source[3]['crops'].reshape(6, 363) / 255 * 2 - 1, atol=1e-6)
  assert out['regions'].min() >= -1 and out['regions'].max() <= 1
  assert sorted(out['region_label'] // 2) == list(range(6))
  np.testing.assert_array_equal(out['region_label'] % 2, source[3]['shape'])
  assert ' '.join(tokens.words(tokenizer, out['question'][0])).startswith('[CLS] ' + source[3]['question'][0].decode())


PAIR = {'image': np.zeros((4, 4, 3), np.uint8), 'name': b'red apple', 'keywords': [b'ripe_fruit', b'food']}


def test_a_pair_is_its_name_and_the_keywords_that_fit():
  tokenizer = tokens.build(['apple food fruit red ripe'])  # 5 6 7 8 9
  found = encode.pairs(tokenizer, 8)(PAIR)
  assert found['text'].tolist() == [2, 8, 5, 9, 7, 6, 3, 0] and found['part'].tolist() == [0, 1, 1, 2, 2, 3, 0, 0]
  assert found['weight'] == 1 and found['weight'].dtype == np.float32 and found['image'] is PAIR['image']
  shorter = encode.pairs(tokenizer, 5)(PAIR)
  assert shorter['text'].tolist() == [2, 8, 5, 6, 3] and shorter['part'].tolist() == [0, 1, 1, 3, 0]


def test_a_text_that_is_too_long_is_cut_and_an_empty_one_is_its_frame():
  tokenizer = tokens.build(['word'])
  ids, parts = encode.said(tokenizer, ['word ' * 10_000], 6)
  assert ids.tolist() == [2, 5, 5, 5, 5, 3] and parts.tolist() == [0, 1, 1, 1, 1, 0]
  assert encode.said(tokenizer, [''], 6)[0].tolist() == [2, 3, 0, 0, 0, 0]
