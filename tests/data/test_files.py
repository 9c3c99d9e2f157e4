"""Many files, of which some are broken."""

import pytest

from mmjax.data import files, images
from mmjax.errors import UserError


def read(path):
  text = path.read_text()
  if text == 'broken':
    raise UserError(f'note {path}: no note')
  return text.upper()


@pytest.fixture
def paths(tmp_path):
  for n, text in enumerate(['one', 'broken', 'two']):
    (tmp_path / f'{n}.txt').write_text(text)
  return sorted(tmp_path.iterdir())


def test_all_are_read_in_order(paths):
  assert files.readable([paths[2], paths[0]], read) == (['TWO', 'ONE'], [paths[2], paths[0]])


def test_a_broken_one_ends_it(paths):
  with pytest.raises(UserError, match=rf'^note {paths[1]}: no note$'):
    files.readable(paths, read)


def test_a_broken_one_is_left_out_named_and_counted(paths, capsys):
  assert files.readable(paths, read, 'skip', 'note') == (['ONE', 'TWO'], [paths[0], paths[2]])
  said = capsys.readouterr().err
  assert f'left out: note {paths[1]}: no note\n' in said
  assert said.endswith('note: 1 of 3 cannot be read and are left out\n')


def test_none_left_is_a_mistake(paths):
  with pytest.raises(UserError, match=r'^file: of 1 none can be read, expected at least one$'):
    files.readable([paths[1]], read, 'skip')
  with pytest.raises(UserError, match='file: of 0 none'):
    files.readable([], read)


def test_a_file_that_is_not_there_is_named_once(tmp_path, capsys):
  gone = tmp_path / 'gone.txt'
  with pytest.raises(UserError, match=rf'^file {gone}: No such file or directory$'):
    files.readable([gone], read)
  with pytest.raises(UserError, match=rf'^image {gone}: No such file or directory$'):
    files.readable([gone], images.read)


def test_another_word_is_refused(paths):
  with pytest.raises(UserError, match=r"found 'skipp', expected one of .*did you mean 'skip'"):
    files.readable(paths, read, 'skipp')


def test_what_is_no_fault_of_a_file_is_raised(paths):
  with pytest.raises(ZeroDivisionError):
    files.readable(paths, lambda path: 1 / 0, 'skip')
