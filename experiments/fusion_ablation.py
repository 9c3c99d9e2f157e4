"""Which way of fusing words and images: a grid of fusions by seeds under one budget, in one command.

Every fusion is one line of the config. Each cell of the grid, a fusion with a seed, is trained and tested in a folder
of its own: what is done is never made again, what was interrupted goes on, and several processes may share a grid.
From the cells come ablation.html and the same as CSV, JSON, Markdown and LaTeX.
"""

from mmjax import cli

CONFIG = 'configs/fusion_ablation.py:sort_of_clevr'
FLAGS = {
  'only': ('', 'names of fusions, separated by commas: work at these alone'),
  'seeds': ('', 'seeds, separated by commas: work at these alone'),
  'dry-run': (False, 'show the grid with sizes and the time it will take, and train nothing'),
  'report-only': (False, 'write the results of the cells that are done, and train nothing'),
}

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=('train',), flags=FLAGS, doc=__doc__)  # a misspelt flag is said before slow imports

import contextlib
import functools
import json
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs import fusion_ablation as complete
from experiments import telling, training
from experiments import visual_questions as task_of
from experiments.lab import cells as cells_of
from experiments.lab import grid as grid_of
from experiments.lab import page, result, timing
from experiments.lab.board import Board, duration
from experiments.lab.broken import BROKEN
from experiments.lab.cells import Cell
from mmjax import run as runs
from mmjax.cli import Preempted
from mmjax.errors import RunError, UserError, nearest
from mmjax.workdir import NO_ROOM, Damaged, InUse, check_workdir, write_atomic

OF_THE_GRID = ('fusions', 'seeds', 'reference')  # keys that may change in a workdir: what is done stays as it is
WAIT = 2.0  # seconds between two looks at what other processes do


def run(c: Any, args: Any) -> None:
  training.check(c.to_dict(), complete.get_config().to_dict(), 'configs/fusion_ablation.py')
  fusions = grid_of.fusions(c)
  only = picked('--only', args.only, [fusion.name for fusion in fusions])
  seeds = [int(seed) for seed in picked('--seeds', args.seeds, [str(seed) for seed in c.seeds])]
  for name in c.test.broken:
    if name not in BROKEN:
      raise UserError(
        f'--config.test.broken: found {name!r}, expected some of {", ".join(BROKEN)}{nearest(name, BROKEN)}'
      )
  config = {key: value for key, value in c.to_dict().items() if key not in OF_THE_GRID}
  if args.hosts:
    raise UserError('--hosts: found with a grid, expected a process of its own on each host, all with one workdir')
  if args.report_only and (args.only or args.seeds or args.dry_run):
    raise UserError('--report-only: found beside --only, --seeds or --dry-run; a report is of all cells that are done')
  workdir = grid_folder(args.workdir, config)
  training.launch(c)  # raises what each cell would
  runs.keep_compiled()
  runs.keep_memory()
  task = task_of.prepare(c.data.name, c.data.setting, c.data.dir)
  if c.test.split not in task.tests:
    raise UserError(f'--config.test.split: found {c.test.split!r}, {task.name} has {", ".join(task.tests)}')
  say(f'sizing {len(fusions)} fusions to the budget')
  sized = grid_of.sized(c, task, fusions, flops=not args.report_only)  # what is done says its own
  for fusion in fusions:
    if not fusion.sees:
      say(f'note: {fusion.name}: its answer can never depend on the image ({fusion.line})')
  cells = [Cell(size, seed, workdir / 'cells' / size.fusion.folder / str(seed)) for size in sized for seed in c.seeds]
  mine = [cell for cell in cells if cell.sized.fusion.name in only and cell.seed in seeds]
  if args.dry_run:
    return dry_run(c, task, sized, mine)
  if not args.report_only:
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomic(workdir / 'config.json', json.dumps(config, indent=2, sort_keys=True) + '\n')
    check_done(c, cells)
    errors = work(c, task, mine, workdir / 'failed')
  else:
    errors = {}
  done = [size for size in sized if any(cell.done for cell in cells if cell.sized is size)]
  if done and not args.report_only and not timing.known(workdir, done):
    say('timing a step of each')
    timing.keep(workdir, done, timing.measure(c, task, done))
  if done or not errors:
    finish(c, task, cells, workdir, config, timing.known(workdir, done))
  if errors:
    first, error = next(iter(errors.items()))
    raise RunError(
      f'{len(errors)} of {len(mine)} cells failed, {sum(cell.done for cell in mine)} are done; {first.name}: {error} '
      f'({workdir / "failed"})'
    )


def grid_folder(path: str, config: dict) -> Path:
  """The folder of a grid, its config.json checked. Where that is damaged it may be removed: every cell has its own."""
  try:
    return check_workdir(path, config, own='cells')
  except Damaged as error:
    raise UserError(f'{error}, or remove that file: each cell is checked by a config of its own') from error


def say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def picked(flag: str, given: str, known: Sequence[str]) -> list[str]:
  """The names of a flag, or all where it is not given. Raises UserError for an unknown one."""
  if not given:
    return list(known)
  names, rest = [], given
  while rest:  # a name may hold commas itself: the longest known one that begins here
    name = max((k for k in known if rest == k or rest.startswith(f'{k},')), key=len, default=None)
    if name is None:
      wrong = rest.partition(',')[0].strip()
      raise UserError(f'{flag}: found {wrong!r}, expected some of {", ".join(map(repr, known))}{nearest(wrong, known)}')
    names.append(name)
    rest = rest[len(name) + 1 :].lstrip()
  return names


def check_done(c: Any, cells: Sequence[Cell]) -> None:
  """Raises UserError for a cell that is damaged or of another config, before hours are spent on others."""
  for cell in cells:
    if cell.done:
      cells_of.read(c, cell)
      continue
    try:
      check_workdir(cell.folder, cells_of.config_of(c, cell))
    except Damaged as error:
      raise UserError(f'cell {cell.folder} is damaged; remove the folder to have it made again ({error})') from error


def failure(folder: Path, cell: Cell) -> Path:
  """The file for the traceback of a cell."""
  return folder / f'{cell.sized.fusion.folder}_{cell.seed}.txt'


def note_failure(folder: Path, cell: Cell, error: Exception) -> None:
  """Leaves the traceback of a cell that failed below `folder`, where that can be written."""
  with contextlib.suppress(OSError):
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(failure(folder, cell), ''.join(traceback.format_exception(error)))


def work(c: Any, task: task_of.Task, cells: Sequence[Cell], failures: Path) -> dict[Cell, str]:
  """Sees to it that every cell is done, here or by another process. Returns those that failed here, and why.

  failures: the folder for their tracebacks.
  """
  errors: dict[Cell, str] = {}
  with Board(cells, c.optim.steps) as board:
    left = list(cells)
    while left:
      before = len(left)
      for cell in list(left):
        if cell.done:
          board.set(cell, 'done')
          left.remove(cell)
          continue
        try:
          cells_of.run(c, task, cell, functools.partial(board.set, cell, 'runs'), functools.partial(board.step, cell))
          board.set(cell, 'done')
          left.remove(cell)
          failure(failures, cell).unlink(missing_ok=True)  # of an earlier try
        except InUse:
          board.set(cell, 'elsewhere')
        except Preempted:
          raise
        except Exception as error:  # whatever it is, it is this cell's: the others go on, and the end says it
          if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
          errors[cell] = ' '.join(f'{type(error).__name__}: {error}'.split())[:500]
          note_failure(failures, cell, error)
          board.set(cell, 'failed', errors[cell])
          left.remove(cell)
      if len(left) == before:  # all that is left is elsewhere
        board.waiting(len(left))
        time.sleep(WAIT)
  return errors


def finish(
  c: Any, task: task_of.Task, cells: Sequence[Cell], workdir: Path, config: dict, times: Mapping[str, float]
) -> None:
  """Writes and prints what the done cells say. times: milliseconds of a step, where they were measured."""
  found = result.load(c, task, cells, times)
  command = telling.command_line(without=('only', 'seeds', 'report-only'))
  whole = config | {key: c.to_dict()[key] for key in OF_THE_GRID}
  result.write(found, workdir, whole, command)
  file = page.write(found, cells, workdir, whole, command)
  table = result.main_table(found)
  shorter = {column: lambda text: text.partition(' (')[0] for column in task.groups}  # a terminal has no room for all
  rows = [{key: shorter.get(key, str)(value) for key, value in row.items()} for row in table['rows']]
  telling.print_table(table | {'rows': rows})
  print(f'also: cells.csv, ablation.json, ablation.md, ablation.tex in {workdir}')
  print(f'ablation: {file}')


def dry_run(c: Any, task: task_of.Task, sized: Sequence[grid_of.Sized], cells: Sequence[Cell]) -> None:
  """Prints the grid, with the time that it will take, by some steps of each fusion, measured here."""
  say('timing a step of each')
  times = timing.measure(c, task, sized)
  seconds = {name: ms / 1000 * c.optim.steps for name, ms in times.items()}
  rows = []
  for size in sized:
    name = size.fusion.name
    mine = [cell for cell in cells if cell.sized is size]
    left = sum(not cell.done for cell in mine)
    rows.append({
      'fusion': name,
      'line': size.fusion.line,
      'mlp': str(size.mlp or '–'),
      'parameters': f'{size.parameters:,}',
      'GFLOPs a step': f'{size.flops / 1e9:.3g}',
      'ms a step': f'{times[name]:.0f}',
      'cells': f'{len(mine)}, {left} left' if mine else 'none',
      'time a cell': duration(seconds[name]),
    })  # fmt: skip
  telling.print_table({'title': 'The grid', 'columns': list(rows[0]), 'rows': rows, 'notes': []})
  todo = [cell for cell in cells if not cell.done]
  total = sum(seconds[cell.sized.fusion.name] for cell in todo)
  print(f'{len(todo)} of {len(cells)} cells are left: about {duration(total)} of training here; '
        'compiling and tests not counted')  # fmt: skip


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=('train',), flags=FLAGS, doc=__doc__)
