"""What a benchmark found: as a table in the terminal, and as JSON, Markdown and a picture in a folder."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from mmjax.workdir import replacing, write_atomic

COLUMNS = (
  'model', 'task', 'batch', 'ours, ms', 'peer', 'peer, ms', 'ratio', 'ours of its peak', 'peer of its peak',
  'ours, GiB', 'peer, GiB',
)  # fmt: skip
Row = Mapping[str, Any]
OURS, PEER = '#1f5fa8', '#b8b8b8'


def cells(row: Row) -> list[str]:
  """A row as text, in the order of COLUMNS."""
  time = lambda whose: '{:,.1f} ({:,.1f}–{:,.1f})'.format(row[f'{whose}_ms'], *row[f'{whose}_range'])
  share = lambda whose: f'{100 * row[f"{whose}_peak"]:.0f} %'
  room = lambda whose: f'{row[f"{whose}_gib"]:.2f}' if f'{whose}_gib' in row else '–'
  task = row['task'] if row.get('compute', 'float32') == 'float32' else f'{row["task"]}, {row["compute"]}'
  named = [row['model'], task, str(row['batch']), time('ours'), row['peer'], time('peer')]
  return [*named, f'{row["ratio"]:.2f}', share('ours'), share('peer'), room('ours'), room('peer')]


def said(machine: Mapping[str, Any], loads: Sequence[float]) -> str:
  """One line about the machine. loads: how many processes it ran or had waiting, at times."""
  versions = ', '.join(f'{name} {number}' for name, number in machine['versions'].items())
  load = f'load {min(loads):.1f} to {max(loads):.1f}'
  return f'{machine["processor"]}, {machine["threads"]} threads, {load}; Python {machine["python"]}, {versions}'


def show(rows: Sequence[Row], machine: Mapping[str, Any]) -> None:
  table = Table(*COLUMNS, title=said(machine, [row['load'] for row in rows]), title_justify='left')
  for row in rows:
    table.add_row(*cells(row))
  Console(width=None if sys.stdout.isatty() else 180).print(table)


def together(rows: Sequence[Row], machine: Mapping[str, Any], folder: Path) -> list[Row]:
  """These rows, and those that the folder has of the same machine, versions and depth, of what was not measured now."""
  file = folder / 'benchmark.json'
  before = json.loads(file.read_text()) if file.exists() else {'machine': {}, 'rows': []}
  of = lambda row: (row['model'], row['task'], row['batch'], row['compute'])
  now = {of(row) for row in rows}
  same = before['machine'] == machine
  kept = [row for row in before['rows'] if same and row['layers'] == rows[0]['layers'] and of(row) not in now]
  models = list(dict.fromkeys(row['model'] for row in [*kept, *rows]))
  return sorted([*kept, *rows], key=lambda row: models.index(row['model']))


def write(rows: Sequence[Row], machine: Mapping[str, Any], folder: Path) -> Path:
  """benchmark.json, table.md and benchmark.png in the folder, which is made; see `together`."""
  folder.mkdir(parents=True, exist_ok=True)
  rows = together(rows, machine, folder)
  write_atomic(folder / 'benchmark.json', json.dumps({'machine': machine, 'rows': rows}, indent=1) + '\n')
  lines = [
    f'| {" | ".join(COLUMNS)} |',
    '|' + '---|' * len(COLUMNS),
    *(f'| {" | ".join(cells(row))} |' for row in rows),
  ]
  notes = [
    '- Milliseconds: the median of the rounds, and the middle half of them. Ratio: how many times the peer takes.',
    "- Of its peak: the FLOPs of the model's products and convolutions in that time, by those of the library's own "
    'product of two matrices (2048 x 2048, on a GPU 8192 x 8192), the fastest of the same rounds.',
    '- GiB: the most that a process of its own held during three rounds, less what it held before the model was made.',
    '- VQA-shaped: batches of 32 questions, 5.4 an image, 3 to 20 tokens (experiments/bench/asked.py); ours has each '
    'image once and no padding of texts. Milliseconds of a batch.',
  ]
  commands = [f'`{command}`  ' for command in dict.fromkeys(row['command'] for row in rows)]
  machine_line = said(machine, [row['load'] for row in rows])
  text = ['# Beside HuggingFace on PyTorch', '', *commands, '', machine_line, '', *lines, '', *notes]
  write_atomic(folder / 'table.md', '\n'.join(text) + '\n')
  with replacing(folder / 'benchmark.png') as out:
    picture(rows).savefig(out, format='png', dpi=150)
  return folder


def _named(row: Row) -> str:
  """The peer without the name of its class."""
  return row['peer'] if row['peer'].startswith('mmjax') else row['peer'].partition(', ')[2]


def depth(rows: Sequence[Row], machine: Mapping[str, Any], folder: Path) -> Path:
  """depth.json in the folder, which is made, and a table in the terminal."""
  loads = [machine['load'], machine['load at the end']]
  table = Table(*(name.replace('_', ' ') for name in rows[0]), title=said(machine, loads), title_justify='left')
  for row in rows:
    table.add_row(*map(str, row.values()))
  Console(width=None if sys.stdout.isatty() else 180).print(table)
  folder.mkdir(parents=True, exist_ok=True)
  numbers = {'command': 'python -m experiments.benchmark depth', 'machine': machine, 'rows': list(rows)}
  write_atomic(folder / 'depth.json', json.dumps(numbers, indent=1) + '\n')
  return folder / 'depth.json'


def picture(rows: Sequence[Row]) -> Figure:
  """Bars of the ratios, 1 where both are as fast, in a panel for each model, task and batch."""
  with matplotlib.rc_context({'font.size': 9, 'axes.spines.top': False, 'axes.spines.right': False}):
    groups: dict[str, list[Row]] = {}
    for row in rows:
      groups.setdefault(f'{row["model"]}, {row["task"]}, batch {row["batch"]}', []).append(row)
    sizes = [len(group) for group in groups.values()]
    height = 0.6 + sum(0.3 * size + 0.4 for size in sizes)
    figure = Figure(figsize=(9, height), layout='constrained')
    panels = figure.subplots(len(groups), sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, (name, group) in zip(panels, groups.items(), strict=True):
      ratios = [row['ratio'] for row in group]
      bars = axes.barh(range(len(group)), ratios, color=[OURS if ratio >= 1 else PEER for ratio in ratios])
      axes.bar_label(bars, [f'{ratio:.2f}' for ratio in ratios], padding=3)
      axes.set_yticks(range(len(group)), [_named(row) for row in group])
      axes.invert_yaxis()
      axes.axvline(1, color='black', linewidth=0.8)
      axes.set_title(name, loc='left', fontsize=9, fontweight='bold')
    panels[0].set_xlim(0, 1.15 * max(row['ratio'] for row in rows))
    figure.supxlabel('how many times as long the peer takes', fontsize=9)
  return figure
