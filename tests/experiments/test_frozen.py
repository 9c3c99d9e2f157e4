"""Towers that stay as they are: where they are found, what is kept of them, and the CLIP that comes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import frozen, pairs
from mmjax.convert.load import save
from mmjax.encoders.efficientnet import EfficientNetLite
from mmjax.encoders.image import to_float
from mmjax.errors import UserError
from mmjax.models.bert import BERT
from mmjax.models.clip import CLIP
from mmjax.models.lit import Known, PictureTower, sentence
from tests.variables import drawn

SMALL = {'width': 8, 'heads': 2, 'mlp': 16, 'scan': False}
WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *'abcdefghijklmnopqrstuvwxyz', 'red', 'heart', 'face', 'cat']


def towers_in(root):
  """Writes two small towers, 'bert' and 'network', that know nothing."""
  stored(root, 'bert', BERT(len(WORDS), frozen.LONGEST, schedule='1*[t<t]', **SMALL), jnp.ones((1, 2), int))
  network = EfficientNetLite(((1, 3, 2, 1, 4), (1, 3, 2, 2, 4)), 4, 6, 5)
  stored(root, 'network', network, jnp.zeros((1, 32, 32, 3)))
  (root / 'bert' / 'vocab.txt').write_text('\n'.join(WORDS))


def stored(folder, name, model, *given):
  variables = drawn(model, *given, train=False)
  save(model, variables, folder / name)
  return variables


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp('towers')
  towers_in(root)
  return root


@pytest.fixture(scope='module')
def made(folder):
  return frozen.towers(str(folder / 'bert'), str(folder / 'network'), 32)


@pytest.fixture(scope='module')
def task(made, tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    home = tmp_path_factory.mktemp('cache')
    patch.setattr(frozen, 'cache', lambda name: home / name)
    plain = pairs.prepare('twemoji', '', 20)
    few = {split: [source[n] for n in range(5)] for split, source in plain.splits.items()}
    small = pairs.Pairs(few, plain.tokenizer, plain.length, plain.labels)
    found = frozen.prepare(small, made, 'twemoji')
    patch.setattr(frozen.Towers, 'pictures', None)  # the second time nothing is computed
    again = frozen.prepare(small, made, 'twemoji')
    assert len(list(home.rglob('*.npz'))) == 1
  for split in few:
    for name, value in found.arrays(split).items():
      np.testing.assert_array_equal(value, again.arrays(split)[name])
  return found


def test_examples_have_what_the_towers_made(task, made):
  held = task.arrays('test')
  assert held['seen'].shape == (5, 6) and held['phrases'].shape == (5, frozen.PHRASES, 8)
  words = [words.split(', ') for words in held['words'].tolist()]
  for row, own in zip(held['phrases'], (own[: frozen.PHRASES] for own in words), strict=True):
    np.testing.assert_allclose(row[: len(own)], made.texts(own), atol=1e-6)
    assert not row[len(own) :].any()
  np.testing.assert_allclose(held['seen'], made.pictures(held['image']), atol=1e-6)


def test_phrases_are_drawn_and_one_stays_at_least(task):
  batch = task.arrays('train')
  every = task.drawn(batch, jax.random.key(0), keep=1.0, shift=3, tint=0.1)
  np.testing.assert_array_equal(every['phrases'], batch['phrases'])
  none = task.drawn(batch, jax.random.key(0), keep=0.0)
  np.testing.assert_array_equal(none['phrases'], batch['phrases'])
  some = (task.drawn(batch, jax.random.key(0), keep=0.5)['phrases'] != 0).any(-1)
  there = (batch['phrases'] != 0).any(-1)
  assert (some <= there).all() and there.sum() > some.sum() >= 5


def test_the_whole_clip_is_what_was_learnt_on_features(task, made):
  """Of texts of one phrase and of pictures in the size that they were seen in."""
  model = CLIP(Known(4), Known(4))
  batch = {**task.arrays('test'), **task.said(['red heart', 'cat face', 'a cat'])}
  variables = drawn(model, *task.given(batch), train=False)
  learnt = model.apply(variables, *task.given(batch), train=False)
  whole, all_variables = made.clip(variables['params'], 4)
  assert isinstance(whole.image, PictureTower)
  texts = [encoding.ids for encoding in made.tokenizer.encode_batch(['red heart', 'cat face', 'a cat'])]
  ids = jnp.array([[*row, *[0] * (8 - len(row))] for row in texts])
  found = whole.apply(all_variables, ids, to_float(jnp.asarray(batch['image'])), ids > 0, train=False)
  for name in ('text', 'image', 'scale'):
    np.testing.assert_allclose(found[name], learnt[name], atol=1e-5)


def test_a_sentence_is_the_mean_of_its_words():
  words = jnp.array([[[3.0, 0], [0, 4], [9, 9]]])
  np.testing.assert_allclose(sentence(words, jnp.array([[True, True, False]])), [[0.6, 0.8]], atol=1e-6)


def test_what_is_no_tower_is_named(folder, tmp_path):
  with pytest.raises(UserError, match=r"--config\.frozen\.text: found 'nosuch', which is no file, folder or installed"):
    frozen.towers('nosuch', str(folder / 'network'), 32)
  with pytest.raises(UserError, match=r'frozen\.text=.*found 0 files of \.safetensors, expected one'):
    frozen.towers(str(tmp_path), str(folder / 'network'), 32)
  with pytest.raises(UserError, match=r'--config\.frozen\.image: found BERT, expected EfficientNetLite'):
    frozen.towers(str(folder / 'bert'), str(folder / 'bert'), 32)
