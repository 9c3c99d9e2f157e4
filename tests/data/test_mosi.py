"""Features of CMU-MOSI and MOSEI: what a file must have, what is mended in it, and what is refused."""

import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from mmjax import cli
from mmjax.data import mosi
from mmjax.errors import UserError

SHAPES = {'text': (4, 3), 'audio': (6, 2), 'vision': (5, 2)}  # unaligned


def arrays(**changed):
  """name -> array of a whole file, with some of them changed."""
  rng = np.random.default_rng(0)
  found = {}
  for n, split in enumerate(mosi.SPLITS):
    for part, shape in SHAPES.items():
      found[f'{split}/{part}'] = rng.normal(size=(3 - n, *shape))
    found[f'{split}/labels'] = np.linspace(-3, 3, 3 - n).reshape(-1, 1, 1)
  return found | {name.replace('__', '/'): value for name, value in changed.items()}


def npz(folder, given):
  np.savez(folder / 'a.npz', **given)
  return folder / 'a.npz'


def written(folder, given):
  """The same arrays in every kind of file."""
  save_file({name: np.ascontiguousarray(array) for name, array in given.items()}, folder / 'a.safetensors')
  with h5py.File(folder / 'a.hdf5', 'w') as file:
    for name, array in given.items():
      file[name] = array
  return [npz(folder, given), folder / 'a.safetensors', folder / 'a.hdf5']


def test_every_kind_of_file_gives_the_same(tmp_path):
  given = arrays(train__id=np.array([1, 2, 3]))
  for file in written(tmp_path, given):
    found = mosi.read(file)
    assert list(found) == list(mosi.SPLITS)
    for split, parts in found.items():
      assert list(parts) == list(mosi.PARTS)
      for part, array in parts.items():
        wanted = given[f'{split}/{part}'].astype(np.float32)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, wanted.reshape(-1) if part == 'labels' else wanted)


def test_what_is_minus_infinite_in_audio_becomes_zero(tmp_path):
  audio = arrays()['valid/audio']
  audio[1, 2, 0] = -np.inf
  found = mosi.read(npz(tmp_path, arrays(valid__audio=audio)))['valid']['audio']
  assert found[1, 2, 0] == 0 and np.isfinite(found).all()
  assert (found == audio.astype(np.float32)).sum() == audio.size - 1


@pytest.mark.parametrize('name, make, words', [
  ('train__labels', lambda a: np.full(3, 3.5), 'train/labels has 3.5, expected -3..3'),
  ('train__labels', lambda a: np.full(3, np.nan), 'train/labels has nan, expected -3..3'),
  ('test__labels', lambda a: np.zeros((1, 2)), r'test/labels is \[1, 2\], expected one number a sample'),
  ('train__text', lambda a: a[:2], 'train/text has 2 samples, train/labels 3'),
  ('train__text', lambda a: a[0], r'train/text is \[4, 3\], expected \[M,steps,features\]'),
  ('test__vision', lambda a: a[:, :3], r'test/vision has steps and features \[3, 2\], expected \[5, 2\] as in train'),
  ('valid__vision', lambda a: np.where(np.arange(2) < 1, a, np.inf), 'valid/vision has nan or inf in sample 0'),
  ('valid__text', lambda a: np.where(a > -9, np.nan, a), 'valid/text has nan or inf'),
  ('train__audio', lambda a: np.where(a > -9, np.inf, a), 'train/audio has nan or inf'),
  ('valid__text', lambda a: a.astype(str), 'valid/text is of dtype <U'),
  ('valid__text', lambda a: a.astype(object), 'cannot be read: holds Python objects'),
])  # fmt: skip
def test_an_array_that_is_none_is_refused_in_one_line(tmp_path, name, make, words):
  file = npz(tmp_path, arrays(**{name: make(arrays()[name.replace('__', '/')])}))
  with pytest.raises(UserError, match=words) as error:
    mosi.read(file)
  assert '\n' not in str(error.value) and str(error.value).startswith(str(file))


def test_an_array_that_is_missing_is_named(tmp_path):
  given = arrays()
  del given['valid/audio']
  for file in written(tmp_path, given):
    with pytest.raises(UserError, match=r"a\.\w+: lacks 'valid/audio'; expected text, audio, vision, labels of each"):
      mosi.read(file)


@pytest.mark.parametrize('name, content, words', [
  ('a.pkl', b'', 'a pickle is a program'),
  ('a.npz', b'no zip', 'cannot be read'),
  ('a.npz', pickle.dumps({'train': 1}), 'cannot be read'),
  ('a.safetensors', b'short', 'cannot be read'),
  ('a.h5', b'no hdf5', 'cannot be read'),
  ('a.npy', b'', "found '.npy', expected one of .safetensors, .npz, .hdf5, .h5; did you mean '.npz'"),
  ('nowhere/a.npz', None, 'No such file'),
  ('nowhere/a.safetensors', None, 'cannot be read'),
  ('nowhere/a.h5', None, 'cannot be read'),
])  # fmt: skip
def test_what_is_no_such_file_is_refused_in_one_line(tmp_path, name, content, words):
  if content is not None:
    (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError) as error:
    mosi.read(tmp_path / name)
  assert words in str(error.value) and '\n' not in str(error.value) and name in str(error.value)


def test_without_h5py_the_line_says_what_to_install(tmp_path, monkeypatch):
  file = written(tmp_path, arrays())[-1]
  monkeypatch.setitem(sys.modules, 'h5py', None)
  with pytest.raises(UserError, match='expected h5py, which reads HDF5: `pip install h5py`'):
    mosi.read(file)


def test_the_line_about_pickles_converts_them(tmp_path):
  given = arrays()
  nested = {split: {part: given[f'{split}/{part}'] for part in mosi.PARTS} for split in mosi.SPLITS}
  (tmp_path / 'x.pkl').write_bytes(pickle.dumps(nested))
  command = mosi.CONVERT.removeprefix('python -c "').removesuffix('"')
  subprocess.run([sys.executable, '-c', command], cwd=tmp_path, check=True)
  np.testing.assert_array_equal(mosi.read(tmp_path / 'x.npz')['test']['text'], given['test/text'].astype(np.float32))


def test_a_step_of_zeros_is_padding(tmp_path):
  text = arrays()['train/text']
  text[0, :2] = 0
  text[1, 3] = 0
  x, masks = mosi.features(mosi.read(npz(tmp_path, arrays(train__text=text)))['train'])
  assert masks['t'].tolist() == [[False, False, True, True], [True, True, True, False], [True] * 4]
  assert masks['a'].all() and x['f'].shape == (3, 5, 2)


def test_the_command_line_says_what_files_hold(tmp_path, monkeypatch, capsys):
  file = npz(tmp_path, arrays())
  monkeypatch.setattr(sys, 'argv', ['mosi', str(file)])
  mosi.main()
  said = capsys.readouterr().out
  assert (
    'train: 3 samples; steps x features: text 4 x 3, audio 6 x 2, vision 5 x 2; labels -3.00 to 3.00, 33.3 %' in said
  )
  for argv, error in ((['none.npz'], 'none.npz: cannot be read'), ([], 'the following arguments are required')):
    monkeypatch.setattr(sys, 'argv', ['mosi', *argv])
    assert cli.exit_code(mosi.main) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: ') and error in err and err.count('\n') == 1


@pytest.mark.parametrize('harm', ['cut', 'flipped'])
@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_one_line(tmp_path, harm, save):
  save(tmp_path / 'a.npz', **arrays())
  content = bytearray((tmp_path / 'a.npz').read_bytes())
  if harm == 'cut':
    content = content[: len(content) // 2]
  else:
    for place in range(100, len(content) // 2, 97):
      content[place] ^= 0xFF
  (tmp_path / 'a.npz').write_bytes(content)
  with pytest.raises(UserError, match=r'a\.npz') as error:
    mosi.read(tmp_path / 'a.npz')
  assert '\n' not in str(error.value)
