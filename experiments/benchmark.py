"""How fast this is, here and now: beside HuggingFace's models on PyTorch, and by itself.

  python -m experiments.benchmark versus [--models=lxmert,visualbert,clip,blip] [--tasks=forward,train,questions]
                                         [--batches=1,8] [--rounds=11] [--compute=bfloat16]
  python -m experiments.benchmark depth
  python -m experiments.benchmark own [--tests]

versus: models at their papers' sizes with the same weights, inputs, masks, dropout and threads in both libraries, whose
results are compared first; forward and training step, PyTorch eager and torch.compile, in turn, so that what else the
machine does falls on all: medians, the middle half, ratios, the share of each library's own fastest product, and the
most memory. The task 'questions' is what users do, several questions of unequal length an image. On a GPU both run
there: --compute=bfloat16 --batches=256 --models=lxmert,clip --tasks=train. Needs `pip install -r
requirements-peers.txt`.
depth: compile times and memory of a training step of 6, 12 and 24 layers, scanned, rematerialised and not.
own: waiting for data and examples/s of a short run of the default experiment, its warm start-up, checkpoints written
beside training, texts tokenised once, decoding with and without a cache, and the accuracies of results/.
All print a table; --out=FOLDER (versus, depth: results/benchmark, where not given) keeps the numbers and a picture.
What versus found there before, of the same machine, versions and depth, stays: models can be measured one by one.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from mmjax import cli
from mmjax.errors import UserError, nearest

MODELS = ('lxmert', 'visualbert', 'clip', 'blip')
TASKS = ('forward', 'train', 'questions')
COMPUTE = ('float32', 'bfloat16')


def listed(text: str) -> list[str]:
  return [part.strip() for part in text.split(',') if part.strip()]


def parse() -> argparse.Namespace:
  show = argparse.RawDescriptionHelpFormatter
  parser = cli.Parser(prog='python -m experiments.benchmark', description=__doc__, formatter_class=show)
  parser.add_argument('what', choices=['versus', 'depth', 'own'])
  parser.add_argument('--out', type=Path, help='a folder for what is kept')
  parser.add_argument('--models', default=','.join(MODELS), help='versus: some of these, with commas')
  parser.add_argument('--tasks', default=','.join(TASKS), help='versus: some of these, with commas')
  parser.add_argument('--compute', default='float32', help=f'versus: {" or ".join(COMPUTE)}, of both libraries')
  parser.add_argument('--batches', default='1,8', help='versus: rows of a batch, with commas')
  parser.add_argument('--rounds', type=int, default=11, help='versus: times that each is measured')
  parser.add_argument('--layers', type=int, default=0, help="versus: in place of the papers' depth")
  parser.add_argument('--threads', type=int, default=0, help='versus: of both libraries; all cores where not given')
  parser.add_argument('--tests', action='store_true', help='own: time the default test suite too')
  args = parser.parse_args()
  args.models, args.tasks, args.batches = listed(args.models), listed(args.tasks), listed(args.batches)
  for flag, found, known in (
    ('models', args.models, MODELS), ('tasks', args.tasks, TASKS), ('compute', [args.compute], COMPUTE),
  ):  # fmt: skip
    for name in found:
      if name not in known:
        raise UserError(f'--{flag}: found {name!r}, expected some of {", ".join(known)}{nearest(name, known)}')
  if not args.models or not all(rows.isdigit() and int(rows) for rows in args.batches) or not args.batches:
    raise UserError(f'--models, --batches: found {args.models} and {args.batches}, expected at least one, from 1')
  if args.rounds < 3 or args.layers < 0 or not 0 <= args.threads <= (os.cpu_count() or 1):
    raise UserError(
      f'found --rounds={args.rounds} --layers={args.layers} --threads={args.threads}; expected at least 3 rounds, '
      f'layers from 0, and threads up to the {os.cpu_count()} cores'
    )
  if args.out and args.out.exists() and not args.out.is_dir():
    raise UserError(f'--out={args.out}: found a file, expected a folder')
  return args


def versus(args: argparse.Namespace) -> None:
  threads = args.threads or len(os.sched_getaffinity(0))
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])  # which is what XLA takes its threads from
  os.environ['OMP_NUM_THREADS'] = str(threads)
  os.environ.setdefault('HF_HUB_OFFLINE', '1')
  try:
    import torch

    from experiments.bench import kept, timing
    from experiments.bench import versus as against
  except ModuleNotFoundError as error:
    raise UserError(f'found no {error.name}, expected `pip install -r requirements-peers.txt` before') from error
  from mmjax import run as runs

  torch.set_num_threads(threads)
  runs.keep_memory()
  machine = {name: value for name, value in timing.machine(threads).items() if name != 'load'}
  run = {'command': f'python -m experiments.benchmark {" ".join(sys.argv[1:])}', 'layers': args.layers}
  folder, rows = args.out or cli.ROOT / 'results' / 'benchmark', []
  began = time.perf_counter()
  for model in args.models:
    for found in against.rows(model, map(int, args.batches), args.tasks, args.rounds, args.layers, args.compute):
      rows.append(found | run | {'load': round(os.getloadavg()[0], 2)})
      took = time.perf_counter() - began
      print(f'{took:5.0f} s  {" | ".join(kept.cells(rows[-1]))}', file=sys.stderr, flush=True)
    kept.write(rows, machine, folder)
  kept.show(rows, machine)
  print(f'wrote benchmark.json, table.md and benchmark.png in {folder}')


def depth(args: argparse.Namespace) -> None:
  from experiments.bench import depth as deep
  from experiments.bench import kept, timing

  machine = timing.machine(len(os.sched_getaffinity(0)))
  rows = list(deep.rows(lambda text: print(f'compiling {text} ...', file=sys.stderr, flush=True)))
  machine['load at the end'] = round(os.getloadavg()[0], 2)
  file = kept.depth(rows, machine, args.out or cli.ROOT / 'results' / 'benchmark')
  print(f'wrote {file}')


def own(args: argparse.Namespace) -> None:
  from rich.console import Console
  from rich.table import Table

  from experiments.bench import own as ours
  from experiments.bench import timing
  from mmjax.workdir import write_atomic

  machine = timing.machine(len(os.sched_getaffinity(0)))
  found = ours.measured(args.tests, lambda text: print(f'measuring {text} ...', file=sys.stderr, flush=True))
  shown = f'{machine["processor"]}, {machine["threads"]} threads, load {machine["load"]}, Python {machine["python"]}'
  table = Table('measured now', 'value', title=shown, title_justify='left')
  for name, value in found.items():
    table.add_row(name, f'{value:.4g}')
  console = Console(width=None if sys.stdout.isatty() else 160)
  console.print(table)
  accuracies = ours.accuracies()
  for row in accuracies:
    console.print(', '.join(f'{name} {value}' for name, value in row.items()), highlight=False)
  text = json.dumps({'machine': machine, 'measured': found, 'accuracies': accuracies}, indent=1)
  if not args.out:
    return print(text)
  args.out.mkdir(parents=True, exist_ok=True)
  write_atomic(args.out / 'own.json', text + '\n')
  print(f'wrote {args.out / "own.json"}')


def main() -> None:
  args = parse()
  {'versus': versus, 'depth': depth, 'own': own}[args.what](args)


if __name__ == '__main__':
  sys.exit(cli.exit_code(main))
