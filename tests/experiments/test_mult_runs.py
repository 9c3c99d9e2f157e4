"""Whole runs of MulT's experiment, as small as can be: on made-up scenes and on a file of features."""

import contextlib
import functools
import io
import json
import sys
import types

import jax
import numpy as np
import pytest

from configs import mult as config
from experiments import mult, telling
from mmjax import cli, train
from mmjax.data import witnesses
from mmjax.metrics import sentiment
from tests.data.test_mosi import arrays
from tests.experiments.test_runs import rows

SMALL = ['--config.model.width=4', '--config.model.heads=2', '--config.model.layers=1', '--config.apart.layers=1',
         '--config.data.images=8', '--config.optim.warmup=1', '--config.optim.steps=2', '--config.eval.every=2',
         '--config.log.every=1', '--config.model.targets=t']  # fmt: skip


def call(workdir, *more, variant='tiny'):
  out, err = io.StringIO(), io.StringIO()
  argv = ['mult', f'--workdir={workdir}', f'--config=configs/mult.py:{variant}', *SMALL, *more]
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    patch.setattr(sys, 'argv', argv)
    splits = {split: (64, seed) for split, (_, seed) in witnesses.SPLITS.items()}
    patch.setattr(witnesses.Witnesses, 'SPLITS', splits)
    with pytest.raises(SystemExit) as end:
      cli.main(mult.run, config=mult.CONFIG, modes=mult.MODES, flags=mult.FLAGS)
  return types.SimpleNamespace(code=end.value.code or 0, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """(workdir, what was said) of a finished run of all kinds of system, each made once."""

  @functools.cache
  def run():
    workdir = tmp_path_factory.mktemp('mult') / 'run'
    done = call(workdir, "--config.systems=('text','late','mult')", '--config.augment.drop=0.3')
    assert done.code == 0, done.err
    return workdir, done

  return run


def batch(seed=0):
  scene = witnesses.generate(8, seed)
  c = config.get_config()
  return mult.inputs(c, *witnesses.features(scene)) | {'answer': scene['answer']}


@functools.cache
def system(name, targets='t'):
  """(model, its first variables) at a small size."""
  c = config.get_config()
  c.model.width, c.model.heads, c.model.layers, c.apart.layers, c.model.targets = 8, 2, 1, 1, targets
  model = mult.model_of(name, c, 4)
  return model, jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), *mult.given(batch()))


def answers(model, variables, given):
  return np.asarray(mult._answers(model, variables, {key: given[key] for key in mult.KEYS}))


@pytest.mark.parametrize('name', ['text', 'audio', 'vision', 'late'])
def test_a_system_reads_its_modalities_and_no_other(name):
  model, variables = system(name)
  given = batch()
  first = answers(model, variables, given)
  for s in 'taf':
    shouted = {**given, s: given[s] + 3.0}
    assert np.allclose(first, answers(model, variables, shouted)) == (s not in mult.reads(name)), s


@pytest.mark.parametrize('name', ['audio', 'late'])
def test_padding_changes_nothing(name):
  model, variables = system(name)
  given = batch()
  longer = dict(given)
  for s in 'taf':
    longer[s] = np.where(given[f'{s}_mask'][..., None], given[s], 9.0).astype(np.float32)
    longer[s] = np.pad(longer[s], ((0, 0), (0, 2), (0, 0)), constant_values=9.0)
    longer[f'{s}_mask'] = np.pad(given[f'{s}_mask'], ((0, 0), (0, 2)))
  np.testing.assert_allclose(answers(model, variables, longer), answers(model, variables, given), rtol=1e-4, atol=1e-5)


def test_what_is_missing_leaves_numbers():
  model, variables = system('mult')
  given = batch()
  first = answers(model, variables, mult.without(given, 'a'))
  assert np.isfinite(first).all()
  assert not np.allclose(first, answers(model, variables, given))


@pytest.mark.parametrize('name', ['audio', 'late', 'mult'])
def test_numbers_behind_the_mask_of_what_is_missing_are_not_read(name):
  model, variables = system(name, targets='taf')
  gone = {**batch(), 'a_mask': np.zeros_like(batch()['a_mask'])}
  first = answers(model, variables, gone)
  assert np.isfinite(first).all()
  np.testing.assert_allclose(first, answers(model, variables, {**gone, 'a': gone['a'][::-1] + 1}), atol=1e-6)
  np.testing.assert_allclose(first, answers(model, variables, {**gone, 'a': gone['a'] * np.nan}), atol=1e-6)


def test_samples_lack_a_modality_as_often_as_asked():
  given = {key: np.repeat(array, 50, 0) for key, array in batch().items()}
  for rate, streams in ((0.0, 'taf'), (0.5, 'taf'), (1.0, 'ta')):
    drawn = mult.dropped(rate, streams)(given, jax.random.key(1))
    lacks = np.stack([~np.asarray(drawn[f'{s}_mask']).any(1) for s in 'taf'], 1)
    assert (lacks.sum(1) <= 1).all() and abs(lacks.sum() / 400 - rate) < 0.08
    assert lacks[:, 2].sum() == 0 or 'f' in streams
    for n, s in enumerate('taf'):
      assert not np.asarray(drawn[s])[lacks[:, n]].any()
      np.testing.assert_array_equal(np.asarray(drawn[s])[~lacks[:, n]], given[s][~lacks[:, n]])


def test_training_with_a_modality_missing_leaves_numbers():
  model, variables = system('mult')
  lacking = mult.without(mult.without(batch(), 'a'), 't')
  run = train.forward_of(model, mult.given)
  loss = lambda variables: (run(variables, lacking, train=False, key=None)[0]['answers'] ** 2).sum()
  grads = jax.grad(loss)(variables)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.slow
def test_a_run_says_what_it_made(finished):
  workdir, done = finished()
  assert f'report: {workdir / "report.html"}' in done.out.splitlines()
  for words in ('text alone', 'late fusion', 'MulT', 'without audio', 'the best by report and sound', 'chance'):
    assert words in done.out
  tables = json.loads((workdir / telling.TABLES).read_text())['tables']
  assert len(tables[0]['rows']) == 1 + 4 + 4 + 4 + 1 and len(tables[1]['rows']) == 2
  page = (workdir / 'report.html').read_text()
  assert page.count('<svg') > 4 * 5 and 'who contradicts the other two?' in page
  for folder in (workdir, workdir / 'text', workdir / 'late'):
    assert rows(folder)[-1]['split'] == 'final'
  assert all(0 < row['loss'] < 100 for row in rows(workdir) if row['split'] == 'train')


@pytest.mark.slow
def test_a_finished_run_is_tested_again(finished):
  workdir, done = finished()
  again = call(workdir, "--config.systems=('text','late','mult')", '--config.augment.drop=0.3', '--mode=eval')
  assert again.code == 0, again.err
  table = lambda said: [line for line in said.out.splitlines() if line.startswith('│')]
  assert table(again) == table(done) and table(done)


@pytest.mark.slow
def test_features_of_a_file_are_learnt_from(tmp_path):
  file = tmp_path / 'mosi.npz'
  np.savez(file, **arrays())
  done = call(tmp_path / 'run', f'--config.data.file={file}', "--config.systems=('audio','mult')", variant='base')
  assert done.code == 0, done.err
  table = json.loads((tmp_path / 'run' / telling.TABLES).read_text())['tables'][0]
  assert {f'Acc-2, {zeros}' for zeros in sentiment.ZEROS} <= set(table['columns'])
  assert [row['system'] for row in table['rows']][:2] == ['audio alone', 'MulT'] and len(table['rows']) == 1 + 4 + 3
  paper = table['rows'][-3]
  assert paper['MAE'] == '0.591' and paper['Acc-2, without zeros'] == '81.6' and 'Acc-5' not in paper


def test_measures_of_feelings_have_intervals():
  given = np.linspace(-3, 3, 40)
  found = mult.felt(given[:, None] + 0.5, {'target': given})
  assert found['MAE'] == pytest.approx((0.5, 0.5, 0.5)) and list(found) == list(sentiment.scores(given, given))
  value, low, high = found['Acc-2, without zeros']
  assert value == 37 / 40 and 0.8 < low < value < high <= 1


@pytest.mark.parametrize('key, words', [
  ('data.name=mosei', "data.name: found 'mosei', expected one of ('witnesses', 'mosi')"),
  ('data.name=mosi', "--config.data.file: found '' with data.name=mosi, expected a file of features"),
  ('data.file=x.npz', "--config.data.file: found 'x.npz' with data.name=witnesses, expected ''"),
  ('data.padding=mask', "--config.data.padding: found 'mask', expected one of ('masked', 'read'); did you mean"),
  ("systems=('txt','mult')", "--config.systems: found 'txt', expected some of"),
  ('model.targets=tx', "targets 'tx'"),
  ('augment.drop=1.0', '--config.augment.drop: found 1.0, expected 0 to below 1'),
  ('model.layers=0', '--config.model.layers: found 0, expected at least 1'),
  ('apart.layers=0', '--config.apart.layers: found 0, expected at least 1'),
  ('model.relu_dropout=1.0', '--config.model.relu_dropout: found 1.0, expected 0 to below 1'),
])  # fmt: skip
def test_a_mistake_is_one_line(tmp_path, key, words):
  done = call(tmp_path / 'run', f'--config.{key}')
  lines = [line for line in done.err.splitlines() if line.startswith('error')]
  assert done.code == 2 and len(lines) == 1 and words in lines[0], done.err


def test_a_pickle_is_refused_before_anything_is_made(tmp_path):
  (tmp_path / 'x.pkl').write_bytes(b'')
  done = call(tmp_path / 'run', '--config.data.name=mosi', f'--config.data.file={tmp_path / "x.pkl"}')
  assert done.code == 2 and 'a pickle is a program' in done.err and not (tmp_path / 'run').exists()
