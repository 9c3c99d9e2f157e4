"""Checkpoints: what is read back is what was written, bit for bit, or it is passed over and said."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax import checkpoint
from mmjax.checkpoint import Checkpoints, sha256
from mmjax.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent


@flax.struct.dataclass
class State:
  step: Any
  params: Any
  opt_state: Any
  extra: Any


def make_state(seed=0, width=3):
  """A state with what optimisers and models put there: named tuples, empty parts, several dtypes, a nan."""
  keys = iter(jax.random.split(jax.random.key(seed), 4))
  params = {
    'dense': {
      'kernel': jax.random.normal(next(keys), (4, width)),
      'bias': jax.random.normal(next(keys), (width,), jnp.bfloat16),
    },
    'mask': jnp.array([True, False]),
    'odd': jnp.array([jnp.nan, -0.0, jnp.inf]),
  }
  tx = optax.chain(
    optax.clip_by_global_norm(1.0), optax.masked(optax.adam(1e-3), {'dense': True, 'mask': False, 'odd': False})
  )
  return State(jnp.int32(seed), params, tx.init(params), {'batch_stats': {}})


def saved(folder, *steps):
  """A folder with a checkpoint of make_state(step) for each step."""
  with Checkpoints(folder) as checkpoints:
    for step in steps:
      checkpoints.save(step, make_state(step), {'example': 10 * step})
  return folder


def restored(folder, template=None, **options):
  with Checkpoints(folder) as checkpoints:
    return checkpoints.restore(template or make_state(), **options)


def kept(folder):
  return sorted(int(name) for name in os.listdir(folder / 'checkpoints') if name.isdigit())


@pytest.fixture(scope='module')
def two(tmp_path_factory):
  return saved(tmp_path_factory.mktemp('two'), 1, 2)


@pytest.fixture
def copy(two, tmp_path):
  return shutil.copytree(two, tmp_path / 'copy')


def test_nothing_to_restore(tmp_path):
  assert restored(tmp_path) is None


def test_restores_bits_structure_extra_and_step(two, capfd):
  template = make_state(7)
  state, extra, step = restored(two, template)
  assert (extra, step) == ({'example': 20}, 2)
  assert jax.tree.structure(state) == jax.tree.structure(template)
  assert sha256(state) == sha256(make_state(2)) != sha256(template)
  assert jax.tree.map(lambda x: (x.dtype, x.sharding), state) == jax.tree.map(lambda x: (x.dtype, x.sharding), template)
  assert capfd.readouterr().err == ''


def test_restores_into_shapes_alone(two):
  state, _, _ = restored(two, jax.eval_shape(make_state))
  assert sha256(state) == sha256(make_state(2))


def test_restored_state_can_be_donated(two):
  state, _, _ = restored(two)
  want = jax.tree.map(lambda x: x + x, make_state(2))
  got = jax.jit(lambda tree: jax.tree.map(lambda x: x + x, tree), donate_argnums=0)(state)
  assert sha256(got) == sha256(want)


def test_keeps_the_latest_two_and_the_best(tmp_path):
  scores = {1: 0.3, 2: 0.9, 3: 0.5, 4: None, 5: float('nan'), 6: 0.9, 7: 0.1, 8: 0.2}
  wanted = {1: [1], 2: [1, 2], 3: [2, 3], 4: [2, 3, 4], 5: [2, 4, 5], 6: [5, 6], 7: [6, 7], 8: [6, 7, 8]}
  state = make_state()
  for part in ((1, 2, 3), (4, 5, 6, 7), (8,)):  # the score survives a restart
    with Checkpoints(tmp_path, metric='recall') as checkpoints:
      for step in part:
        score = {} if scores[step] is None else {'recall': np.float32(scores[step]), 'loss': 1.0}
        assert checkpoints.save(step, state, {'example': step}, score)
        checkpoints.wait()
        assert kept(tmp_path) == wanted[step]
  with Checkpoints(tmp_path, metric='recall') as checkpoints:
    assert checkpoints.restore(state)[1:] == ({'example': 8}, 8)
    assert checkpoints.restore(state, best=True)[1:] == ({'example': 6}, 6)


def test_without_any_metric_the_latest_two_are_kept(tmp_path):
  saved(tmp_path, 1, 2, 3, 4)
  assert kept(tmp_path) == [3, 4]


def test_saving_a_step_again_or_an_older_one(copy):
  with Checkpoints(copy) as checkpoints:
    assert checkpoints.save(2, make_state(2)) is False
    with pytest.raises(UserError, match='newer checkpoint 2'):
      checkpoints.save(1, make_state(1))
  assert restored(copy)[1:] == ({'example': 20}, 2)


def all_files(folder):
  return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())


def passed_over(folder, capfd, name):
  """Checks that step 2 is passed over in one line naming step and file, and that step 2 can be saved again."""
  capfd.readouterr()
  with Checkpoints(folder) as checkpoints:
    state, extra, step = checkpoints.restore(make_state())
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith('warning: checkpoint 2 is passed over: ') and name in lines[0], lines
    assert (extra, step) == ({'example': 10}, 1) and sha256(state) == sha256(make_state(1))
    assert (folder / 'checkpoints' / 'bad' / '2').is_dir()
    assert checkpoints.save(2, make_state(2), {'example': 20})
  assert restored(folder)[1:] == ({'example': 20}, 2)
  assert capfd.readouterr().err == ''


@pytest.mark.parametrize('small', [checkpoint.SMALL, -1], ids=['found when opened', 'found when restored'])
def test_a_flipped_byte_anywhere_is_noticed(two, tmp_path, capfd, monkeypatch, small):
  names = all_files(two / 'checkpoints' / '2')
  assert 'manifest.json' in names and '_CHECKPOINT_METADATA' in names and len(names) > 10
  monkeypatch.setattr(checkpoint, 'SMALL', small)
  for name in names:
    if small < 0 and name == 'metrics/metrics':
      continue  # Orbax reads the metric of every step when it opens; it is always small
    folder = shutil.copytree(two, tmp_path / 'copy')
    path = folder / 'checkpoints' / '2' / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    passed_over(folder, capfd, name)
    shutil.rmtree(folder)


def test_every_byte_of_the_manifest_counts(copy):
  path = copy / 'checkpoints' / '2' / 'manifest.json'
  data = path.read_bytes()
  assert checkpoint.fault(path.parent) == ''
  for at in range(0, len(data), 7):
    path.write_bytes(data[:at] + bytes([data[at] ^ 32]) + data[at + 1 :])
    assert 'manifest.json' in checkpoint.fault(path.parent)


def data_file(folder):
  return max((folder / 'checkpoints' / '2' / 'state').rglob('*/d/*'), key=os.path.getsize)


@pytest.mark.parametrize(
  'damage',
  [
    lambda path: path.write_bytes(path.read_bytes()[:-1]),
    lambda path: path.write_bytes(b''),
    lambda path: path.unlink(),
    lambda path: path.write_bytes(path.read_bytes() + b'x'),
  ],
  ids=['cut', 'emptied', 'missing', 'longer'],
)
def test_a_damaged_file(copy, capfd, damage):
  path = data_file(copy)
  damage(path)
  passed_over(copy, capfd, path.name)


def test_extra_garbage(copy, capfd):
  (copy / 'checkpoints' / '2' / 'state' / 'garbage').write_text('x')
  passed_over(copy, capfd, 'state/garbage does not belong there')


def test_a_file_of_the_folder_is_gone(copy, capfd):
  shutil.rmtree(copy / 'checkpoints' / '2' / 'state')
  passed_over(copy, capfd, 'state/')


def test_without_manifest_it_counts_as_unfinished(copy, capfd):
  (copy / 'checkpoints' / '2' / 'manifest.json').unlink()
  passed_over(copy, capfd, 'unfinished, it has no manifest.json')


def test_a_copy_under_another_number(copy, capfd):
  shutil.rmtree(copy / 'checkpoints' / '2')
  shutil.copytree(copy / 'checkpoints' / '1', copy / 'checkpoints' / '2')
  passed_over(copy, capfd, 'manifest.json is that of step 1')


def test_all_bad_is_none(copy, capfd):
  for step in ('1', '2'):
    (copy / 'checkpoints' / step / 'manifest.json').write_bytes(b'\xff\x00')
  assert restored(copy) is None
  assert len(capfd.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(
  'change, words',
  [
    (lambda state: state.replace(step=jnp.float32(0)), 'step is int32[] there, float32[] here'),
    (
      lambda state: state.replace(params=state.params | {'mask': jnp.zeros(3, bool)}),
      'params/mask is bool[2] there, bool[3] here',
    ),
    (
      lambda state: state.replace(params=state.params | {'new': jnp.zeros(3)}),
      'params/new is absent there, float32[3] here',
    ),
    (lambda state: state.replace(params={}), 'params/dense/bias is bfloat16[3] there, absent here (and 3 more)'),
    (lambda state: make_state(width=5), '(and 5 more)'),
  ],
  ids=['dtype', 'shape', 'new', 'absent', 'many'],
)
def test_another_template_is_a_user_error(copy, change, words):
  with pytest.raises(UserError) as caught:
    restored(copy, change(make_state()))
  assert words in str(caught.value) and '\n' not in str(caught.value)
  assert kept(copy) == [1, 2]  # nothing is wrong with the checkpoints


def test_leaves_that_are_no_arrays_are_refused(tmp_path):
  with Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match='step is 3'):
    checkpoints.save(1, make_state().replace(step=3))


def test_state_may_be_donated_right_after_save(tmp_path):
  """The buffers are overwritten by the next step while the save is still under way."""
  step = jax.jit(lambda state: jax.tree.map(lambda x: x * 1.5 + 1, state), donate_argnums=0)
  abstract = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)
  state = {'a': jnp.arange(1 << 20, dtype=jnp.float32).reshape(1024, 1024), 'b': jnp.ones(1 << 18)}
  with Checkpoints(tmp_path) as checkpoints:
    for number in range(1, 4):
      want = sha256(jax.tree.map(jnp.copy, state))  # of a copy: numpy's view of a buffer keeps it from being donated
      checkpoints.save(number, state)
      state = step(state)
      state = step(state)
      assert sha256(checkpoints.restore(jax.tree.map(abstract, state))[0]) == want
      state = step(state)


def test_save_does_not_wait_for_the_disk(tmp_path, monkeypatch):
  go, write = threading.Event(), checkpoint.write_atomic

  def slow(*args):
    assert go.wait(20)
    write(*args)

  monkeypatch.setattr(checkpoint, 'write_atomic', slow)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, make_state())  # would wait for ever if the manifest were written by this thread
    go.set()
    checkpoints.wait()
    assert checkpoint.fault(tmp_path / 'checkpoints' / '1') == ''


def run(code, *args, **environment):
  environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)} | environment
  return subprocess.run(
    [sys.executable, '-c', code, *map(str, args)],
    cwd=ROOT,
    env=environment,
    text=True,
    capture_output=True,
    timeout=120,
  )


KILLED = """
import os, signal, sys
from tests.test_checkpoint import make_state
from mmjax import checkpoint
with checkpoint.Checkpoints(sys.argv[1]) as checkpoints:
  checkpoints.save(1, make_state(1), {'example': 10})
  checkpoints.wait()
  checkpoint.write_atomic = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
  checkpoints.save(2, make_state(2), {'example': 20})
"""


def test_killed_between_commit_and_manifest(tmp_path, capfd):
  assert run(KILLED, tmp_path).returncode == -signal.SIGKILL
  assert kept(tmp_path) == [1, 2]
  passed_over(tmp_path, capfd, 'unfinished')


FULL = """
import resource, sys
import jax
from mmjax.checkpoint import Checkpoints
state = {'a': jax.random.normal(jax.random.key(0), (256, 256))}
with Checkpoints(sys.argv[1]) as checkpoints:
  checkpoints.save(1, state)
  checkpoints.wait()
  resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
  for step in (2, 3):
    try:
      checkpoints.save(step, state)
      checkpoints.wait()
    except OSError as error:
      print(type(error).__name__, error)
"""


@pytest.mark.parametrize('limit', [50_000, 30])  # the arrays do not fit; not even the metadata do
def test_full_disk_is_an_oserror_in_the_main_thread(tmp_path, limit):
  result = run(FULL, tmp_path, limit)
  assert result.returncode == 0, result.stderr
  place = tmp_path.resolve() / 'checkpoints'
  assert result.stdout.splitlines() == [f"OSError [Errno 27] File too large: '{place}'"] * 2
  assert 'mmjax' not in result.stderr  # threads of Orbax may complain there, when the loop they report to is closed
  template = {'a': jax.ShapeDtypeStruct((256, 256), 'float32')}
  assert restored(tmp_path, template)[2] == 1
  assert kept(tmp_path) == [1] and not [name for name in os.listdir(tmp_path / 'checkpoints') if 'tmp' in name]


DEVICES = """
import sys
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from mmjax.checkpoint import Checkpoints, sha256
mesh = jax.make_mesh((jax.device_count(),), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
shardings = {'rows': NamedSharding(mesh, PartitionSpec('data')), 'all': NamedSharding(mesh, PartitionSpec())}
with Checkpoints(sys.argv[1]) as checkpoints:
  template = {name: jax.ShapeDtypeStruct((16, 4), 'float32', sharding=sharding) for name, sharding in shardings.items()}
  state, extra, step = checkpoints.restore(template)
  assert {name: x.sharding for name, x in state.items()} == shardings
  assert len(state['rows'].sharding.device_set) == 8
  print(step, extra['hash'] == sha256(state))
  state = jax.device_put({name: x + 1 for name, x in state.items()}, shardings)
  checkpoints.save(2, state, {'hash': sha256(state)})
"""


def test_from_one_device_to_eight_and_back(tmp_path):
  state = {'rows': jax.random.normal(jax.random.key(0), (16, 4)), 'all': jax.random.normal(jax.random.key(1), (16, 4))}
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(1, state, {'hash': sha256(state)})
  result = run(DEVICES, tmp_path, XLA_FLAGS='--xla_force_host_platform_device_count=8')
  assert result.stdout == '1 True\n', result.stderr
  again, extra, step = restored(tmp_path, state)
  assert step == 2 and sha256(again) == extra['hash'] != sha256(state)
  assert again['rows'].sharding == state['rows'].sharding


def test_sha256_sees_names_dtypes_shapes_and_bits():
  tree = {'a': jnp.zeros(4), 'b': [jnp.ones((2, 2))]}
  others = [
    {'a': jnp.zeros(4), 'c': [jnp.ones((2, 2))]},
    {'a': jnp.zeros(4, jnp.int32), 'b': [jnp.ones((2, 2))]},
    {'a': jnp.zeros((2, 2)), 'b': [jnp.ones((2, 2))]},
    {'a': -jnp.zeros(4), 'b': [jnp.ones((2, 2))]},
  ]
  digests = {sha256(tree), *map(sha256, others)}
  assert len(digests) == 5
  assert sha256({'b': [np.ones((2, 2), 'f4')], 'a': np.zeros(4, 'f4')}) == sha256(tree)
