"""Systems side by side in pictures: each beside the reference, and what their scores cost.

N points of a curve. Accuracies are shares in 0..1 and drawn in percent.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mmjax.report.curves import INK, LARGE, RULE, SERIES, SMALL, drawn

OURS, OTHER = SERIES[0], SERIES[4]


class Band(NamedTuple):
  """A curve [N] with what lies around it."""

  x: np.ndarray
  low: np.ndarray
  middle: np.ndarray
  high: np.ndarray


def beside(curves: Mapping[str, Band], reference: str, x: str) -> dict:
  """One small panel for each system, with its band, and the reference as a dashed line in all.

  Returns {'key', 'items'} of a drawing of `report.write`.
  """
  low = min(float(curve.low.min()) for curve in curves.values())

  def panel(name: str, curve: Band) -> dict:
    def draw(axes: Axes) -> None:
      if name != reference:
        axes.plot(curves[reference].x, curves[reference].middle, color=OTHER, linewidth=1.3, linestyle='--')
      axes.fill_between(curve.x, curve.low, curve.high, color=OURS, alpha=0.22, linewidth=0)
      axes.plot(curve.x, curve.middle, color=OURS, linewidth=1.6)
      axes.set_ylim(math.floor(20 * low) / 20 - 0.02, 1.02)
      _percent(axes.yaxis)
      axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
      axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.0f}'))
      axes.set_xlabel(x)
      axes.set_ylabel('accuracy')

    return {'title': name, 'svg': drawn(f'{name} {x}', SMALL, draw), 'note': f'Ends at {100 * curve.middle[-1]:.1f} %'}

  key = [{'split': 'the system, with all its seeds', 'number': 1}, {'split': reference, 'number': 5}]
  return {'key': key, 'items': [panel(*found) for found in curves.items()]}


def profiles(scores: Mapping[str, np.ndarray], reference: str) -> dict:
  """Which share of its runs [S] reaches a score: a panel each, on a scale of its own, beside the reference."""

  def panel(name: str, own: np.ndarray) -> dict:
    both = np.concatenate([own, scores[reference]])
    beyond = max(0.1 * float(np.ptp(both)), 0.005)
    at = np.linspace(max(both.min() - beyond, 0), min(both.max() + beyond, 1), 301)

    def draw(axes: Axes) -> None:
      if name != reference:
        axes.step(at, profile(scores[reference], at), where='pre', color=OTHER, linewidth=1.3, linestyle='--')
      axes.step(at, profile(own, at), where='pre', color=OURS, linewidth=1.6)
      axes.set_ylim(-0.03, 1.05)
      axes.set_xlim(at[0], at[-1])
      _percent(axes.xaxis, 1 if np.ptp(at) < 0.05 else 0)
      _percent(axes.yaxis)
      axes.set_xlabel('accuracy of at least')
      axes.set_ylabel('share of seeds')

    half = np.sort(own)[::-1][math.ceil(len(own) / 2) - 1]
    note = f'Half of the seeds reach {math.floor(1000 * half + 1e-6) / 10:.1f} %'
    return {'title': name, 'svg': drawn(f'{name} profile', SMALL, draw), 'note': note}

  key = [{'split': 'the system', 'number': 1}, {'split': reference, 'number': 5}]
  return {'key': key, 'items': [panel(*found) for found in scores.items()]}


def costs(points: Mapping[str, tuple[float, float, float, float]], reference: str, titles: Sequence[str]) -> dict:
  """Accuracy against a cost: points {name: (cost, accuracy, its low end, its high end)}. titles: of panel and x axis.

  Returns one item of a drawing of `report.write`.
  """
  title, along = titles

  def draw(axes: Axes) -> None:
    for name, (cost, mean, low, high) in points.items():
      colour = OTHER if name == reference else OURS
      axes.plot([cost, cost], [low, high], color=colour, linewidth=1.2)
      axes.plot([cost], [mean], color=colour, marker='s' if name == reference else 'o', markersize=4)
    axes.set_xlabel(along)
    axes.set_ylabel('accuracy')
    values = [point[0] for point in points.values()]
    if max(values) > 3 * min(values) > 0:
      axes.set_xscale('log')
      axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
      axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.4g}'))
    _percent(axes.yaxis)
    _name(axes, {name: (point[0], point[1]) for name, point in points.items()})

  best = max(points, key=lambda name: points[name][1])
  return {
    'title': title,
    'svg': drawn(title, (LARGE[0], 4.2), draw),
    'note': f'Highest mean: {best}; the table says which differences are shown',
  }


def _name(axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
  """Names of points in a column to the right of the axes, the highest first, each with a line to its point."""
  order = sorted(places, key=lambda name: places[name][1])
  low, high = axes.get_ylim()
  line = (high - low) / 24  # of text
  if len(order) * line > high - low:
    line = (high - low) / len(order)
  at: list[float] = []
  for name in order:
    at.append(max(places[name][1], at[-1] + line if at else low))
  top = high
  for n in reversed(range(len(at))):  # what was pushed out at the top comes back
    at[n] = min(at[n], top)
    top = at[n] - line
  for name, height in zip(order, at, strict=True):
    axes.annotate(
      name,
      places[name],
      xytext=(1.04, height),
      textcoords=axes.get_yaxis_transform(),
      fontsize=7.5,
      color=INK,
      va='center',
      annotation_clip=False,
      arrowprops={'arrowstyle': '-', 'linewidth': 0.5, 'color': RULE, 'shrinkA': 1, 'shrinkB': 3, 'relpos': (0, 0.5)},
    )


def profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
  """The share of runs [S] that reach each threshold [N]."""
  return (scores[None] >= thresholds[:, None]).mean(1)


def _percent(axis: Any, decimals: int = 0) -> None:
  axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
  axis.set_major_formatter(FuncFormatter(lambda value, _: f'{100 * value:.{decimals}f} %'))
