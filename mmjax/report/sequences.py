"""Sequences as drawings: features over time, and which step of one sequence reads which step of another.

T steps of a sequence, F features, Q queries, K keys.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mmjax.report.curves import INK, SERIES, drawn

ABOVE, BELOW = (46, 125, 200), (214, 106, 32)  # colours of what is more than 0, and less; both seen on light and dark
FINE = 8  # pixels of a cell: viewers blur what they enlarge
MARK = SERIES[1]


class Span(NamedTuple):
  """What happens from a step to before another."""

  start: int
  stop: int
  name: str


def _cells(axes: Axes, values: np.ndarray, along: tuple[int, int]) -> None:
  """values [rows,columns] in -1..1 as cells of two colours, the stronger the fuller. along: how many an axis shows."""
  colours = np.where(values[..., None] < 0, np.array(BELOW), np.array(ABOVE))
  rgba = np.concatenate([colours, 255 * np.abs(values).clip(0, 1)[..., None]], -1).astype(np.uint8)
  rows, columns = along
  fine = np.kron(rgba, np.ones((FINE, FINE, 1), np.uint8))
  axes.imshow(fine, extent=(-0.5, columns - 0.5, rows - 0.5, -0.5), aspect='auto', interpolation='none')
  axes.grid(False)


def _framed(axes: Axes, spans: Sequence[Span]) -> None:
  """Frames what happens along an axis, with its name above."""
  for span in spans:
    axes.axvspan(span.start - 0.5, span.stop - 0.5, fill=False, edgecolor=MARK, linewidth=1.4)
    axes.annotate(
      span.name, ((span.start + span.stop - 1) / 2, -0.5), xytext=(0, 3), textcoords='offset points', ha='center',
      fontsize=8, color=MARK, annotation_clip=False,
    )  # fmt: skip


def series(title: str, values: np.ndarray, spans: Sequence[Span] = (), what: str = 'feature') -> dict[str, str]:
  """One sequence: values float [T,F], blue above 0 and orange below, with what happens in it framed.

  Returns an item of a drawing of `report.write`. what: stands along the features.
  """
  most = float(np.abs(values).max()) or 1.0

  def draw(axes: Axes) -> None:
    _cells(axes, values.T / most, values.T.shape)
    _framed(axes, spans)
    axes.set_xlabel('step')
    axes.set_ylabel(what)
    for axis in (axes.xaxis, axes.yaxis):
      axis.set_major_locator(MaxNLocator(6, integer=True))

  names = ', '.join(f'{span.name} from step {span.start} to {span.stop - 1}' for span in spans)
  return {'title': title, 'svg': drawn(title, (4.4, 2.0), draw), 'note': names or f'{len(values)} steps'}


def reading(
  title: str, weights: np.ndarray, words: Sequence[str] = (), down: Sequence[Span] = (), across: Sequence[Span] = ()
) -> dict[str, str]:
  """Which step reads which: weights float [Q,K], 0..1, a row for each step that reads; the largest is full blue.

  words [Q]: the steps that read, where they have names. down, across: what happens in what reads, and in what is read;
  framed is where both do. Returns as `series`.
  """
  most = float(weights.max()) or 1.0

  def draw(axes: Axes) -> None:
    _cells(axes, weights / most, weights.shape)
    _framed(axes, across)
    for span in down:
      axes.axhspan(span.start - 0.5, span.stop - 0.5, fill=False, edgecolor=MARK, linewidth=1.4)
    axes.set_xlabel('step that is read')
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if words:
      axes.set_yticks(range(len(words)), words)
      axes.tick_params('y', labelsize=8, labelcolor=INK)
    else:
      axes.set_ylabel('step that reads')
      axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))

  q, k = divmod(int(weights.argmax()), weights.shape[1])
  reader = repr(words[q]) if words else f'step {q}'
  note = f'Strongest: {reader} reads step {k} with {100 * most:.0f} %'
  return {'title': title, 'svg': drawn(title, (4.4, 2.6), draw), 'note': note}
