import itertools
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

from mmjax.data import pipeline
from mmjax.errors import UserError

NUMBERS = list(range(24))


def number(i):
  return {'i': np.int32(i), 'weight': np.ones(2, np.float32)}


def take(batches, count):
  with pipeline.prefetch(batches, lambda batch: batch['i'].tolist()) as lists:
    return list(itertools.islice(lists, count))


def train(count, **options):
  return take(pipeline.train_batches(NUMBERS, number, **{'images': 8, 'seed': 0} | options), count)


def test_each_epoch_holds_every_example_once_in_another_order():
  batches = train(9)
  epochs = [sum(batches[e * 3 : e * 3 + 3], []) for e in range(3)]
  assert all(sorted(epoch) == NUMBERS for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 3


def test_order_depends_on_the_seed_only():
  assert train(6) == train(6) != train(6, seed=1)
  assert sum(train(6), []) == sum(train(12, images=4), [])


def test_neighbouring_seeds_do_not_share_epochs():
  epoch = lambda seed, start: train(3, seed=seed, start=start)
  assert epoch(1, 24) != epoch(2, 0)


def test_restart_goes_on_where_the_run_was_cut():
  whole = sum(train(10), [])
  assert sum(train(4, start=5 * 8), []) == whole[40:72]
  assert sum(train(4, start=13), []) == whole[13:45]


@pytest.mark.parametrize('start', [0, 40, 13])
@pytest.mark.parametrize('processes', [1, 2, 4])
def test_processes_share_the_same_global_batches(processes, start):
  shards = [train(4, start=start, shard=(p, processes)) for p in range(processes)]
  assert [sum(parts, []) for parts in zip(*shards)] == train(4, start=start)


def test_a_run_may_go_on_with_another_number_of_processes():
  two = [train(3, shard=(p, 2)) for p in range(2)]
  four = [train(3, start=24, shard=(p, 4)) for p in range(4)]
  assert [sum(parts, []) for parts in [*zip(*two), *zip(*four)]] == train(6)


@pytest.mark.parametrize('processes', [1, 2, 4])
@pytest.mark.parametrize('count', [1, 7, 8, 9, 24])
def test_evaluation_counts_every_example_once(count, processes):
  numbers = NUMBERS[:count]
  shards = [list(pipeline.eval_batches(numbers, number, images=8, shard=(p, processes))) for p in range(processes)]
  assert {len(batches) for batches in shards} == {-(-count // 8)}
  batches = [{k: np.concatenate([part[k] for part in parts]) for k in parts[0]} for parts in zip(*shards)]
  assert all(batch['weight'].shape == (8, 2) for batch in batches)
  assert sum(batch['weight'].sum() for batch in batches) == 2 * count
  i, real = (np.concatenate([batch[k] for batch in batches]) for k in ('i', 'weight'))
  assert i[:count].tolist() == numbers and (real[:count] == 1).all() and (real[count:] == 0).all()
  assert (i[count:] == count - 1).all()


@pytest.mark.parametrize(
  'options, why',
  [
    ({'images': 6, 'shard': (0, 4)}, 'batch of 6 examples: expected a multiple of the number of processes, 4'),
    ({'images': 0}, 'batch of 0'),
    ({'images': 8, 'shard': (2, 2)}, r'shard \(2, 2\)'),
  ],
)
def test_wrong_numbers(options, why):
  for make in (pipeline.eval_batches, lambda *args, **kw: pipeline.train_batches(*args, seed=0, **kw)):
    with pytest.raises(UserError, match=why):
      make(NUMBERS, number, **options)
    with pytest.raises(UserError, match='at least one example'):
      make([], number, images=8)
  with pytest.raises(UserError, match='seed -1'):
    train(1, seed=-1)


def test_an_error_of_reading_reaches_the_consumer():
  def fail(i):
    raise UserError('damaged')

  with pytest.raises(UserError, match='damaged'):
    next(pipeline.train_batches(NUMBERS, fail, images=8, seed=0))


def test_one_line_on_stderr_and_only_once(tiny, tmp_path, capfd):
  home = str(tmp_path / 'data')
  for _ in range(2):
    pipeline.load(tiny, 'train', home)
  out, err = capfd.readouterr()
  assert out == '' and err == f'preparing tiny in {home}\n'


def test_parts_of_a_split_and_unknown_ones(tiny, tiny_dir):
  whole, part = pipeline.load(tiny, 'train', tiny_dir), pipeline.load(tiny, 'train[30:]', tiny_dir)
  assert len(part) == 10 and (part[0]['image'] == whole[30]['image']).all()
  with pytest.raises(UserError, match="split 'vaildation' of tiny is unknown; did you mean 'validation'"):
    pipeline.load(tiny, 'vaildation', tiny_dir)


def test_a_folder_that_cannot_be_written(tiny, tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match=r'cannot prepare tiny in .*file: Not a directory'):
    pipeline.load(tiny, 'train', str(tmp_path / 'file'))


def test_a_home_folder_that_is_none(tiny, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match=r"^data\.dir ~nosuch/x: found no home folder for '~nosuch'") as error:
    pipeline.load(tiny, 'train', '~nosuch/x')
  assert '\n' not in str(error.value) and list(tmp_path.iterdir()) == []


PREPARE = """
import random, resource, sys
from mmjax.data import pipeline, sort_of_clevr
from mmjax.errors import UserError
class Small(sort_of_clevr.SortOfClevr):
  SPLITS = {'train': (300, 1)}
random.seed(0)   # the name of TFDS's temporary folder comes from here
if sys.argv[2] != 'all':
  resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
  source = pipeline.load(Small, 'train', sys.argv[1])
  print(len([example for example in source]), 'tensorflow' in sys.modules)
except UserError as error:
  print(error)
"""


def prepare(path, room='all'):
  root = pathlib.Path(__file__).parents[2]
  return subprocess.Popen(
    [sys.executable, '-c', PREPARE, str(path), room],
    stdout=subprocess.PIPE,
    text=True,
    stderr=subprocess.PIPE,
    env=os.environ | {'PYTHONPATH': str(root)},
  )


def test_processes_that_prepare_at_the_same_time(tmp_path):
  outputs = [process.communicate(timeout=60) for process in [prepare(tmp_path) for _ in range(3)]]
  assert [out for out, _ in outputs] == ['300 False\n'] * 3  # and no TensorFlow
  assert sum('preparing small' in err for _, err in outputs) == 1


def test_a_full_disk_leaves_nothing_and_a_killed_process_no_trap(tmp_path):
  out, _ = prepare(tmp_path, room='70000').communicate(timeout=60)
  assert out.startswith(f'cannot prepare small in {tmp_path}: ') and 'File too large' in out and out.count('\n') == 1
  assert [path.name for path in (tmp_path / 'small').iterdir()] == ['lock']
  (tmp_path / 'small' / 'incomplete.ABCDEF_1.0.0').mkdir()
  out, _ = prepare(tmp_path).communicate(timeout=60)
  assert out == '300 False\n'
  assert sorted(path.name for path in (tmp_path / 'small').iterdir()) == ['1.0.0', 'lock']


@pytest.fixture
def record(tiny, tmp_path):
  pipeline.load(tiny, 'train', str(tmp_path))
  return tmp_path / 'tiny/1.0.0/tiny-train.array_record-00000-of-00001'


@pytest.mark.parametrize('kept', [2**16, 70000, -1, 0, None])
def test_a_cut_or_missing_file_is_named(tiny, record, tmp_path, kept):
  data = record.read_bytes()
  record.unlink()
  if kept is not None:
    record.write_bytes(data[:kept])
  with pytest.raises(UserError, match=f'^{record}: cannot read example 39') as error:
    pipeline.load(tiny, 'train', str(tmp_path))
  assert '\n' not in str(error.value)
  assert len(pipeline.load(tiny, 'validation', str(tmp_path))) == 10


def test_a_changed_byte_is_found_when_it_is_read(tiny, record, tmp_path):
  data = bytearray(record.read_bytes())
  data[5000] ^= 1
  record.write_bytes(data)
  source = pipeline.load(tiny, 'train', str(tmp_path))
  with pytest.raises(UserError, match=f'^{record}: cannot read example') as error:
    for _ in pipeline.eval_batches(source, lambda example: {'weight': example['answer']}, images=8):
      pass
  assert 'hash mismatch' in str(error.value)


@pytest.mark.parametrize('damage', ['{"name', None])
def test_a_damaged_description(tiny, record, tmp_path, damage):
  info = record.parent / 'dataset_info.json'
  info.unlink()
  if damage:
    info.write_text(damage)
  with pytest.raises(UserError, match=r'dataset_info\.json'):
    pipeline.load(tiny, 'train', str(tmp_path))


def test_no_thread_is_left():
  before = set(threading.enumerate())
  train(2)
  for thread in set(threading.enumerate()) - before:
    thread.join(timeout=10)
    assert not thread.is_alive(), thread
