"""CMU-MOSI and CMU-MOSEI (Zadeh et al. 2016, arXiv:1606.06259; 2018, ACL P18-1208), as features made by others.

  python -m mmjax.data.mosi FILE...     says what each file holds

A file has, for each of 'train', 'valid' and 'test', four arrays, named as the well-known processed files name them:

  'train/text'     [M,L,F]   word vectors
  'train/audio'    [M,T,F]   features of sound; -inf, which COVAREP writes for the logarithm of nothing, becomes 0
  'train/vision'   [M,N,F]   features of video frames
  'train/labels'   [M], [M,1] or [M,1,1]   what people felt, -3..3

All of numbers; L, T, N and F are the same in all splits and need not be equal: unaligned files have 50, 375 and 500
steps. Read are .safetensors and .npz, whose names have the slash, and .hdf5 or .h5, with a group for each split (for
which h5py is needed). Anything else in a file is left alone.

The processed files come as pickles, which are programs that run when they are opened: none is opened here. Who trusts
one turns it into the above with CONVERT.
"""

import argparse
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from safetensors import SafetensorError, safe_open

from mmjax import cli
from mmjax.errors import UserError, nearest
from mmjax.workdir import expanded

SPLITS = ('train', 'valid', 'test')
PARTS = ('text', 'audio', 'vision', 'labels')
LETTERS = {'t': 'text', 'a': 'audio', 'f': 'vision'}
SCALE = 3.0  # labels are -SCALE..SCALE
PICKLES = ('.pkl', '.pickle', '.p', '.pt', '.pth')
CONVERT = (
  'python -c "import pickle, numpy; d = pickle.load(open(\'x.pkl\', \'rb\')); numpy.savez(\'x.npz\', **{s + \'/\' + k: '
  'numpy.asarray(d[s][k]) for s in (\'train\', \'valid\', \'test\') for k in (\'text\', \'audio\', \'vision\', '
  '\'labels\')})"'
)  # fmt: skip
Arrays = dict[str, np.ndarray]
DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, SafetensorError, np.exceptions.AxisError, BadZipFile,
           zlib.error)  # fmt: skip


def read(file: str | Path) -> dict[str, Arrays]:
  """split -> {'text', 'audio', 'vision': float32 [M,steps,F], 'labels' float32 [M]}, of SPLITS.

  Raises UserError that names the file: one that cannot be read, a pickle, an array that is missing, or of another shape
  or kind, or that has numbers that are none (nan, inf, and -inf but in audio).
  """
  path = Path(expanded('data.file', file))
  if path.suffix in PICKLES:
    raise UserError(f'{path}: a pickle is a program and is not opened here; if you trust it, convert it: {CONVERT}')
  if path.suffix not in READERS:
    known = ', '.join(READERS)
    raise UserError(f'{path}: found {path.suffix!r}, expected one of {known}{nearest(path.suffix, READERS)}')
  try:
    found = READERS[path.suffix](path)
  except DAMAGED as error:
    reason = str(getattr(error, 'strerror', None) or error or type(error).__name__).splitlines()[0]
    if 'allow_pickle' in reason:  # numpy's advice, which is not ours
      reason = 'holds Python objects, which are not opened here'
    raise UserError(f'{path}: cannot be read: {reason}; expected arrays as in {__name__}') from error
  splits = {split: {part: _part(path, found, split, part) for part in PARTS} for split in SPLITS}
  for split, arrays in splits.items():
    _alike(path, split, arrays, splits[SPLITS[0]])
  return splits


def _npz(path: Path) -> Arrays:
  with np.load(path, allow_pickle=False) as file:
    return {name: file[name] for name in file.files if name in NAMES}


def _safetensors(path: Path) -> Arrays:
  with safe_open(path, 'numpy') as file:
    return {name: file.get_tensor(name) for name in file.keys() if name in NAMES}  # noqa: SIM118, it is no dict


def _hdf5(path: Path) -> Arrays:
  try:
    import h5py
  except ImportError as error:
    raise UserError(f'{path}: {error}; expected h5py, which reads HDF5: `pip install h5py`') from error
  with h5py.File(path, 'r') as file:
    return {name: np.asarray(file[name]) for name in NAMES if isinstance(file.get(name), h5py.Dataset)}


NAMES = tuple(f'{split}/{part}' for split in SPLITS for part in PARTS)
READERS: dict[str, Callable[[Path], Arrays]] = {
  '.safetensors': _safetensors, '.npz': _npz, '.hdf5': _hdf5, '.h5': _hdf5,
}  # fmt: skip


def _part(path: Path, found: Mapping[str, np.ndarray], split: str, part: str) -> np.ndarray:
  """One array, as `read` gives it."""
  name = f'{split}/{part}'
  if name not in found:
    raise UserError(f'{path}: lacks {name!r}; expected {", ".join(PARTS)} of each of {", ".join(SPLITS)}')
  array = found[name]
  if array.dtype.kind not in 'fiu':
    raise UserError(f'{path}: {name} is of dtype {array.dtype}, expected numbers')
  array = array.astype(np.float32, copy=False)
  if part == 'labels':
    if array.size != len(np.atleast_1d(array)) or not array.size:
      raise UserError(f'{path}: {name} is {list(array.shape)}, expected one number a sample: [M], [M,1] or [M,1,1]')
    array = array.reshape(-1)
    if not (np.abs(array) <= SCALE).all():  # nan is not either
      raise UserError(f'{path}: {name} has {array[~(np.abs(array) <= SCALE)][0]}, expected -3..3')
    return array
  if array.ndim != 3 or not array.size:
    raise UserError(f'{path}: {name} is {list(array.shape)}, expected [M,steps,features]')
  if part == 'audio':
    array = np.where(array == -np.inf, np.float32(0), array)  # as MulT's src/dataset.py does
  if not np.isfinite(array).all():
    sample = int(np.argmin(np.isfinite(array).all((1, 2))))
    raise UserError(f'{path}: {name} has nan or inf in sample {sample}, expected numbers')
  return array


def _alike(path: Path, split: str, arrays: Arrays, first: Arrays) -> None:
  """Raises UserError where a split's arrays do not belong together, or differ from those of the first split."""
  for part in LETTERS.values():
    if len(arrays[part]) != len(arrays['labels']):
      raise UserError(f'{path}: {split}/{part} has {len(arrays[part])} samples, {split}/labels {len(arrays["labels"])}')
    if arrays[part].shape[1:] != first[part].shape[1:]:
      now, then = list(arrays[part].shape[1:]), list(first[part].shape[1:])
      raise UserError(f'{path}: {split}/{part} has steps and features {now}, expected {then} as in {SPLITS[0]}')


def features(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Arrays of one split as a model of three streams reads them: ({'t', 'a', 'f': [M,steps,F]}, their masks).

  Masks bool [M,steps]: a step of zeros alone is padding, wherever it stands.
  """
  found = {s: arrays[part] for s, part in LETTERS.items()}
  return found, {s: (x != 0).any(-1) for s, x in found.items()}


def told(file: str | Path) -> list[str]:
  """What a file holds, a line for each split."""
  lines = []
  for split, arrays in read(file).items():
    sizes = ', '.join(f'{part} {arrays[part].shape[1]} x {arrays[part].shape[2]}' for part in LETTERS.values())
    labels = arrays['labels']
    lines.append(
      f'{split}: {len(labels):,} samples; steps x features: {sizes}; labels {labels.min():.2f} to {labels.max():.2f}, '
      f'{100 * (labels == 0).mean():.1f} % of them 0'
    )
  return lines


def main() -> None:
  parser = cli.Parser(
    prog='python -m mmjax.data.mosi', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('file', nargs='+')
  for file in parser.parse_args().file:
    lines = told(file)
    print('\n'.join([f'{file}:', *(f'  {line}' for line in lines)]))


if __name__ == '__main__':
  sys.exit(cli.exit_code(main))
