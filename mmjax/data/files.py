"""Many files read in order, of which some may be broken."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from mmjax.errors import UserError, nearest

BROKEN = ('refuse', 'skip')
LONG = 3.0  # seconds after which progress is shown

Value = TypeVar('Value')


def readable(
  paths: Sequence[Path], read: Callable[[Path], Value], broken: str = 'refuse', what: str = 'file'
) -> tuple[list[Value], list[Path]]:
  """([read(path) of each], [path of each]), in order; what takes long shows its progress on stderr.

  read: raises UserError or OSError for a file that it cannot read. broken: 'refuse' ends with a UserError that names
  it; 'skip' names it on stderr, leaves it out, and says at the end how many were. what: one of them is called.
  Raises UserError where no file is left, and for another `broken`.
  """
  if broken not in BROKEN:
    raise UserError(f'broken: found {broken!r}, expected one of {BROKEN}{nearest(broken, BROKEN)}')
  values, kept = [], []
  with tqdm(paths, what, unit=what, leave=False, delay=LONG, file=sys.stderr) as shown:
    for path in shown:
      try:
        value = read(path)
      except (UserError, OSError) as error:
        reason = str(getattr(error, 'strerror', None) or error)
        line = reason if str(path) in reason else f'{what} {path}: {reason}'
        if broken == 'refuse':
          raise UserError(line) from error
        tqdm.write(f'left out: {line}', file=sys.stderr)
      else:
        values.append(value)
        kept.append(path)
  if not kept:
    raise UserError(f'{what}: of {len(paths):,} none can be read, expected at least one')
  if len(kept) < len(paths):
    print(f'{what}: {len(paths) - len(kept):,} of {len(paths):,} cannot be read and are left out', file=sys.stderr)
  return values, kept


def is_number(word: str) -> bool:
  """Whether a word of a text file is a number, be it NaN."""
  try:
    float(word)
  except ValueError:
    return False
  return True
