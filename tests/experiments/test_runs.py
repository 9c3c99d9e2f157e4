"""The experiments as a user runs them: small, whole, and through every way in which a run can end."""

import contextlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import lxmert, uniter, vilbert, visualbert
from mmjax import cli
from mmjax.cli import ROOT
from mmjax.data.pipeline import load
from mmjax.data.sort_of_clevr import ANSWERS, SortOfClevr
from tests import faults

SMALL = [
  '--config.model.width=16',
  '--config.model.mlp=16',
  '--config.model.heads=2',
  '--config.model.schedule=1*[t<t] 1*[v<v] 1*[t<v v<t tied noffn; t<t v<v]',
  '--config.data.images=2',
  '--config.optim.warmup=1',
  '--config.log.every=1',
]


BY_STREAM = [size.replace('=', f'.{s}=') for size in SMALL[:3] for s in 'tv'] + SMALL[3:]


def arguments(workdir, *more, experiment='lxmert', variant='tiny'):
  small = BY_STREAM if experiment == 'vilbert' else SMALL
  return [f'--workdir={workdir}', f'--config=configs/{experiment}.py:{variant}', *small, *more]


def start(workdir, *more):
  """The experiment as a process of its own, for tests that end it from outside."""
  command = [sys.executable, '-m', 'experiments.lxmert', *arguments(workdir, *more)]
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def call(workdir, *more, experiment='lxmert', variant='tiny'):
  """The experiment's command line, run to its end in this process."""
  return call_with(arguments(workdir, *more, experiment=experiment, variant=variant), experiment)


def call_with(argv, experiment):
  out, err = io.StringIO(), io.StringIO()
  module = {'lxmert': lxmert, 'visualbert': visualbert, 'uniter': uniter, 'vilbert': vilbert}[experiment]
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    patch.setattr(sys, 'argv', ['lxmert.py', *argv])
    with pytest.raises(SystemExit) as end:
      cli.main(module.run, config=module.CONFIG, flags=module.FLAGS)
  return types.SimpleNamespace(returncode=end.value.code or 0, stdout=out.getvalue(), stderr=err.getvalue())


def rows(workdir):
  return [json.loads(line) for line in (Path(workdir) / 'metrics.jsonl').read_text().splitlines()]


def without_clock(found):
  clock = ('time', 'examples_per_s', 'step_ms', 'data_wait', 'mfu')
  return [{key: value for key, value in row.items() if key not in clock} for row in found]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A finished run of 6 steps with a checkpoint at every second."""
  workdir = tmp_path_factory.mktemp('trained') / 'run'
  done = call(workdir, '--config.optim.steps=6', '--config.eval.every=2', '--profile=3:4')
  assert done.returncode == 0, done.stderr
  return workdir, done


SIX = ('--config.optim.steps=6', '--config.eval.every=2')


def test_a_run_says_what_it_made_and_where(trained):
  workdir, done = trained
  assert done.stdout.splitlines()[-1] == f'report: {workdir / "report.html"}'
  assert (workdir / 'report.html').stat().st_size > 10_000
  for system in ('RN, paper', 'CNN+MLP, paper', 'majority answer'):
    assert system in done.stdout
  assert 'encoder/encoder' in done.stderr
  assert 'step 6/6' in done.stderr
  assert f'profile of steps 3 to 4: {workdir / "profile"}' in done.stderr
  assert [file.suffixes[-2:] for file in (workdir / 'profile').rglob('*.gz')] == [['.json', '.gz']]


def test_metrics_hold_every_split_and_type(trained):
  found = rows(trained[0])
  assert [row['step'] for row in found if row['split'] == 'train'] == [1, 2, 3, 4, 5, 6]
  assert [row['step'] for row in found if row['split'] == 'validation'] == [2, 4, 6]
  assert {'test200', 'test2000'} <= {row['split'] for row in found}
  assert found[-1]['split'] == 'final'
  assert len(found[-1]['parameters_sha256']) == 64
  names = ('accuracy', 'accuracy/nonrelational', 'accuracy/relational', 'accuracy/closest', 'accuracy/count', 'loss')
  for row in found[:-1]:
    assert all(np.isfinite(row[name]) for name in names if name != 'accuracy/closest' or row['split'] != 'train')
  for row in (row for row in found if row['split'] == 'train'):
    assert row['examples_per_s'] > 0
    assert row['step_ms'] > 0
    assert 0 <= row['data_wait'] <= 1
    assert 0 < row['mfu'] < 2  # the peak is measured while other tests run


def test_a_resumed_run_is_the_same_run(trained, tmp_path):
  """Bit for bit, and in its metrics: the run is set back to step 4 and started again."""
  workdir = shutil.copytree(trained[0], tmp_path / 'run')
  shutil.rmtree(workdir / 'checkpoints' / '6')
  again = call(workdir, *SIX)
  assert again.returncode == 0, again.stderr
  assert 'going on from step 4' in again.stderr
  assert without_clock(rows(workdir)) == without_clock(rows(trained[0]))


def test_kill_9_then_the_same_command(trained, tmp_path):
  workdir = tmp_path / 'run'
  process = start(workdir, *SIX)
  while not (workdir / 'checkpoints' / '2' / 'manifest.json').exists():
    assert process.poll() is None
    time.sleep(0.02)
  process.kill()
  process.communicate()
  again = call(workdir, *SIX)
  assert again.returncode == 0, again.stderr
  assert rows(workdir)[-1]['parameters_sha256'] == rows(trained[0])[-1]['parameters_sha256']


@pytest.mark.slow
def test_sigterm_saves_says_how_to_go_on_and_the_run_ends_as_if_it_had_not_been(trained, tmp_path):
  workdir = tmp_path / 'run'
  long = ('--config.optim.steps=400', '--config.eval.every=400')
  process = start(workdir, *long)
  metrics = workdir / 'metrics.jsonl'
  while not (metrics.exists() and metrics.stat().st_size):
    assert process.poll() is None
    time.sleep(0.05)
  process.send_signal(signal.SIGTERM)
  _, said = process.communicate(timeout=120)
  assert process.returncode == 143
  last = said.splitlines()[-1]
  assert 'saved step' in last
  assert 'the same command goes on from there' in last
  step = int(last.split('saved step ')[1].split()[0].replace(',', ''))
  assert step < 400 and (workdir / 'checkpoints' / str(step)).is_dir()
  assert call(workdir, *long).returncode == call(tmp_path / 'whole', *long).returncode == 0
  ends = [rows(folder)[-1]['parameters_sha256'] for folder in (workdir, tmp_path / 'whole')]
  assert ends[0] == ends[1]


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
runpy.run_module('experiments.lxmert', run_name='__main__', alter_sys=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(('room', 'file'), [(500, ''), (100_000, 'checkpoints'), (200_000, 'report.html')])
def test_a_full_disk_ends_a_run_in_one_line(trained, tmp_path, room, file):
  """room: bytes that a file can have: too few for config.json, for a checkpoint, for the report.

  Where a checkpoint finds no room, threads of Orbax may complain beside our line (of a closed event loop).
  """
  workdir = tmp_path / 'run'
  command = [sys.executable, '-c', LIMITED, str(room), *arguments(workdir, *SIX)]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  lines = done.stderr.splitlines()
  (said,) = [line for line in lines if line.startswith('error:')]
  assert done.returncode == 2 and 'File too large' in said and str(workdir / file) in said
  complaints = {line for line in lines if line.endswith('Error') or 'Error: ' in line} - {said}
  assert complaints <= ({'RuntimeError: Event loop is closed'} if file == 'checkpoints' else set())
  assert said == lines[-1] or complaints
  unfinished = [path for path in workdir.rglob('*') if path.name.endswith('.tmp')]
  assert unfinished == [] and not (workdir / 'report.html').exists()
  assert (workdir / 'config.json').exists() == bool(file)
  if file:
    json.loads((workdir / 'config.json').read_text())
    assert rows(workdir)
  for step in workdir.glob('checkpoints/[0-9]*'):
    assert (step / 'manifest.json').exists() or step.name.endswith('orbax-checkpoint-tmp')


def test_a_non_finite_update_ends_the_run(tmp_path):
  done = call(tmp_path / 'run', *SIX, '--config.optim.lr=1e38', '--config.optim.clip=0.0')
  assert done.returncode == 1
  last = done.stderr.splitlines()[-1]
  assert 'not finite' in last
  step = int(last.split('step ')[1].split(':')[0])
  with np.load(tmp_path / 'run' / f'not_finite_step_{step}.npz', allow_pickle=False) as batch:
    assert batch['question'].shape == (2, 20, 10)


GRID = ('--config.data.setting=pixels', '--config.pixels.kind=grid')


@pytest.mark.parametrize(
  ('more', 'words'),
  [
    (['--config.model.schedule=1*[t<q]'], "position 4: found stream 'q', expected one of t, v"),
    (['--config.model.schedule=1*[t<v'], 'found the end, expected'),
    (['--config.model.heads=3'], 'heads: found 3 for width 16'),
    (['--config.optim.name=adam'], "optim.name: found 'adam'"),
    (['--config.objective=answer'], "objective: found 'answer'"),
    (['--config.data.name=clevr'], "data.name: found 'clevr'"),
    (['--config.data.setting=region'], "data.setting: found 'region'"),
    (['--config.pixels.kind=grid'], "pixels.kind: found 'grid' in setting 'regions', expected 'none'"),
    (['--config.data.setting=pixels'], "found 'none' in setting 'pixels', expected 'grid' or 'patches' or 'detector'"),
    (['--config.parallel.how=pjit'], "parallel.how: found 'pjit'"),
    (['--config.optim.micro_batches=3'], '2 images a batch in 3 micro_batches on 1 devices'),
    (['--config.model.norm=none'], "norm: found 'none', expected 'post' or 'pre'"),
    (['--config.optim.warmup=1000'], 'optim.warmup: found 1000 steps, expected 0 to 6 (all steps)'),
    (['--config.optim.steps=0'], '--config.optim.steps: found 0, expected at least 1'),
    (['--config.optim.clip=-1.0'], '--config.optim.clip: found -1.0, expected at least 0'),
    (['--config.optim.lr=nan'], "--config.optim.lr: found 'nan', expected float"),
    (['--config.model.dropout=1.5'], '--config.model.dropout: found 1.5, expected 0 to below 1'),
    (['--config.model.heads=0'], '--config.model.heads: found 0, expected at least 1'),
    (['--config.data.images=-3'], '--config.data.images: found -3, expected at least 1'),
    (['--config.eval.every=0'], '--config.eval.every: found 0, expected at least 1'),
    (['--config.seed=-1'], '--config.seed: found -1, expected at least 0'),
    (['--config.seed=9223372036854775807'], 'found 9223372036854775807, expected at most 4294967294'),
    (['--config.seed=123456789012345678901234567890'], '--config.seed: found 123456789012345678901234567890'),
    (['--config.model.num_objects=-1'], '--config.model.num_objects: found -1, expected at least 0'),
    (['--config.data.dir=~nosuch/x'], "data.dir ~nosuch/x: found no home folder for '~nosuch'"),
    ([*GRID, '--config.pixels.channels=(0,)'], 'pixels.channels: found (0,), expected a number from 1 for each'),
    ([*GRID, '--config.pixels.channels=()'], 'pixels.channels: found (), expected a number from 1 for each'),
    (['--config.model.schedule=100000*[t<v]'], 'found 100000 layers, expected 1 to 1,000'),
    (['--checkpoint=newest'], "--checkpoint: found 'newest', expected 'latest' or 'best'"),
    (['--mode=eval'], 'holds no checkpoint'),
  ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, more, words):
  done = call(tmp_path / 'run', *SIX, *more)
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1, done.stderr
  assert words in done.stderr
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('experiment', 'variant', 'more', 'words'),
  [
    ('visualbert', 'tiny', '--config=configs/lxmert.py:tiny',
     'found num_features, num_objects, which VisualBERT has not; expected configs/visualbert.py'),
    ('lxmert', 'tiny', '--config=configs/visualbert.py:tiny', 'found answer_from, which LXMERT has not'),
    ('uniter', 'tiny', '--config=configs/vilbert.py:tiny', 'found pooled, which UNITER has not'),
    ('lxmert', 'pretrain', '--config.model.num_features=5', '--config.model.num_features: found 5, expected 363'),
    ('lxmert', 'pretrain', '--config.model.num_objects=5', '--config.model.num_objects: found 5, expected 12'),
  ],
)  # fmt: skip
def test_a_model_of_other_keys_or_sizes_is_one_line_before_data(
  tmp_path, monkeypatch, experiment, variant, more, words
):
  monkeypatch.setattr(lxmert.task_of, 'prepare', None)
  argv = [f'--workdir={tmp_path / "run"}', f'--config=configs/{experiment}.py:{variant}', more]
  done = call_with(argv, experiment)
  assert done.returncode == 2 and words in done.stderr and done.stderr.count('\n') == 1, done.stderr
  assert list(tmp_path.iterdir()) == []


def test_a_config_of_ones_own_that_lacks_keys_is_one_line(tmp_path):
  (tmp_path / 'own.py').write_text(
    "from configs import lxmert\nVARIANTS = {'a': ''}\n"
    "def get_config(variant='a'):\n  c = lxmert.get_config()\n  del c.eval, c.optim.b2\n  return c\n"
  )
  done = call_with([f'--workdir={tmp_path / "run"}', f'--config={tmp_path / "own.py"}'], 'lxmert')
  line = 'error: config: lacks eval.every, eval.images, optim.b2; expected the keys of configs/lxmert.py'
  assert done.returncode == 2 and done.stderr.startswith(line) and done.stderr.count('\n') == 1
  assert not (tmp_path / 'run').exists()


def test_a_byte_is_flipped_only_where_there_is_a_checkpoint_to_fall_back_on(tmp_path, monkeypatch, capsys):
  (tmp_path / 'whole/checkpoints/100').mkdir(parents=True)
  (tmp_path / 'whole/checkpoints/100/manifest.json').touch()
  monkeypatch.setattr(sys, 'argv', ['faults', 'flip', f'--workdir={tmp_path}'])
  assert cli.exit_code(faults.main) == 2
  said = capsys.readouterr().err
  assert 'whole: found 1 good checkpoint, expected at least 2' in said and said.count('\n') == 1


def test_a_workdir_of_another_config_is_refused_before_data(trained, monkeypatch):
  monkeypatch.setattr(lxmert.task_of, 'build', None)
  before = rows(trained[0])
  done = call(trained[0], *SIX, '--config.optim.lr=2e-3')
  assert done.returncode == 2
  assert 'optim.lr was 0.001, now 0.002' in done.stderr
  assert rows(trained[0]) == before


def test_a_finished_run_called_again_says_the_same_once(trained, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(trained[0], workdir)
  assert call(workdir, *SIX).returncode == 0
  assert without_clock(rows(workdir)) == without_clock(rows(trained[0]))


@pytest.mark.slow
def test_without_a_good_checkpoint_nothing_is_scored_and_training_says_that_it_begins_anew(trained, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(trained[0], workdir)

  def spoil():
    for manifest in workdir.glob('checkpoints/[0-9]*/manifest.json'):
      manifest.write_bytes(manifest.read_bytes() + b' ')

  spoil()
  before = (workdir / 'metrics.jsonl').read_text()
  done = call(workdir, *SIX, '--mode=eval')
  assert done.returncode == 2 and done.stdout == ''
  assert done.stderr.splitlines()[-1] == f'error: {workdir / "checkpoints"}: no good checkpoint is left'
  assert (workdir / 'metrics.jsonl').read_text() == before
  shutil.rmtree(workdir / 'checkpoints')
  shutil.copytree(trained[0] / 'checkpoints', workdir / 'checkpoints')
  spoil()
  done = call(workdir, *SIX)
  assert done.returncode == 0
  assert 'warning: no good checkpoint is left; the run begins anew at step 0' in done.stderr
  assert rows(workdir)[-1]['parameters_sha256'] == rows(trained[0])[-1]['parameters_sha256']


@pytest.mark.slow
def test_the_best_checkpoint_can_be_asked_for(tmp_path, monkeypatch):
  """Training at a rate that spoils what it had: the best checkpoint is not the latest."""
  spoilt = (*SIX, '--config.optim.lr=3e-1', '--config.optim.clip=0.0')
  assert call(tmp_path / 'run', *spoilt).returncode == 0
  scored = {row['step']: row['accuracy'] for row in rows(tmp_path / 'run') if row['split'] == 'validation'}
  best = max(scored, key=lambda step: (scored[step], step))
  shown = []
  monkeypatch.setattr(lxmert.showing, 'check', lambda name, args: None)
  monkeypatch.setattr(lxmert.showing, 'predict', lambda *given: shown.append(given[4]))
  for which in ('best', 'latest'):
    assert call(tmp_path / 'run', *spoilt, '--mode=predict', f'--checkpoint={which}').returncode == 0
  assert shown == [best, 6] and best < 6


def test_training_goes_on_from_the_latest_only(trained):
  done = call(trained[0], *SIX, '--checkpoint=best')
  assert done.returncode == 2 and 'training goes on from the latest' in done.stderr


def test_a_folder_of_something_else_is_left_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(lxmert.task_of, 'build', None)  # it is said before any data
  (tmp_path / 'mine.txt').write_text('')
  done = call(tmp_path, *SIX)
  assert done.returncode == 2 and 'is a folder of something else' in done.stderr
  assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_eval_prints_the_table_and_leaves_the_log(trained):
  before = rows(trained[0])
  done = call(trained[0], *SIX, '--mode=eval')
  assert done.returncode == 0, done.stderr
  assert 'this run' in done.stdout
  assert rows(trained[0]) == before


def test_predict_answers_and_draws(trained, tmp_path):
  image = load(SortOfClevr, 'test200')[0]['image']
  Image.fromarray(np.asarray(image)).save(tmp_path / 'scene.png')
  ask = ('--mode=predict', f'--image={tmp_path / "scene.png"}', '--question=what shape is the red object?')
  done = call(trained[0], *SIX, *ask)
  assert done.returncode == 0, done.stderr
  last = done.stdout.splitlines()[-1]
  assert last.split('answer: ')[1].split(';')[0] in ANSWERS
  assert (trained[0] / 'prediction.html').stat().st_size > 5_000


@pytest.mark.parametrize(
  ('image', 'question', 'words'),
  [
    ('missing.png', 'what shape is the red object', 'missing.png'),
    ('text.png', 'what shape is the red object', 'no image that can be read'),
    ('scene.png', 'what shape is the rod object', "'rod'; did you mean 'red'?"),
    ('scene.png', '', '--question'),
    ('scene.png', '?', "found no word in '?'"),
  ],
)
def test_predict_refuses_in_one_line(trained, tmp_path, image, question, words):
  Image.fromarray(np.asarray(load(SortOfClevr, 'test200')[0]['image'])).save(tmp_path / 'scene.png')
  (tmp_path / 'text.png').write_text('no image')
  done = call(trained[0], *SIX, '--mode=predict', f'--image={tmp_path / image}', f'--question={question}')
  assert done.returncode == 2
  assert words in done.stderr
  assert done.stderr.count('\n') == 1, done.stderr


@pytest.mark.parametrize(
  ('experiment', 'variant', 'more'),
  [
    ('visualbert', 'tiny', ['--config.model.schedule=1*[t<tv v<tv tied]']),
    pytest.param('uniter', 'tiny', ['--config.model.schedule=1*[t<tv v<tv tied]'], marks=pytest.mark.slow),
    pytest.param(
      'vilbert',
      'tiny',
      ['--config.model.schedule=1*[t<t] 1*[t<v v<t; v<v t<t]', '--config.model.pooled=8'],
      marks=pytest.mark.slow,
    ),
    pytest.param('lxmert', 'pretrain', [], marks=pytest.mark.slow),
    pytest.param('lxmert', 'pixels', [], marks=pytest.mark.slow),
    pytest.param('lxmert', 'easy_vqa', ['--config.pixels.channels=(4, 4, 4, 4)'], marks=pytest.mark.slow),
    pytest.param('visualbert', 'easy_vqa_blind', ['--config.model.schedule=1*[t<tv v<tv]'], marks=pytest.mark.slow),
    pytest.param(
      'lxmert',
      'tiny',
      ['--config.objective=soft_answers', '--config.optim.name=bert_adam', '--config.parallel.how=pmap'],
      marks=pytest.mark.slow,
    ),
  ],
)
def test_every_variant_trains(tmp_path, experiment, variant, more):
  """Two steps: their losses are finite, and every split is scored."""
  two = ('--config.optim.steps=2', '--config.eval.every=2')
  done = call(tmp_path / 'run', *two, *more, experiment=experiment, variant=variant)
  assert done.returncode == 0, done.stderr
  found = rows(tmp_path / 'run')
  assert all(np.isfinite(row['loss']) for row in found if row['split'] != 'final')
  assert (tmp_path / 'run' / 'report.html').exists()
