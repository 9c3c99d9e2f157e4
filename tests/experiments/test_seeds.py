"""Runs of several seeds as one table: what is kept, how it is shown, and runs that do not belong together."""

import json
import re

import pytest

from experiments import seeds, telling
from experiments.telling import Cell
from mmjax.errors import UserError

COMMAND = 'python -m experiments.clip'
BACK = {'what finds what': 'image to text', 'among': '317 of both'}
BOTH = {'what finds what': 'text to image', 'among': '317 of both'}


def run(root, seed, value, *, steps=9, final=True, system='CLIP'):
  folder = root / f'run{seed}'
  (folder / 'stage').mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps({'seed': seed, 'optim': {'steps': steps}}))
  rows = [{'split': 'train', 'time': 100.0}, {'split': 'final', 'time': 220.0, 'parameters_sha256': f'sha{seed}'}]
  (folder / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, rows if final else rows[:1])))
  (folder / 'stage' / 'metrics.jsonl').write_text(json.dumps({'time': 70.0}) + '\n')
  table = {
    'title': 'Search',
    'columns': ['system', *BOTH, 'R@5', 'median rank', 'source'],
    'rows': [
      {'system': system, 'R@5': Cell(value, 1, 99), 'median rank': Cell(12.4, decimals=0), 'source': 'this run'} | BOTH,
      {'system': system, 'R@5': Cell(7.0), 'source': 'this run'} | BACK,
      {'system': 'chance', 'R@5': Cell(1.6)} | BOTH | {'what finds what': 'either'},
    ],
    'notes': [],
    'lines': {'panels': {}},
  }
  zero = {
    'title': 'Zero-shot',
    'columns': ['system', 'accuracy'],
    'rows': [{'system': system, 'accuracy': Cell(25.0)}],
    'notes': [],
  }
  made = {'experiment': 'clip', 'device': 'cpu, 1 device', 'tables': telling.numbers([table, zero])}
  (folder / telling.TABLES).write_text(json.dumps(made))
  return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
  for folder in ('results', 'docs'):
    (tmp_path / folder).mkdir()
  monkeypatch.setattr(seeds, 'ROOT', tmp_path)
  return tmp_path


def test_a_cell_is_its_text_and_its_number():
  cell = Cell(12.345, 9.0, 15.04)
  assert (cell, cell.value, cell.decimals) == ('12.3 (9.0–15.0)', 12.345, 1)
  assert Cell(12.6, decimals=0) == '13' and f'{Cell(1.0)} %' == '1.0 %'


def test_three_seeds_are_one_table(root):
  file = seeds.keep([run(root, 2, 13.0), run(root, 0, 10.0), run(root, 1, 11.5)], COMMAND)
  assert file == root / 'results' / 'clip.json'
  (found,) = seeds.kept('clip')
  assert (found['seeds'], found['minutes']) == ([0, 1, 2], [2.5, 2.5, 2.5])
  assert all(set(table) == {'title', 'columns', 'notes', 'rows'} for table in found['tables'])
  assert found['parameters_sha256'] == ['sha0', 'sha1', 'sha2']
  assert found['tables'][0]['rows'][0]['R@5'] == {'values': [10.0, 11.5, 13.0], 'decimals': 1}
  text = (root / 'docs' / 'results.md').read_text()
  assert '| CLIP | text to image | 317 of both | 11.5 (10.0–13.0) | 12 |' in text
  assert '| chance | either | 317 of both | 1.6 | – |' in text and 'source' not in text
  assert f'## `{COMMAND}`' in text and 'Seeds 0, 1, 2; at most 2 minutes a seed; cpu, 1 device.' in text
  lines = '\n'.join(seeds.headlines(seeds.everything()))
  assert 'CLIP 11.5 (10.0–13.0); chance 1.6 | 3 | 2, cpu | `python -m experiments.clip` |' in lines


def test_the_same_command_is_replaced_and_another_stands_beside(root):
  seeds.keep([run(root, 0, 10.0)], COMMAND)
  seeds.keep([run(root, 3, 20.0)], COMMAND)
  seeds.keep([run(root, 4, 30.0)], f'{COMMAND} --config=configs/clip.py:frozen')
  assert [(one['seeds'], one['command'][-6:]) for one in seeds.kept('clip')] == [([3], 's.clip'), ([4], 'frozen')]


@pytest.mark.parametrize('other, words', [
  ({'steps': 8}, r'run1: differs from .*run0 in optim\.steps, expected the seed alone'),
  ({'final': False}, r'run1: the run is not finished'),
  ({'system': 'CLAP'}, r'found other rows in one of the runs'),
])  # fmt: skip
def test_runs_that_do_not_belong_together_are_refused(root, other, words):
  with pytest.raises(UserError, match=words):
    seeds.keep([run(root, 0, 10.0), run(root, 1, 11.0, **other)], COMMAND)
  assert not (root / 'results' / 'clip.json').exists()


def test_a_seed_that_stands_twice_is_refused(root):
  first = run(root, 0, 10.0)
  with pytest.raises(UserError, match='seed 0 stands twice'):
    seeds.keep([first, first], COMMAND)


@pytest.mark.parametrize('file, content, words', [
  ('metrics.jsonl', '{"time": 3}', 'without split and time: damaged'),
  ('metrics.jsonl', '[]', 'without split and time: damaged'),
  ('config.json', '{}', 'config.json without a seed'),
  ('config.json', '{', 'cannot be read'),
  (telling.TABLES, '[]', 'TypeError'),
  (telling.TABLES, '{"experiment": "blip", "device": "", "tables": []}', 'a run of experiments.blip, expected one'),
  (telling.TABLES, '{"experiment": "clip", "device": "", "tables": []}', "its tables lack 'R@5' of 'Search'"),
])  # fmt: skip
def test_a_damaged_run_leaves_everything_as_it_was(root, file, content, words):
  seeds.keep([run(root, 0, 10.0)], COMMAND)
  before = {path: path.read_bytes() for folder in ('results', 'docs') for path in (root / folder).iterdir()}
  second = run(root, 1, 11.0)
  (second / file).write_text(content)
  with pytest.raises(UserError, match=re.escape(words)):
    seeds.keep([second], COMMAND)
  assert before == {path: path.read_bytes() for folder in ('results', 'docs') for path in (root / folder).iterdir()}


def test_a_run_without_tables_is_named(root):
  first = run(root, 0, 10.0)
  (first / telling.TABLES).unlink()
  with pytest.raises(UserError, match=r'run0/tables\.json: .*expected the tables of a run'):
    seeds.keep([first], COMMAND)


def test_which_commands_have_tables():
  assert seeds.of_tables(COMMAND) == 'clip' and seeds.of_tables('python -m experiments.lxmert') == ''
