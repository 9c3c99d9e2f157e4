"""Pickled checkpoints: refused unless allowed, then read without running anything that they ask for."""

import io
import json
import pickle
import shutil
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

from mmjax.convert.load import load
from mmjax.convert.names import flatten
from mmjax.convert.pickles import MAGIC, PROTOCOL, open_pickle
from mmjax.errors import UserError
from tests.convert.cases import FOLDER
from tests.convert.test_load import arrays, copy


@pytest.fixture
def torch(monkeypatch):
  """What torch.save needs of torch to write a tensor's pickle: names only."""
  utils, module = types.ModuleType('torch._utils'), types.ModuleType('torch')

  def rebuild(*unused):
    raise AssertionError('only its name is written')

  rebuild.__module__, rebuild.__qualname__ = 'torch._utils', '_rebuild_tensor_v2'
  utils._rebuild_tensor_v2 = rebuild
  module._utils = utils
  module.FloatStorage = type('FloatStorage', (), {'__module__': 'torch'})
  monkeypatch.setitem(sys.modules, 'torch', module)
  monkeypatch.setitem(sys.modules, 'torch._utils', utils)
  return module


class Tensor:
  def __init__(self, torch, key, length, offset, size, stride):
    self.torch, self.key, self.length, self.view = torch, key, length, (offset, size, stride)

  def __reduce__(self):
    return self.torch._utils._rebuild_tensor_v2, (Reference(self), *self.view, False, {})


class Reference:
  def __init__(self, tensor):
    self.pid = ('storage', tensor.torch.FloatStorage, tensor.key, 'cpu', tensor.length)


def pickled(value, legacy=False):
  out = io.BytesIO()

  class Pickler(pickle.Pickler):
    def persistent_id(self, item):
      return ((*item.pid, None) if legacy else item.pid) if isinstance(item, Reference) else None

  Pickler(out, 2).dump(value)
  return out.getvalue()


def zipped(path, value, storages, compression=zipfile.ZIP_STORED):
  with zipfile.ZipFile(path, 'w', compression) as archive:
    archive.writestr('archive/data.pkl', pickled(value))
    for key, numbers in storages.items():
      archive.writestr(f'archive/data/{key}', numbers.tobytes())
  return path


def legacy(path, value, storages):
  parts = [pickle.dumps(item, 2) for item in (MAGIC, PROTOCOL, {'little_endian': True})]
  parts += [pickled(value, legacy=True), pickle.dumps(list(storages), 2)]
  parts += [struct.pack('<q', numbers.size) + numbers.tobytes() for numbers in storages.values()]
  path.write_bytes(b''.join(parts))
  return path


NUMBERS = np.arange(12, dtype=np.float32)


@pytest.mark.parametrize('layout', [zipped, legacy])
def test_views_of_a_storage_by_offset_and_stride(tmp_path, torch, layout):
  tensor = lambda *view: Tensor(torch, '0', 12, *view)
  value = {'whole': tensor(0, (3, 4), (4, 1)), 'turned': tensor(0, (4, 3), (1, 4)), 'part': tensor(5, (2,), (4,)),
           'number': tensor(7, (), ()), 'none': tensor(12, (0, 3), (3, 1)), 'step': 3}  # fmt: skip
  found = open_pickle(layout(tmp_path / 'a.pth', {'state_dict': value, 'epoch': 4}, {'0': NUMBERS}))
  square = NUMBERS.reshape(3, 4)
  expected = {
    'whole': square,
    'turned': square.T,
    'part': NUMBERS[[5, 9]],
    'number': NUMBERS[7],
    'none': np.zeros((0, 3)),
  }
  assert set(found) == set(expected)
  for name, a in expected.items():
    np.testing.assert_array_equal(found[name], a)


class Evil:
  def __reduce__(self):
    return print, ('it runs',)


@pytest.mark.parametrize('layout', [zipped, legacy])
def test_what_is_no_tensor_is_refused_and_does_not_run(tmp_path, torch, capsys, layout):
  with pytest.raises(UserError, match=r'it asks for (__builtin__|builtins)\.print, which is no part of a tensor'):
    open_pickle(layout(tmp_path / 'a.pth', {'a': Evil()}, {}))
  assert capsys.readouterr().out == ''


@pytest.mark.parametrize('view, line', [
  ((0, (13,), (1,)), 'reaches number 12 of a storage of 12'),
  ((0, (3, 4), (5, 1)), 'reaches number 13'),
  ((-1, (2,), (1,)), 'offset -1'),
  ((0, (2,), (-1,)), r'stride \(-1,\)'),
])  # fmt: skip
def test_a_view_beyond_its_storage_is_refused(tmp_path, torch, view, line):
  with pytest.raises(UserError, match=line):
    open_pickle(zipped(tmp_path / 'a.pth', {'a': Tensor(torch, '0', 12, *view)}, {'0': NUMBERS}))


def test_a_storage_shorter_than_it_says_is_refused(tmp_path, torch):
  value = {'a': Tensor(torch, '0', 99, 0, (99,), (1,))}
  for layout in (zipped, legacy):
    with pytest.raises(UserError, match='storage 0 of'):
      open_pickle(layout(tmp_path / 'a.pth', value, {'0': NUMBERS}))
  value = {'a': Tensor(torch, '0', 12, 0, (12,), (1,))}
  with pytest.raises(UserError, match='storage 0 of'):
    open_pickle(zipped(tmp_path / 'b.pth', value, {'0': NUMBERS}, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize('content', [b'', b'hello', pickle.dumps([1, 2]), pickle.dumps(MAGIC), b'PK\x03\x04'])
def test_other_files_are_one_line(tmp_path, content):
  (tmp_path / 'a.pth').write_bytes(content)
  with pytest.raises(UserError, match='no checkpoint of tensors') as error:
    open_pickle(tmp_path / 'a.pth')
  assert '\n' not in str(error.value)


def test_a_folder_with_a_pickle_is_read_when_that_is_allowed(tmp_path, torch, monkeypatch):
  folder = copy('bert_model', tmp_path / 'bert')
  tensors, value, storages = arrays(folder), {}, {}
  for n, (name, a) in enumerate(tensors.items()):
    strides = tuple(step // 4 for step in a.strides)
    value[name], storages[str(n)] = Tensor(torch, str(n), a.size, 0, a.shape, strides), a
  (folder / 'model.safetensors').unlink()
  zipped(folder / 'pytorch_model.bin', value, storages)
  monkeypatch.undo()  # einops would take the names for torch itself
  with pytest.raises(UserError, match=r'a pickle, which can run any program .*--allow-pickle'):
    load(folder)
  given, expected = load(folder, allow_pickle=True)[1], load(FOLDER / 'bert_model')[1]
  for name, a in flatten(expected).items():
    np.testing.assert_array_equal(flatten(given)[name], a)
  shutil.copy(folder / 'pytorch_model.bin', folder / 'second.bin')
  with pytest.raises(UserError, match=r'found pytorch_model\.bin, second\.bin, expected one; name the file'):
    load(folder, allow_pickle=True)
  assert json.loads((folder / 'config.json').read_text())  # and it is still whole


def test_a_tensor_cannot_be_changed_once_it_is_made(tmp_path, torch):
  """Pickle's BUILD opcode, by which a checked view would reach beyond its storage."""
  text = pickled({'a': Tensor(torch, '0', 12, 0, (12,), (1,))})
  state = pickle.dumps({'size': (10**9,)}, 2)[2:-1]  # without PROTO and STOP
  at = text.rindex(b'R') + 1  # behind the call that makes the view
  with zipfile.ZipFile(tmp_path / 'a.pth', 'w') as archive:
    archive.writestr('archive/data.pkl', text[:at] + state + b'b' + text[at:])
    archive.writestr('archive/data/0', NUMBERS.tobytes())
  with pytest.raises(UserError, match='it changes a tensor after it was made'):
    open_pickle(tmp_path / 'a.pth')


def test_tensors_beside_a_wrapper_are_not_dropped(tmp_path, torch):
  tensor = Tensor(torch, '0', 12, 0, (12,), (1,))
  with pytest.raises(UserError, match=r"tensors beside 'model' \(extra\)"):
    open_pickle(zipped(tmp_path / 'a.pth', {'model': {'a': tensor}, 'extra': tensor}, {'0': NUMBERS}))


def test_a_negated_tensor_is_refused(tmp_path, torch):
  tensor = Tensor(torch, '0', 12, 0, (12,), (1,))
  tensor.view = (*tensor.view, False, {}, {'neg': True})
  tensor.__class__ = Marked
  with pytest.raises(UserError, match=r"marks \{'neg': True\}"):
    open_pickle(zipped(tmp_path / 'a.pth', {'a': tensor}, {'0': NUMBERS}))


class Marked(Tensor):
  def __reduce__(self):
    return self.torch._utils._rebuild_tensor_v2, (Reference(self), *self.view)
