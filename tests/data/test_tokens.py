import numpy as np
import pytest

from mmjax.data import sort_of_clevr, tokens
from mmjax.errors import UserError


def test_words_and_frame():
  tokenizer = tokens.build(["How many others share the red object's shape?"])
  ids = tokens.encode(tokenizer, ["how many others share the red object's shape", 'red  RED ? zebra [MASK]'], 10)
  assert ids.dtype == np.int32 and ids.shape == (2, 10)
  assert tokens.words(tokenizer, ids[0]) == [
    '[CLS]',
    'how',
    'many',
    'others',
    'share',
    'the',
    'red',
    "object's",
    'shape',
    '[SEP]',
  ]
  assert tokens.words(tokenizer, ids[1]) == ['[CLS]', 'red', 'red', '[UNK]', '[MASK]', '[SEP]'] + ['[PAD]'] * 4


def test_special_ids_and_order():
  tokenizer = tokens.build(['b a', 'c'])
  assert tokenizer.get_vocab() == {'[PAD]': 0, '[UNK]': 1, '[CLS]': 2, '[SEP]': 3, '[MASK]': 4, 'a': 5, 'b': 6, 'c': 7}
  shuffled = tokens.build(reversed(sort_of_clevr.SENTENCES))
  assert shuffled.get_vocab() == tokens.build(sort_of_clevr.SENTENCES).get_vocab()


def test_the_longest_sentence_fits_and_nothing_is_cut():
  tokenizer = tokens.build(sort_of_clevr.SENTENCES)
  ids = tokens.encode(tokenizer, sort_of_clevr.SENTENCES, sort_of_clevr.LENGTH)
  assert (ids != 0).all(-1).any() and not (ids == 1).any()
  with pytest.raises(UserError, match=r'at most 9 tokens .* found 10'):
    tokens.encode(tokenizer, sort_of_clevr.SENTENCES, 9)


def test_wordpiece(tmp_path):
  vocabulary = tmp_path / 'vocab.txt'
  vocabulary.write_text('[PAD] [unused0] [UNK] [CLS] [SEP] [MASK] un ##aff ##able ?'.replace(' ', '\n'))
  tokenizer = tokens.wordpiece(vocabulary)
  ids = tokens.encode(tokenizer, ['Unaffable?', 'zebra'], 7)
  assert ids.tolist() == [[3, 6, 7, 8, 9, 4, 0], [3, 2, 4, 0, 0, 0, 0]]


def test_wordpiece_of_something_else(tmp_path):
  with pytest.raises(UserError, match='no such file'):
    tokens.wordpiece(tmp_path / 'absent.txt')
  (tmp_path / 'words.txt').write_text('a\nb\n')
  with pytest.raises(UserError, match=r'found no \[PAD\]'):
    tokens.wordpiece(tmp_path / 'words.txt')
