import gc
import subprocess
import sys
import threading
import time

import pytest

from mmjax.data.pipeline import prefetch


class Numbers:
  """0 1 2 ... up to `stop`; counts what was taken and knows whether it was closed."""

  def __init__(self, stop=10**9, error=None):
    self.taken, self.stop, self.error, self.closed = 0, stop, error, False

  def __iter__(self):
    return self

  def __next__(self):
    if self.taken == self.stop:
      raise self.error or StopIteration
    self.taken += 1
    return self.taken - 1

  def close(self):
    self.closed = True


def settle(done):
  for _ in range(200):
    if done():
      return True
    time.sleep(0.01)
  return False


def test_order_and_end():
  batches = prefetch(Numbers(5), lambda i: i * 10)
  assert list(batches) == [0, 10, 20, 30, 40] and list(batches) == []


@pytest.mark.parametrize('size', [1, 3])
def test_at_most_size_are_ahead(size):
  numbers = Numbers()
  with prefetch(numbers, lambda i: i, size) as batches:
    assert settle(lambda: numbers.taken == size)
    next(batches)
    assert settle(lambda: numbers.taken == size + 1)
    time.sleep(0.02)
    assert numbers.taken == size + 1


def test_put_runs_in_the_thread():
  with prefetch(Numbers(), lambda i: threading.get_ident()) as batches:
    assert next(batches) != threading.get_ident()


def test_errors_come_at_their_place_and_end_it():
  numbers = Numbers(2, ValueError('third'))
  batches = prefetch(numbers, lambda i: i, size=5)
  assert [next(batches), next(batches)] == [0, 1]
  with pytest.raises(ValueError, match='third'):
    next(batches)
  assert numbers.closed and list(batches) == []

  def put(i):
    raise RuntimeError('no room on the device')

  with pytest.raises(RuntimeError, match='no room'):
    next(prefetch(Numbers(), put))


def test_close_stops_thread_and_iterator():
  before = threading.active_count()
  numbers = Numbers()
  batches = prefetch(numbers, lambda i: i)
  next(batches)
  batches.close()
  batches.close()
  assert threading.active_count() == before and numbers.closed and list(batches) == []


def test_a_forgotten_one_stops():
  before, numbers = threading.active_count(), Numbers()
  next(prefetch(numbers, lambda i: i))
  gc.collect()
  assert settle(lambda: threading.active_count() == before) and numbers.closed


def test_the_interpreter_ends_with_one_open():
  code = 'from mmjax.data.pipeline import prefetch; x = prefetch(iter(int, 1), str); print(next(x))'  # endless zeros
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=True)
  assert done.stdout == '0\n' and done.stderr == ''


def test_waited_is_the_time_of_the_consumer():
  def slow(i):
    time.sleep(0.03)
    return i

  with prefetch(Numbers(), slow) as batches:
    for _ in range(4):
      next(batches)
    assert batches.waited > 0.06
  with prefetch(Numbers(), lambda i: i) as batches:
    for _ in range(3):
      time.sleep(0.1)
      next(batches)
    assert batches.waited < 0.1
