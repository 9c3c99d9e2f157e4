"""Checkpoints of a run: written by Orbax in the background, read back only if every byte is what was written.

Below WORKDIR/checkpoints, STEP/ is one checkpoint (Orbax's files and our manifest.json), bad/STEP one moved aside.
Orbax restores a flipped byte without a word; the manifest, with size and sha256 of every file of the step, does not.
Of several hosts all write what they hold and all read; host 0 alone looks after the rest.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import logging
import math
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mmjax import hosts
from mmjax.errors import UserError
from mmjax.workdir import write_atomic

MANIFEST = 'manifest.json'
SMALL = 1 << 20  # bytes; files up to here are hashed when the folder is opened, larger ones when they are restored

# Orbax logs the traceback of an error in its background threads and then raises it: raised once is enough. And it warns
# of every save that waits for the one before, which is what `save` promises.
logging.getLogger('absl').addFilter(
  lambda record: (
    'orbax' not in record.pathname
    or (record.levelno < logging.ERROR and not str(record.msg).startswith('Waiting for previous save'))
  )
)


class Checkpoints:
  """The checkpoints of a run: the latest two and the best one. Use as a context manager, or call close().

  workdir: Path, a folder that this process has locked (`open_workdir`); metric: the name, in the metrics given to
  save(), of the number that ranks checkpoints, higher is better. One without it, or with nan, ranks below all others.
  Opening moves aside what a killed run left unfinished and what is plainly damaged, one line on stderr each.
  """

  def __init__(self, workdir: str | os.PathLike, metric: str = 'accuracy'):
    self.folder = hosts.shared(pathlib.Path(workdir)) / 'checkpoints'
    self.passed_over: list[int] = []  # steps whose checkpoints were bad
    self._metric = metric
    if hosts.leads():
      for uncommitted in self.folder.glob(f'*{ocp.utils.TMP_DIR_SUFFIX}*'):
        shutil.rmtree(uncommitted)
      for step in _steps(self.folder):
        self._discard_if(step, fault(self.folder / str(step), SMALL))
    hosts.together('checkpoints are in order')
    policies = ocp.checkpoint_managers
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        best_fn=_score,  # makes Orbax store the score; what is kept is the policy's business
        preservation_policy=policies.AnyPreservationPolicy(
          [policies.LatestN(2), policies.BestN(get_metric_fn=_score, n=1)]
        ),
      ),
    )
    self._background = concurrent.futures.ThreadPoolExecutor(1, 'checkpoint_manifest')
    self._sealing: concurrent.futures.Future | None = None  # of the manifest that is being written

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *unused: object) -> None:
    self.close()

  def save(
    self,
    step: int,
    state: Any,
    extra: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
  ) -> bool:
    """Starts to save; returns as soon as the state is copied to the host, so it may be donated right after.

    step: int, the newest so far; state: pytree of arrays; extra: dict for JSON, such as {'example': the data's index};
    metrics: {name: number}. A save that is still under way is waited for. Returns False, and does nothing, if the
    newest checkpoint is of this very step. Raises OSError for this save or an earlier one that found no room on the
    disk, and UserError if a newer checkpoint exists.
    """
    self.wait()
    newest = self._manager.latest_step()
    if newest == step:
      return False
    if newest is not None and newest > step:
      raise UserError(f'cannot save step {step} below the newer checkpoint {newest} in {self.folder}')
    score = float((metrics or {}).get(self._metric, math.nan))
    items = ocp.args.Composite(
      state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave({'extra': extra or {}, 'layout': layout(state)})
    )
    with _disk_errors(self.folder):
      self._manager.save(step, args=items, metrics={'score': score} if math.isfinite(score) else {}, force=True)
    self._sealing = self._background.submit(self._seal, step)
    return True

  def restore(self, template: Any, *, best: bool = False) -> tuple[Any, dict[str, Any], int] | None:
    """The newest good checkpoint, or with best=True the one of the highest metric: (state, extra, step), or None.

    template: pytree of arrays or jax.ShapeDtypeStruct; the result has its structure, dtypes, shapes and shardings (the
    first device where it names none), whatever devices the checkpoint was written from. Every file is checked first; a
    bad checkpoint is said in a line on stderr, moved aside, and the next one tried. After best=True, do not save.
    Raises UserError if the checkpoint does not hold what the template asks for.
    """
    self.wait()
    steps = sorted(self._manager.all_steps(), reverse=True)
    if best:
      steps.sort(key=lambda step: _score(self._manager.metrics(step)), reverse=True)
    step = -1
    if hosts.leads():  # and says which it is
      step = next((step for step in steps if not self._discard_if(step, fault(self.folder / str(step)))), -1)
    step = hosts.told(step)
    self._manager.reload()
    if step >= 0:
      saved = self._manager.restore(step, args=ocp.args.Composite(extra=ocp.args.JsonRestore())).extra
      check_layout(saved['layout'], layout(template), self.folder / str(step))
      target = ocp.args.StandardRestore(jax.tree.map(_abstract, template))
      state = self._manager.restore(step, args=ocp.args.Composite(state=target)).state
      return state, saved['extra'], step
    return None

  def wait(self) -> None:
    """Blocks until the last save is on the disk with its manifest. Raises OSError if it found no room there."""
    sealing, self._sealing = self._sealing, None
    if sealing:
      with _disk_errors(self.folder):
        self._manager.wait_until_finished()
        sealing.result()

  def close(self) -> None:
    """Waits for the last save and ends the threads. Raises what wait() raises."""
    try:
      self.wait()
    finally:
      self._background.shutdown()
      self._manager.close()

  def _seal(self, step: int) -> None:
    self._manager.wait_until_finished()  # the files are final only after Orbax's commit
    if not hosts.leads():
      return
    folder = self.folder / str(step)
    files = {name: [os.path.getsize(folder / name), _digest(folder / name)] for name in _files(folder)}
    body = json.dumps({'step': step, 'files': files}, indent=1)
    write_atomic(folder / MANIFEST, f'{hashlib.sha256(body.encode()).hexdigest()}\n{body}')

  def _discard_if(self, step: int, why: str) -> bool:
    if not why:
      return False
    aside = self.folder / 'bad' / str(step)
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(exist_ok=True)
    os.replace(self.folder / str(step), aside)
    self.passed_over.append(step)
    print(f'warning: checkpoint {step} is passed over: {why}; moved to {aside}', file=sys.stderr, flush=True)
    return True


def fault(folder: pathlib.Path, limit: int | None = None) -> str:
  """What is wrong with the files of a checkpoint, as a phrase that names the file, or '' if nothing is.

  folder: Path of one step; limit: only files of at most so many bytes are hashed, None for all. All sizes are compared.
  """
  manifest = folder / MANIFEST
  if not manifest.is_file():
    return f'unfinished, it has no {MANIFEST}'
  digest, _, body = manifest.read_bytes().partition(b'\n')
  if hashlib.sha256(body).hexdigest().encode() != digest:
    return f'{MANIFEST} does not match its own checksum'
  content = json.loads(body)
  if str(content['step']) != folder.name:
    return f'{MANIFEST} is that of step {content["step"]}'
  found, wanted = _files(folder), content['files']
  for name in sorted(found ^ wanted.keys()):
    return f'{name} is missing' if name in wanted else f'{name} does not belong there'
  for name, (size, sha) in wanted.items():
    if os.path.getsize(folder / name) != size:
      return f'{name} has {os.path.getsize(folder / name)} bytes, not {size}'
    if (limit is None or size <= limit) and _digest(folder / name) != sha:
      return f'{name} does not match its checksum'
  return ''


def layout(tree: Any) -> dict[str, str]:
  """{'params/dense/kernel': 'float32[3,4]'} of a pytree of arrays. Raises ValueError for a leaf that is no array."""
  named = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if not hasattr(leaf, 'dtype'):
      raise ValueError(f'the state must hold arrays only; {name} is {leaf!r}')
    named[name] = f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'
  return named


def check_layout(saved: dict[str, str], wanted: dict[str, str], folder: pathlib.Path) -> None:
  """Raises UserError in one line if two layouts differ; Orbax would cast another dtype without a word."""
  differ = [name for name in sorted(saved | wanted) if saved.get(name) != wanted.get(name)]
  if differ:
    name = differ[0]
    more = f' (and {len(differ) - 1} more)' if len(differ) > 1 else ''
    raise UserError(
      f'checkpoint {folder} does not fit this model: {name} is {saved.get(name, "absent")} there, '
      f'{wanted.get(name, "absent")} here{more}'
    )


def sha256(tree: Any) -> str:
  """Hex digest of a pytree of arrays: sorted key paths, dtypes, shapes and bytes. Equal digests mean equal bits."""
  digest = hashlib.sha256()
  named = [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
  for name, leaf in sorted(named, key=lambda pair: pair[0]):
    array = np.asarray(leaf)
    digest.update(f'{name} {array.dtype} {array.shape}\n'.encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


@contextlib.contextmanager
def _disk_errors(folder: pathlib.Path) -> Iterator[None]:
  """Errors of Orbax's storage layer, ValueErrors with an errno in their text, become OSErrors that name the folder."""
  try:
    yield
  except (OSError, ValueError) as error:
    code = re.search(r"os_error_code='(\d+)'", str(error))
    number = int(code[1]) if code else getattr(error, 'errno', None)
    if number is None:
      raise
    raise OSError(number, os.strerror(number), getattr(error, 'filename', None) or str(folder)) from error


def _score(metrics: Mapping[str, float] | None) -> float:
  return (metrics or {}).get('score', -math.inf)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  sharding = getattr(leaf, 'sharding', None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _steps(folder: pathlib.Path) -> list[int]:
  return sorted((int(path.name) for path in folder.glob('*') if path.name.isdigit()), reverse=True)


def _files(folder: pathlib.Path) -> set[str]:
  """Names of all files below a folder but the manifest, relative to it, as a set."""
  paths = (path.relative_to(folder).as_posix() for path in folder.rglob('*') if not path.is_dir())
  return {name for name in paths if name != MANIFEST}


def _digest(path: pathlib.Path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
