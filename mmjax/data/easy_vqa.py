"""easy-VQA: one coloured shape a picture, 13 answers (Victor Zhou 2019, MIT), out of the PyPI package easy-vqa.

Published: 4,000 / 1,000 pictures of 64x64, 38,575 / 9,673 questions (2 to 21 a picture). The last 400 training pictures
(3,888 questions) are held out here as a validation split; the test split is the published one.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from mmjax.errors import UserError

COLORS = ('red', 'green', 'blue', 'black', 'gray', 'teal', 'brown', 'yellow')
SHAPES = ('circle', 'rectangle', 'triangle')
ANSWERS = ('yes', 'no') + SHAPES + COLORS
GROUPS = {'open': ('shape', 'color'), 'yes/no': ('present', 'absent')}
QUESTION_TYPES = GROUPS['open'] + GROUPS['yes/no']
SIDE = 64  # pixels
MOST_QUESTIONS = 21  # of one picture
HELD_OUT = 400  # of the 4,000 training pictures

_YES_NO = (
  'is there a {}?',
  'is there a {} in the image?',
  'does the image contain a {}?',
  'is a {} present?',
  'is there not a {}?',
  'is there not a {} in the image?',
  'does the image not contain a {}?',
  'is no {} present?',
)
SENTENCES = tuple(
  [form.format(thing) for thing in [f'{color} shape' for color in COLORS] + list(SHAPES) for form in _YES_NO]
  + [f'what is the {color} shape?' for color in COLORS]
  + [f'what shape {end}?' for end in ('does the image contain', 'is in the image', 'is present')]
  + [f'{start} the {shape}?' for start in ('what color is', 'what is the color of') for shape in ('shape',) + SHAPES]
)
LENGTH = 11  # tokens of the longest of the 107, with [CLS] and [SEP]


def question_type(sentence: str) -> str:
  """One of QUESTION_TYPES, by the words: what color, what shape, is there (present), is there not (absent)."""
  words = sentence.rstrip('?').split()
  if words[0] == 'what':
    return 'color' if 'color' in words else 'shape'
  return 'absent' if {'no', 'not'} & set(words) else 'present'


class EasyVqa(tfds.core.GeneratorBasedBuilder):
  """TFDS builder of train 3,600, validation 400 and test 1,000 pictures, in the published order.

  Raises UserError where the package is missing when the data are prepared; they are read without it.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'The data of easy-vqa 1.0.'}
  url_infos = None  # nothing is downloaded; TFDS looks for checksums otherwise, through importlib_resources

  def _info(self) -> tfds.core.DatasetInfo:
    feature = tfds.features
    return tfds.core.DatasetInfo(
      builder=self,
      description='Pictures of one coloured shape with questions.',
      homepage='https://github.com/vzhou842/easy-VQA',
      disable_shuffling=True,
      features=feature.FeaturesDict(
        {
          'image': feature.Tensor(shape=(SIDE, SIDE, 3), dtype=np.uint8, encoding=feature.Encoding.BYTES),
          'question': feature.Sequence(feature.Text()),
          'question_type': feature.Tensor(shape=(None,), dtype=np.int32),
          'answer': feature.Tensor(shape=(None,), dtype=np.int32),
        }
      ),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
    try:
      import easy_vqa  # here, because only preparing needs it
    except ImportError:
      raise UserError('the easy-VQA data come in a Python package that is missing: pip install easy-vqa') from None
    train = easy_vqa.get_train_image_paths(), easy_vqa.get_train_questions()
    test = easy_vqa.get_test_image_paths(), easy_vqa.get_test_questions()
    cut = len(train[0]) - HELD_OUT
    return {
      'train': self._generate_examples(*train, range(cut)),
      'validation': self._generate_examples(*train, range(cut, len(train[0]))),
      'test': self._generate_examples(*test, range(len(test[0]))),
    }

  def _generate_examples(
    self, paths: Sequence[str], questions: tuple[Sequence, ...], ids: range
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    asked: dict[int, list[tuple[str, int, int]]] = {i: [] for i in ids}
    for sentence, answer, i in zip(*questions):
      if i in asked:
        asked[i].append((sentence, QUESTION_TYPES.index(question_type(sentence)), ANSWERS.index(answer)))
    for i in ids:
      sentences, types, answers = zip(*asked[i])
      yield (
        i,
        {
          'image': np.asarray(Image.open(paths[i])),
          'question': sentences,
          'question_type': np.array(types, np.int32),
          'answer': np.array(answers, np.int32),
        },
      )
