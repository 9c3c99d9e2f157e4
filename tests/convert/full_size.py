"""Reads, imports and exports checkpoints of the published sizes, of random numbers: seconds and peak memory.

  python -m tests.convert.full_size --workdir=DIR [NAME ...]

NAME: a list of tests/convert/published.json; LXMERT and CLIP B/32 where none is given. Memory is anonymous memory above
that of the process once everything is imported; most is 1.3 times the stored parameters plus the largest tensor. What
was exported is compared with the source, byte for byte. Exit code 1 where memory is above that or a byte differs.
"""

import argparse
import json
import multiprocessing
import sys
import threading
import time
from pathlib import Path

import numpy as np

from mmjax import cli
from mmjax.convert.tensors import FILE, open_tensors, write_tensors
from mmjax.errors import RunError
from tests.convert import published

NAMES = ('lxmert-base-uncased', 'clip-vit-base-patch32')


def write_random(name: str, folder: Path) -> None:
  """The checkpoint's tensors as random numbers, and its config."""
  tensors = published.tensors(name)
  rng = np.random.default_rng(0)
  draw = lambda t: rng.standard_normal(t.shape, np.float32).astype(t.dtype) if t.dtype.kind == 'f' else np.array(t)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(published.CONFIGS[name]))
  write_tensors(folder / FILE, {n: (t.dtype, t.shape) for n, t in tensors.items()}, map(draw, tensors.values()))


def anonymous() -> int:
  """Anonymous memory of this process in bytes."""
  lines = Path('/proc/self/status').read_text().splitlines()
  return 1024 * int(next(line.split()[1] for line in lines if line.startswith('RssAnon')))


def measured(what: str, given: tuple, answer) -> None:
  """Puts (seconds, peak in bytes) of one function of convert/load.py into `answer`; runs in a process of its own."""
  import jax

  from mmjax.convert import load

  jax.numpy.zeros(1).block_until_ready()  # the backend is part of what is imported
  before, peak, done = anonymous(), 0, threading.Event()

  def watch():
    nonlocal peak
    while not done.wait(0.002):
      peak = max(peak, anonymous() - before)

  watcher = threading.Thread(target=watch)
  watcher.start()
  began = time.perf_counter()
  kept = getattr(load, what)(*given)
  seconds = time.perf_counter() - began
  peak = max(peak, anonymous() - before)
  done.set()
  watcher.join()
  del kept
  answer.put((seconds, peak))


def measure(what: str, *given: Path) -> tuple[float, int]:
  context = multiprocessing.get_context('spawn')
  answer = context.SimpleQueue()
  process = context.Process(target=measured, args=(what, given, answer))
  process.start()
  process.join()
  if process.exitcode:
    raise RunError(f'{what} {given[0]}: ended with {process.exitcode}')
  return answer.get()


def same(a: Path, b: Path) -> bool:
  """Whether two folders hold the same tensors: names, dtypes, shapes and bytes."""
  one, other = open_tensors(a), open_tensors(b)
  equal = lambda x, y: x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
  return set(one) == set(other) and all(equal(one[name], other[name]) for name in one)


def run(args: argparse.Namespace) -> None:
  wrong = []
  print(f'{"checkpoint":24} {"what":8} {"seconds":>8} {"peak MB":>8} {"at most":>8}')
  for name in args.names or NAMES:
    source, ours, back = (args.workdir / name / part for part in ('source', 'ours', 'back'))
    write_random(name, source)
    sizes = [t.nbytes for t in published.tensors(name).values()]
    most = 1.3 * sum(sizes) + max(sizes)
    for what, given in (('load', (source,)), ('import_', (source, ours)), ('export', (ours, back))):
      seconds, peak = measure(what, *given)
      print(f'{name:24} {what.strip("_"):8} {seconds:8.1f} {peak / 1e6:8,.0f} {most / 1e6:8,.0f}', flush=True)
      wrong += [f'{what.strip("_")} of {name} took {peak / 1e6:,.0f} MB'] if peak > most else []
    wrong += [] if same(source, back) else [f'{name} came back changed']
    print(
      f'{name:24} {len(sizes)} tensors, {sum(sizes) / 1e6:,.0f} MB: {"came back" if same(source, back) else "CHANGED"}'
    )
  if wrong:
    raise RunError('; '.join(wrong))


def main() -> None:
  parser = cli.Parser(
    prog='python -m tests.convert.full_size', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('names', nargs='*', choices=[*published.LISTS, []], metavar='NAME')
  parser.add_argument('--workdir', type=Path, required=True, help='a new or an empty folder')
  sys.exit(cli.exit_code(lambda: run(parser.parse_args())))


if __name__ == '__main__':
  main()
