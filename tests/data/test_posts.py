"""Made-up posts: the rule behind the labels, and that new pictures are new."""

import numpy as np
import pytest

from mmjax.data import posts, twemoji
from mmjax.data.pipeline import load


@pytest.fixture(scope='module')
def drawn():
  return {split: posts.generate(800, 3 + n, split) for n, split in enumerate(('train', 'test', 'test_new'))}


def tone_of_words(text):
  """By what is left of the sentence without its topic."""
  for tone, templates in enumerate(posts.TEMPLATES):
    if any(text == template.format(topic) for template in templates for topic in posts.TOPICS):
      return tone
  raise AssertionError(text)


def tones_of_pictures():
  rows = twemoji.read()
  tone = {category: n for n, categories in enumerate(posts.FACES) for category in categories}
  return {image.tobytes(): tone[str(c)] for image, c in zip(rows['image'], rows['subcategory']) if str(c) in tone}


def test_labels_follow_the_rule(drawn):
  tones = tones_of_pictures()
  for arrays in drawn.values():
    text = np.array([tone_of_words(text) for text in arrays['text']])
    image = np.array([tones[image.tobytes()] for image in arrays['image']])
    np.testing.assert_array_equal(arrays['label'], np.where(image == 2, text, image))
    kinds = np.select([image == 2, text == 2, text == image], [0, 1, 2], 3)
    np.testing.assert_array_equal(arrays['kind'], kinds)
    assert (np.bincount(arrays['kind'], minlength=4) > 150).all()


def test_no_concept_of_test_new_is_in_another_split(drawn):
  rows = twemoji.read()
  concept = dict(zip((image.tobytes() for image in rows['image']), twemoji.concepts(rows)))
  shown = {split: {concept[image.tobytes()] for image in arrays['image']} for split, arrays in drawn.items()}
  assert not shown['test_new'] & (shown['train'] | shown['test']) and len(shown['test_new']) > 20
  assert len(shown['train'] & shown['test']) > 60


def test_no_post_of_the_test_is_one_of_training_though_its_parts_are():
  arrays = {split: posts.generate(*posts.SPLITS[split], split) for split in ('train', 'test')}
  made = {s: {(i.tobytes(), str(t)) for i, t in zip(a['image'], a['text'])} for s, a in arrays.items()}
  assert not made['train'] & made['test']
  for part in range(2):
    parts = {split: {post[part] for post in posts} for split, posts in made.items()}
    assert parts['test'] <= parts['train']


def test_the_best_of_one_alone_is_what_the_rule_allows(drawn):
  """An answerer that knows the tone of the words, and one that knows that of the picture, by majority."""
  arrays, tones = drawn['train'], tones_of_pictures()
  text = np.array([tone_of_words(text) for text in arrays['text']])
  image = np.array([tones[image.tobytes()] for image in arrays['image']])
  for name, seen in (('words', text), ('picture', image)):
    answer = np.array([np.bincount(arrays['label'][seen == tone], minlength=2).argmax() for tone in range(3)])[seen]
    for kind, best in enumerate(posts.BEST[name]):
      of = arrays['kind'] == kind
      assert (answer[of] == arrays['label'][of]).mean() == pytest.approx(best, abs=0.08)


def test_the_builder_gives_what_was_drawn(tmp_path, monkeypatch):
  monkeypatch.setattr(posts.Posts, 'SPLITS', {'train': (3, 7), 'test_new': (2, 8)})
  source, arrays = load(posts.Posts, 'test_new', tmp_path), posts.generate(2, 8, 'test_new')
  for i, example in enumerate(source):
    np.testing.assert_array_equal(example['image'], arrays['image'][i])
    assert (example['text'].decode(), example['kind'], example['label']) == (
      arrays['text'][i], arrays['kind'][i], arrays['label'][i])  # fmt: skip
