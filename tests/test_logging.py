"""What a run tells: metrics.jsonl, TensorBoard events, progress, tables."""

import json
import math
import os
import pathlib
import pty
import resource
import struct
import subprocess
import sys
import termios
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import logging
from mmjax.logging import Event, Logger

ROOT = pathlib.Path(__file__).parent.parent


def lines(folder):
  return [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def events(folder):
  """All TensorBoard events of a folder in the order of their files' names, after checking the record lengths."""
  found = []
  for path in sorted((folder / 'tensorboard').iterdir()):
    data, at = path.read_bytes(), 0
    while at < len(data):
      (size,) = struct.unpack_from('<Q', data, at)
      found.append(Event.FromString(data[at + 12 : at + 12 + size]))
      at += 12 + size + 4
    assert at == len(data)
  return found


def scalars(folder):
  return [(event.step, value.tag, value.simple_value) for event in events(folder) for value in event.summary.value]


def test_write_reaches_both_files_at_once(tmp_path):
  before = time.time()
  with Logger(tmp_path, total=10) as log:
    log.write(jnp.int32(3), 'train', {'loss': jnp.float32(0.5), 'n': np.int64(7), 'low': jnp.bfloat16(2), 'lr': 1e-3})
    (line,) = lines(tmp_path)  # before close: each line is flushed
  assert abs(line.pop('time') - before) < 10
  assert line == {'step': 3, 'split': 'train', 'loss': 0.5, 'n': 7, 'low': 2.0, 'lr': 0.001}
  assert list(line) == ['step', 'split', 'loss', 'n', 'low', 'lr']
  found = {(step, tag): value for step, tag, value in scalars(tmp_path)}
  assert found == {(3, 'train/loss'): 0.5, (3, 'train/n'): 7, (3, 'train/low'): 2, (3, 'train/lr'): pytest.approx(1e-3)}


def test_not_finite_is_a_string_that_float_reads(tmp_path):
  with Logger(tmp_path, total=10) as log:
    log.write(1, 'train', {'a': float('nan'), 'b': jnp.inf, 'c': -np.inf})
  (line,) = lines(tmp_path)
  assert [line[name] for name in 'abc'] == ['nan', 'inf', '-inf']
  assert math.isnan(float(line['a'])) and float(line['c']) == -math.inf


def test_a_text_goes_to_the_lines_alone(tmp_path):
  with Logger(tmp_path, total=10) as log:
    log.write(1, 'final', {'hash': 'abc', 'loss': 0.5})
  (line,) = lines(tmp_path)
  assert (line['hash'], line['loss']) == ('abc', 0.5)
  assert scalars(tmp_path) == [(1, 'final/loss', 0.5)]


def test_names_that_are_taken_and_arrays_are_refused(tmp_path):
  with Logger(tmp_path, total=10) as log:
    with pytest.raises(ValueError, match='split'):
      log.write(1, 'train', {'split': 1.0})
    with pytest.raises(ValueError):
      log.write(1, 'train', {'loss': jnp.zeros(2)})
  assert lines(tmp_path) == []


def test_resuming_cuts_back(tmp_path, capsys):
  with Logger(tmp_path, total=30) as log:
    for step in (5, 10, 15, 20):
      log.write(step, 'train', {'loss': 1.0})
    log.write(10, 'final', {'loss': 1.0})
  with open(tmp_path / 'metrics.jsonl', 'ab') as file:
    file.write(b'{"step": 7, "spl')
  with Logger(tmp_path, total=30, start=10) as log:
    assert [(line['step'], line['split']) for line in lines(tmp_path)] == [(5, 'train'), (10, 'train')]
    log.write(11, 'train', {'loss': 2.0})
  assert [line['step'] for line in lines(tmp_path)] == [5, 10, 11]
  assert '1 unreadable line removed' in capsys.readouterr().err
  purges = [event.step for event in events(tmp_path) if event.HasField('session_log')]
  assert purges == [0, 11]
  assert sorted(os.listdir(tmp_path)) == ['metrics.jsonl', 'tensorboard']


def test_a_full_line_without_its_newline_is_torn(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 1, "split": "train"}\n{"step": 2, "split": "train"}')
  Logger(tmp_path, total=30, start=10).close()
  assert [line['step'] for line in lines(tmp_path)] == [1]


def test_a_run_from_the_beginning_starts_empty(tmp_path):
  for _ in range(2):
    with Logger(tmp_path, total=30) as log:
      log.write(0, 'val', {'loss': 1.0})
  assert len(lines(tmp_path)) == 1


def test_plain_lines_are_rare_and_only_they_read_the_device(tmp_path, capsys, monkeypatch):
  clock = [100.0]
  monkeypatch.setattr(time, 'monotonic', lambda: clock[0])
  reads = []

  def metrics():
    reads.append(clock[0])
    return {'loss': 0.25, 'learning_rate': 1e-3}

  with Logger(tmp_path, total=1000, batch=32) as log:
    for step in range(1, 401):
      clock[0] += 0.125
      log.progress(step, metrics)
    log.say('hello')
  shown = capsys.readouterr().err.splitlines()
  assert shown == ['step 1/1,000  loss 0.2500', 'step 241/1,000  loss 0.2500  256 examples/s  01:34 left', 'hello']
  assert len(reads) == 2


SHOW = """
import sys, time
from mmjax.logging import Logger
with Logger(sys.argv[1], total=50, batch=8) as log:
  for step in range(1, 51):
    time.sleep(0.02)
    log.progress(step, lambda: {'loss': 1.5, 'accuracy': 0.5})
    if step == 25:
      log.say('half of it')
"""


def test_terminal_shows_a_bar_that_say_does_not_tear(tmp_path):
  master, slave = pty.openpty()
  termios.tcsetwinsize(slave, (24, 80))
  child = subprocess.Popen([sys.executable, '-c', SHOW, str(tmp_path)], stderr=slave, cwd=ROOT)
  os.close(slave)
  output = b''
  while True:
    try:
      data = os.read(master, 4096)
    except OSError:  # the other end is closed
      break
    if not data:
      break
    output += data
  os.close(master)
  assert child.wait() == 0
  text = output.decode()
  assert '50/50 100%|' in text and 'loss 1.5000 accuracy 0.5000' in text and 'examples/s' in text and ' left' in text
  assert '\rhalf of it\r\n' in text.replace(' \r', '\r').replace('\r\r', '\r'), text
  assert text.count('\n') == 2


def test_full_disk_surfaces_and_does_not_hang(tmp_path):
  log = Logger(tmp_path, total=10)
  limit = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
  try:
    with pytest.raises(OSError) as caught:
      for step in range(100):
        log.write(step, 'train', {'loss': 1.0, 'accuracy': 0.5})
    with pytest.raises(OSError, match=r'metrics\.jsonl'):  # the line is still to be written, leaving `with` says it too
      log.close()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
  log.close()
  assert caught.value.filename == str(tmp_path / 'metrics.jsonl')


def test_board_names_its_folder_on_a_full_disk(tmp_path, monkeypatch):
  board = logging._Board(tmp_path / 'tensorboard', 0)
  monkeypatch.setattr(logging, 'FLUSH_SECONDS', -1)
  limit = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (200, limit[1]))
  try:
    with pytest.raises(OSError) as caught:
      for step in range(100):
        board.write(step, {'loss': 1.0})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    board.close()
  assert caught.value.filename == str(tmp_path / 'tensorboard')


def test_parameter_table():
  layer = {'a': jnp.zeros(500), 'b': jax.ShapeDtypeStruct((500,), 'f4')}
  params = {'text': {'embed': jnp.zeros((1000, 4)), 'layer': layer}, 'head': jnp.zeros(5000)}
  assert logging.parameter_table(params) == '\n'.join(
    [
      'head         5,000   50.0%',
      'text/embed   4,000   40.0%',
      'text/layer   1,000   10.0%',
      '--------------------------',
      'total       10,000  0.0 MB',
    ]
  )


def test_device_line():
  line = logging.device_line()
  assert line.startswith(jax.devices()[0].platform)
  assert f'jax {jax.__version__}' in line and f'{jax.device_count()} device' in line
