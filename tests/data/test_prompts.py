"""Spoken prompts: their list of texts, what is said in them, and that no text stands in two splits."""

import gzip

import pytest

from mmjax.data import prompts
from mmjax.errors import UserError

LIST = """; Sounds
digits/1: one
hello: Hello, world.
hello-again: hello WORLD!
beep: [a simple beep]
silence/1: (1 second of silence)
at: at [@]
gone: Without a sound.
"""


def placed(folder, text=LIST, without=('gone',), name=prompts.NAMES[1]):
  for line in text.splitlines():
    clip = line.split(':')[0]
    if ':' in line and clip not in without:
      (folder / f'{clip}.wav').parent.mkdir(exist_ok=True)
      (folder / f'{clip}.wav').write_bytes(b'')
  content = text.encode()
  (folder / name).write_bytes(gzip.compress(content) if name.endswith('.gz') else content)
  return str(folder)


@pytest.mark.parametrize('name', prompts.NAMES)
def test_clips_with_their_texts(tmp_path, name):
  found = prompts.clips(placed(tmp_path, name=name))
  assert [clip.name for clip in found] == ['at', 'beep', 'digits/1', 'hello', 'hello-again', 'silence/1']
  assert [clip.name for clip in found if not clip.speech] == ['beep', 'silence/1']
  first = found[0]
  assert (first.text, first.said, first.path) == ('at [@]', 'at', tmp_path / 'at.wav')


@pytest.mark.parametrize('text, said', [
  ('Press 1, or # [beep] to re-record.', 'press one or pound to re record'),
  ("I'm sorry...  Dial *12", "i'm sorry dial star 12"),
  ('a 28.8 kilobit modem', 'a 28 8 kilobit modem'),
  ('3D audio, folder 5', 'three d audio folder five'),
  ('<beep ascending>', ''), ('[tones]', ''), ('percent %', 'percent percent'),
])  # fmt: skip
def test_what_is_said(text, said):
  assert prompts.spoken(text) == said


def texts(number):
  return '\n'.join(f'n{n}: number {n}' for n in range(number)) + '\nagain: Number 3!\nbeep: [beep]\n'


def test_no_text_stands_in_two_splits(tmp_path):
  found = prompts.clips(placed(tmp_path, texts(30)))
  parts = prompts.splits(found)
  said = {name: {clip.said for clip in part} for name, part in parts.items()}
  assert list(parts) == ['train', 'validation', 'test']
  assert {name: len(each) for name, each in said.items()} == {'train': 21, 'validation': 3, 'test': 6}
  assert sum(map(len, parts.values())) == 31  # number 3 twice, in one of them; the beep in none
  assert sum(len(each) for each in said.values()) == len(set.union(*said.values()))


def test_splits_do_not_depend_on_the_order(tmp_path):
  found = prompts.clips(placed(tmp_path, texts(30)))
  names = lambda parts: {name: sorted(clip.name for clip in part) for name, part in parts.items()}
  assert names(prompts.splits(found[::-1])) == names(prompts.splits(found))


def test_where_they_are_missing_the_packages_are_named(tmp_path, monkeypatch):
  with pytest.raises(UserError, match=r'^.*nowhere: no such folder; expected .*: apt-get install asterisk-core-'):
    prompts.clips(str(tmp_path / 'nowhere'))
  monkeypatch.setattr(prompts, 'FOLDER', tmp_path / 'sounds')
  with pytest.raises(UserError, match=r'sounds: no such folder; .*apt-get install asterisk-core-sounds-en ') as error:
    prompts.clips()
  assert '\n' not in str(error.value)
  monkeypatch.setattr(prompts, 'TEXTS', tmp_path / 'texts.gz')
  with pytest.raises(UserError, match=r'texts\.gz: no such file'):
    prompts.clips(str(tmp_path))


@pytest.mark.parametrize('content, name, words', [
  (b'no text here\n', 'core-sounds-en.txt', "line 1: found 'no text here', expected \"name: text\""),
  (b'a:\n', 'core-sounds-en.txt', 'line 1'),
  (b'a: b\n', 'core-sounds-en.txt', 'found no sound of those in'),
  (b'\xff\xfe', 'core-sounds-en.txt', 'expected the list of texts'),
  (gzip.compress(b'a: b\n')[:-5], 'core-sounds-en.txt.gz', 'expected the list of texts'),
  (b'no gzip', 'core-sounds-en.txt.gz', 'expected the list of texts'),
])  # fmt: skip
def test_a_list_that_is_none_is_said_in_a_line(tmp_path, content, name, words):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError, match=words) as error:
    prompts.clips(str(tmp_path))
  assert '\n' not in str(error.value)


def test_too_few_texts_make_no_splits(tmp_path):
  with pytest.raises(UserError, match='found 3 texts, expected enough'):
    prompts.splits(prompts.clips(placed(tmp_path)))
