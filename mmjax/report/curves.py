"""Rows of metrics.jsonl -> curves as SVG elements, whose colours follow the style sheet of the page around them.

N points of a curve.
"""

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

MAIN = {'loss': 'Loss', 'accuracy': 'Accuracy', 'lr': 'Learning rate', 'examples_per_s': 'Examples per second'}
NOT_METRICS = ('step', 'split', 'time')
NOT_DRAWN = ('test', 'final')  # splits
MOST_POINTS = 2000
FEW_POINTS = 40  # up to here each point is marked
LOG_RATIO = 30  # a loss that falls by more is drawn on a log scale

# Matplotlib writes these placeholders; the page's custom properties take their place and so follow light and dark mode.
INK, RULE = '#010101', '#020202'
SERIES = ('#030303', '#040404', '#050505', '#060606', '#070707')
VARIABLES = {INK: 'var(--muted)', RULE: 'var(--rule)'} | {c: f'var(--series-{n})' for n, c in enumerate(SERIES, 1)}
SMALL, LARGE = (3.9, 2.4), (5.2, 3.0)  # inches
MARKERS = ('o', 's', 'D', '^', 'v')
STYLE: Any = {
  'svg.fonttype': 'none',
  'text.parse_math': False,
  'font.size': 10,
  'axes.edgecolor': RULE,
  'axes.labelcolor': INK,
  'xtick.color': RULE,
  'ytick.color': RULE,
  'xtick.labelcolor': INK,
  'ytick.labelcolor': INK,
  'grid.color': RULE,
  'grid.linewidth': 0.6,
  'axes.spines.top': False,
  'axes.spines.right': False,
}

Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]  # {split: (steps [N], values [N])}


def panels(history: Sequence[Mapping]) -> dict[str, list[dict]]:
  """Everything that is drawn of a run.

  history: rows {'step', 'split', 'time', metric: number, ...}, in any order, with any metrics missing; strings that
  float() reads are numbers. Other strings, values that are not finite and the rows of 'final' and of the test splits,
    which stand at the end alone, are not drawn.
  Returns {'main': panels of MAIN, 'more': panels of all other metrics, 'key': [{'split', 'number'}]}; a panel is
  {'title', 'svg', 'note'}. The same history gives the same text.
  """
  found, lost = _collect(history)
  splits = _order({split: None for curves in found.values() for split in curves})
  draw = lambda name, small: {
    'title': MAIN.get(name, name.replace('_', ' ').replace('/', ': ')),
    'svg': _svg(name, found[name], splits, small, lambda axes, values: _scales(axes, name, small, values)),
    'note': _note(name, found[name], splits, lost.get(name, 0)),
  }
  more = sorted((name for name in found if name not in MAIN), key=lambda name: not name.startswith('accuracy'))
  return {
    'main': [draw(name, False) for name in MAIN if name in found],
    'more': [draw(name, True) for name in more],
    'key': [{'split': split, 'number': n % len(SERIES) + 1} for n, split in enumerate(splits)],
  }


def thin(steps: np.ndarray, values: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
  """At most `most` points of a curve [N]: the lowest and the highest of each stretch, so that no spike is lost."""
  if len(steps) <= most:
    return steps, values
  stretches = np.array_split(np.arange(len(steps)), most // 2)
  kept = np.unique([s[pick(values[s])] for s in stretches for pick in (np.argmin, np.argmax)])
  return steps[kept], values[kept]


def number(name: str, value: float) -> str:
  """A metric as text: accuracies in percent, the rest with four digits."""
  if name.startswith('accuracy'):
    return f'{100 * value:.2f} %'
  return f'{value:,.0f}' if 1000 <= abs(value) < 1e9 else f'{value:.4g}'


def _collect(history: Sequence[Mapping]) -> tuple[dict[str, Curves], dict[str, int]]:
  """{metric: {split: (steps, values)}} in order of steps, and {metric: how many values were not finite}."""
  points: dict[str, dict[str, list]] = {}
  lost: dict[str, int] = {}
  for row in sorted((row for row in history if not row['split'].startswith(NOT_DRAWN)), key=lambda row: row['step']):
    for name in row.keys() - set(NOT_METRICS):
      try:
        value = float(row[name])
      except (TypeError, ValueError):
        continue
      if math.isfinite(value):
        points.setdefault(name, {}).setdefault(row['split'], []).append((row['step'], value))
      else:
        lost[name] = lost.get(name, 0) + 1
  found: dict[str, Curves] = {}
  for name in dict.fromkeys(name for row in history for name in row if name in points):  # in the order of the log
    found[name] = {split: tuple(np.array(pairs, float).T) for split, pairs in points[name].items()}
  return found, lost


def _order(splits: Iterable[str]) -> list[str]:
  """'train' and 'validation' always have the same colours; the other splits follow by name."""
  return sorted(splits, key=lambda split: (split != 'train', split != 'validation', split))


def lines(spec: Mapping[str, Any]) -> dict[str, list[dict]]:
  """Curves that belong to a table: {'x': what is along it, 'y': likewise, 'panels': {title: {series: values [N]}}}.

  Values stand at 0, 1 ... Returns {'panels', 'key'} as in `panels`.
  """
  names = list(dict.fromkeys(name for panel in spec['panels'].values() for name in panel))

  def scales(axes: Axes, _: np.ndarray) -> None:
    axes.set_xlabel(spec['x'])
    axes.set_ylabel(spec['y'])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))

  def panel(title: str, series: Mapping[str, Sequence[float]]) -> dict:
    curves = {name: (np.arange(len(y), dtype=float), np.array(y, float)) for name, y in series.items()}
    means = ', '.join(f'{name} {y.mean():.1f}' for name, (_, y) in curves.items())
    return {
      'title': title[:1].upper() + title[1:],
      'svg': _svg(title, curves, names, False, scales),
      'note': f'Mean: {means}',
    }

  return {
    'panels': [panel(*found) for found in spec['panels'].items()],
    'key': [{'split': name, 'number': n % len(SERIES) + 1} for n, name in enumerate(names)],
  }


def _svg(
  name: str, curves: Curves, names: Sequence[str], small: bool, scales: Callable[[Axes, np.ndarray], None]
) -> str:
  """names: of all curves of the page, whose places give the colours; scales: labels the axes, knowing all values."""

  def draw(axes: Axes) -> None:
    for split, (steps, values) in curves.items():
      order = names.index(split) % len(SERIES)
      mark = MARKERS[order] if len(steps) <= FEW_POINTS else None
      axes.plot(*thin(steps, values), color=SERIES[order], linewidth=1.6, marker=mark, markersize=4)
    scales(axes, np.concatenate([values for _, values in curves.values()]))

  return drawn(name, SMALL if small else LARGE, draw)


def drawn(name: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> str:
  """What `draw` puts on axes, as an SVG element of `size` inches; the same name and drawing give the same text."""
  with matplotlib.rc_context(STYLE | {'svg.hashsalt': name}):
    figure = Figure(figsize=size, layout='constrained')
    figure.patch.set_visible(False)
    axes = figure.subplots()
    axes.patch.set_visible(False)
    axes.grid(True)
    axes.set_axisbelow(True)
    draw(axes)
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={'Date': None, 'Creator': None, 'Format': None, 'Type': None})
  return _inline(text.getvalue())


def _scales(axes: Axes, name: str, small: bool, values: np.ndarray) -> None:
  axes.set_xlabel('step')
  axes.xaxis.set_major_locator(MaxNLocator(4 if small else 6, steps=[1, 2, 5, 10], integer=True))
  axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f'{x:,.0f}'))
  label = MAIN.get(name, name.replace('_', ' ')).lower()
  if name.startswith('accuracy'):
    axes.set_ylim(-0.02, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{100 * y:.0f} %'))
    label = 'accuracy'
  elif name.startswith('loss') and values.min() > 0 and values.max() > LOG_RATIO * values.min():
    axes.set_yscale('log')
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{y:g}'))
    label += ', log scale'
  else:
    if values.min() >= 0:
      axes.set_ylim(0, 1.08 * values.max() or 1)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f'{y:,.0f}' if abs(y) >= 1000 else f'{y:.4g}'))
  axes.set_ylabel(label)


def _inline(svg: str) -> str:
  """An SVG file as an element of a page: no prologue, no style of its own, no size, no names that others use too."""
  svg = svg[svg.index('<svg') :]
  svg = re.sub(r'<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->', '', svg, flags=re.DOTALL)
  svg = re.sub(r'<g id="[^"]*"', '<g', svg)
  svg = re.sub(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', r'<svg class="curve" \1 aria-hidden="true">', svg)
  svg = svg.replace('xlink:href', 'href')
  for colour, variable in VARIABLES.items():
    svg = svg.replace(colour, variable)
  return re.sub(r'\n\s*', '\n', svg).strip()


def _note(name: str, curves: Curves, splits: Sequence[str], lost: int) -> str:
  """What the curves end with, in words."""
  ends = [f'{split} {number(name, curves[split][1][-1])}' for split in splits if split in curves]
  missing = f'; {lost} value{"s" * (lost > 1)} not finite, not drawn' if lost else ''
  last = max(int(steps[-1]) for steps, _ in curves.values())
  return f'At step {last:,}: {", ".join(ends)}{missing}'
