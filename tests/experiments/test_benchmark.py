"""The benchmark's command line, how it takes times, and what it keeps. Its peers run in the tests marked 'peers'."""

import json
import subprocess
import sys
import time

import pytest
from PIL import Image

from experiments import benchmark
from experiments.bench import kept, timing
from mmjax.cli import ROOT
from mmjax.errors import UserError


def asked(monkeypatch, *more):
  monkeypatch.setattr(sys, 'argv', ['benchmark', *more])
  return benchmark.parse()


@pytest.mark.parametrize(
  ('more', 'says'),
  [
    (['versus', '--models=lxmart'], "found 'lxmart', expected some of .*did you mean 'lxmert'"),
    (['versus', '--models='], 'expected at least one'),
    (['versus', '--batches=0,8'], 'expected at least one, from 1'),
    (['versus', '--batches=a'], 'expected at least one, from 1'),
    (['versus', '--rounds=2'], 'at least 3 rounds'),
    (['versus', '--threads=4096'], 'threads up to'),
    (['both'], 'invalid choice'),
    ([], 'required: what'),
  ],
)
def test_a_wrong_command_line_is_one_line(monkeypatch, more, says):
  with pytest.raises(UserError, match=says):
    asked(monkeypatch, *more)


def test_a_file_where_a_folder_is_asked_for(monkeypatch, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='found a file, expected a folder'):
    asked(monkeypatch, 'own', f'--out={tmp_path / "file"}')


def test_ways_are_taken_in_turn_and_the_first_rounds_left_out():
  calls = []
  ways = {'slow': lambda: (calls.append('slow'), time.sleep(0.02)), 'fast': lambda: calls.append('fast')}
  found = timing.in_turn(ways, rounds=3, warm=1)
  assert calls == ['slow', 'fast'] * 4
  assert len(found['slow'].ms) == len(found['fast'].ms) == 3
  assert found['slow'].median >= 20 > found['fast'].median
  low, high = timing.Times((1.0, 2.0, 3.0, 4.0, 100.0)).range
  assert (low, high) == (2, 4)


def test_the_machine_names_what_is_installed():
  found = timing.machine(2)
  assert found['threads'] == 2
  assert found['processor']
  assert {'jax', 'numpy'} <= found['versions'].keys()


ROW = {
  'model': 'lxmert', 'task': 'forward', 'batch': 8, 'ours_ms': 100.0, 'ours_range': [99.0, 101.0], 'ours_peak': 0.8,
  'compute': 'float32', 'command': 'python -m experiments.benchmark versus --rounds=11', 'load': 2.0, 'layers': 0,
  'peer': 'LxmertModel, PyTorch eager', 'peer_ms': 150.0, 'peer_range': [149.0, 160.0], 'peer_peak': 0.6, 'ratio': 1.5,
}  # fmt: skip
MACHINE = {'processor': 'one', 'threads': 2, 'python': '3', 'versions': {'jax': '1'}}


def test_what_is_kept(tmp_path):
  folder = kept.write([ROW, ROW | {'ratio': 0.9, 'load': 0.1}], MACHINE, tmp_path / 'new')
  found = json.loads((folder / 'benchmark.json').read_text())
  assert found['machine'] == MACHINE and found['rows'][0] == ROW
  table = (folder / 'table.md').read_text()
  assert (
    '| lxmert | forward | 8 | 100.0 (99.0–101.0) | LxmertModel, PyTorch eager | 150.0 (149.0–160.0) | 1.50 |' in table
  )
  assert '`python -m experiments.benchmark versus --rounds=11`' in table
  assert 'one, 2 threads, load 0.1 to 2.0' in table
  assert Image.open(folder / 'benchmark.png').size[0] > 800


def test_what_was_found_before_stays_beside_where_it_was_not_measured_again(tmp_path):
  clip, again = ROW | {'model': 'clip'}, ROW | {'ours_ms': 90.0, 'command': 'later'}
  kept.write([ROW, ROW | {'task': 'train step'}, clip], MACHINE, tmp_path)
  assert kept.together([again], MACHINE, tmp_path) == [ROW | {'task': 'train step'}, again, clip]
  other = MACHINE | {'versions': {'jax': '2'}}
  assert kept.together([again], other, tmp_path) == [again]
  short = again | {'layers': 1}
  assert kept.together([short], MACHINE, tmp_path) == [short]
  kept.write([again], MACHINE, tmp_path)
  table = (tmp_path / 'table.md').read_text()
  assert table.count('| lxmert |') == 2 and '`later`' in table and 'versus --rounds=11`' in table


def test_without_the_peers_it_says_what_to_install():
  hidden = 'import sys; sys.modules["torch"] = None; sys.argv = ["benchmark", "versus", "--threads=1"]; '
  run = 'from experiments import benchmark; from mmjax import cli; sys.exit(cli.exit_code(benchmark.main))'
  done = subprocess.run([sys.executable, '-c', hidden + run], cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 2
  assert len(done.stderr.splitlines()) == 1
  assert 'expected `pip install -r requirements-peers.txt` before' in done.stderr
