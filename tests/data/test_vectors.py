"""Word vectors in the text formats of GloVe and word2vec."""

import gzip

import numpy as np
import pytest

from mmjax.data import tokens, vectors
from mmjax.errors import UserError

GLOVE = 'the 0.5 -1 2\nred 1 2 3\nthe 9 9 9\nat name@domain.com 4 5 6\n'


def written(folder, text, name='v.txt'):
  path, content = folder / name, text.encode()
  path.write_bytes(gzip.compress(content) if name.endswith('.gz') else content)
  return path


@pytest.mark.parametrize('text, name', [
  (GLOVE, 'v.txt'), ('4 3\n' + GLOVE, 'v.txt'), ('4 3\r\n' + GLOVE.replace('\n', ' \n'), 'v.vec'), (GLOVE, 'v.txt.gz'),
])  # fmt: skip
def test_a_table_is_in_the_order_of_the_vocabulary(tmp_path, text, name):
  table, found = vectors.read(written(tmp_path, text, name), ['red', 'blue', 'the'])
  assert table.dtype == np.float32 and table.shape == (3, 3) and found.tolist() == [True, False, True]
  assert table[[0, 2]].tolist() == [[1, 2, 3], [0.5, -1, 2]]  # of 'the' the first


def test_a_word_may_hold_spaces(tmp_path):
  table, found = vectors.read(written(tmp_path, GLOVE), ['at name@domain.com'])
  assert found.all() and table.tolist() == [[4, 5, 6]]
  table, found = vectors.read(written(tmp_path, '. . 1 2\n. 3 4\n'), ['. .', '.'], size=2)
  assert found.all() and table.tolist() == [[1, 2], [3, 4]]


def test_what_is_not_found_is_as_wide_as_what_is(tmp_path):
  path = written(tmp_path, '\n'.join(f'w{n} ' + ' '.join('3' if i % 2 else '-3' for i in range(50)) for n in range(4)))
  vocabulary = ['w0', *(f'x{n}' for n in range(400))]
  table, found = vectors.read(path, vocabulary, seed=1)
  assert found.sum() == 1
  assert table[1:].std() == pytest.approx(3, rel=0.02) and abs(table[1:].mean()) < 0.05
  again, other = (vectors.read(path, vocabulary, seed=seed)[0] for seed in (1, 2))
  np.testing.assert_array_equal(again, table)
  assert (other[1:] != table[1:]).all() and (other[0] == table[0]).all()


def test_other_lines_of_the_file_change_nothing(tmp_path):
  wanted = ['red', 'blue', 'the']
  few = vectors.read(written(tmp_path, GLOVE), wanted)
  more = vectors.read(written(tmp_path, 'a 7 7 7\n' + GLOVE + '\nb 8 8 8\n', 'more.txt'), wanted)
  for one, other in zip(few, more, strict=True):
    np.testing.assert_array_equal(one, other)


def test_it_fits_a_tokeniser(tmp_path):
  tokenizer = tokens.build(['the red'])
  words = tokens.words(tokenizer, range(tokenizer.get_vocab_size()))
  table, found = vectors.read(written(tmp_path, GLOVE), words)
  assert len(table) == 7 and found.sum() == 2
  assert table[tokenizer.token_to_id('red')].tolist() == [1, 2, 3]


@pytest.mark.parametrize('text, words', [
  ('a 1 2\nb 1\n', r'line 2: found 1 numbers, expected a word and 2'),
  ('the 1 2 3\na 4 5 6 7\n', 'line 2: found 4 numbers, expected a word and 3'),
  ('2 2\na 1 2\nred 1 x\n', r"line 3: could not convert string to float: 'x'; expected numbers"),
  ('red 1 nan\n', 'line 1: found a number that is not finite'),
  ('3 2\nred 1 2\n', r'found 1 vectors, expected the 3 of its first line'),
  ('blue 1 2\n', "found none of 1 words, such as 'red'"),
  ('', 'found none of 1 words'),
  ('red\n', 'line 1: found 0 numbers'),
])  # fmt: skip
def test_a_bad_file_is_said_in_a_line(tmp_path, text, words):
  with pytest.raises(UserError, match=words) as error:
    vectors.read(written(tmp_path, text), ['red'])
  assert '\n' not in str(error.value) and 'v.txt' in str(error.value)


def test_other_mistakes_are_said(tmp_path):
  with pytest.raises(UserError, match=r'nowhere\.txt: No such file'):
    vectors.read(tmp_path / 'nowhere.txt', ['red'])
  with pytest.raises(UserError, match='vectors of 3 numbers, expected 300'):
    vectors.read(written(tmp_path, '4 3\n' + GLOVE), ['red'], size=300)
  with pytest.raises(UserError, match='found 1 different words'):
    vectors.read(written(tmp_path, GLOVE), ['red', 'red'])
  (tmp_path / 'cut.gz').write_bytes(gzip.compress(GLOVE.encode())[:30])
  with pytest.raises(UserError, match=r'cut\.gz: .*expected word vectors in text'):
    vectors.read(tmp_path / 'cut.gz', ['red'])
