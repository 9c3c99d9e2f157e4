"""A trained MulT at work on witnesses: what each of its modalities reads of another, in scenes and on the whole.

M scenes of a split, as experiments/mult.py has them: 't' [M,T,C], 't_mask' [M,T], likewise 'a' and 'f', and the scene.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments import telling
from mmjax.data import witnesses
from mmjax.fusion import maps
from mmjax.fusion.layers import MAPS
from mmjax.models.mult import STREAMS, MulT
from mmjax.report.sequences import Span, reading, series

SHOWN = 4
KEYS = (*STREAMS, *(f'{s}_mask' for s in STREAMS))


def given(batch: Mapping) -> tuple[dict, dict]:
  """What the models are called with: (sequences, masks)."""
  return {s: batch[s] for s in STREAMS}, {s: batch[f'{s}_mask'] for s in STREAMS}


@functools.partial(jax.jit, static_argnums=0)
def _captured(model: Any, variables: Mapping, batch: Mapping) -> Mapping:
  _, captured = model.apply(variables, *given(batch), train=False, mutable=[MAPS])
  return captured[MAPS]


def attention(model: MulT, variables: Mapping, batch: Mapping, rows: int) -> dict[str, np.ndarray]:
  """'t<a' ... -> weights [M,layers,Q,K] of the stacks in which one modality reads another, a mean over heads.

  rows: scenes at a time.
  """
  steps = {s: batch[s].shape[1] for s in STREAMS}

  def call(part):
    captured = jax.device_get(_captured(model, variables, part))
    found = {}
    for s in (s for s in STREAMS if s in model.targets):
      for other in (o for o in STREAMS if o != s):
        schedule, lengths = f'{model.layers}*[x<y tied]', {'x': steps[s], 'y': steps[other]}
        layers = maps.read(captured[f'{s}_reads_{other}']['encoder'], schedule, lengths, 'x', 'y')
        found[f'{s}<{other}'] = np.stack([weights.mean(1) for weights in layers.values()], 1)
    return found

  count = len(batch['t'])
  parts = [{key: array[n : n + rows] for key, array in batch.items()} for n in range(0, count, rows)]
  done = [call(part) for part in parts]
  return {name: np.concatenate([part[name] for part in done]) for name in done[0]}


def table(read: Mapping[str, np.ndarray], held: Mapping) -> dict:
  """What the word that names the event reads of sound and video."""
  each, case, rows = np.arange(len(held['at'])), held['case'], []
  named, word = case[:, 0], held['at'][np.arange(len(case)), case[:, 0], 0]
  for m, (other, what) in enumerate((('a', 'sound'), ('f', 'video')), 1):
    lasts, steps = witnesses.LASTS[what], held['steps'][:, m]
    weights = read[f't<{other}'][each, :, word]  # [M,layers,K]
    span = lambda event, m=m, lasts=lasts: held['at'][each, event, m][:, None] + np.arange(lasts)
    share = lambda at, weights=weights: np.take_along_axis(weights, at[:, None], 2).sum(2).mean(0)
    at, beside = share(span(named)), share(span(1 - named))
    for layer in range(weights.shape[1]):
      rows.append({
        'system': f'the word reads the {what}, layer {layer + 1}',
        'the event it names': telling.Cell(100 * float(at[layer])),
        'the other event': telling.Cell(100 * float(beside[layer])),
        'read evenly, each': telling.Cell(100 * float((lasts / steps).mean())),
      })  # fmt: skip
  return {
    'title': 'What the word that names the event reads, in percent of its attention',
    'columns': ['system', 'the event it names', 'the other event', 'read evenly, each'],
    'rows': rows,
    'notes': ['Means over heads and the scenes of the test, of the step of the report at which the word stands.'],
  }


def chosen(held: Mapping) -> list[int]:
  """Scenes that are shown: the first of each answer."""
  return [int(np.argmax(held['answer'] == n)) for n in range(len(witnesses.ANSWERS))][:SHOWN]


def drawing(n: int, held: Mapping, likely: np.ndarray, read: Mapping[str, np.ndarray]) -> dict:
  """Scene n: its sound and video over time, and what reads what in the last layer of MulT.

  likely [A]: how likely each answer is to it.
  """
  scene = {key: held[key][n] for key in ('words', 'steps', 'case', 'at', 'answer')}
  named, ways = scene['case'][0], {'a': scene['case'][[2, 4]], 'f': scene['case'][[3, 5]]}
  words = [witnesses.WORDS[word] for word in scene['words'][: scene['steps'][0]]]
  item, spans = [], {'t': [Span(scene['at'][named, 0], scene['at'][named, 0] + 1, '')]}
  for m, (s, what) in enumerate((('a', 'sound'), ('f', 'video')), 1):
    said = lambda event, s=s: witnesses.WAYS[2 * event + ways[s][int(event != named)]]
    begins = [int(at) for at in scene['at'][:, m]]
    spans[s] = [
      Span(at, at + witnesses.LASTS[what], f'{witnesses.EVENTS[event]} {said(event)}')
      for event, at in enumerate(begins)
    ]
    item.append(series(f'The {what}', held[s][n, : scene['steps'][m]], spans[s]))
  length = dict(zip(STREAMS, scene['steps'].tolist()))
  title = {'t': 'report', 'a': 'sound', 'f': 'video'}
  for s, other in (('t', 'a'), ('t', 'f'), ('a', 'f'), ('f', 'a')):
    if f'{s}<{other}' in read:
      weights = read[f'{s}<{other}'][n, -1, : length[s], : length[other]]
      given_words = words if s == 't' else ()
      item.append(reading(f'The {title[s]} reads the {title[other]}', weights, given_words, spans[s], spans[other]))
  told, right = int(likely.argmax()), witnesses.ANSWERS[scene['answer']]
  event, way = witnesses.EVENTS[named], witnesses.WAYS[2 * named + scene['case'][1]]
  return {
    'title': f'Scene {n + 1}: who contradicts the other two? {right.capitalize()}',
    'note': f'The report, “{" ".join(words)}”, says that the {event} {way}. MulT answers: {witnesses.ANSWERS[told]} '
    f'({100 * likely[told]:.0f} %). Framed is where the events are. What reads what: the last layer, '
    'a mean over heads.',
    'items': item,
  }
