"""Prepared data -> batches: TFDS keeps the records, Grain orders them, a thread puts the next ones on the device.

The order is a pure function: example i of a run depends on (seed, i) only, whatever the batch size and the number of
processes. So all that is ever saved of the data is one number, the global index of the next example.
N examples of a global batch, n processes.
"""

import contextlib
import fcntl
import io
import json
import os
import queue
import re
import shutil
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import grain
import numpy as np
import tensorflow_datasets as tfds

from mmjax.errors import UserError, nearest
from mmjax.workdir import expanded

Encode = Callable[[Any], Mapping[str, Any]]

READING = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)  # batches; more threads are slower


class Examples(Protocol):
  """Random access to examples."""

  def __len__(self) -> int: ...

  def __getitem__(self, i: int) -> Any: ...


def load(
  builder_cls: type[tfds.core.GeneratorBasedBuilder], split: str, data_dir: str | os.PathLike | None = None
) -> 'Source':
  """Random access to a split: `len(source)` examples, `source[i]` a dict of arrays. Prepares the data once, which it
  says on stderr.

  builder_cls: a TFDS builder class; split: such as 'train' or 'train[:100]'; data_dir: str, None for the default of
  TFDS (~/tensorflow_datasets or $TFDS_DATA_DIR). TFDS writes into a folder of another name and renames it at the end,
  so a folder that is there is whole; of several processes one prepares and the others wait. Raises UserError where the
  folder cannot be written, the split is unknown or a file is damaged.
  """
  root = expanded('data.dir', data_dir or tfds.core.constants.DATA_DIR)
  builder = _builder(builder_cls, root)
  if not builder.data_path.exists():
    try:
      _prepare(builder)
    except (OSError, RuntimeError) as error:  # a full disk is an OSError of Python or a RuntimeError of array_record
      reason = (getattr(error, 'strerror', None) or str(error)).splitlines()[0]
      raise UserError(
        f'cannot prepare {builder.name} in {root}: {reason}; expected a folder that can be written to, '
        'with room (data_dir or $TFDS_DATA_DIR)'
      ) from error
    builder = _builder(builder_cls, root)
  if not builder.info.splits:
    raise UserError(f'{builder.data_path}: expected dataset_info.json in that folder; delete it to have it made again')
  name = re.split(r'\W', split)[0]
  if name not in builder.info.splits:
    raise UserError(f'split {split!r} of {builder.name} is unknown{nearest(name, builder.info.splits)}')
  return Source(builder, split)


def _builder(builder_cls: type[tfds.core.GeneratorBasedBuilder], root: str) -> tfds.core.DatasetBuilder:
  version = os.path.join(root, builder_cls.name, str(builder_cls.VERSION))
  try:
    with open(os.path.join(version, 'dataset_info.json'), encoding='utf-8') as file:
      json.load(file)
  except ValueError as error:
    raise UserError(f'{file.name}: damaged ({error}); delete {version} to have it made again') from error
  except OSError:  # not prepared yet
    pass
  return builder_cls(data_dir=root, file_format='array_record')


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
  home = builder.data_path.parent
  os.makedirs(home, exist_ok=True)
  with open(home / 'lock', 'w') as lock:  # freed by the system, even when the process dies
    fcntl.flock(lock, fcntl.LOCK_EX)
    if builder.data_path.exists():  # another process was faster
      return
    for left in home.glob('incomplete.*'):  # of a process that was killed
      shutil.rmtree(left)
    print(f'preparing {builder.name} in {builder.data_dir_root}', file=sys.stderr)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare()


class Source:
  """The examples of a prepared split: len(source); source[i], a dict of arrays. Has the `name` of the data and `split`.

  Raises UserError with the name of the file where a record cannot be read.
  """

  def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
    self.name, self.split = builder.name, split
    self._files = builder.info.splits[split].file_instructions
    self._ends = np.cumsum([file.take for file in self._files])
    self._features = builder.info.features
    self._data = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    for end in self._ends:  # the last record of every file: one that was cut off shows at once
      self[end - 1]

  def __len__(self) -> int:
    return len(self._data)

  def __iter__(self) -> Iterator[dict[str, Any]]:
    return (self[i] for i in range(len(self)))

  def __getitem__(self, i: int) -> dict[str, Any]:
    if not 0 <= i < len(self):
      raise IndexError(f'example {i} of {len(self)}')
    try:
      record = self._data[i]
      if not record:
        raise RuntimeError('nothing is left of it')  # so array_record reads a file cut off at a multiple of 64 KiB
      return self._features.deserialize_example_np(record)
    except (OSError, RuntimeError) as error:
      path = self._files[np.searchsorted(self._ends, i, 'right')].filename
      raise UserError(
        f'{path}: cannot read example {i} of {self.name} {self.split!r} ({str(error).splitlines()[0]}); '
        f'delete {os.path.dirname(path)} to have it made again'
      ) from error


def train_batches(
  source: Examples, encode: Encode, *, images: int, seed: int, start: int = 0, shard: tuple[int, int] = (0, 1)
) -> Iterator[dict[str, np.ndarray]]:
  """Endless iterator of batches, dicts of arrays [N/n,...]; every epoch has another order. It has close().

  source: anything with len and [i]; encode: example -> dict of arrays; images: N, of the global batch; seed: int, from
  0; start: index of the first example, any int from 0 (a run that was cut off after k batches goes on with k * N);
  shard: (p, n), process p of n gets the p-th part of every batch. Raises UserError for an empty source, a wrong number,
  and where n does not divide N.
  """
  if seed < 0 or start < 0:
    raise UserError(f'seed {seed}, start {start}: expected whole numbers from 0')
  mixed = int(np.random.SeedSequence(seed).generate_state(1)[0])  # Grain shuffles epoch e by seed + e: without this,
  _check(source, images, shard)  # epoch 1 of seed 1 would be epoch 0 of seed 2
  order = grain.MapDataset.source(source).shuffle(seed=mixed).repeat()
  return _batches(order.slice(slice(start, None)).map(encode), images, shard)


def eval_batches(
  source: Examples, encode: Encode, *, images: int, shard: tuple[int, int] = (0, 1)
) -> Iterator[dict[str, np.ndarray]]:
  """One pass in order: iterator of batches, dicts of arrays [N/n,...] with close(). All processes get equally many.

  The last example fills the last batch up, with 'weight' 0. Arguments and errors as in train_batches.
  """
  _check(source, images, shard)
  last = len(source) - 1

  def read(i: int) -> Mapping[str, Any]:
    example = encode(source[min(i, last)])
    return example if i <= last else {**example, 'weight': np.zeros_like(example['weight'])}

  return _batches(grain.MapDataset.range(-(-len(source) // images) * images).map(read), images, shard)


def _check(source: Examples, images: int, shard: tuple[int, int]) -> None:
  place, processes = shard
  if not 0 <= place < processes:
    raise UserError(f'shard {shard}: expected (p, n) with p from 0 to n - 1')
  if images < 1 or images % processes:
    raise UserError(f'batch of {images} examples: expected a multiple of the number of processes, {processes}')
  if not len(source):
    raise UserError('data: expected at least one example, found none')


def _batches(examples: grain.MapDataset, images: int, shard: tuple[int, int]) -> Iterator[dict[str, np.ndarray]]:
  place, processes = shard
  return iter(examples.batch(images // processes).slice(slice(place, None, processes)).to_iter_dataset(READING))


class prefetch:  # lower-case, because it is used like a function, as contextlib.closing is
  """Iterator over put(item) for the items of `iterator`, up to `size` of them made ahead of the consumer, in a thread.

  put: such as jax.device_put. `waited`: seconds that the consumer has waited so far. What the thread raises reaches the
  consumer at the place of the item. close(), or leaving `with prefetch(...) as batches:`, stops the thread and closes
  the iterator.
  """

  def __init__(self, iterator: Iterable[Any], put: Callable[[Any], Any], size: int = 2):
    self.waited = 0.0
    self._ready: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    self._free, stop = threading.Semaphore(size), threading.Event()
    thread = threading.Thread(target=_fill, args=(iterator, put, self._ready, self._free, stop), daemon=True)
    thread.start()  # it holds no reference to self: a forgotten prefetch is collected, and
    self._close = weakref.finalize(self, _halt, iterator, self._free, stop, thread)  # closed, as at exit

  def __iter__(self) -> 'prefetch':
    return self

  def __next__(self) -> Any:
    if not self._close.alive:
      raise StopIteration
    start = time.perf_counter()
    item, error = self._ready.get()
    self.waited += time.perf_counter() - start
    self._free.release()
    if error is not None:
      self.close()
      raise error
    return item

  def close(self) -> None:
    self._close()

  def __enter__(self) -> 'prefetch':
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def _fill(
  iterator: Iterable, put: Callable, ready: queue.SimpleQueue, free: threading.Semaphore, stop: threading.Event
) -> None:
  try:
    items = iter(iterator)
    while free.acquire() and not stop.is_set():
      ready.put((put(next(items)), None))
  except BaseException as error:  # StopIteration too goes to the consumer
    ready.put((None, error))


def _halt(iterator: Iterable, free: threading.Semaphore, stop: threading.Event, thread: threading.Thread) -> None:
  stop.set()
  free.release()
  if thread is not threading.current_thread():  # where the garbage collector runs is not for us to choose
    thread.join()
  if hasattr(iterator, 'close'):
    iterator.close()
