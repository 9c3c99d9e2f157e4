"""A schedule as a drawing: streams are lanes from left to right, attention edges are arrows between them.

A circle reads: an arrow for each other stream, a loop above it for its own. A square is a feed-forward layer; what is
tied (one set of weights) is filled. A frame stands around the layers of a group, with their number below.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

LANE, TOP, LEFT, BOTTOM = 34, 22, 74, 26  # pixels between lanes, and around them
STEP, FFN, PAD, GAP = 34, 20, 12, 12  # an attention, a feed-forward, inside of a frame, between frames
RADIUS, HALF, LEAD = 5.5, 5, 20  # of a circle, of a square; how far to the left of its reader an arrow begins


def draw(schedule: Any, names: Mapping[str, str], averaged: str = '') -> Markup:
  """schedule: a fusion.schedule.Schedule; names: stream -> what its lane is called. Returns an SVG element.

  Lanes stand in the order of `names`; streams that the schedule lacks have none. averaged: two streams that are both
  set to their mean at the end of each layer, where there are such.
  """
  lanes = {stream: TOP + LANE * n for n, stream in enumerate(s for s in names if s in schedule.streams)}
  x: float = LEFT
  parts: list[str] = []
  bottom = TOP + LANE * (len(lanes) - 1)
  for group in schedule.groups:
    inside, end = _group(group, lanes, x + PAD)
    if averaged and set(averaged) <= set(group.streams):
      inside.append(_mean(end + 2, *(lanes[s] for s in averaged)))
      end += PAD
    parts.append(f'<rect class="frame" x="{x}" y="4" width="{end - x}" height="{bottom + 10}" rx="6"/>')
    parts.append(f'<text class="count" x="{(x + end) / 2:g}" y="{bottom + BOTTOM + 4}">{_layers(group.repeats)}</text>')
    parts += inside
    x = end + GAP
  across = [f'<path class="lane" d="M{LEFT - 8} {y} H{x}"/>' for y in lanes.values()]
  called = [f'<text class="stream" x="{LEFT - 14}" y="{y + 4}">{escape(names[s])}</text>' for s, y in lanes.items()]
  size = f'viewBox="0 0 {x + 4} {bottom + BOTTOM + 10}" width="{x + 4}" height="{bottom + BOTTOM + 10}"'
  label = escape(f'Schedule {schedule}')
  return Markup(f'<svg class="diagram" role="img" aria-label="{label}" {size}>{"".join(across + called + parts)}</svg>')


def _layers(count: int) -> str:
  return f'{count} layer{"s" * (count > 1)}'


def _group(group: Any, lanes: Mapping[str, int], x: float) -> tuple[list[str], float]:
  """(elements of a group that begins at x, where its frame ends)."""
  start, parts = x, []
  for sub in group.subs:
    reads = any(item.sources for item in sub.items)
    at = x + LEAD if reads else x
    filled = ' tied' if sub.tied else ''
    arrows: list[str] = []
    for item in sub.items:
      y = lanes[item.reader]
      for source in item.sources:
        begin = start - PAD + 2 if source.entry else at - LEAD
        arrows.append(_loop(at, y) if source.stream == item.reader else _arrow(begin, lanes[source.stream], at, y))
    parts += arrows
    parts += [
      f'<circle class="reads{filled}" cx="{at:g}" cy="{lanes[item.reader]}" r="{RADIUS}"/>'
      for item in sub.items
      if item.sources
    ]
    x = at + STEP - LEAD if reads else at
    if sub.ffn:
      parts += [
        f'<rect class="ffn{filled}" x="{x:g}" y="{lanes[item.reader] - HALF}" width="{2 * HALF}" height="{2 * HALF}"/>'
        for item in sub.items
      ]
      x += FFN
  return parts, x + PAD - 4


def _loop(x: float, y: float) -> str:
  """From the lane, over the circle, back into it."""
  return f'<path class="edge" d="M{x - 3:g} {y - 5} C{x - 12:g} {y - 19} {x + 12:g} {y - 19} {x + 3.5:g} {y - 6}"/>'


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
  """A line that ends, with a head, at the rim of the circle at (x2, y2)."""
  length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
  dx, dy = (x2 - x1) / length, (y2 - y1) / length
  tip = x2 - dx * RADIUS, y2 - dy * RADIUS
  back = tip[0] - 7 * dx, tip[1] - 7 * dy
  head = [tip, (back[0] - 3 * dy, back[1] + 3 * dx), (back[0] + 3 * dy, back[1] - 3 * dx)]
  points = ' '.join(f'{a:.1f},{b:.1f}' for a, b in head)
  line = f'<path class="edge" d="M{x1:g} {y1:g} L{back[0]:.1f} {back[1]:.1f}"/>'
  return f'{line}<polygon class="head" points="{points}"/>'


def _mean(x: float, y1: float, y2: float) -> str:
  """Two lanes that are joined."""
  ends = ''.join(f'<circle class="joined" cx="{x:g}" cy="{y}" r="3"/>' for y in (y1, y2))
  return f'<path class="edge" d="M{x:g} {y1} V{y2}"/>{ends}'


def legend(averaged: bool = False) -> Sequence[tuple[Markup, str]]:
  """(a small drawing, what it means) of every sign. averaged: that of `draw` too."""
  sign = lambda inside: Markup(f'<svg class="diagram" viewBox="0 0 30 26" width="30" height="26">{inside}</svg>')
  signs = [
    (sign(f'<circle class="reads" cx="15" cy="19" r="{RADIUS}"/>' + _loop(15, 19)), 'reads its own stream'),
    (sign(_arrow(4, 4, 22, 18) + f'<circle class="reads" cx="22" cy="18" r="{RADIUS}"/>'), 'reads another'),
    (sign('<rect class="ffn" x="10" y="9" width="10" height="10"/>'), 'feed-forward'),
    (
      sign(f'<circle class="reads tied" cx="15" cy="14" r="{RADIUS}"/>'),
      'tied: one set of weights for all that is filled',
    ),
  ]
  return [*signs, *([(sign(_mean(15, 5, 21)), 'both set to their mean')] if averaged else [])]
