"""The benchmark beside HuggingFace's models, one layer deep: what is timed gives the same, and all rows are there."""

import json
import os
import subprocess
import sys

import pytest

from mmjax.cli import ROOT

pytestmark = pytest.mark.peers


def test_versus_on_one_layer(tmp_path):
  flags = ['--models=visualbert', '--layers=1', '--batches=2', '--rounds=3', f'--out={tmp_path}']
  command = [sys.executable, '-m', 'experiments.benchmark', 'versus', *flags]
  env = os.environ | {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}  # nothing is asserted about time
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1].startswith('wrote benchmark.json, table.md and benchmark.png in ')
  rows = json.loads((tmp_path / 'benchmark.json').read_text())['rows']
  tasks = [row['task'] for row in rows]
  asked = [row for row in rows if row['task'] == 'fine-tuning, VQA-shaped']
  assert {task: tasks.count(task) for task in tasks} == {
    'forward': 2, 'train step': 3, 'evaluation, VQA-shaped': 4, 'fine-tuning, VQA-shaped': 4,
  }  # fmt: skip
  assert all(row['ratio'] > 0 and row['ours_ms'] > 0 for row in rows)
  assert all(row['ours_gib'] > 0.3 < row['peer_gib'] for row in rows[:5])
  assert all(row['loss_apart'] < 1e-5 and row['work_of_ours'] < 0.9 for row in asked)
