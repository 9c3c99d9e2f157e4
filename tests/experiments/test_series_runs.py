"""Whole runs on time series, as small as can be: what they write, and what they refuse."""

import contextlib
import io
import json
import sys
import types

import numpy as np
import pytest

from experiments import series, telling, waves
from mmjax import cli
from mmjax.data.series import Cases
from tests.experiments.test_runs import rows

SMALL = ('data.images=8', 'optim.steps=4', 'optim.warmup=1', 'eval.every=2', 'log.every=1', 'model.width=8',
         'model.heads=2', 'model.mlp=8', 'model.layers=1', 'model.dilations=(1,2)')  # fmt: skip


def call(workdir, *more):
  out, err = io.StringIO(), io.StringIO()
  argv = ['series', f'--workdir={workdir}', '--config=configs/series.py:tiny', *(f'--config.{key}' for key in SMALL)]
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    patch.setattr(sys, 'argv', [*argv, *more])
    with pytest.raises(SystemExit) as end:
      cli.main(series.run, config=series.CONFIG, modes=series.MODES, flags=series.FLAGS)
  return types.SimpleNamespace(code=end.value.code or 0, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """(workdir, what was said) of a run of every system on two sets."""
  workdir = tmp_path_factory.mktemp('series') / 'run'
  done = call(workdir, "--config.data.sets=('JapaneseVowels','GunPoint')", f'--config.systems={tuple(series.SYSTEMS)}')
  assert done.code == 0, done.err
  return workdir, done


@pytest.mark.weights
def test_a_run_says_what_it_made(finished):
  workdir, done = finished
  assert f'report: {workdir / "report.html"}' in done.out.splitlines()
  (table,) = json.loads((workdir / telling.TABLES).read_text())['tables']
  systems = [row['system'] for row in table['rows']]
  assert systems[:7] == [*series.SYSTEMS.values(), series.ALL, '1-NN by DTW, computed here', 'most frequent class']
  warped = next(row for row in table['rows'] if row['system'] == '1-NN by DTW, computed here')
  published = [row for row in table['rows'] if row['system'].endswith('published')]
  assert round(warped['JapaneseVowels']['value'], 1) == published[0]['JapaneseVowels']['value'] == 94.9
  assert round(warped['GunPoint']['value'], 2) == published[2]['GunPoint']['value'] == 90.67
  for folder in (workdir, workdir / 'japanesevowels_lstm', workdir / 'gunpoint_tcn'):
    assert rows(folder)[-1]['split'] == 'final'
    assert all(np.isfinite(row['loss']) for row in rows(folder) if row['split'] == 'train')
  page = (workdir / 'report.html').read_text()
  assert 'GunPoint: series of each class' in page and 'JapaneseVowels: what was taken for what' in page


@pytest.mark.weights
def test_a_finished_run_is_tested_again(finished):
  workdir, done = finished
  again = call(workdir, "--config.data.sets=('JapaneseVowels','GunPoint')", f'--config.systems={tuple(series.SYSTEMS)}',
               '--mode=eval')  # fmt: skip
  assert again.code == 0, again.err
  table = lambda said: [line for line in said.out.splitlines() if line.startswith('│')]
  assert table(again) == table(done) and table(done)


@pytest.mark.parametrize('key, words', [
  ("systems=('grus',)", "--config.systems: found 'grus', expected some of"),
  ("systems=('gru','gru')", 'expected one or more, each once'),
  ("data.sets=('GunPont',)", "found 'GunPont', expected one of"),
  ("data.sets=('GunPoint','GunPoint')", 'expected one or more, each once'),
  ('data.held_out=1.0', '--config.data.held_out: found 1.0, expected 0 to below 1'),
  ('model.width=7', '--config.model.width: found 7, expected an even number'),
  ('augment.warp=1.0', '--config.augment.warp: found 1.0, expected 0 to below 1'),
  ('model.schedule=1*[s<t]', "found ['s', 't'], expected s alone"),
])  # fmt: skip
def test_a_mistake_is_one_line(tmp_path, key, words):
  done = call(tmp_path / 'run', f'--config.{key}')
  lines = [line for line in done.err.splitlines() if line.startswith('error')]
  assert done.code == 2 and len(lines) == 1 and words in lines[0]
  assert not (tmp_path / 'run').exists()


def test_the_channel_that_is_shown_tells_the_classes_apart():
  rng = np.random.default_rng(0)
  values = [rng.normal(size=(9, 3)).astype(np.float32) * [1, 1, 1 + 5 * (n % 2)] for n in range(20)]
  cases = Cases('made up', values, np.arange(20) % 2, ('a', 'b'))
  assert waves.channel_to_show(cases) == 2  # by how far it moves, not by where it is
  counted, confused = waves.of_answers('made up', {'train': cases, 'test': cases}, 1 - cases.label)
  assert counted['note'] == 'Taken for another class: 20 of 20 test series.' and len(confused['items']) == waves.WRONG
  assert confused['items'][0]['title'] == 'class a, taken for b'
  assert len(waves.of_answers('made up', {'train': cases, 'test': cases}, cases.label)) == 1


def test_an_interval_is_no_point_where_all_is_right():
  label = np.repeat([0, 1], 20)
  value, low, high = series.measure(label, label)
  assert (value, high) == (1, 1) and low == pytest.approx(1 / (1 + 1.959964**2 / 40), abs=1e-5)
  assert series.measure(1 - label, label)[0] == 0
