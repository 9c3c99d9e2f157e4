"""Files of pairs from other packages: what is made of them, and that they are read as Twemoji is."""

import io
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from mmjax.data import pairs_file, twemoji
from mmjax.errors import UserError

CSV = """hexcode,group,subgroups,annotation,tags,openmoji_tags,skintone
1F600,smileys-emotion,face-smiling,Grinning Face,"happy, grin","grin, teeth",
1F44B-1F3FB,people-body,hand,waving hand: light,"wave",,1
1F415,animals-nature,animal-mammal,dog,,,
1F99A,animals-nature,animal-bird,peacock,"bird, proud",,
"""


def png(colour, size=(8, 4)):
  out = io.BytesIO()
  Image.new('RGB', size, colour).save(out, 'PNG')
  return out.getvalue()


@pytest.fixture
def package(tmp_path):
  file = tmp_path / 'openmoji.tgz'
  colours = {'1F600': 'red', '1F415': 'blue', '1F99A': 'black', '1F44B-1F3FB': 'white'}
  members = {'package/data/openmoji.csv': CSV.encode()}
  members |= {f'package/color/svg/{code}.svg': png(colour) for code, colour in colours.items()}
  with tarfile.open(file, 'w:gz') as archive:
    for name, content in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))
  return file


def test_openmoji_without_skin_tones(package, tmp_path):
  out = tmp_path / 'a.npz'
  assert pairs_file.make('openmoji', package, out) == (3, [])
  rows = twemoji.read(out)
  assert rows['name'].tolist() == ['grinning face', 'dog', 'peacock']
  assert rows['keywords'].tolist() == ['happy|grin|teeth', '', 'bird|proud']
  assert rows['image'].shape == (3, 32, 32, 3)
  np.testing.assert_array_equal(rows['image'][0, 16, 16], [255, 0, 0])  # in the middle,
  np.testing.assert_array_equal(rows['image'][0, 2, 16], [0xC8, 0xD8, 0xB0])  # as wide as the whole, on paper


def test_a_file_is_read_as_twemoji_is(package, tmp_path, monkeypatch):
  out = tmp_path / 'a.npz'
  pairs_file.make('openmoji', package, out)
  with pytest.raises(UserError, match=r"a\.npz: found no pair for '\w+' among 3, expected at least one"):
    twemoji.of_file(out)
  monkeypatch.setattr(twemoji, 'split_of', lambda rows, concept: np.array(['unseen', 'train', 'unseen']))
  monkeypatch.setattr(twemoji, 'SPLITS', ('train', 'unseen'))
  splits = twemoji.of_file(out)
  assert tuple(splits) == twemoji.SPLITS and sum(map(len, splits.values())) == 3
  held = {example['name']: example for example in splits['unseen']}
  assert set(held) == {b'grinning face', b'peacock'}  # of categories that are held out
  labels = list(twemoji.HELD_OUT)
  assert held[b'peacock']['label'] == labels.index('animal-bird') and held[b'peacock']['keywords'] == [
    b'bird',
    b'proud',
  ]


def test_stamps_and_one_that_cannot_be_read(tmp_path):
  birds, shapes = tmp_path / 'stamps' / 'animals' / 'birds', tmp_path / 'stamps' / 'symbols' / 'odd_shapes'
  for folder in (birds, shapes):
    folder.mkdir(parents=True)
  (birds / 'owl.png').write_bytes(png('white'))
  (birds / 'owl.txt').write_text('An owl.\nfr.utf8=Une chouette.\n', encoding='utf-8')
  (shapes / 'bad.png').write_bytes(b'no picture')
  (shapes / 'bad.txt').write_text('A hexagon.\n')
  (shapes / 'alone.txt').write_text('No picture beside it.\n')
  count, bad = pairs_file.make('stamps', tmp_path / 'stamps', tmp_path / 'b.npz')
  assert count == 1 and len(bad) == 1 and bad[0].startswith('a hexagon: ')
  rows = twemoji.read(tmp_path / 'b.npz')
  assert {key: rows[key][0] for key in twemoji.COLUMNS} == {
    'name': 'an owl', 'keywords': 'animals|birds', 'category': 'animals', 'subcategory': 'animal-bird'
  }  # fmt: skip


def test_a_drawing_needs_cairosvg(monkeypatch):
  monkeypatch.setitem(sys.modules, 'cairosvg', None)
  with pytest.raises(UserError, match='pip install cairosvg'):
    pairs_file.rendered(b'<svg/>')


@pytest.mark.parametrize('arguments, words', [
  (['openmoji', 'nosuch.tgz', 'out.npz'], 'nosuch.tgz'),
  (['stamps', '.', 'out.npz'], 'found no captions'),
  (['stamps', '.', 'nowhere/out.npz'], 'in a folder that is there'),
  (['stamps', '.', 'out.zip'], 'ends in .npz'),
  (['openmoji', '.', 'out.npz'], 'directory'),
  (['stamp', '.', 'out.npz'], "invalid choice: 'stamp'"),
])  # fmt: skip
def test_a_wrong_source_is_one_line(tmp_path, monkeypatch, capsys, arguments, words):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'argv', ['pairs_file', *arguments])
  with pytest.raises(SystemExit) as end:
    pairs_file.main()
  said = [line for line in capsys.readouterr().err.splitlines() if 'error' in line]
  assert end.value.code == 2 and len(said) == 1 and words in said[0]
  assert not (tmp_path / 'out.npz').exists()


@pytest.mark.parametrize('change, words', [
  ({'name': np.zeros(2)}, r"found float64 \(2,\) for 'name', expected str"),
  ({'image': np.zeros((2, 16, 16, 3), np.uint8)}, r"found uint8 \(2, 16, 16, 3\) for 'image'"),
  ({'keywords': None}, "found nothing for 'keywords'"),
])  # fmt: skip
def test_a_file_of_something_else_is_named(tmp_path, change, words):
  texts = np.array(['a', 'b'])
  rows = {'image': np.zeros((2, 32, 32, 3), np.uint8)} | dict.fromkeys(twemoji.COLUMNS, texts) | change
  np.savez(tmp_path / 'c.npz', **{key: value for key, value in rows.items() if value is not None})
  with pytest.raises(UserError, match=words):
    twemoji.read(tmp_path / 'c.npz')
  (tmp_path / 'd.npz').write_bytes(b'no zip')
  with pytest.raises(UserError, match=r'd\.npz: .*expected pairs as'):
    twemoji.read(tmp_path / 'd.npz')
