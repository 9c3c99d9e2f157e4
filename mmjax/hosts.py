"""Several hosts as one run: how they find each other, who writes, and what becomes of them when one is lost.

Host 0 leads: it alone says and writes what a run says and writes, into the folder of the run. The others work in a
folder of their own, which goes when they do; checkpoints alone are written by all, into the folder of the run, which
all must see under the same path.
"""

import atexit
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from typing import Any

from mmjax.errors import UserError

AUTO = 'auto'
CONNECT = 60.0  # seconds that host 0 may take to answer
LOST = re.compile(r'Gloo|UNAVAILABLE|DEADLINE_EXCEEDED|[Cc]onnection (closed|reset|refused)|heartbeat|Socket closed')
_FORM = re.compile(r'(\d+)/(\d+)@([^:]+):(\d+)')

_shared: dict[pathlib.Path, pathlib.Path] = {}  # the folder of this host -> that of the run
_watch: list[subprocess.Popen] = []


def join(where: str, workdir: str, heartbeat: int) -> str:
  """Makes this process one of several, and returns the folder that it works in. Call it before JAX is used.

  where: 'I/N@ADDRESS:PORT', host I of N and where host 0 answers, or AUTO where JAX finds out by itself (TPU slices,
  SLURM, Open MPI). heartbeat: seconds of silence after which a host is taken for lost. Raises UserError for another
  `where`, and where host 0 does not answer.
  """
  import jax

  how: dict[str, Any] = {'heartbeat_timeout_seconds': heartbeat, 'initialization_timeout': int(CONNECT)}
  if where != AUTO:
    place, count, address, port = _read(where)
    if place:
      _reached(address, port)
    how |= {'coordinator_address': f'{address}:{port}', 'num_processes': count, 'process_id': place}
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  try:
    jax.distributed.initialize(**how)
  except (RuntimeError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise UserError(
      f"--hosts={where}: {reason}; expected 'I/N@ADDRESS:PORT', or {AUTO} on a TPU slice or in SLURM"
    ) from error
  _say_if_killed()
  if leads():
    return workdir
  sys.stdout = open(os.devnull, 'w')  # noqa: SIM115, until the end
  own = pathlib.Path(tempfile.mkdtemp(prefix='mmjax-host-'))
  atexit.register(shutil.rmtree, own, ignore_errors=True)
  _shared[own.resolve()] = pathlib.Path(workdir).absolute()
  return str(own)


def _read(where: str) -> tuple[int, int, str, int]:
  found = _FORM.fullmatch(where)
  if not found or int(found[1]) >= int(found[2]):
    raise UserError(f"--hosts: found {where!r}, expected 'I/N@ADDRESS:PORT' with I from 0 to N - 1, or {AUTO}")
  return int(found[1]), int(found[2]), found[3], int(found[4])


def _reached(address: str, port: int) -> None:
  """Returns when somebody answers there. Raises UserError where nobody does for CONNECT seconds."""
  until, reason = time.monotonic() + CONNECT, ''
  while time.monotonic() < until:
    try:
      socket.create_connection((address, port), timeout=5).close()
      return
    except OSError as error:
      reason = error.strerror or str(error)
      time.sleep(0.5)
  raise UserError(
    f'--hosts: host 0 did not answer at {address}:{port} for {CONNECT:.0f} s ({reason}); expected it to be started, '
    'and its port to be open'
  )


def _say_if_killed() -> None:
  """A line on stderr in the end of a process that JAX ends, as it does when host 0 is lost."""
  line = f'error: host {_place()}: ended because another host was lost; {AGAIN}'
  command = f'read done || echo {shlex.quote(line)} >&2'
  _watch.append(subprocess.Popen(['sh', '-c', command], stdin=subprocess.PIPE, start_new_session=True))
  atexit.register(_well)


AGAIN = 'started again, on any number of hosts, the same command goes on from the newest checkpoint'


def _well() -> None:
  """The end of this process is one that says itself why."""
  while _watch:
    _watch.pop().communicate(b'\n')


def _place() -> str:
  import jax

  return f'{jax.process_index()} of {jax.process_count()}'


def several() -> bool:
  import jax

  return jax.process_count() > 1


def leads() -> bool:
  """Whether this process says and writes what a run says and writes."""
  import jax

  return jax.process_index() == 0


def shared(folder: pathlib.Path) -> pathlib.Path:
  """Where a folder of this run lies for all hosts."""
  folder = folder.resolve()
  for own, run in _shared.items():
    if folder.is_relative_to(own):
      return run / folder.relative_to(own)
  return folder


def together(what: str) -> None:
  """Waits until all hosts are here."""
  if several():
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(what)


def told(number: int) -> int:
  """The number that host 0 gives."""
  if not several():
    return number
  from jax.experimental import multihost_utils

  return int(multihost_utils.broadcast_one_to_all(number))


def agree(text: str, what: str) -> None:
  """Raises UserError, on all hosts, where one does not have the text that host 0 has."""
  if not several():
    return
  from jax.experimental import multihost_utils

  marks = multihost_utils.process_allgather(zlib.crc32(text.encode())).ravel().tolist()
  apart = [n for n, mark in enumerate(marks) if mark != marks[0]]
  if apart:
    raise UserError(f'{what}: host {", ".join(map(str, apart))} found other than host 0; expected the same on all')


def asked_to_end(step: int) -> bool:
  """Whether all hosts are to end after this step, because SIGTERM came to one of them; the same on all."""
  from jax.experimental import multihost_utils

  return multihost_utils.reached_preemption_sync_point(step)


def gathered(tree: Any) -> Any:
  """Arrays that lie on several hosts, as a whole on each of them."""
  if not several():
    return tree
  from jax.experimental import multihost_utils

  return multihost_utils.process_allgather(tree, tiled=True)


def end_if_lost(error: BaseException) -> None:
  """Ends the process, with a line, where an error says that another host is gone: all that waits for it would hang."""
  if several() and LOST.search(str(error)):
    reason = ' '.join(str(error).split())[:200]
    print(f'error: host {_place()}: another host was lost ({reason}); {AGAIN}', file=sys.stderr, flush=True)
    _well()
    os._exit(1)
