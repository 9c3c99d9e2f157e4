"""The fusion lab as a user runs it: a small grid, whole; killed, shared, and on a disk that is full."""

import contextlib
import io
import shutil
import subprocess
import sys

import pytest

from experiments import fusion_ablation
from mmjax import cli
from mmjax.cli import ROOT
from tests import faults

pytestmark = pytest.mark.slow

SMALL = [
  '--config=configs/fusion_ablation.py:tiny',
  "--config.fusions=('early merged: 1*[t<tv v<tv tied]','apart: 1*[t<t]')",
  '--config.model.width=16',
  '--config.model.heads=2',
  '--config.data.images=2',
  '--config.budget.of=none',
  '--config.optim.steps=30',
  '--config.test.split=test200',
]


def call(workdir, *more):
  return call_with([f'--workdir={workdir}', *SMALL, *more])


def call_with(argv):
  """The command line, run to its end in this process: (exit code, stdout, stderr)."""
  out, err = io.StringIO(), io.StringIO()
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    patch.setattr(sys, 'argv', ['fusion_ablation.py', *argv])
    with pytest.raises(SystemExit) as end:
      cli.main(fusion_ablation.run, config=fusion_ablation.CONFIG, modes=('train',), flags=fusion_ablation.FLAGS)
  return end.value.code, out.getvalue(), err.getvalue()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A folder with the grid `whole`, made undisturbed."""
  folder = tmp_path_factory.mktemp('grid')
  code, out, err = call(folder / 'whole')
  assert code == 0 and 'apart, seed 1: done, 4 of 4' in err, err
  assert out.splitlines()[-1] == f'ablation: {folder / "whole" / "ablation.html"}'
  return folder


def test_a_done_grid_is_not_made_again(whole):
  before = {file: file.stat().st_mtime_ns for file in whole.glob('whole/cells/**/*')}
  code, _, err = call(whole / 'whole')
  assert code == 0 and 'begins' not in err and 'note: apart: its answer can never depend on the image' in err
  assert {file: file.stat().st_mtime_ns for file in whole.glob('whole/cells/**/*')} == before
  assert not list(whole.glob('whole/cells/*/*/checkpoints'))


def test_results_alone_and_a_dry_run(whole, tmp_path):
  (whole / 'whole' / 'ablation.md').unlink()
  code, out, err = call(whole / 'whole', '--report-only')
  assert code == 0 and (whole / 'whole' / 'ablation.md').is_file() and 'begins' not in err
  code, out, err = call(tmp_path / 'new', '--dry-run')
  assert code == 0 and '4 of 4 cells are left: about' in out and not (tmp_path / 'new').exists()
  code, out, err = call(tmp_path / 'new', '--report-only')
  assert code == 2 and 'no cell is done yet' in err
  for flag in ('--seeds=', '--only=', '--only= '):
    code, _, err = call(tmp_path / 'new', flag)
    assert code == 2 and f'{flag.partition("=")[0]} is empty' in err and not (tmp_path / 'new').exists()
  code, _, err = call(tmp_path / 'new', '--report-only', '--seeds=1')
  assert code == 2 and '--report-only: found beside' in err


def test_a_fusion_is_added_and_only_its_cells_are_made(whole, tmp_path):
  shutil.copytree(whole / 'whole', tmp_path / 'more')
  more = SMALL[1].replace("')", "','late: 1*[t<t v<v] | concat')")
  code, out, err = call(tmp_path / 'more', more, '--only=late', '--seeds=1')
  begun = [line for line in err.splitlines() if ': begins' in line]
  assert code == 0 and [line.partition(':')[0] for line in begun] == ['late, seed 1']
  assert 'late' in out and '1 of 2' in out


@pytest.mark.parametrize('variant, only', [
  ('pixels', 'co-attention, METER'), ('easy_vqa', 'bottlenecks'), ('volta', 'VL-BERT'), ('baselines', 'CNN+MLP'),
])  # fmt: skip
def test_every_variant_trains(tmp_path, variant, only):
  fast = [
    '--config.optim.steps=2',
    '--config.optim.warmup=0',
    '--config.eval.every=2',
    '--config.log.every=1',
    '--config.data.images=2',
  ]
  argv = [f'--config=configs/fusion_ablation.py:{variant}', *fast, f'--only={only}', '--seeds=0']
  code, _, err = call_with([f'--workdir={tmp_path / "run"}', *argv])
  assert code == 0 and 'done, 1 of 1' in err, err[-2000:]
  assert (tmp_path / 'run' / 'ablation.html').is_file() and 'image hidden' in (
    tmp_path / 'run' / 'cells.csv'
  ).read_text()


def test_a_folder_of_another_grid_and_a_changed_line_are_refused(whole):
  code, _, err = call(whole / 'whole', '--config.optim.lr=0.5')
  assert code == 2 and 'belongs to another config: optim.lr was 0.001, now 0.5' in err
  changed = SMALL[1].replace('apart: 1*', 'apart: 2*')
  code, _, err = call(whole / 'whole', changed)
  assert code == 2 and 'was made with fusion 1*[t<t] | text, now 2*[t<t] | text' in err and 'begins' not in err


def test_killed_and_shared_grids_are_the_same(whole, capsys):
  assert faults.grid(whole, SMALL, 2, 0)
  assert faults.share(whole, SMALL)
  said = capsys.readouterr().out
  assert 'killed: 4 cells done, of 4: all the same' in said and 'each cell once: True' in said


def test_a_full_disk_is_one_line_and_the_grid_goes_on(whole, tmp_path):
  command = [sys.executable, '-m', 'experiments.fusion_ablation', f'--workdir={tmp_path / "full"}', *SMALL]
  limited = 'ulimit -f 12; exec "$@"'  # no file above 12 kB: a checkpoint is larger
  found = subprocess.run(['bash', '-c', limited, 'bash', *command], cwd=ROOT, capture_output=True, text=True)
  assert found.returncode == 2, found.stderr[-2000:]  # threads of Orbax complain too, which is not ours to stop
  assert [line for line in found.stderr.splitlines() if line.startswith('error: ')]
  assert not list(tmp_path.glob('full/cells/*/*/cell.json'))
  assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
  assert faults.cells(tmp_path / 'full') == faults.cells(whole / 'whole')
