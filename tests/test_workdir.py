"""The folder of a run: lock, config.json, atomic writes."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile

import pytest

from mmjax import workdir
from mmjax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent
CONFIG = {'optim': {'lr': 0.001, 'betas': (0.9, 0.98)}, 'log': {'every': 50}, 'parallel': {'how': 'jit'}}


@pytest.fixture(autouse=True)
def release():
  yield
  workdir._forget_locks()


def changed(**groups):
  return CONFIG | {name: CONFIG.get(name, {}) | group for name, group in groups.items()}


def one_line(caught):
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_new_folder_has_a_readable_config(tmp_path):
  path = workdir.open_workdir(tmp_path / 'a' / 'b', CONFIG)
  text = (path / 'config.json').read_text()
  assert json.loads(text) == json.loads(json.dumps(CONFIG))
  assert text.index('"log"') < text.index('"optim"') and text.count('\n') > 5


def test_same_config_reopens_though_tuples_become_lists(tmp_path):
  assert workdir.open_workdir(tmp_path, CONFIG) == workdir.open_workdir(str(tmp_path), CONFIG)


def test_other_config_is_refused_with_both_values(tmp_path):
  workdir.open_workdir(tmp_path, CONFIG)
  before = (tmp_path / 'config.json').read_bytes()
  with pytest.raises(UserError) as caught:
    workdir.open_workdir(tmp_path, changed(optim={'lr': 0.01}, log={'every': 1}, data={'seed': 3}))
  line = one_line(caught)
  assert 'optim.lr was 0.001, now 0.01' in line and 'data.seed was absent, now 3' in line
  assert 'log.every' not in line and 'betas' not in line
  assert (tmp_path / 'config.json').read_bytes() == before


def test_log_and_parallel_may_change(tmp_path):
  workdir.open_workdir(tmp_path, CONFIG)
  workdir.open_workdir(tmp_path, changed(log={'every': 1}, parallel={'how': 'pmap'}))
  kept = json.loads((tmp_path / 'config.json').read_text())
  assert kept['log']['every'] == 1 and kept['parallel']['how'] == 'pmap'


def test_unreadable_config_is_said(tmp_path):
  (tmp_path / 'config.json').write_text('{"optim": ')
  with pytest.raises(UserError, match=r'config\.json is damaged, not readable as JSON'):
    workdir.open_workdir(tmp_path, CONFIG)


def test_places_where_no_folder_can_be(tmp_path):
  (tmp_path / 'file').write_text('x')
  for path, words in [
    ('', 'empty'),
    (' ', 'empty'),
    (tmp_path / 'file', 'is a file'),
    (tmp_path / 'file' / 'below', 'file is a file'),
    ('/proc/no/such', '/proc/no/such: '),
    ('~nosuch/x', "workdir ~nosuch/x: found no home folder for '~nosuch'"),
  ]:
    with pytest.raises(UserError, match=words) as caught:
      workdir.open_workdir(path, CONFIG)
    one_line(caught)


def test_a_check_says_what_opening_would_and_makes_nothing(tmp_path):
  assert workdir.check_workdir(tmp_path / 'a' / 'b', CONFIG) == tmp_path / 'a' / 'b'
  assert list(tmp_path.iterdir()) == []
  run, foreign = tmp_path / 'run', tmp_path / 'foreign'
  workdir.open_workdir(run, CONFIG)
  foreign.mkdir()
  (foreign / 'mine.txt').touch()
  before = {file: file.read_bytes() for file in tmp_path.rglob('*') if file.is_file()}
  workdir.check_workdir(run, changed(log={'every': 1}))
  for path, config, fresh, words in [
    (run, changed(optim={'lr': 1}), True, 'optim.lr was 0.001, now 1'),
    (run, CONFIG, False, 'holds no checkpoint'),
    (foreign, CONFIG, True, 'is a folder of something else'),
    (foreign / 'mine.txt', CONFIG, True, 'is a file'),
    ('', CONFIG, True, 'empty'),
  ]:
    for refuse in (workdir.check_workdir, workdir.open_workdir):
      with pytest.raises(UserError, match=words) as caught:
        refuse(path, config, fresh=fresh)
      one_line(caught)
  assert {file: file.read_bytes() for file in tmp_path.rglob('*') if file.is_file()} == before


OPEN = """
import os, sys
from mmjax.workdir import open_workdir
if os.geteuid() == 0:
  os.setuid(65534)   # root may write everywhere
open_workdir(sys.argv[1], {})
"""


def test_unwritable_folder():
  with tempfile.TemporaryDirectory() as folder:  # tmp_path lies in a folder that other users cannot enter
    os.chmod(folder, 0o555)
    child = subprocess.run([sys.executable, '-c', OPEN, folder], capture_output=True, text=True, cwd=ROOT)
    line = f'workdir {folder}: {folder} cannot be written to; expected a folder that can'
    assert child.stderr.endswith(f'UserError: {line}\n')
    assert os.listdir(folder) == []


HOLD = """
import sys, time
from mmjax.workdir import open_workdir
open_workdir(sys.argv[1], {})
print('open', flush=True)
time.sleep(60)
"""


def test_second_process_is_refused_until_the_first_is_killed(tmp_path):
  first = subprocess.Popen([sys.executable, '-c', HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
  try:
    assert first.stdout.readline() == 'open\n'
    with pytest.raises(UserError, match=f'in use by another run .process {first.pid} ') as caught:
      workdir.open_workdir(tmp_path, {})
    one_line(caught)
  finally:
    first.send_signal(signal.SIGKILL)
    first.communicate()
  assert workdir.open_workdir(tmp_path, {}) == tmp_path.resolve()


FORK = """
import os, signal, sys, time
from mmjax.workdir import open_workdir
open_workdir(sys.argv[1], {})
if os.fork():
  time.sleep(60)
else:
  print(os.getpid(), flush=True)
  time.sleep(60)
"""


def test_a_data_worker_that_outlives_its_killed_parent_does_not_hold_the_lock(tmp_path):
  parent = subprocess.Popen([sys.executable, '-c', FORK, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
  child = int(parent.stdout.readline())
  try:
    with pytest.raises(UserError, match='in use'):
      workdir.open_workdir(tmp_path, {})
    parent.kill()
    parent.wait()
    assert workdir.open_workdir(tmp_path, {}) == tmp_path.resolve()
  finally:
    os.kill(child, signal.SIGKILL)
    parent.communicate()


def test_failed_write_keeps_the_old_content_and_leaves_nothing(tmp_path):
  path = tmp_path / 'a.txt'
  workdir.write_atomic(path, 'old')
  limit = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
  try:
    with pytest.raises(OSError) as caught:
      workdir.write_atomic(path, b'n' * 1000)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
  assert caught.value.filename == str(path)
  assert path.read_text() == 'old' and os.listdir(tmp_path) == ['a.txt']
  with pytest.raises(OSError, match='no'):
    workdir.write_atomic(tmp_path / 'no' / 'a.txt', 'x')


def test_flatten_keeps_empty_groups():
  assert workdir.flatten({'a': {'b': {'c': 1}, 'd': {}}, 'e': ()}) == {'a.b.c': 1, 'a.d': {}, 'e': ()}
