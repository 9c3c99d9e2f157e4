"""torch's pickled checkpoints (.pt, .pth, .bin, .ckpt), read by an unpickler that builds tensors and nothing else.

A pickle is a program: whoever wrote the file decides what runs when it is loaded. Here only dicts, lists, numbers,
texts and tensors come into being; any other name in the file is refused. torch is not needed.
"""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mmjax.errors import UserError

SUFFIXES = ('.bin', '.pt', '.pth', '.ckpt', '.th')
STORAGES = {
  'DoubleStorage': np.float64, 'FloatStorage': np.float32, 'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16, 'LongStorage': np.int64, 'IntStorage': np.int32, 'ShortStorage': np.int16,
  'CharStorage': np.int8, 'ByteStorage': np.uint8, 'BoolStorage': np.bool_,
}  # fmt: skip
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the layout before torch 1.6
WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'module')  # under which trainers keep the tensors


class Fixed:
  """What a pickle cannot change once it is made: its BUILD opcode, which fills attributes in, is refused."""

  __slots__ = ()

  def __setstate__(self, *state: object) -> None:
    raise pickle.UnpicklingError('it changes a tensor after it was made')


class Storage(Fixed):
  """A block of numbers that tensors are views of. Its data may be filled in later (legacy layout)."""

  __slots__ = ('data', 'dtype', 'length')

  def __init__(self, dtype: type, length: int, data: np.ndarray | None = None):
    self.dtype, self.length, self.data = np.dtype(dtype), length, data


class View(Fixed):
  """A tensor: size and stride (in numbers) within a storage. marks: torch's (gradient, hooks, ... bits that negate)."""

  __slots__ = ('offset', 'size', 'storage', 'stride')

  def __init__(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *marks: object):
    if len(marks) > 2 and marks[2]:
      raise pickle.UnpicklingError(f'a tensor with the marks {marks[2]}, which are not read here')
    if not isinstance(storage, Storage) or len(size) != len(stride) or min((offset, *size, *stride)) < 0:
      raise pickle.UnpicklingError(f'a tensor of size {size}, stride {stride}, offset {offset}')
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if all(size) else offset - 1
    if last >= storage.length:
      raise pickle.UnpicklingError(f'a tensor reaches number {last} of a storage of {storage.length}')
    self.storage, self.offset, self.size, self.stride = storage, offset, tuple(size), tuple(stride)

  def array(self) -> np.ndarray:
    data = self.storage.data
    if data is None:
      raise pickle.UnpicklingError('a storage without data')
    last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
    if all(self.size) and last >= len(data):
      raise pickle.UnpicklingError(f'a tensor reaches number {last} of a storage of {len(data)}')
    steps = tuple(step * data.itemsize for step in self.stride)
    return np.lib.stride_tricks.as_strided(data[self.offset :], self.size, steps, writeable=False)


def _parameter(data: View, *unused: object) -> View:
  return data


class _Unpickler(pickle.Unpickler):
  """`storages` is asked for what a persistent id names."""

  def __init__(self, file, storages):
    super().__init__(file)
    self.storages = storages

  def find_class(self, module: str, name: str) -> Any:
    allowed = {
      ('collections', 'OrderedDict'): OrderedDict,
      ('torch._utils', '_rebuild_tensor'): View,
      ('torch._utils', '_rebuild_tensor_v2'): View,
      ('torch._utils', '_rebuild_parameter'): _parameter,
    } | {('torch', storage): dtype for storage, dtype in STORAGES.items()}
    if (module, name) not in allowed:
      raise pickle.UnpicklingError(f'it asks for {module}.{name}, which is no part of a tensor')
    return allowed[module, name]

  def persistent_load(self, pid: Any) -> Storage:
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != 'storage':
      raise pickle.UnpicklingError('an unknown reference')
    return self.storages(pid)


def open_pickle(file: Path) -> dict[str, np.ndarray]:
  """name -> array of a checkpoint. Raises UserError for what is no such file, or asks for more than tensors."""
  try:
    found = _zipped(file) if zipfile.is_zipfile(file) else _legacy(file)
    for name in WRAPPERS:
      if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
        beside = [str(key) for key, value in found.items() if isinstance(value, View)]
        if beside:
          raise pickle.UnpicklingError(f'tensors beside {name!r} ({", ".join(beside)}), expected them in it')
        found = found[name]
    if not isinstance(found, Mapping):
      raise pickle.UnpicklingError(f'a {type(found).__name__}, expected a dict of tensors')
    return {str(name): value.array() for name, value in found.items() if isinstance(value, View)}
  except UserError:
    raise
  except (pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError,
          OverflowError, struct.error, zipfile.BadZipFile, UnicodeDecodeError) as error:  # fmt: skip
    raise UserError(f'{file}: no checkpoint of tensors: {error or type(error).__name__}') from error


def _zipped(file: Path) -> Any:
  """The layout since torch 1.6: a zip of data.pkl and one file a storage, none of them compressed."""
  with zipfile.ZipFile(file) as archive:
    names = archive.namelist()
    root = next(name for name in [*names, ''] if name.endswith('data.pkl') or not name).removesuffix('data.pkl')
    order = f'{root}byteorder'
    if order in names and archive.read(order) != b'little':
      raise UserError(f'{file}: written on a big-endian machine, expected little-endian')
    whole = np.memmap(file, np.uint8, 'r')
    storages: dict[str, Storage] = {}

    def storage(pid):
      _, dtype, key, _, length = pid[:5]
      if key not in storages:
        info = archive.getinfo(f'{root}data/{key}')
        name, extra = struct.unpack('<HH', whole[info.header_offset + 26 : info.header_offset + 30].tobytes())
        start, size = info.header_offset + 30 + name + extra, length * np.dtype(dtype).itemsize
        if info.compress_type != zipfile.ZIP_STORED or size > info.file_size or start + size > len(whole):
          raise pickle.UnpicklingError(f'storage {key} of {size} bytes is found with {info.file_size}')
        storages[key] = Storage(dtype, length, whole[start : start + size].view(dtype))
      return storages[key]

    return _Unpickler(io.BytesIO(archive.read(f'{root}data.pkl')), storage).load()


def _legacy(file: Path) -> Any:
  """The layout before: four pickles, the list of storages, then each storage behind its length."""
  storages: dict[str, Storage] = {}

  def storage(pid):
    _, dtype, key, _, length = pid[:5]
    return storages.setdefault(key, Storage(dtype, length))

  with file.open('rb') as f:
    read = lambda: _Unpickler(f, storage).load()
    if read() != MAGIC or read() != PROTOCOL:
      raise pickle.UnpicklingError('it does not begin as one')
    if not read().get('little_endian', True):
      raise UserError(f'{file}: written on a big-endian machine, expected little-endian')
    found, keys = read(), read()
    whole, at = np.memmap(file, np.uint8, 'r'), f.tell()
    for key in keys:
      block = storages[key]
      length = struct.unpack('<q', whole[at : at + 8].tobytes())[0]
      end = at + 8 + length * block.dtype.itemsize
      if length != block.length or end > len(whole):
        raise pickle.UnpicklingError(f'storage {key} of {block.length} numbers is found with {length}')
      block.data, at = whole[at + 8 : end].view(block.dtype), end
  return found
