"""Posts of a sentence and a picture, made up, and labelled so: what they feel is told by one, by the other or by both.

Sentences come from templates; pictures are Twemoji: faces that feel well or unwell, and things that feel nothing. Where
the picture has a feeling it is what the post means, whatever the words say: praise beside a face in tears is irony. So
the best that words alone, or the picture alone, can reach is known. Pictures of 'test_new' are in no training post.

M posts; tones are 0 negative, 1 positive, 2 none.
"""

from typing import Any

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
NEW = 4  # of that many pictures one is in 'test_new' alone
LENGTH = 9  # tokens of a sentence, with [CLS] and [SEP]
SPLITS = {'train': (6000, 5201), 'validation': (500, 5202), 'test': (1000, 5203), 'test_new': (1000, 5204)}  # M, seed
KINDS = ('only the words feel', 'only the picture feels', 'both feel the same', 'they disagree')
BEST = {  # accuracy on each of KINDS of the best answers on the whole by one alone, which is overruled, or guesses
  'words': (1.0, 0.5, 1.0, 0.0),
  'picture': (0.5, 1.0, 1.0, 1.0),
}


def generate(number: int, seed: int, new: bool) -> dict[str, np.ndarray]:
  """Draws `number` posts: 'image' uint8 [M,32,32,3], 'text' str, 'kind' and 'label' int [M]. All KINDS are as frequent.

  new: with pictures that other splits do not have.
  """
  rng, rows = np.random.RandomState(seed), twemoji.read()  # its streams are frozen for good (NEP 19)
  pictures = []
  for categories in FACES:
    of_tone = np.flatnonzero(np.isin(rows['subcategory'], categories))
    pictures.append(of_tone[(np.arange(len(of_tone)) % NEW == 0) == new])
  kind, tone = rng.randint(len(KINDS), size=number), rng.randint(2, size=number)
  text = np.where(kind == 1, 2, np.where(kind == 3, 1 - tone, tone))
  image = np.where(kind == 0, 2, tone)
  said = [TEMPLATES[t][rng.randint(len(TEMPLATES[t]))].format(TOPICS[rng.randint(len(TOPICS))]) for t in text]
  shown = np.array([pictures[t][rng.randint(len(pictures[t]))] for t in image])
  return {
    'image': rows['image'][shown],
    'text': np.array(said),
    'kind': kind.astype(np.int32),
    'label': tone.astype(np.int32),
  }


class Posts(Drawn):
  """TFDS builder of train 6,000, validation 500, test 1,000 posts, and 1,000 with pictures that are new."""

  SPLITS = SPLITS
  DESCRIPTION = 'Made-up posts of a sentence and a picture, with what they feel.'

  def features(self) -> dict[str, Any]:
    number = tfds.features.Scalar(np.int32)
    return {'image': picture(twemoji.SIDE), 'text': tfds.features.Text(), 'kind': number, 'label': number}

  def draw(self, split: str, number: int, seed: int) -> dict[str, np.ndarray]:
    return generate(number, seed, split == 'test_new')
