"""What a run tells: metrics.jsonl and TensorBoard events in its folder, a progress bar or plain lines on stderr."""

import collections
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import tqdm
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from mmjax.workdir import naming, write_atomic

SHOWN = ('loss', 'accuracy')  # metrics that have a place in the progress line
BAR_SECONDS = 0.5  # between two drawings on a terminal
LINE_SECONDS = 30  # between two lines where stderr is a file or a pipe
FLUSH_SECONDS = 10  # between two flushes of the TensorBoard file


class Logger:
  """The log of a training run. Use as a context manager, or call close().

  workdir: Path of a folder; total: steps of the whole run; start: the step it goes on from, 0 for a new run; batch:
  examples in a step, for examples/s (without it the progress shows steps/s); quiet: shows no progress.
  Cuts metrics.jsonl back to what was known at `start`: lines of later steps, of the tests and 'final' and torn ones go.
  Raises OSError that names the file, here and in write(), when the disk is full.
  """

  def __init__(
    self, workdir: str | os.PathLike, *, total: int, start: int = 0, batch: int | None = None, quiet: bool = False
  ):
    self._path = pathlib.Path(workdir) / 'metrics.jsonl'
    self._total, self._batch, self._quiet = total, batch, quiet
    self._bar: tqdm.tqdm | None = None
    if sys.stderr.isatty() and not quiet:
      self._bar = tqdm.tqdm(
        total=total,
        initial=start,
        file=sys.stderr,
        dynamic_ncols=True,
        leave=True,
        bar_format='{n:,}/{total:,} {percentage:3.0f}%|{bar}|{desc}',
      )
    # (seconds, step), for the speed; without the step that compiles
    self._marks: collections.deque[tuple[float, int]] = collections.deque(maxlen=30)
    self._due = 0.0  # monotonic seconds
    _cut_back(self._path, start, self.say)
    self._file = open(self._path, 'a', encoding='utf-8')  # noqa: SIM115, close() is below
    self._board = _Board(self._path.with_name('tensorboard'), start)

  def __enter__(self) -> 'Logger':
    return self

  def __exit__(self, *unused: object) -> None:
    self.close()

  def write(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
    """Appends a line to metrics.jsonl and the same numbers to TensorBoard, as split/name.

    step: int; split: 'train', 'val', ..., 'final'; metrics: {name: number, array of one number, or str}.
    A line is {"step", "split", "time": unix seconds to the millisecond, **metrics}. JSON has no nan and no infinity:
    they are written as the strings "nan", "inf" and "-inf", which float() reads back.
    """
    metrics = {name: value if isinstance(value, str) else np.asarray(value).item() for name, value in metrics.items()}
    numbers = {name: value for name, value in metrics.items() if not isinstance(value, str)}
    taken = metrics.keys() & {'step', 'split', 'time'}
    if taken:
      raise ValueError(f'a metric cannot be named {", ".join(sorted(taken))}')
    line = {'step': int(step), 'split': split, 'time': round(time.time(), 3)}
    line |= metrics | {name: str(value) for name, value in numbers.items() if not math.isfinite(value)}
    with naming(self._path):
      self._file.write(json.dumps(line, allow_nan=False) + '\n')
      self._file.flush()
    self._board.write(int(step), {f'{split}/{name}': value for name, value in numbers.items()})

  def progress(self, step: int, metrics: Callable[[], Mapping[str, float]]) -> None:
    """Shows where the run is: step, loss, accuracy, examples/s, time left. Cheap enough to call at each step.

    metrics: a function without arguments that gives {name: number}, of which loss and accuracy are shown. Called, at
    the cost of a wait for the device, only when something is drawn: twice a second on a terminal, else every 30 s.
    """
    now = time.monotonic()
    if self._quiet or (now < self._due and step < self._total):
      return
    self._due = now + (BAR_SECONDS if self._bar is not None else LINE_SECONDS)
    values = metrics()
    shown = [f'{name} {_fixed(values[name])}' for name in SHOWN if name in values]
    self._marks.append((now, step))
    then, before = self._marks[0]
    if step > before and now > then:
      speed = (step - before) / (now - then)
      shown.append(f'{_short(speed * self._batch)} examples/s' if self._batch else f'{_short(speed)} steps/s')
      shown.append(f'{tqdm.tqdm.format_interval((self._total - step) / speed)} left')
    if self._bar is None:
      print(f'step {step:,}/{self._total:,}', *shown, sep='  ', file=sys.stderr, flush=True)
      return
    self._bar.n = step
    self._bar.desc = ' ' + ' '.join(shown)
    self._bar.refresh()

  def skip(self, seconds: float) -> None:
    """Leaves so much time, which was not spent on training, out of the speed that is shown."""
    self._marks = collections.deque(((then + seconds, step) for then, step in self._marks), self._marks.maxlen)

  def say(self, text: str) -> None:
    """Prints text to stderr, above the bar if there is one."""
    if self._bar is None:
      print(text, file=sys.stderr, flush=True)
    else:
      self._bar.write(text, file=sys.stderr)

  def close(self) -> None:
    """Ends the bar and the files. May be called twice."""
    if self._bar is not None:
      self._bar.close()
    with naming(self._path):
      self._file.close()
    self._board.close()


def parameter_table(params: Any) -> str:
  """Table of a pytree of arrays or jax.ShapeDtypeStruct, grouped to depth 2: name, count, share."""
  groups: collections.Counter[str] = collections.Counter()
  size = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    groups[jax.tree_util.keystr(path[:2], simple=True, separator='/')] += math.prod(leaf.shape)
    size += math.prod(leaf.shape) * leaf.dtype.itemsize
  total = sum(groups.values())
  rows = [(name, f'{count:,}', f'{count / max(total, 1):.1%}') for name, count in groups.items()]
  rows.append(('total', f'{total:,}', f'{size / 1e6:,.1f} MB'))
  widths = [max(map(len, column)) for column in zip(*rows)]
  lines = [f'{name:<{widths[0]}}  {count:>{widths[1]}}  {share:>{widths[2]}}' for name, count, share in rows]
  rule = '-' * len(lines[0])
  return '\n'.join([*lines[:-1], rule, lines[-1]])


def device_line() -> str:
  """One line: platform, kind, number of devices and processes, jax version. Starts the backend."""
  device, count, processes = jax.devices()[0], jax.device_count(), jax.process_count()
  kind = '' if device.device_kind == device.platform else f' ({device.device_kind})'
  return (
    f'{device.platform}{kind}, {count} device{"s" * (count > 1)}, {processes} process{"es" * (processes > 1)}, '
    f'jax {jax.__version__}'
  )


class _Board:
  """TensorBoard events, written by the caller's thread.

  tensorboardX's SummaryWriter hands them to a thread through a queue of ten; on a full disk that thread dies, the queue
  fills and the training loop waits for ever. Its file format alone is used here, so that write() raises the error.
  """

  def __init__(self, folder: pathlib.Path, start: int):
    folder.mkdir(exist_ok=True)
    self._folder, self._flushed = folder, time.monotonic()
    self._events = EventsWriter(str(folder / 'events'), f'.{time.time_ns()}')  # two runs may begin in one second
    purge = start + 1 if start else 0  # what TensorBoard shows of an earlier part of this run ends here
    self._add(Event(step=purge, wall_time=time.time(), session_log=SessionLog(status=SessionLog.START)))

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
    self._add(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))

  def close(self) -> None:
    with naming(self._folder):
      self._events.close()

  def _add(self, event: Event) -> None:
    with naming(self._folder):
      self._events.write_event(event)
      if time.monotonic() > self._flushed + FLUSH_SECONDS:
        self._events.flush()
        self._flushed = time.monotonic()


def _cut_back(path: pathlib.Path, start: int, say: Callable[[str], None]) -> None:
  """Rewrites metrics.jsonl to its lines of steps up to start, without what ends a run; to nothing if start is 0."""
  if not path.exists():
    return
  kept, torn = [], 0
  for text in path.read_bytes().splitlines(keepends=True):
    try:
      line = json.loads(text)
      if (
        text.endswith(b'\n')
        and 0 <= line['step'] <= start
        and start
        and not line['split'].startswith(('test', 'final'))
      ):
        kept.append(text)
    except (ValueError, KeyError, TypeError):
      torn += 1
  if torn:
    say(f'warning: {path}: {torn} unreadable line{"s" * (torn > 1)} removed')
  write_atomic(path, b''.join(kept))


def _fixed(number: float) -> str:
  """Four decimals, so that the line does not jump about; 0.00002 -> '2.0e-05'."""
  return f'{number:.1e}' if 0 < abs(number) < 1e-3 else f'{number:.4f}'


def _short(number: float) -> str:
  """1234.5 -> '1,234', 12.34 -> '12.3', 0.5 -> '0.5'."""
  return f'{number:,.0f}' if number >= 100 else f'{number:.3g}'
