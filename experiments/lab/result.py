"""What a grid's cells say together: comparison, tables, and the files that hold them.

S seeds, M images, K questions.
"""

import csv
import dataclasses
import functools
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import visual_questions as task_of
from experiments.lab import cells as cells_of
from experiments.lab.cells import TESTED, Cell
from experiments.showing import floors
from mmjax.errors import UserError
from mmjax.metrics import comparison
from mmjax.workdir import write_atomic

WHOLE = 'overall'
SHORT = {'no difference shown': 'not shown'}


@dataclasses.dataclass(frozen=True)
class Result:
  """Done cells, read. Everything is by fusion, in the order of the grid.

  given: the grid's config. right {fusion: uint8 [S,M,K]} of `cells_of.answered`, broken {(fusion, how): the same};
  kinds int [M,K] are question types of the test `split`; whole: the fusions all of whose seeds are done, which alone
  are compared; missing {fusion: seeds that are not}; times {fusion: milliseconds of a training step}, where measured.
  """

  task: task_of.Task
  given: Any
  cells: Mapping[str, Sequence[dict]]
  right: Mapping[str, np.ndarray]
  broken: Mapping[tuple[str, str], np.ndarray]
  attention: Mapping[str, dict[str, np.ndarray]]
  kinds: np.ndarray
  split: str
  missing: Mapping[str, Sequence[int]]
  times: Mapping[str, float]

  @property
  def reference(self) -> str:
    return self.given.reference

  @property
  def floors(self) -> list[dict]:
    """The majority answers of this split."""
    return [floor for floor in floors(self.task) if floor['test'] == self.split]

  @property
  def whole(self) -> list[str]:
    return [name for name in self.cells if not self.missing[name]]

  @property
  def columns(self) -> list[str]:
    """'overall', groups and question types."""
    return [WHOLE, *self.task.groups, *self.task.question_types]

  def counted(self, right: np.ndarray, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(right answers [S,M], asked [M]) of the questions of a column."""
    types = self.task.question_types
    wanted = types if column == WHOLE else self.task.groups.get(column, (column,))
    kinds = self.kinds[: right.shape[1]]  # of broken tests: the first images
    of = np.isin(kinds, [types.index(kind) for kind in wanted]) & (right[0] != 2)
    return ((right == 1) & of).sum(-1), of.sum(-1)

  def against(self, column: str) -> dict[str, dict]:
    """What is whole, beside the reference where that is whole too."""
    return self._compared[column]

  @functools.cached_property
  def _compared(self) -> dict[str, dict[str, dict]]:
    """The comparison by each column: a bootstrap that every table and drawing reads."""
    found = {}
    for column in self.columns:
      counted = {name: self.counted(self.right[name], column) for name in self.whole}
      right, asked = {name: n[0] for name, n in counted.items()}, next((n[1] for n in counted.values()), None)
      found[column] = {} if asked is None else comparison.against(right, asked, self.reference)
    return found

  def share(self, right: np.ndarray, column: str = WHOLE) -> np.ndarray:
    """Accuracies of the seeds [S]."""
    return comparison.accuracy(*self.counted(right, column))


def load(c: Any, task: task_of.Task, grid: Sequence[Cell], times: Mapping[str, float]) -> Result:
  """Reads every done cell. Raises UserError for a damaged one, and where none is done."""
  by_fusion: dict[str, list[Cell]] = {}
  for cell in grid:
    by_fusion.setdefault(cell.sized.fusion.name, []).append(cell)
  cells, right, broken, attention, missing = {}, {}, {}, {}, {}
  for name, members in by_fusion.items():
    done = [cell for cell in members if cell.done]
    missing[name] = [cell.seed for cell in members if not cell.done]
    if not done:
      continue
    found, arrays = zip(*(cells_of.read(c, cell) for cell in done), strict=True)
    cells[name], right[name] = found, np.stack([a[TESTED] for a in arrays])
    for how in c.test.broken:
      broken[name, how] = np.stack([a[f'{TESTED} {how}'] for a in arrays])
    if 'attention' in arrays[0]:
      attention[name] = {key: arrays[0][key] for key in ('attention', 'boxes')}
  if not cells:
    raise UserError('no cell is done yet, expected one or more')
  kinds = np.stack([task.encode(example)['question_type'] for example in task.splits[c.test.split]])
  return Result(task, c, cells, right, broken, attention, kinds, c.test.split, missing, times)


def percent(value: float, interval: Sequence[float] = (), signed: bool = False) -> str:
  """'97.3 (96.9–97.8)' of shares in 0..1; signed '−0.4 (−0.9, +0.1)'."""
  show = lambda x: f'{100 * x:{"+" if signed else ""}.1f}'.replace('-', '−')
  return show(value) + (f' ({(", " if signed else "–").join(map(show, interval))})' if len(interval) else '')


def p_value(p: float) -> str:
  return '< 0.001' if p < 0.001 else f'{p:.3f}'


def main_table(result: Result) -> dict:
  """Every fusion beside the reference, by overall accuracy and the groups, with what it costs."""
  groups = list(result.task.groups)
  found = {column: result.against(column) for column in (WHOLE, *groups)}
  rows: list[dict] = []
  for name, cells in result.cells.items():
    of = f' of {len(cells) + len(result.missing[name])}' if result.missing[name] else ''
    row: dict[str, Any] = {'fusion': name, 'seeds': f'{len(cells)}{of}'}
    for column in (WHOLE, *groups):
      mine = found[column].get(name)
      mean = float(result.share(result.right[name], column).mean())
      row[column] = percent(mine['accuracy'], mine['interval']) if mine else percent(mean)
    mine = found[WHOLE].get(name, {})
    if 'difference' in mine:
      row |= {'difference': percent(mine['difference'], mine['difference_interval'], True), 'p': p_value(mine['p'])}
      row['verdict'] = SHORT.get(mine['verdict'], mine['verdict'])
    row |= {'parameters': f'{cells[0]["parameters"]:,}', 'GFLOPs': f'{cells[0]["flops"] / 1e9:.3g}'}
    row |= {'ms': f'{result.times[name]:.0f}'} if name in result.times else {}
    rows.append(row | ({'ours': True} if name == result.reference else {}))
  rows += [
    {
      'fusion': floor['system'],
      **{g: f'{100 * floor["scores"][g]:.1f}' for g in (WHOLE, *groups) if g in floor['scores']},
    }
    for floor in result.floors
  ]
  return {
    'title': 'Fusions beside one another: accuracy in percent',
    'columns': [
      'fusion',
      WHOLE,
      *groups,
      'difference',
      'p',
      'verdict',
      'parameters',
      'GFLOPs',
      'ms',
      'seeds',
    ],
    'rows': rows,
    'sortable': True,
    'notes': notes(result),
  }


def sizes_table(result: Result) -> dict:
  """What each fusion is made of, and how small a difference from the reference its seeds could have shown."""
  found, rows = result.against(WHOLE), []
  for name, cells in result.cells.items():
    least = found.get(name, {}).get('detectable')
    row = {'fusion': name, 'line': cells[0]['line'], 'feed-forward': str(cells[0]['mlp'] or '–')}
    row |= {'parameters': f'{cells[0]["parameters"]:,}'}
    row |= {'of them read': f'{cells[0]["moved"]:,}'} if cells[0]['moved'] else {}
    row |= {'least that shows': percent(least)} if least else {}
    rows.append(row | ({'ours': True} if name == result.reference else {}))
  return {
    'title': 'What they are made of',
    'columns': ['fusion', 'line', 'feed-forward', 'parameters', 'of them read', 'least that shows'],
    'rows': rows,
    'sortable': True,
    'notes': [
      'Of them read: parameters that had a gradient; the last layer of a stream that no answer is made of has none. '
      'Least that shows: the difference, in points, that the sign-flip test finds with so many seeds four times in '
      'five at the strictest level of the correction.'
    ],
  }


def notes(result: Result) -> list[str]:
  seeds, others = max(map(len, result.cells.values())), len(result.whole) - 1
  devices = sorted({cell['device'] for cells in result.cells.values() for cell in cells})
  said = []
  if result.whole:
    said.append(
      'In brackets: 95 % intervals of a bootstrap over seeds, then over images, widened as so few seeds ask for.'
    )
  if result.reference not in result.whole:
    said.append(f'Nothing is compared: not all seeds of the reference, “{result.reference}”, are done.')
  elif others:
    said += [
      f'Difference: overall, from “{result.reference}”, paired by seed and image; p: sign-flip test over the seeds, '
      'with Holm’s correction for all that are compared. “Better” or “worse” stands only where the interval leaves out '
      'zero and p is at most 0.05.'
    ]
    if not comparison.can_show(seeds, others):
      counts = f'{seeds} seed{"s" * (seeds > 1)} and {others} comparison{"s" * (others > 1)}'
      smallest = f'the smallest p there can be is {min(1, others * 2 / 2**seeds):.2g}'
      said.append(f'With {counts} {smallest}: the table describes, it shows nothing.')
  said.append('The majority answer of each question, as training has it, is about what the question alone can reach.')
  said.append(
    'GFLOPs: of a training step, by XLA’s cost analysis before its optimisations; ms: of a step of each in turn, in '
    f'one process. Trained on {"; ".join(devices)}.'
  )
  if any(cell['mlp'] for cells in result.cells.values() for cell in cells):
    bias = '; and wherever regions read regions a bias from where they lie (model.geometry), which no paper has'
    widths = f'All have one width ({result.given.model.width}), not that of their papers'
    said.append(widths + bias * bool(result.given.model.geometry) + '.')
  unfinished = [f'{name} ({len(left)})' for name, left in result.missing.items() if left]
  return said + ([f'Cells that are not done: {"; ".join(unfinished)}.'] if unfinished else [])


def type_table(result: Result) -> dict:
  """Accuracy by question type."""
  columns = list(result.task.question_types)
  rows = [
    {'fusion': name}
    | {kind: percent(result.share(right, kind).mean()) for kind in columns}
    | ({'ours': True} if name == result.reference else {})
    for name, right in result.right.items()
  ]
  return {
    'title': 'By question type',
    'columns': ['fusion', *columns],
    'rows': rows,
    'sortable': True,
    'notes': ['Means of the seeds, in percent.'],
  }


def broken_table(result: Result) -> dict:
  """Accuracy with a modality hidden, blurred or noised at test time."""
  how = list(dict.fromkeys(name for _, name in result.broken))
  images = next(iter(result.broken.values())).shape[1]
  rows = [
    {'fusion': name, 'as it is': percent(result.share(right[:, :images]).mean())}
    | {h: percent(result.share(result.broken[name, h]).mean()) for h in how}
    | ({'ours': True} if name == result.reference else {})
    for name, right in result.right.items()
  ]
  note = f'Means of the seeds over all questions of {images:,} images, in percent. Blurred by 2 pixels; noise of '
  note += 'standard deviation 0.25 of the range of a colour.'
  return {
    'title': 'With a modality broken at test time',
    'columns': ['fusion', 'as it is', *how],
    'rows': rows,
    'sortable': True,
    'notes': [note],
  }


def tables(result: Result) -> list[dict]:
  return [
    main_table(result),
    sizes_table(result),
    type_table(result),
    *([broken_table(result)] if result.broken else []),
  ]


def cell_rows(result: Result) -> list[dict]:
  """One row a fusion and seed, as numbers."""
  rows = []
  how = list(dict.fromkeys(name for _, name in result.broken))
  for name, cells in result.cells.items():
    for s, cell in enumerate(cells):
      row = {
        key: cell[key]
        for key in ('fusion', 'seed', 'line', 'mlp', 'parameters', 'moved', 'flops', 'steps', 'step_ms', 'seconds')
      }
      row |= {
        column: round(float(result.share(result.right[name][s : s + 1], column)[0]), 6) for column in result.columns
      }
      row |= {h: round(float(result.share(result.broken[name, h][s : s + 1])[0]), 6) for h in how}
      rows.append(row | {'parameters_sha256': cell['parameters_sha256'], 'device': cell['device']})
  return rows


def write(result: Result, workdir: Path, config: Mapping, command: str) -> None:
  """cells.csv, ablation.json, ablation.md and ablation.tex."""
  rows = cell_rows(result)
  text = io.StringIO()
  writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  write_atomic(workdir / 'cells.csv', text.getvalue())
  found = {column: result.against(column) for column in result.columns}
  content = {'command': command, 'config': config, 'reference': result.reference, 'comparison': found, 'cells': rows}
  write_atomic(workdir / 'ablation.json', json.dumps(content, indent=1, ensure_ascii=False) + '\n')
  made = tables(result)
  write_atomic(workdir / 'ablation.md', f'# Fusions compared\n\n`{command}`\n\n' + '\n'.join(map(markdown, made)))
  write_atomic(workdir / 'ablation.tex', latex(made[0]))


def markdown(table: Mapping) -> str:
  columns = table['columns']
  lines = [f'**{table["title"]}**', '', f'| {" | ".join(columns)} |', '|' + '---|' * len(columns)]
  cell = lambda value: str(value).replace('|', '\\|')
  lines += [f'| {" | ".join(cell(row.get(column, "–")) for column in columns)} |' for row in table['rows']]
  return '\n'.join([*lines, '', *(f'- {note}' for note in table['notes']), ''])


def latex(table: Mapping) -> str:
  """The table for a paper that uses booktabs, without what is not about results."""
  columns = [column for column in table['columns'] if column != 'seeds']
  signs = {
    '%': r'\%',
    '&': r'\&',
    '_': r'\_',
    '#': r'\#',
    '$': r'\$',
    '{': r'\{',
    '}': r'\}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '\\': r'\textbackslash{}',
    '<': '$<$',
    '−': '$-$',
    '–': '--',
    '’': "'",
    '“': '``',
    '”': "''",
  }
  safe = lambda value: ''.join(signs.get(letter, letter) for letter in str(value))
  row = lambda cells: ' & '.join(map(safe, cells)) + r' \\'
  body = [row(r.get(column, '–') for column in columns) for r in table['rows']]
  return '\n'.join([
    r'\begin{tabular}{l' + 'r' * (len(columns) - 1) + '}', r'\toprule', row(columns), r'\midrule', *body,
    r'\bottomrule', r'\end{tabular}', '',
  ])  # fmt: skip
