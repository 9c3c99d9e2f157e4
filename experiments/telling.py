"""What a finished run tells: tables in the terminal, and the report with how it came about."""

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmjax import report
from mmjax.logging import device_line
from mmjax.workdir import write_atomic

TABLES = 'tables.json'  # in a run's folder: its tables with their numbers, which `experiments.keep` reads
TEXT = (  # columns that stand to the left
  'system', 'fusion', 'line', 'verdict', 'test', 'what finds what', 'among', 'wishes', 'source',
)  # fmt: skip


class Cell(str):
  """A number of a table, as it is shown: '12.3', or '12.3 (9.1–15.4)' with an interval."""

  value: float
  decimals: int

  def __new__(cls, value: float, *interval: float, decimals: int = 1) -> 'Cell':
    shown, *ends = [f'{x:.{decimals}f}' for x in (value, *interval)]
    cell = super().__new__(cls, f'{shown} ({"–".join(ends)})' if ends else shown)
    cell.value, cell.decimals = value, decimals
    return cell


def numbers(tables: Sequence[Mapping]) -> list[dict]:
  """Tables for JSON: {'title', 'columns', 'rows', 'notes'}, where a row has its texts and {'value', 'decimals'}."""
  plain = lambda cell: {'value': cell.value, 'decimals': cell.decimals} if isinstance(cell, Cell) else cell
  return [{**table, 'rows': [{k: plain(cell) for k, cell in row.items()} for row in table['rows']]} for table in tables]


def print_table(content: Mapping) -> None:
  """A table of `report.write` as text on stdout, 160 wide where that is no terminal."""
  grid = Table(title=content['title'], title_justify='left')
  for column in content['columns']:
    grid.add_column(column, justify='left' if column in TEXT else 'right', overflow='fold')
  for row in content['rows']:
    cells = (Text(str(row.get(column, '–'))) for column in content['columns'])  # no markup: '[t<v]' is no style
    grid.add_row(*cells, style='bold' if 'ours' in row else '')
  Console(width=None if sys.stdout.isatty() else 160).print(grid)
  for note in content['notes']:
    print(f'  {note}')


def command_line(without: Sequence[str] = ()) -> str:
  """What this process was started with, as one would write it, but for some flags."""
  kept, dropped = [], False
  for part in sys.argv[1:]:
    if part.startswith('--'):
      dropped = part.partition('=')[0].removeprefix('--') in without  # what follows without dashes is its value
    if not dropped:
      kept.append(part)
  return shlex.join(['python', '-m', f'experiments.{Path(sys.argv[0]).stem}', *kept])


def finish(
  c: Any,
  workdir: Path,
  *,
  title: str,
  summary: Sequence[tuple[str, object]],
  tables: Sequence[Mapping],
  params: Any,
  began: float,
  drawings: Sequence[Mapping] = (),
  galleries: Sequence[Mapping] = (),
  examples: Sequence[Mapping] = (),
) -> None:
  """Prints the tables, writes report.html with all that is given, and says where it is. began: in unix seconds."""
  for table in tables:
    print_table(table)
  made = {'experiment': Path(sys.argv[0]).stem, 'device': device_line(), 'tables': numbers(tables)}
  write_atomic(workdir / TABLES, json.dumps(made, indent=1, ensure_ascii=False) + '\n')
  file = workdir / 'report.html'
  report.write(
    file,
    title=title,
    summary=[
      *summary,
      ('parameters', f'{sum(x.size for x in jax.tree.leaves(params)):,}'),
      ('this command took', f'{time.time() - began:.0f} s'),
      ('device', device_line()),
    ],
    config=c.to_dict(),
    history=[json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()],
    tables=tables,
    drawings=drawings,
    galleries=galleries,
    examples=examples,
    command=command_line(),
  )
  print(f'report: {file}')
