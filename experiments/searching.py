"""Search among pictures and texts, as a run tells it: the table beside chance, what was found, a page to search in.

Q queries, N candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import pairs
from mmjax.data import tokens
from mmjax.fusion.schedule import parse
from mmjax.report import search

WAYS = ('text to image', 'image to text')
COLUMNS = ('system', 'what finds what', 'among', 'R@1', 'R@5', 'R@10', 'median rank', 'source')
SHOWN, NEAREST = 8, 8  # queries of a gallery, and what is shown for each

Found = dict[str, dict[str, pairs.Score]]  # {'pool, way': scores}


def both_ways(pool: str, table: np.ndarray, concept: np.ndarray) -> Found:
  """How well the Q texts find their images, the N = Q columns of a table, and they their texts."""
  right = np.eye(len(table), dtype=bool)
  return {f'{pool}, {way}': pairs.search(scores, right, concept) for way, scores in zip(WAYS, (table, table.T))}


def table(
  pools: Mapping[str, int], found: Mapping[str, Found], about: Mapping[str, dict], notes: Sequence[str]
) -> dict:
  """The table of a report. pools: name -> N; found: of each system; about: what else stands in its rows."""
  rows: list[dict] = []
  for pool, count in pools.items():
    among = f'{count:,} of {pool}'
    for way in WAYS:
      for system, scores in found.items():
        cells = {key: pairs.shown(key, *value) for key, value in scores[f'{pool}, {way}'].items()}
        rows.append({'system': system, 'what finds what': way, 'among': among} | cells | about[system])
    chance = {key: pairs.shown(key, value) for key, value in pairs.chance(count).items()}
    rows.append({'system': 'chance', 'what finds what': 'either', 'among': among, 'source': 'computed here'} | chance)
  first = (
    'R@k: in how many percent of all searches the one right answer is among the first k. In brackets: 95 % intervals '
    'of this one run, by drawing whole concepts.'
  )
  return {
    'title': 'Search among what was not learnt from',
    'columns': list(COLUMNS),
    'rows': rows,
    'notes': [first, *notes],
  }


def galleries(held: pairs.Arrays, table: np.ndarray) -> list[dict]:
  """Both ways, for queries spread over what is held out; table: the cosine of each text with each image."""
  queries = np.linspace(0, len(table) - 1, SHOWN).astype(int)
  picture = lambda n: {'image': held['image'][n], 'text': str(held['name'][n])}
  text = lambda n: {'text': str(held['words'][n])}

  def rows(table: np.ndarray, query: Callable, item: Callable) -> list[dict]:
    order = np.argsort(-table, 1, kind='stable')[:, :NEAREST]
    return [
      {
        'query': query(n),
        'found': [item(m) | {'right': bool(m == n), 'score': f'{table[n, m]:.2f}'} for m in order[n]],
      }
      for n in queries
    ]

  note = f'The nearest of all {len(table)} pictures that were held out; the number is the cosine, ✓ the right one.'
  return [
    {'title': 'Text to image', 'note': note, 'rows': rows(table, text, picture)},
    {'title': 'Image to text', 'note': note.replace('pictures', 'texts'), 'rows': rows(table.T, picture, text)},
  ]


def page(
  file: Path, task: pairs.Pairs, model: Any, variables: Mapping, every: pairs.Arrays, vectors: np.ndarray
) -> None:
  """A page to type in for a CLIP, over all pictures of `every` [N] with their vectors; those of training come first."""
  tower, text = variables['params']['text'], model.text
  learnt = len(task.splits['train'])
  search.write(
    file,
    title=f'CLIP: search {len(vectors):,} pictures',
    note='What is typed is encoded by the text tower that was trained, here in the page. Of the pictures, '
    f'{learnt:,} were learnt from, with their names and keywords.',
    first='red heart',
    words=tokens.words(task.tokenizer, range(task.vocab)),
    tower={
      'word': tower['word']['embedding'],
      'position': tower['position'],
      'layers': layers(tower['encoder'], text.schedule, text.scan),
      'norm': tower['norm'],
      'project': tower['project'],
    },
    how={
      'length': task.length,
      'width': text.width,
      'heads': text.heads,
      'activation': text.activation,
      'eps': text.eps,
    },
    images=every['image'],
    names=every['name'].tolist(),
    vectors=vectors,
    learnt=learnt,
  )


def layers(encoder: Mapping, schedule: str, scan: bool) -> list[Mapping]:
  """The parameters of a text stack, layer by layer."""
  found = []
  for n, group in enumerate(parse(schedule).groups):
    for i in range(group.repeats):
      own: Any = jax.tree.map(lambda a, i=i: a[i], encoder[f'group{n}']) if scan else encoder[f'group{n}_{i}']
      found.append(own['sub0_t'])
  return found
