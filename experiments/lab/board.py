"""The state of a grid while it is worked at: a live table on a terminal, a line for each change elsewhere."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from experiments.lab.cells import Cell

LINE_SECONDS = 30  # between two lines of progress where stderr is no terminal
SIGNS = {'waits': '·', 'done': '■', 'failed': '✗', 'elsewhere': '~', 'runs': '▶'}


class Board:
  """Use as a context manager. Cells are told to `set` and `step`; `steps`: of a cell."""

  def __init__(self, cells: Sequence[Cell], steps: int):
    self.cells, self.steps = cells, steps
    self.state: dict[Cell, str] = dict.fromkeys(cells, 'waits')
    self.note: dict[Cell, str] = {}
    self.at: dict[Cell, int] = {}  # steps that are done
    self.began, self.worked, self._due = time.monotonic(), 0, 0.0  # steps that were done here
    self.console = Console(stderr=True)
    self.live = Live(console=self.console, auto_refresh=False) if sys.stderr.isatty() else None

  def __enter__(self) -> 'Board':
    if self.live:
      self.live.start()
    return self

  def __exit__(self, *unused: object) -> None:
    if self.live:
      self._draw()
      self.live.stop()

  def set(self, cell: Cell, state: str, note: str = '') -> None:
    """state: one of SIGNS. A change is drawn, or said in a line."""
    if self.state[cell] == state and self.note.get(cell, '') == note:
      return
    came = self.state[cell]
    self.state[cell], self.note[cell] = state, note
    self._due = time.monotonic() + LINE_SECONDS
    if self.live:
      self._draw()
    elif state in ('runs', 'failed') or (state == 'done' and came == 'runs'):
      done = sum(state == 'done' for state in self.state.values())
      said = {'runs': 'begins', 'done': f'done, {done} of {len(self.cells)}', 'failed': 'failed'}[state]
      print(f'{cell.name}: {said}{": " + note if note else ""}{self._left()}', file=sys.stderr, flush=True)

  def step(self, cell: Cell, step: int, seconds: float) -> None:
    """A cell has done so many steps, each of so many seconds."""
    self.worked += step - self.at.get(cell, step)  # from a checkpoint on
    self.at[cell] = step
    self.note[cell] = f'step {step:,} of {self.steps:,}' + (f', {1000 * seconds:.0f} ms' if seconds == seconds else '')
    if self.live:
      self._draw()
    elif time.monotonic() > self._due:
      self._due = time.monotonic() + LINE_SECONDS
      print(f'{cell.name}: {self.note[cell]}{self._left()}', file=sys.stderr, flush=True)

  def waiting(self, cells: int) -> None:
    """Nothing is left to do here: so many cells are with other processes."""
    if not self.live and time.monotonic() > self._due:
      self._due = time.monotonic() + LINE_SECONDS
      print(f'waiting for {cells} cells of other processes', file=sys.stderr, flush=True)

  def _left(self) -> str:
    left = sum(self.steps - self.at.get(cell, 0) for cell, state in self.state.items() if state in ('waits', 'runs'))
    if not self.worked or not left:
      return ''
    return f', about {duration((time.monotonic() - self.began) / self.worked * left)} left'

  def _draw(self) -> None:
    table = Table(title='Fusions by seeds', title_justify='left', caption_justify='left')
    table.add_column('fusion')
    table.add_column('seeds')
    table.add_column('now', overflow='fold')
    rows: dict[str, list[Cell]] = {}
    for cell in self.cells:
      rows.setdefault(cell.sized.fusion.name, []).append(cell)
    for name, cells in rows.items():
      now = [f'seed {cell.seed}: {self.note[cell]}' for cell in cells if self.state[cell] in ('runs', 'failed')]
      table.add_row(name, ' '.join(SIGNS[self.state[cell]] for cell in cells), '; '.join(now))
    counts = {state: sum(found == state for found in self.state.values()) for state in SIGNS}
    table.caption = ', '.join(f'{SIGNS[s]} {n} {s}' for s, n in counts.items() if n) + self._left()
    if self.live:
      self.live.update(table, refresh=True)


def duration(seconds: float) -> str:
  """'45 s', '12 min', '2 h 05 min'."""
  minutes = round(seconds / 60)
  if seconds < 90:
    return f'{seconds:.0f} s'
  return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60:02d} min'
