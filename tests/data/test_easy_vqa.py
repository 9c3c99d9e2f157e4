import sys

import pytest

from mmjax.data import easy_vqa, encode, pipeline, tokens
from mmjax.errors import UserError


def test_published_counts(easy_dir):
  splits = {name: pipeline.load(easy_vqa.EasyVqa, name, easy_dir) for name in ('train', 'validation', 'test')}
  assert {name: len(source) for name, source in splits.items()} == {'train': 3600, 'validation': 400, 'test': 1000}
  asked = {name: [len(example['question']) for example in source] for name, source in splits.items()}
  assert sum(asked['train']) + sum(asked['validation']) == 38575 and sum(asked['test']) == 9673
  assert sum(asked['validation']) == 3888  # stated in the docstring
  assert max(max(counts) for counts in asked.values()) == easy_vqa.MOST_QUESTIONS
  found = {question.decode() for source in splits.values() for example in source for question in example['question']}
  assert found == set(easy_vqa.SENTENCES) and len(found) == 107


def test_answers_and_pictures_are_those_of_the_package(easy_dir):
  package = pytest.importorskip('easy_vqa')
  sentences, answers, ids = package.get_test_questions()
  assert set(package.get_answers()) == set(easy_vqa.ANSWERS) and len(easy_vqa.ANSWERS) == 13
  example = pipeline.load(easy_vqa.EasyVqa, 'test', easy_dir)[7]
  here = [i for i, image in enumerate(ids) if image == 7]
  assert [q.decode() for q in example['question']] == [sentences[i] for i in here]
  assert [easy_vqa.ANSWERS[a] for a in example['answer']] == [answers[i] for i in here]
  assert example['image'].shape == (64, 64, 3) and example['image'].dtype == 'uint8' and example['image'].std() > 0


@pytest.mark.parametrize(
  'sentence, kind',
  [
    ('what color is the circle?', 'color'),
    ('what is the color of the shape?', 'color'),
    ('what is the teal shape?', 'shape'),
    ('what shape is present?', 'shape'),
    ('is a circle present?', 'present'),
    ('is no red shape present?', 'absent'),
    ('does the image not contain a circle?', 'absent'),
  ],
)
def test_question_types(sentence, kind):
  assert easy_vqa.question_type(sentence) == kind


def test_weights_sum_to_the_number_of_questions(easy_dir):
  source = pipeline.load(easy_vqa.EasyVqa, 'test', easy_dir)
  sentences = easy_vqa.SENTENCES
  encoder = encode.pixels(tokens.build(sentences), sentences, easy_vqa.LENGTH, easy_vqa.MOST_QUESTIONS)
  batches = list(pipeline.eval_batches(source, encoder, images=64))
  assert sum(batch['weight'].sum() for batch in batches) == 9673
  assert batches[-1]['question'].shape == (64, 21, 11)


def test_missing_package_is_said(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'easy_vqa', None)
  with pytest.raises(UserError, match='pip install easy-vqa'):
    pipeline.load(easy_vqa.EasyVqa, 'train', str(tmp_path))
  assert not list(tmp_path.glob('easy_vqa/*1.0.0'))
