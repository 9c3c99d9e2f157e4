"""Made-up patient records of a picture, a series of measurements and a note. Drawn by code: nothing in it is medicine.

The picture shows a chest with or without a shadow; the measurements, taken now and then and never all at once, a body
with or without fever; the note says whether a shadow was there before. What the record is answered with follows by a
rule from all three (`assess`), so the best that any of them can do without the others is known (`best`).

M records, T times at which something was measured, C measurements.
"""

import itertools
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data.drawn import Drawn, best_by, picture

LABELS = ('well', 'infection elsewhere', 'new shadow', 'pneumonia')
FACTORS = ('shadow', 'fever', 'known')  # each 0 or 1
PARTS = {'picture': ('shadow',), 'measurements': ('fever',), 'note': ('known',)}
SPLITS = {'train': (6000, 6201), 'validation': (500, 6202), 'test': (1000, 6203)}  # M, seed
SIDE, TIMES, HOURS = 32, 16, 48.0  # pixels; most times of measuring; how far back they go
MEASURED = ('heart rate', 'temperature', 'pressure', 'oxygen')
MEAN, SPREAD = np.array([78, 36.8, 122, 97.0]), np.array([8, 0.25, 10, 1.2])  # of MEASURED, in a body without fever
FEVERISH = np.array([14, 1.7, -4, -1.5])  # what fever adds in the end
GIVEN = 0.5  # of the measurements at a time, one in so many is taken
LENGTH = 16  # tokens of a note, with [CLS] and [SEP]
COMPLAINTS = ('came with a cough', 'came for a check', 'feels tired', 'short of breath on stairs', 'pain in the side',
              'sent by the family doctor')  # fmt: skip
SAID = (  # about earlier pictures: that a shadow was not there, and that it was
  ('no earlier pictures', 'last picture was clear', 'never had a chest picture', 'nothing seen a year ago'),
  ('scar known for years', 'old shadow unchanged', 'same shadow on the last picture', 'known scar from surgery'),
)


def assess(shadow: int, fever: int, known: int) -> int:
  """What a record is answered with, an index into LABELS."""
  return 2 * (shadow and not known) + fever


def records() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """All combinations of FACTORS int [8,3], their labels [8], and how likely each is [8]: labels are balanced."""
  every = np.array(list(itertools.product((0, 1), repeat=len(FACTORS))))
  label = np.array([assess(*record) for record in every])
  return every, label, 1 / (len(LABELS) * np.bincount(label)[label])


def best(*parts: str) -> float:
  """The highest accuracy that these parts of a record alone can reach."""
  return best_by(*records(), sorted({FACTORS.index(factor) for part in parts for factor in PARTS[part]}))


def generate(number: int, seed: int) -> dict[str, np.ndarray]:
  """Draws M records: 'image' uint8 [M,32,32,3], 'time' float32 [M,16] in hours, from 0 up, 'series' float32 [M,16,4] of
  MEASURED, 'seen' bool [M,16,4], which of them were taken (0 where not), 'text', 'label' and FACTORS int [M]."""
  rng = np.random.RandomState(seed)  # its streams are frozen for good (NEP 19)
  every, label, likely = records()
  drawn = rng.choice(len(every), number, p=likely / likely.sum())
  factors = dict(zip(FACTORS, every[drawn].T.astype(np.int32), strict=True))
  measured = [_measure(rng, fever) for fever in factors['fever']]
  time, series, seen = (np.stack(part) for part in zip(*measured, strict=True))
  notes = [_note(rng, known) for known in factors['known']]
  image = np.stack([_image(rng, shadow) for shadow in factors['shadow']])
  found = {'image': image, 'time': time, 'series': series, 'seen': seen, 'text': np.array(notes)}
  return factors | found | {'label': label[drawn].astype(np.int32)}


def _image(rng: np.random.RandomState, shadow: int) -> np.ndarray:
  """Two lungs, dark, between ribs; a shadow is a bright spot in one of them."""
  y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
  centre = 0.5 + rng.uniform(-0.03, 0.03)
  side = lambda sign: ((x - centre - sign * 0.2) / 0.15) ** 2 + ((y - 0.52) / 0.36) ** 2 < 1
  lungs = side(-1) | side(1)
  grey = np.where(lungs, 60.0, 165.0) * rng.uniform(0.85, 1.15)
  grey += np.where(lungs, 18 * (np.sin(2 * np.pi * (y * 7 + rng.rand())) > 0.4), 0)
  if shadow:
    at = (centre + rng.choice([-1, 1]) * rng.uniform(0.16, 0.24), rng.uniform(0.35, 0.68))
    grey += rng.uniform(70, 100) * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * rng.uniform(0.035, 0.055) ** 2))
  grey = np.clip(grey + rng.normal(0, 9, grey.shape), 0, 255).astype(np.uint8)
  return np.repeat(grey[..., None], 3, -1)


def _measure(rng: np.random.RandomState, fever: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Times, and what was measured at them."""
  time = np.sort(rng.uniform(0, HOURS, TIMES))
  begins = rng.uniform(6, 30)
  rise = fever / (1 + np.exp(-(time - begins) / 3))
  values = MEAN + SPREAD * (rng.normal(0, 0.7, len(MEAN)) + rng.normal(0, 0.6, (TIMES, len(MEAN))))
  values = values + rise[:, None] * FEVERISH * rng.uniform(0.8, 1.2, len(MEAN))
  seen = rng.rand(TIMES, len(MEAN)) < GIVEN
  seen[-3:, 1] |= ~seen[-3:, 1].any()  # temperature is taken once at least, in the end
  return time.astype(np.float32), np.where(seen, values, 0).astype(np.float32), seen


def _note(rng: np.random.RandomState, known: int) -> str:
  said = [COMPLAINTS[rng.randint(len(COMPLAINTS))], SAID[known][rng.randint(len(SAID[known]))]]
  return ' '.join(said[::-1] if rng.rand() < 0.5 else said)


class Records(Drawn):
  """TFDS builder of 6,000 training, 500 validation and 1,000 test records."""

  SPLITS: ClassVar = SPLITS
  DESCRIPTION = 'Made-up patient records of a picture, a series of measurements and a note. Not medicine.'

  def features(self) -> dict[str, Any]:
    number, tensor = tfds.features.Scalar(np.int32), tfds.features.Tensor
    return {
      'image': picture(SIDE),
      'time': tensor(shape=(TIMES,), dtype=np.float32),
      'series': tensor(shape=(TIMES, len(MEASURED)), dtype=np.float32),
      'seen': tensor(shape=(TIMES, len(MEASURED)), dtype=np.bool_),
      'text': tfds.features.Text(),
      'label': number,
    } | dict.fromkeys(FACTORS, number)

  def draw(self, split: str, number: int, seed: int) -> dict[str, np.ndarray]:
    return generate(number, seed)
