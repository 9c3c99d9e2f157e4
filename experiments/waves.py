"""Pictures of time series: those of each class, how often one was taken for another, and which were.

M cases, T steps, C channels, A classes.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mmjax.data.series import Cases
from mmjax.report.curves import INK, LARGE, SERIES, SMALL, drawn

SHOWN = 12  # series of a class
WRONG = 6  # of those that were confused


def channel_to_show(cases: Cases) -> int:
  """The channel whose mean over time differs most from class to class, by how much it differs within them."""
  means = np.array([np.nanmean(case, 0) for case in cases.values])
  spread = np.array([np.nanstd(case, 0) for case in cases.values])
  both = np.concatenate([means, spread], 1)
  groups = [both[cases.label == n] for n in np.unique(cases.label)]
  between = np.var([group.mean(0) for group in groups], 0)
  within = np.mean([group.var(0) for group in groups], 0)
  ratio = between / np.maximum(within, 1e-12)
  return int(ratio.argmax()) % means.shape[1]


def of_classes(name: str, cases: Cases) -> list[dict]:
  """A drawing, in a list, of some training series of each class, one channel of them."""
  channel = channel_to_show(cases)
  low, high = _ends([case[:, channel] for case in cases.values])
  longest = max(map(len, cases.values))

  def panel(n: int) -> dict:
    of = [cases.values[i][:, channel] for i in np.flatnonzero(cases.label == n)]

    def draw(axes: Axes) -> None:
      for one in of[:SHOWN]:
        axes.plot(one, color=SERIES[0], linewidth=0.9, alpha=0.6)
      _axes(axes, low, high, longest)

    title = f'class {cases.classes[n]}'
    return {'title': title, 'svg': drawn(f'{name} {n}', SMALL, draw), 'note': f'{len(of)} in the training split'}

  return [{
    'title': f'{name}: series of each class',
    'note': f'Up to {SHOWN} training series{_of(cases, channel)}.',
    'items': [panel(n) for n in range(len(cases.classes))],
  }]  # fmt: skip


def of_answers(name: str, cases: Mapping[str, Cases], answer: np.ndarray) -> list[dict]:
  """Drawings of what test series [M] were taken for: how often each class for each, and the first that were wrong."""
  train, test = cases['train'], cases['test']
  count = np.zeros((len(test.classes),) * 2, int)
  np.add.at(count, (test.label, answer), 1)
  wrong = np.flatnonzero(answer != test.label)
  counted = {
    'title': f'{name}: what was taken for what',
    'note': f'Taken for another class: {len(wrong)} of {len(answer)} test series.',
    'items': [
      {'title': 'Test series', 'svg': drawn(f'{name} confusion', LARGE, _confusion(count, test.classes)), 'note': ''}
    ],
  }
  if not len(wrong):
    return [counted]
  channel = channel_to_show(train)
  low, high = _ends([case[:, channel] for case in (*train.values, *test.values)])
  longest = max(map(len, (*train.values, *test.values)))

  def panel(i: int) -> dict:
    def draw(axes: Axes) -> None:
      for label, colour in ((test.label[i], SERIES[0]), (answer[i], SERIES[1])):
        for j in np.flatnonzero(train.label == label)[:SHOWN]:
          axes.plot(train.values[j][:, channel], color=colour, linewidth=0.7, alpha=0.35)
      axes.plot(test.values[i][:, channel], color=INK, linewidth=1.8)
      _axes(axes, low, high, longest)

    title = f'class {test.classes[test.label[i]]}, taken for {test.classes[answer[i]]}'
    return {'title': title, 'svg': drawn(f'{name} wrong {i}', SMALL, draw), 'note': f'Test series {i + 1}'}

  return [counted, {
    'title': f'{name}: series that were confused',
    'note': f'Dark: the test series{_of(train, channel)}; pale: training series of its class and of that it was '
    'taken for.',
    'key': [{'split': 'its class', 'number': 1}, {'split': 'the class it was taken for', 'number': 2}],
    'items': [panel(int(i)) for i in wrong[:WRONG]],
  }]  # fmt: skip


def _of(cases: Cases, channel: int) -> str:
  count = cases.values[0].shape[1]
  return '' if count == 1 else f', channel {channel + 1} of {count}, which tells the classes apart best'


def _ends(lines: list[np.ndarray]) -> tuple[float, float]:
  low, high = np.nanmin(np.concatenate(lines)), np.nanmax(np.concatenate(lines))
  return float(low - 0.05 * (high - low)), float(high + 0.05 * (high - low))


def _axes(axes: Axes, low: float, high: float, longest: int) -> None:
  axes.set_xlim(-0.02 * longest, 1.02 * (longest - 1))
  axes.set_ylim(low, high)
  axes.set_xlabel('step')
  axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
  axes.yaxis.set_major_locator(MaxNLocator(4))


def _confusion(count: np.ndarray, classes: tuple[str, ...]):
  """Draws counts [A,A], right classes down and answers along: a square the darker the larger its share of the row."""

  def draw(axes: Axes) -> None:
    axes.grid(False)
    for y, row in enumerate(count):
      for x, number in enumerate(row):
        colour = SERIES[0] if x == y else SERIES[1]
        axes.add_patch(_square(x, y, colour, number / max(row.sum(), 1)))
        if number:
          axes.text(x, y, str(number), ha='center', va='center', color=INK, fontsize=9)
    places = range(len(classes))
    axes.set_xlim(-0.5, len(classes) - 0.5)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_xticks(places, classes)
    axes.set_yticks(places, classes)
    axes.set_xlabel('taken for')
    axes.set_ylabel('class')

  return draw


def _square(x: int, y: int, colour: str, share: float) -> Rectangle:
  return Rectangle(
    (x - 0.48, y - 0.48), 0.96, 0.96, facecolor=colour, alpha=0.1 + 0.5 * share if share else 0, linewidth=0
  )
