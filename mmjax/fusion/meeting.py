"""Streams of unlike numbers of rows, where they first meet: one image for all its questions, run once until then."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from mmjax.errors import UserError
from mmjax.fusion.schedule import Group
from mmjax.layers.packed import Packed

Streams = dict[str, jax.Array]


def meeting(group: Group) -> set[str]:
  """The streams of a group in which one reads another; none where each reads itself."""
  items = [item for sub in group.subs for item in sub.items if item.sources]
  linked = any(source.stream != item.reader for item in items for source in item.sources)
  return {s for i in items for s in (i.reader, *(source.stream for source in i.sources))} if linked else set()


def meet(
  group: Group,
  side: Mapping[str, Packed],
  row_of: Mapping[str, jax.Array],
  x: Streams,
  mask: Streams,
  edge_mask: Streams,
  bias: Streams,
) -> tuple[Streams, Streams, Streams, Streams]:
  """Gives the streams that this group lets meet as many rows as the largest of them has; all else stays."""
  linked = meeting(group)
  held = {s: side[s].rows if s in side else len(x[s]) for s in linked}
  rows = max([*held.values(), *(len(row_of[s]) for s in linked & set(row_of))], default=0)
  fills: dict[str, Callable[[jax.Array], jax.Array]] = {}
  taken = lambda at: lambda a: a[at]
  for stream in sorted(linked):
    if stream in row_of:
      fills[stream] = taken(row_of[stream])
    elif rows % held[stream]:
      raise UserError(f'stream {stream!r} has {held[stream]} rows, expected a divisor of the {rows} it meets')
    elif held[stream] != rows:
      fills[stream] = lambda a: jnp.repeat(a, rows // len(a), axis=0)
    if stream in fills and stream in side:
      raise UserError(
        f'stream {stream!r} has {held[stream]} rows and meets {rows}; expected as many where it is packed'
      )
  whole = lambda given: {name: fills[name](a) if name in fills else a for name, a in given.items()}
  each = lambda given: {  # of one row: for all
    name: fills[name[0]](a) if name[0] in fills and len(a) > 1 else a for name, a in given.items()
  }
  return whole(x), each(mask), each(edge_mask), each(bias)
