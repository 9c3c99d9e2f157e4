"""Posts of a sentence and a picture, made up, and labelled so: what they feel is told by one, by the other or by both.

Sentences come from templates; pictures are Twemoji: faces that feel well or unwell, and things that feel nothing. Where
the picture has a feeling it is what the post means, whatever the words say: praise beside a face in tears is irony. So
the best that words alone, or the picture alone, can reach is known. No post of a test is one of training; pictures of
'test_new' are of concepts that no training post shows (see `twemoji.concepts`).

M posts; tones are 0 negative, 1 positive, 2 none.
"""

from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data import twemoji
from mmjax.data.drawn import Drawn, picture

TONES = ('negative', 'positive', 'none')
LABELS = TONES[:2]
TOPICS = ('the party', 'this game', 'my new phone', 'the weather', 'our trip', 'the concert', 'this book', 'my job',
          'the food', 'that film', 'the match', 'my haircut')  # fmt: skip
TEMPLATES = (
  ('i hate {}', '{} ruined my day', 'so sad about {}', '{} was terrible', 'never again {}', 'what a mess {} is'),
  ('i love {}', '{} made my day', 'so happy about {}', '{} was wonderful', 'best of all {}', 'what a joy {} is'),
  ('here is {}', '{} again', 'thinking about {}', 'we had {} today', 'more on {} tomorrow', 'a word about {}'),
)
FACES = (  # categories of Twemoji by tone
  ('face-concerned', 'face-negative', 'face-unwell'),
  ('face-smiling', 'face-affection', 'face-tongue'),
  ('household', 'office', 'mail', 'tool'),
)
NEW = 4  # of that many concepts one is in 'test_new' alone
OWN = 6  # of that many posts one is kept for validation and test
LENGTH = 9  # tokens of a sentence, with [CLS] and [SEP]
SPLITS = {'train': (6000, 5201), 'validation': (500, 5202), 'test': (1000, 5203), 'test_new': (1000, 5204)}  # M, seed
KINDS = ('only the words feel', 'only the picture feels', 'both feel the same', 'they disagree')
BEST = {  # accuracy on each of KINDS of the best answers on the whole by one alone, which is overruled, or guesses
  'words': (1.0, 0.5, 1.0, 0.0),
  'picture': (0.5, 1.0, 1.0, 1.0),
}


def generate(number: int, seed: int, split: str) -> dict[str, np.ndarray]:
  """Draws `number` posts: 'image' uint8 [M,32,32,3], 'text' str, 'kind' and 'label' int [M]. All KINDS are as frequent.

  split: one of SPLITS; 'test_new' has pictures of concepts that the others do not have, 'validation' and 'test' have
  other sentences with each picture than 'train'.
  """
  rng, rows = np.random.RandomState(seed), twemoji.read()  # its streams are frozen for good (NEP 19)
  concept, pictures = twemoji.concepts(rows), []
  for categories in FACES:
    of_tone = np.flatnonzero(np.isin(rows['subcategory'], categories))
    place = np.unique(concept[of_tone], return_inverse=True)[1]
    pictures.append(of_tone[(place % NEW == 0) == (split == 'test_new')])
  draws = 2 * OWN * number  # of which those are taken that the split may have
  kind, tone = rng.randint(len(KINDS), size=draws), rng.randint(2, size=draws)
  text = np.where(kind == 1, 2, np.where(kind == 3, 1 - tone, tone))
  shown = np.array([pictures[t][rng.randint(len(pictures[t]))] for t in np.where(kind == 0, 2, tone)])
  template, topic = rng.randint(len(TEMPLATES[0]), size=draws), rng.randint(len(TOPICS), size=draws)
  trained = (shown + template + topic) % OWN != 0
  taken = np.flatnonzero((split == 'test_new') | (trained == (split == 'train')))[:number]
  said = [TEMPLATES[text[n]][template[n]].format(TOPICS[topic[n]]) for n in taken]
  return {
    'image': rows['image'][shown[taken]],
    'text': np.array(said),
    'kind': kind[taken].astype(np.int32),
    'label': tone[taken].astype(np.int32),
  }


class Posts(Drawn):
  """TFDS builder of train 6,000, validation 500, test 1,000 posts, and 1,000 with pictures that are new."""

  VERSION = tfds.core.Version('1.1.0')
  RELEASE_NOTES: ClassVar[dict[str, str]] = {
    '1.1.0': 'No post or new picture of a test is near training.',
    '1.0.0': 'First release.',
  }
  SPLITS = SPLITS
  DESCRIPTION = 'Made-up posts of a sentence and a picture, with what they feel.'

  def features(self) -> dict[str, Any]:
    number = tfds.features.Scalar(np.int32)
    return {'image': picture(twemoji.SIDE), 'text': tfds.features.Text(), 'kind': number, 'label': number}

  def draw(self, split: str, number: int, seed: int) -> dict[str, np.ndarray]:
    return generate(number, seed, split)
