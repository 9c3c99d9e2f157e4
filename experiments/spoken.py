"""Search between clips of speech and their texts, as a run tells it: scores, a table, galleries of spectrograms.

Of M clips that are held out, as experiments/speech_retrieval.py has them, with Q different texts: 'sound' [M,T,bins],
'frames' [M], 'concept' [M] int, the same where the text is, 'said' [M] str.
"""

from collections.abc import Callable, Mapping

import matplotlib
import numpy as np

from experiments import pairs
from mmjax.metrics import retrieval

WAYS = ('text to speech', 'speech to text')
COLUMNS = ('system', 'what finds what', 'among', 'R@1', 'R@5', 'R@10', 'median rank', 'source')
CONTRAST, LETTERS, LENGTH = 'contrast', 'letters heard', 'length alone'
SOURCES = {CONTRAST: 'this run', LETTERS: 'this run', LENGTH: 'a line through the training clips'}
SHOWN, NEAREST = 8, 4  # queries of a gallery, and what is shown for each
WIDE, TALL, NOTHING = 240, 2, 0.9  # pixels of a picture's width and of a bin, and how light it is behind a clip's end


def texts(held: pairs.Arrays) -> np.ndarray:
  """Of each text the first clip that says it: int [Q]."""
  return np.unique(held['concept'], return_index=True)[1]


def rights(held: pairs.Arrays) -> np.ndarray:
  """Which clip says which text: bool [Q,M]."""
  return np.arange(len(texts(held)))[:, None] == held['concept']


def measure(table: np.ndarray, held: pairs.Arrays) -> dict[str, dict[str, pairs.Score]]:
  """The search both ways; a clip is right where it says the text. Intervals draw whole texts."""
  right, concept = rights(held), held['concept']
  first = pairs.search(table, right, np.arange(len(table)))
  return dict(zip(WAYS, (first, pairs.search(table.T, right.T, concept)), strict=True))


def table(found: Mapping, held: pairs.Arrays, sizes: Mapping[str, int]) -> dict:
  rows: list[dict] = []
  right = rights(held)
  among = dict(zip(WAYS, (f'{right.shape[1]} clips', f'{right.shape[0]} texts'), strict=True))
  for way, which in zip(WAYS, (right, right.T), strict=True):
    for system, both in found.items():
      cells = {key: pairs.shown(key, *value) for key, value in both[way].items()}
      own = {'ours': True} if system == CONTRAST else {}
      row = {'system': system, 'what finds what': way, 'among': among[way], 'source': SOURCES[system]}
      rows.append(row | cells | own)
    chance = {f'R@{k}': retrieval.chance(which, k) for k in pairs.KS} | {'median rank': (which.shape[1] + 1) / 2}
    cells = {key: pairs.shown(key, value) for key, value in chance.items()}
    row = {'system': 'chance', 'what finds what': way, 'among': among[way], 'source': 'computed here'}
    rows.append(row | cells)
  return {
    'title': 'Search among clips of which no text was learnt from',
    'columns': list(COLUMNS),
    'rows': rows,
    'notes': [
      'R@k: in how many percent of all searches a right answer is among the first k. In brackets: 95 % intervals of '
      'this one run, by drawing whole texts; some texts were recorded twice.',
      f'Learnt from {sizes["train"]} clips; {sizes["validation"]} in validation. Single letters and numbers are among '
      'those held out.',
      'Letters heard: the likelihood of a text by CTC, for a letter, of the same sound tower.',
    ],
  }


def galleries(held: pairs.Arrays, scored: np.ndarray) -> list[dict]:
  """Both ways, for queries spread over what is held out, from the shortest to the longest."""
  said, right = texts(held), rights(held)
  spread = lambda size: np.argsort(size, kind='stable')[np.linspace(0, len(size) - 1, SHOWN).astype(int)]
  clip = lambda n: {'image': picture(held['sound'][n], int(held['frames'][n])), 'text': f'“{held["said"][n]}”'}
  text = lambda q: {'text': str(held['said'][said[q]])}

  def rows(scored: np.ndarray, right: np.ndarray, size: np.ndarray, query: Callable, item: Callable) -> list[dict]:
    order = np.argsort(-scored, 1, kind='stable')[:, :NEAREST]
    return [
      {
        'query': query(n),
        'found': [item(m) | {'right': bool(right[n, m]), 'score': f'{scored[n, m]:.2f}'} for m in order[n]],
      }
      for n in spread(size)
    ]

  note = (
    f'The nearest {NEAREST} of all {{}} that were held out; the number is the cosine, ✓ a right one. Spectrograms have '
    'time from left to right, all as fast, and low frequencies at the bottom; below is what is said.'
  )
  ways = (
    ('Speech to text', f'{len(said)} texts', rows(scored.T, right.T, held['frames'], clip, text)),
    ('Text to speech', f'{len(scored.T)} clips', rows(scored, right, held['frames'][said], text, clip)),
  )
  return [{'title': title, 'note': note.format(among), 'rows': shown} for title, among, shown in ways]


def picture(sound: np.ndarray, frames: int) -> np.ndarray:
  """A spectrogram [T,M] as uint8 [h,WIDE,3], low frequencies at the bottom, grey behind its last frame."""
  at = np.arange(WIDE) * len(sound) // WIDE
  level = np.clip((sound[at].T[::-1] + 2) / 4, 0, 1)  # two deviations either way
  colours = matplotlib.colormaps['magma'](np.repeat(level, TALL, 0))[..., :3]
  return np.rint(255 * np.where((at < frames)[:, None], colours, NOTHING)).astype(np.uint8)
