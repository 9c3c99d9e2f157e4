"""The folder of a run: its lock, its config.json, and files that are never half written."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from mmjax.errors import UserError

FREE = ('log.', 'parallel.')  # keys that may change between the parts of one run: they do not change its result


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of an OSError: nothing can be written at all


class Damaged(UserError):
  """The config.json of a workdir cannot be read."""


class InUse(UserError):
  """A folder that another process, which lives, works in."""


_locks: dict[pathlib.Path, int] = {}  # file descriptors, open for as long as this process lives


def expanded(what: str, path: str | os.PathLike) -> str:
  """path with a leading ~ or ~user as that folder. Raises UserError, about `what`, where there is no such user."""
  found = os.path.expanduser(path)
  if found.startswith('~'):
    user = found.split('/')[0]
    raise UserError(f'{what} {found}: found no home folder for {user!r}; expected a user of this machine, or ./{found}')
  return found


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
  """An OSError from within names this path; write() and flush() raise it without any."""
  try:
    yield
  except OSError as error:
    raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """A file to write, so that a reader, or a crash, meets the old content of path or the new one and never a part.

  path: str or Path in a folder that exists. Raises OSError that names it; the temporary file beside it is removed then.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.{threading.get_ident()}.tmp')
  with naming(path):
    try:
      with open(temporary, 'wb') as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, path)
    except BaseException:
      temporary.unlink(missing_ok=True)
      raise


def write_atomic(path: str | os.PathLike, content: str | bytes) -> None:
  """Writes a file by way of `replacing`. content: str (written as UTF-8) or bytes."""
  with replacing(path) as file:
    file.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def making(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """A folder to fill, which takes its name when all is written and is removed when something fails.

  Raises UserError where there is a file of that name, or a folder that is not empty.
  """
  path = pathlib.Path(expanded('folder', path)).absolute()
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise UserError(f'{path}: is there already, expected a new or an empty folder')
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    temporary.mkdir()
    yield temporary
    os.replace(temporary, path)
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def check_workdir(
  path: str | os.PathLike, config: Mapping[str, Any], *, fresh: bool = True, own: str = ''
) -> pathlib.Path:
  """Raises, as `open_workdir` would, what is to be said of a folder before slow work begins. Makes and locks nothing.

  Same arguments; own: what in it shows that it is of this kind, though its config.json be gone. Returns the absolute
  pathlib.Path.
  """
  if not str(path).strip():
    raise UserError('the workdir is empty; give a folder')
  path = pathlib.Path(expanded('workdir', path)).absolute()
  if not fresh and not any(path.glob('checkpoints/[0-9]*')):
    raise UserError(f'workdir {path} holds no checkpoint; expected the folder of a run that was trained')
  with _about(path):
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
      raise UserError(f'workdir {path}: {there} is a file, not a folder')
    if not os.access(there, os.W_OK | os.X_OK):
      raise UserError(f'workdir {path}: {there} cannot be written to; expected a folder that can')
    if (path / 'config.json').exists():
      _changed(path / 'config.json', config)
    elif own and (path / own).exists():
      pass
    elif there == path and _others(path) and not (path / 'config.json').exists():  # asked again: it may just have come
      raise UserError(f'workdir {path} is a folder of something else; expected a new or an empty one, or that of a run')
  return path


def _others(path: pathlib.Path) -> bool:
  """Whether a folder holds what no run leaves before its config.json: anything but the lock and temporary files."""
  return any(not file.name.startswith('.') for file in path.iterdir())


def open_workdir(path: str | os.PathLike, config: Mapping[str, Any], *, fresh: bool = True) -> pathlib.Path:
  """Makes or reopens the folder of a run, and keeps every other process out of it while this one lives.

  path: str or Path, missing parents are made; config: nested dict of numbers, strings, sequences, kept as config.json.
  A folder that holds another config is refused, except for keys under `log.` and `parallel.`, which are updated.
  fresh: whether it may be a new folder; False asks for one that holds checkpoints.
  The lock goes with the process, also after kill -9. Returns the absolute pathlib.Path.
  Raises UserError: no folder can be made or written there, none is there, another run uses it, or its config differs.
  """
  path = check_workdir(path, config, fresh=fresh)
  with _about(path):
    path.mkdir(parents=True, exist_ok=True)
    path = path.resolve()
    _lock(path)
    try:
      if _changed(path / 'config.json', config):  # asked again: until the lock, another run could begin here
        write_atomic(path / 'config.json', _text(config))
    except BaseException:
      close_workdir(path)
      raise
  return path


@contextlib.contextmanager
def _about(path: pathlib.Path) -> Iterator[None]:
  """An OSError from within is a UserError about this workdir."""
  try:
    yield
  except FileExistsError as error:
    raise UserError(f'workdir {path} is a file, not a folder') from error
  except OSError as error:
    if error.errno in NO_ROOM:
      raise
    raise UserError(f'workdir {path}: {error.strerror or error}') from error


def flatten(config: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """{'optim': {'lr': 1}} -> {'optim.lr': 1}. An empty dict stays a value, so that it is not lost."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    nested = isinstance(value, dict) and value
    flat.update(flatten(value, f'{prefix}{key}.') if nested else {f'{prefix}{key}': value})
  return flat


def _lock(path: pathlib.Path) -> None:
  if path in _locks:
    return
  handle = os.open(path / '.lock', os.O_RDWR | os.O_CREAT, 0o666)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    holder = os.pread(handle, 200, 0).decode(errors='replace').strip() or 'unknown'
    os.close(handle)
    if error.errno in (errno.EAGAIN, errno.EACCES):
      raise InUse(
        f'workdir {path} is in use by another run ({holder}); wait for it, or take another workdir'
      ) from error
    raise
  os.ftruncate(handle, 0)
  os.pwrite(handle, f'process {os.getpid()} on {socket.gethostname()}\n'.encode(), 0)
  _locks[path] = handle


def close_workdir(path: pathlib.Path) -> None:
  """Lets other processes into a folder that `open_workdir` gave."""
  os.close(_locks.pop(path))


def _forget_locks() -> None:
  """In a forked child: a data worker that outlives its killed parent must not hold the parent's lock."""
  for handle in _locks.values():
    os.close(handle)
  _locks.clear()


os.register_at_fork(after_in_child=_forget_locks)


def _text(config: Mapping[str, Any]) -> str:
  return json.dumps(config, indent=2, sort_keys=True) + '\n'


def _changed(path: pathlib.Path, config: Mapping[str, Any]) -> bool:
  """Whether config.json, at path, is to be written. Raises UserError where it is that of another run."""
  if not path.exists():
    return True
  try:
    old = json.loads(path.read_text())
  except ValueError as error:
    raise Damaged(f'{path} is damaged, not readable as JSON ({error}); take another workdir') from error
  if not isinstance(old, dict):
    raise Damaged(f'{path} is damaged: found {type(old).__name__}, expected a config; take another workdir')
  before, now = flatten(old), flatten(json.loads(_text(config)))  # through JSON on both sides: a tuple is a list there
  fixed = differing(before, now)
  if fixed:
    changes = ', '.join(f'{key} was {_shown(before, key)}, now {_shown(now, key)}' for key in fixed)
    raise UserError(
      f'workdir {path.parent} belongs to another config: {changes}; go back to the old values, or take another workdir'
    )
  return any(_shown(before, key) != _shown(now, key) for key in {*before, *now})


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
  """The keys of two flat configs, as JSON has them, that differ although the result of a run depends on them."""
  return [k for k in sorted({*before, *now}) if not k.startswith(FREE) and _shown(before, k) != _shown(now, k)]


def _shown(flat: Mapping[str, Any], key: str) -> str:
  return json.dumps(flat[key]) if key in flat else 'absent'
