"""What a loop needs besides the step: the numbers of a window, and the steps of a profile."""

import os
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import run
from mmjax.cli import ROOT
from mmjax.errors import RunError, UserError
from mmjax.train import State

FAULTS = """
import resource
import jax
import jax.numpy as jnp
from mmjax import run
{before}
step, x = jax.jit(lambda x: jnp.sin(x) @ jnp.ones((8192, 8))), jnp.ones((4096, 8192))
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
found = []
for _ in range(6):
  began = faults()
  step(x).block_until_ready()
  found.append(faults() - began)
print(min(found))
"""


def test_the_memory_of_a_step_is_there_for_the_next_one():
  """Pages of 4 KiB that a step asks the kernel for, which needs 128 MiB on the way: the least of some."""
  environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
  run_it = lambda before: int(
    subprocess.run(
      [sys.executable, '-c', FAULTS.format(before=before)], cwd=ROOT, env=environment, capture_output=True, check=True
    ).stdout
  )
  assert run_it('') > 10_000 > 1_000 > run_it('run.keep_memory()')


def test_a_window_measures_what_was_not_skipped():
  window = run.Window(examples=8)
  window.least = 0.1
  window.since = time.perf_counter() - 10
  window.skip(6)  # of which 4 s are training
  for _ in range(5):
    window.add({'loss': (jnp.ones(()), jnp.ones(()))})
  found = window.close(waited=1.0)
  assert found['loss'] == 1
  assert found['examples_per_s'] == pytest.approx(10, rel=0.1)
  assert found['step_ms'] == pytest.approx(800, rel=0.1)
  assert found['data_wait'] == pytest.approx(0.25, rel=0.1)
  assert found['mfu'] == pytest.approx(0.125, rel=0.1)


def test_without_a_known_peak_there_is_no_mfu():
  window = run.Window(examples=1)
  window.add({'loss': (jnp.ones(()), jnp.ones(()))})
  assert 'mfu' not in window.close(waited=0.0)


@pytest.mark.parametrize('steps', ['5', '0:3', '4:3', '90:101', 'a:b', '1:2:3', '10:20'])
def test_a_profile_is_of_steps_that_are_left(tmp_path, steps):
  with pytest.raises(UserError, match=r'--profile: found .*, expected FIRST:LAST, .* of the steps 11 to 100'):
    run.Profile(steps, 10, 100, tmp_path)


def test_a_finished_run_has_no_profile(tmp_path):
  with pytest.raises(UserError, match='of a run that has steps left'):
    run.Profile('1:2', 100, 100, tmp_path)


def test_what_only_the_optimiser_spoilt_is_not_saved_either(tmp_path):
  params = {'kernel': jnp.array([1.0, jnp.nan])}
  state = State(jnp.asarray(7), params, (), {}, jnp.ones((), bool))
  batch = lambda step: {'x': np.full(2, step)}
  with pytest.raises(RunError, match='step 7: the loss, its gradient or the update is not finite; nothing of it is'):
    run.stop_if_not_finite(state, batch, tmp_path)
  with np.load(tmp_path / 'not_finite_step_7.npz') as saved:
    assert saved['x'].tolist() == [6, 6]  # counted from 0
  run.stop_if_not_finite(state.replace(params={'kernel': jnp.ones(2)}), batch, tmp_path)
