"""CTranslate2's model.bin (its binary version 6): opened without being read, nothing believed before it was checked.

A file is: version (u32), the class's name, its revision (u32), how many tensors (u32); of each its name, rank (u8),
sizes (u32 each), kind of number (u8), bytes (u32), data; then how many aliases (u32), of each a name and the name that
it stands for. A name is its length with the NUL behind it (u16) and its bytes. Numbers are little-endian.
"""

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from mmjax.errors import UserError

FILE = 'model.bin'
VERSION = 6
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
SUFFIX = b'Spec\0'  # what every class's name ends in


def found(path: Path) -> Path | None:
  """The file that this path, or the folder's model.bin, is, where it is CTranslate2's; a pickle begins otherwise."""
  file = path / FILE if path.is_dir() else path
  if not file.is_file() or file.suffix != Path(FILE).suffix:
    return None
  with file.open('rb') as f:
    begin = f.read(70)
  if len(begin) < 6:
    return None
  version, length = struct.unpack_from('<IH', begin)
  name = begin[6 : 6 + length]
  return file if 0 < version < 256 and len(name) == length and name.endswith(SUFFIX) else None


def read(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """(name -> array, its bytes in the file until they are used; what else the file says, as entries of a config).

  Names have dots for slashes; an alias is a second name of its tensor. The entries are 'architectures', the class's
  name, and 'settings', the numbers of rank 0. Raises UserError for a file that is damaged or of another version.
  """
  reader = _Reader(file)
  version = reader.number('I')
  if version != VERSION:
    raise UserError(f'{file}: CTranslate2 format {version}, expected {VERSION}')
  kind = reader.name()
  reader.number('I')
  tensors: dict[str, np.ndarray] = {}
  settings: dict[str, Any] = {}
  for _ in range(reader.number('I')):
    name = reader.name()
    shape = tuple(reader.number('I') for _ in range(reader.number('B')))
    code, size = reader.number('B'), reader.number('I')
    if code not in DTYPES:
      reader.fail(f'{name} of kind {code}, expected one of {tuple(DTYPES)}')
    dtype = np.dtype(DTYPES[code])
    if math.prod(shape) * dtype.itemsize != size:
      reader.fail(f'{name} {dtype}{list(shape)} in {size} bytes, expected {math.prod(shape) * dtype.itemsize}')
    if name in tensors or name in settings:
      reader.fail(f'{name} twice')
    value = reader.take(size).view(dtype).reshape(shape)
    if shape:
      tensors[name] = value
    else:
      settings[name] = value.item()
  for _ in range(reader.number('I')):
    name, first = reader.name(), reader.name()
    if first not in tensors or name in tensors:
      reader.fail(f'alias {name} of {first}, expected a new name of a tensor')
    tensors[name] = tensors[first]
  if reader.at != len(reader.data):
    reader.fail(f'{len(reader.data) - reader.at:,} bytes behind its end')
  return tensors, {'architectures': [kind], 'settings': settings}


class _Reader:
  """A file, taken piece by piece, each only as long as the file is."""

  def __init__(self, file: Path):
    self.file, self.at = file, 0
    self.data = np.memmap(file, np.uint8, 'r')

  def fail(self, what: str):
    raise UserError(f'{self.file}: damaged at byte {self.at:,}: {what}')

  def take(self, size: int) -> np.ndarray:
    if size > len(self.data) - self.at:
      self.fail(f'{size:,} bytes announced, {len(self.data) - self.at:,} there')
    self.at += size
    return self.data[self.at - size : self.at]

  def number(self, kind: str) -> int:
    return struct.unpack(f'<{kind}', self.take(struct.calcsize(f'<{kind}')).tobytes())[0]

  def name(self) -> str:
    text = self.take(self.number('H')).tobytes()
    try:
      decoded = text.decode()
    except UnicodeDecodeError:
      decoded = ''
    if len(decoded) < 2 or not decoded.endswith('\0') or not decoded[:-1].isprintable():
      self.fail(f'name {text[:40]!r}, expected a text that ends with NUL')
    return decoded[:-1].replace('/', '.')
