"""Published checkpoints into JAX and back.

  python -m mmjax.convert info PATH                 what PATH holds, and which tensor is which parameter
  python -m mmjax.convert import PATH --out DIR     writes it in our own format (config.json, model.safetensors)
  python -m mmjax.convert export DIR --out PATH     writes it back: the same names, dtypes and bytes
  python -m mmjax.convert check CASE [--dump FILE]  runs a stored case of the published code and compares each output

PATH is a folder with config.json beside model.safetensors (or the shards of its index), or beside the model.bin of a
Whisper of CTranslate2's, which goes back as safetensors under its names. A pickle (.bin, .pt, .pth) is read with
--allow-pickle only, by an unpickler that builds tensors and nothing else.
Exit codes: 0 done, 1 an output of a case differs or is not supported, 2 a mistake in what was given.
"""

import argparse
import sys
from pathlib import Path

from mmjax import cli
from mmjax.errors import RunError, UserError


def parse(argv: list[str]) -> argparse.Namespace:
  show = argparse.RawDescriptionHelpFormatter
  parser = cli.Parser(prog='python -m mmjax.convert', description=__doc__, formatter_class=show)
  commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND', parser_class=cli.Parser)
  for name, what, out in (
    ('info', 'what a checkpoint holds', False),
    ('import', 'a published checkpoint into our format', True),
    ('export', 'a folder in our format back to the published one', True),
    ('check', 'a stored case of the published code against ours', False),
  ):
    command = commands.add_parser(name, help=what, description=what)
    command.add_argument('path', type=Path)
    if out:
      command.add_argument('--out', type=Path, required=True, help='a new or an empty folder')
    if name != 'export':
      command.add_argument('--allow-pickle', action='store_true', help='read tensors out of a pickle too')
    if name == 'check':
      command.add_argument('--dump', type=Path, help='a safetensors file for everything that was computed')
  return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
  {'info': info, 'import': import_, 'export': export, 'check': check}[args.command](args)


def info(args: argparse.Namespace) -> None:
  from mmjax.convert.load import once, read
  from mmjax.convert.names import UNUSED, count, flatten, misfits, refuse

  plan, tensors = read(args.path, args.allow_pickle)
  expected = plan.shapes
  flat = flatten(expected)
  size = sum(tensor.nbytes for tensor in tensors.values())
  print(f'{type(plan.model).__name__}: {count(expected):,} parameters, {len(tensors)} tensors, {size / 1e6:,.1f} MB')
  print(plan.model)
  width = max(len(row.path) for row in plan.rows)
  for row in plan.rows:
    shape = 'used by nothing, kept' if row.collection == UNUSED else str(tuple(flat[row.path].shape))
    part = f' (part {row.part[0] + 1} of {row.part[1]})' if row.part[1] > 1 else ''
    more = f' ... {row.theirs[-1]}' if len(row.theirs) > 1 else ''
    print(f'{row.path:{width}}  {shape:22}  {row.theirs[0]}{more}{part}')
  ignored = sorted(set(plan.buffers) & set(tensors))
  for name in ignored:
    print(f'{name}: ignored, made anew')
  second = {name: first for name, first in plan.tied.items() if name in tensors}
  for name, first in second.items():
    print(f'{name}: a second name of {first}')
  refuse(misfits(plan.rows, once(plan, tensors), expected, plan.buffers))
  mapped = len(tensors) - len(ignored) - len(second)
  print(f'{mapped} tensors mapped, {len(second)} second names, {len(ignored)} ignored, 0 missing, 0 left over')


def import_(args: argparse.Namespace) -> None:
  from mmjax.convert.load import import_
  from mmjax.convert.names import count

  with progress('importing') as seen:
    plan = import_(args.path, args.out, args.allow_pickle, seen)
  print(f'{type(plan.model).__name__} with {count(plan.shapes):,} parameters: written to {args.out}')


def export(args: argparse.Namespace) -> None:
  from mmjax.convert.load import export

  with progress('exporting') as seen:
    number = export(args.path, args.out, seen)
  print(f'{number} tensors: written to {args.out}')


def check(args: argparse.Namespace) -> None:
  from mmjax.convert import check
  from mmjax.convert.tensors import FILE, Tensors, write_tensors

  name = args.path.resolve().name
  if args.dump and args.dump.exists():
    raise UserError(f'--dump={args.dump}: is there already, expected a new file')
  found = check.compute(args.path, args.allow_pickle)
  if args.dump:
    write_tensors(args.dump, {key: (a.dtype, a.shape) for key, a in found.items()}, found.values())
    print(f'{len(found)} outputs: written to {args.dump}')
  stored = args.path / FILE.replace('model', 'outputs')
  if not stored.is_file():
    print(f'{name}: {len(found)} outputs computed; there is no {stored.name} to compare them with')
    return
  wanted = Tensors([stored])
  if not wanted:
    raise UserError(f'{stored}: holds no outputs, expected at least one')
  failed = 0
  for output, error in check.errors(found, wanted).items():
    most = check.tolerance(name, output)
    bad = error is None or not error <= most
    failed += bad
    said = 'unsupported' if error is None else f'{error:.1e}'
    print(f'{output:60} {said:>11}  {"FAILED, at most " + format(most, ".0e") if bad else ""}'.rstrip())
  if failed:
    raise RunError(f'{name}: {failed} of {len(wanted)} outputs differ or are not supported')
  print(f'{name}: all {len(wanted)} outputs agree')


class progress:
  """The bytes that were dealt with so far, on a terminal; nothing elsewhere."""

  def __init__(self, what: str):
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TransferSpeedColumn

    self.what = what
    columns = (SpinnerColumn(), TextColumn('{task.description} {task.completed:,.0f} bytes'), TransferSpeedColumn())
    console = Console(stderr=True)
    self.bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal)

  def __enter__(self):
    self.bar.start()
    self.task = self.bar.add_task(self.what, total=None)
    return lambda size: self.bar.advance(self.task, size)

  def __exit__(self, *unused):
    self.bar.stop()


if __name__ == '__main__':
  sys.exit(cli.exit_code(lambda: run(parse(sys.argv[1:]))))
