"""Captured attention maps -> what one stream read of another, layer by layer.

A captured collection (fusion/layers.MAPS) is {group: {'sub0/t<tv': [N,B,H,Q,K]}}; N layers of a scanned group.
"""

from collections.abc import Mapping

import numpy as np

from mmjax.fusion.schedule import edge, parse


def read(
  captured: Mapping, schedule: str, lengths: Mapping[str, int], reader: str, source: str
) -> dict[str, np.ndarray]:
  """{'cross layer name': weights [B,H,Q,K]} of every layer in which `reader` reads `source`.

  lengths: tokens of each stream, which says where in a row of keys the source stands. Rows sum to 1 where the reader
  reads nothing else, and to the share of the source where it does. captured: of a scanned or an unrolled stack.
  """
  layers = {}
  plan, first = parse(schedule), 1
  for g, group in enumerate(plan.groups):
    for s, sub in enumerate(group.subs):
      for item in sub.items:
        names = [src.stream for src in item.sources]
        if item.reader != reader or source not in names:
          continue
        start = sum(lengths[name] for name in names[: names.index(source)])
        name = f'sub{s}/{edge(item)}'
        if f'group{g}' in captured:
          stacked = captured[f'group{g}'][name]
        else:
          stacked = [captured[f'group{g}_{n}'][name] for n in range(group.repeats)]
        for n, weights in enumerate(map(np.asarray, stacked)):
          layers[f'layer {first + n}' + (f', attention {s + 1}' if len(group.subs) > 1 else '')] = weights[
            ..., start : start + lengths[source]
          ]
    first += group.repeats
  return layers
