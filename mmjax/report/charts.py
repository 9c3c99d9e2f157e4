"""Systems side by side in pictures: each beside the reference, and what their scores cost.

N points of a curve. Accuracies are shares in 0..1 and drawn in percent.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from mmjax.report.curves import INK, LARGE, SERIES, SMALL, drawn

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


def profiles(shares: Mapping[str, np.ndarray], thresholds: np.ndarray, reference: str) -> dict:
  """Share of runs [N] that reach each threshold [N], a panel for each system beside the reference."""

  def panel(name: str, share: np.ndarray) -> dict:
    def draw(axes: Axes) -> None:
      if name != reference:
        axes.step(thresholds, shares[reference], where='post', color=OTHER, linewidth=1.3, linestyle='--')
      axes.step(thresholds, share, where='post', color=OURS, linewidth=1.6)
      axes.set_ylim(-0.03, 1.05)
      axes.set_xlim(thresholds[0], thresholds[-1])
      _percent(axes.xaxis)
      _percent(axes.yaxis)
      axes.set_xlabel('accuracy of at least')
      axes.set_ylabel('share of seeds')

    note = f'Half of the seeds reach {100 * thresholds[share >= 0.5][-1]:.0f} %'
    return {'title': name, 'svg': drawn(f'{name} profile', SMALL, draw), 'note': note}

  key = [{'split': 'the system', 'number': 1}, {'split': reference, 'number': 5}]
  return {'key': key, 'items': [panel(*found) for found in shares.items()]}


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
    _name(axes, {name: (point[0], point[1]) for name, point in points.items()})
    axes.set_xlabel(along)
    axes.set_ylabel('accuracy')
    values = [point[0] for point in points.values()]
    if max(values) > 3 * min(values) > 0:
      axes.set_xscale('log')
      axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.25)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.4g}'))
    _percent(axes.yaxis)

  best = max(points, key=lambda name: points[name][1])
  return {
    'title': title,
    'svg': drawn(title, (LARGE[0], 4.2), draw),
    'note': f'Highest mean: {best}; the table says which differences are shown',
  }


def _name(axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
  """Names beside points, from the lowest up, each at least a line above the one before."""
  low, high = axes.get_ylim()
  line = (high - low) / 25  # of text
  above = -math.inf
  for name, (x, y) in sorted(places.items(), key=lambda found: found[1][1]):
    at = max(y, above + line)
    above = at
    axes.annotate(name, (x, at), xytext=(6, 0), textcoords='offset points', fontsize=7.5, color=INK, va='center')


def _percent(axis) -> None:
  axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
  axis.set_major_formatter(FuncFormatter(lambda value, _: f'{100 * value:.0f} %'))
