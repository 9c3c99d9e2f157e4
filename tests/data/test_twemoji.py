"""Twemoji: what the file holds, that no concept crosses a split, and how the file is made."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from mmjax.data import twemoji, twemoji_file
from mmjax.data.pipeline import load


@pytest.fixture(scope='module')
def rows():
  return twemoji.read()


def test_the_file_holds_all_pairs(rows):
  assert {name: len(column) for name, column in rows.items()} == dict.fromkeys(
    ('image', 'name', 'keywords', 'category', 'subcategory'), 1911
  )
  assert rows['image'].shape == (1911, 32, 32, 3) and rows['image'].dtype == np.uint8
  assert (rows['keywords'] == '').sum() == 15 and (rows['name'] != '').all()
  assert len({picture.tobytes() for picture in rows['image']}) > 1860  # families are drawn alike


def test_no_concept_and_no_near_duplicate_crosses(rows):
  concept = twemoji.concepts(rows)
  split = twemoji.split_of(rows, concept)
  for number in np.unique(concept):
    assert len(set(split[concept == number])) == 1, rows['name'][number]
  pixels = rows['image'].reshape(1911, -1).astype(np.float64) / 255
  train = pixels[split == 'train']
  for picture, name in zip(pixels[split != 'train'], rows['name'][split != 'train']):
    assert ((train - picture) ** 2).mean(1).min() >= twemoji.SAME, name


@pytest.mark.parametrize('one, other', [
  ('woman teacher', 'man teacher'), ('twelve o clock', 'six thirty'), ('flag japan', 'flag france'),
  ('keycap 0', 'keycap 9'), ('full moon', 'waxing crescent moon'), ('1st place medal', '3rd place medal'),
])  # fmt: skip
def test_what_is_alike_is_of_one_concept(rows, one, other):
  concept, names = twemoji.concepts(rows), rows['name'].tolist()
  assert concept[names.index(one)] == concept[names.index(other)]
  assert concept[names.index('tiger')] != concept[names.index('taxi')]


def test_held_out_categories_are_unseen_and_nothing_else_is(rows):
  split = twemoji.split_of(rows, twemoji.concepts(rows))
  held = np.isin(rows['subcategory'], list(twemoji.HELD_OUT))
  assert ((split == 'unseen') == held).all()
  assert [int((split == name).sum()) for name in twemoji.SPLITS] == [1448, 146, 121, 196]


def test_the_builder_gives_what_was_read(rows, tmp_path):
  splits = {name: load(twemoji.Twemoji, name, tmp_path) for name in twemoji.SPLITS}
  assert sum(map(len, splits.values())) == 1911
  example = splits['unseen'][0]
  (at,) = np.flatnonzero(rows['name'] == example['name'].decode())
  assert (example['image'] == rows['image'][at]).all()
  assert [word.decode() for word in example['keywords']] == rows['keywords'][at].split('|')
  assert list(twemoji.HELD_OUT)[example['label']] == rows['subcategory'][at]
  assert splits['train'][0]['label'] == -1


def packed(path, members):
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in members.items():
      info = tarfile.TarInfo(f'package/{name}')
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))
  return path


def test_the_file_is_made_of_the_two_packages(tmp_path):
  entry = {'unified': '1F42F', 'image': 'a.png', 'name': 'TIGER FACE', 'category': 'Animals', 'subcategory': 'mammal'}
  picture = io.BytesIO()
  Image.new('RGBA', (64, 64), (255, 0, 0, 255)).save(picture, 'png')
  clear = io.BytesIO()
  Image.new('RGBA', (64, 64), (0, 0, 0, 0)).save(clear, 'png')
  entries = [entry | {'sort_order': 2}, entry | {'unified': '31-20E3', 'image': 'b.png', 'sort_order': 1}]
  pictures = packed(tmp_path / 'pictures.tgz', {
    'emoji.json': json.dumps(entries).encode(),
    'img/twitter/64/a.png': picture.getvalue(),
    'img/twitter/64/b.png': clear.getvalue(),
  })  # fmt: skip
  words = packed(
    tmp_path / 'words.tgz', {'dist/emoji-en-US.json': json.dumps({'🐯': ['tiger_face', 'wild_Cat', 'roar']}).encode()}
  )
  for out in ('one.npz', 'two.npz'):
    assert twemoji_file.make(pictures, words, tmp_path / out) == 2
  assert (tmp_path / 'one.npz').read_bytes() == (tmp_path / 'two.npz').read_bytes()
  made = np.load(tmp_path / 'one.npz')
  assert made['name'].tolist() == ['tiger face', 'tiger face']
  assert made['keywords'].tolist() == ['', 'wild cat|roar']
  assert made['image'][1, 0, 0].tolist() == [255, 0, 0] and made['image'][0, 0, 0].tolist() == [200, 216, 176]
