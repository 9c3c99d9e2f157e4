"""Files of tensors in the safetensors format: opened without being read, written without a second copy.

A file is 8 bytes (little-endian size of the header), the header (JSON: name -> dtype, shape, data_offsets), the data.
Nothing of a file is believed before it was checked, and each fault is one UserError that names the file.
"""

import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mmjax.errors import UserError
from mmjax.workdir import replacing

FILE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
DTYPES = {
  'F64': np.float64, 'F32': np.float32, 'F16': np.float16, 'BF16': ml_dtypes.bfloat16,
  'F8_E4M3': ml_dtypes.float8_e4m3fn, 'F8_E5M2': ml_dtypes.float8_e5m2,
  'I64': np.int64, 'I32': np.int32, 'I16': np.int16, 'I8': np.int8,
  'U64': np.uint64, 'U32': np.uint32, 'U16': np.uint16, 'U8': np.uint8, 'BOOL': np.bool_,
}  # fmt: skip
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
LONGEST = 100_000_000  # bytes of a header, as in the format's own reader


class Tensors(Mapping[str, np.ndarray]):
  """name -> array of one or several files, read-only; its bytes stay in the file until they are used."""

  def __init__(self, files: Iterable[Path]):
    self.found: dict[str, tuple[np.ndarray, int, np.dtype, tuple[int, ...]]] = {}
    for file in files:
      header, start = read_header(file)
      data = np.memmap(file, np.uint8, 'r') if header else np.zeros(0, np.uint8)
      for name, (dtype, shape, begin) in header.items():
        if name in self.found:
          raise UserError(f'{file}: {name} stands in another file too, expected each tensor once')
        self.found[name] = (data, start + begin, dtype, shape)

  def __getitem__(self, name: str) -> np.ndarray:
    data, start, dtype, shape = self.found[name]
    return data[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

  def __iter__(self) -> Iterator[str]:
    return iter(self.found)

  def __len__(self) -> int:
    return len(self.found)


def open_tensors(folder: Path, name: str = FILE) -> Tensors:
  """The tensors of a folder: of its file of that name or, without one, of the files that its index names."""
  if (folder / name).is_file():
    return Tensors([folder / name])
  index = read_json(folder / INDEX)
  where = index.get('weight_map')
  if not isinstance(where, dict) or not all(isinstance(file, str) for file in where.values()):
    raise UserError(f'{folder / INDEX}: expected an object "weight_map" of tensor name -> file name')
  files = sorted(set(where.values()))
  for file in files:
    if file != Path(file).name or not (folder / file).is_file():
      raise UserError(f'{folder / INDEX}: found file {file!r}, expected the name of a file in the same folder')
  tensors = Tensors([folder / file for file in files])
  wrong = sorted(set(where) ^ set(tensors))
  if wrong:
    raise UserError(f'{folder / INDEX}: {", ".join(wrong)} not in both the index and its files')
  return tensors


def _unique(file: Path) -> Callable[[list[tuple[str, Any]]], dict]:
  """What makes a dict of a JSON object's pairs, and refuses a key that stands twice."""

  def unique(pairs):
    found = dict(pairs)
    for key, _ in pairs if len(found) < len(pairs) else ():
      if sum(key == other for other, _ in pairs) > 1:
        raise UserError(f'{file}: key {key!r} stands twice')
    return found

  return unique


def read_json(file: Path) -> dict:
  """A JSON object. Raises UserError for what is no object and for a key that stands twice."""

  try:
    found = json.loads(file.read_text(), object_pairs_hook=_unique(file))
  except UserError:
    raise
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f'{file}: {getattr(error, "strerror", None) or error}, expected a JSON object') from error
  if not isinstance(found, dict):
    raise UserError(f'{file}: found {type(found).__name__}, expected a JSON object')
  return found


def read_header(file: Path) -> tuple[dict[str, tuple[np.dtype, tuple[int, ...], int]], int]:
  """({name: (dtype, shape, first byte)}, where the data begin). All of the data must be one tensor's, once."""
  size = file.stat().st_size
  with file.open('rb') as f:
    first = f.read(8)
    length = struct.unpack('<Q', first)[0] if len(first) == 8 else -1
    if not 2 <= length <= min(LONGEST, size - 8):
      raise UserError(f'{file}: {size} bytes and a header of {length}, expected a whole safetensors file')
    text = f.read(length)

  try:
    header = json.loads(text, object_pairs_hook=_unique(file))
    header.pop('__metadata__', None)
    found = {name: (np.dtype(DTYPES[entry['dtype']]), *_place(**entry)) for name, entry in header.items()}
  except UserError:
    raise
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
    raise UserError(f'{file}: the header is no safetensors header ({type(error).__name__}: {error})') from error
  at = 0
  for name, (dtype, shape, begin, end) in sorted(found.items(), key=lambda item: item[1][2:]):
    wanted = at + math.prod(shape) * dtype.itemsize
    if (begin, end) != (at, wanted):
      raise UserError(f'{file}: {name} {dtype}{list(shape)} at bytes {[begin, end]}, expected {[at, wanted]}')
    at = wanted
  if size != 8 + length + at:
    raise UserError(f'{file}: {size} bytes, expected {8 + length + at} by its header (truncated or overlong)')
  return {name: (dtype, shape, begin) for name, (dtype, shape, begin, _) in found.items()}, 8 + length


def _place(dtype: str, shape: list[int], data_offsets: list[int]) -> tuple[tuple[int, ...], int, int]:
  """(shape, first byte, the byte behind the last) of an entry. Raises ValueError or TypeError for what is none."""
  begin, end = data_offsets
  if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, begin, end)):
    raise ValueError(f'shape {shape} at {data_offsets}')
  return tuple(shape), begin, end


def write_tensors(file: Path, specs: Mapping[str, tuple[np.dtype, tuple[int, ...]]], parts: Iterable[np.ndarray]):
  """Writes tensors, each made when its turn has come. specs: name -> (dtype, shape), in the order of parts."""
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}  # as save_pretrained writes and older releases ask for
  at = 0
  for name, (dtype, shape) in specs.items():
    end = at + math.prod(shape) * dtype.itemsize
    header[name] = {'dtype': NAMES[dtype], 'shape': list(shape), 'data_offsets': [at, end]}
    at = end
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)
  with replacing(file) as f:
    f.write(struct.pack('<Q', len(text)) + text)
    for (name, (dtype, shape)), part in zip(specs.items(), parts, strict=True):
      if part.dtype != dtype or part.shape != shape:
        raise ValueError(f'{name}: found {part.dtype}{part.shape}, expected {dtype}{shape}')
      f.write(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
