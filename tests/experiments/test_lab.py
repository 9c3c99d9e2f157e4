"""The fusion lab without training: lines, budgets, broken inputs, who does a cell, and what cells say together."""

import csv
import dataclasses
import hashlib
import json
import re
import sys
import types

import jax
import numpy as np
import pytest

from configs.fusion_ablation import VARIANTS
from experiments import fusion_ablation, keep, showing, telling
from experiments import visual_questions as task_of
from experiments.lab import board, broken, page, result, timing
from experiments.lab import cells as cells_of
from experiments.lab import grid as grid_of
from experiments.lab.cells import Cell
from mmjax import cli
from mmjax.errors import UserError
from mmjax.workdir import InUse
from tests.report import browser

SMALL = {'model.width': 8, 'model.heads': 2, 'data.images': 2, 'budget.target': 14_000.0, 'test.split': 'test200'}

TIMES = {'early merged': 9.0, 'late, concat': 8.0, 'question only': 5.0}


def config(variant='tiny', **changes):
  c = cli.load_config(f'configs/fusion_ablation.py:{variant}')
  c.update_from_flattened_dict(SMALL | {key.replace('__', '.'): value for key, value in changes.items()})
  return c


@pytest.fixture(scope='module')
def task():
  return task_of.prepare('sort_of_clevr', 'regions', '')


@pytest.mark.parametrize('given, said', [
  ('4*[t<tv]', "found '4*[t<tv]', expected 'NAME: LINE'"),
  ('a: ', "expected 'NAME: LINE'"),
  ('a: 4*[t<x]', 'a: .*position 4'),
  ('a: 4*[t<t v<v] | concat2', "did you mean 'concat'"),
  ('a: volta lxmrt | 1*[t<v]', "did you mean 'lxmert'"),
  ('a: relation_netwrk', "did you mean 'relation_network'"),
])  # fmt: skip
def test_a_line_that_cannot_be_read_names_its_fusion(given, said):
  with pytest.raises(UserError, match=said.replace('*[', r'\*\[')):
    grid_of.read(given)


@pytest.mark.parametrize('changes, said', [
  ({'fusions': ()}, 'found none'),
  ({'fusions': ('early merged: 1*[t<tv]', 'early merged: 1*[t<v]')}, "'early merged' and 'early merged', whose name"),
  ({'fusions': ('early merged: 1*[t<tv]', 'early-merged: 1*[t<v]')}, "'early merged' and 'early-merged', whose folder"),
  ({'reference': 'early'}, r"found 'early', expected a name of config\.fusions.*did you mean 'early merged'"),
  ({'seeds': ()}, r'found \(\), expected one or more'),
  ({'seeds': (1, 1)}, 'each once'),
  ({'seeds': (2**32 - 1,)}, 'one or more'),
  ({'fusions': ('—: 1*[t<tv]',)}, 'expected a letter from a to z'),
  ({'fusions': ('early merged: volta uniter | 1*[t<tv]',)}, "found geometry or norm 'pre'"),
  ({'budget__of': 'flop'}, "did you mean 'flops'"),
  ({'budget__target': -1.0}, 'at least 0'),
  ({'fusions': ('early merged: cnn_mlp',)}, "expected 'none'"),
])  # fmt: skip
def test_a_grid_that_makes_no_sense_is_one_line(changes, said):
  with pytest.raises(UserError, match=said):
    grid_of.fusions(config(**changes))


def test_picked_names_may_hold_commas():
  known = ['late, concat', 'late', 'early']
  assert fusion_ablation.picked('--only', '', known) == known
  assert fusion_ablation.picked('--only', 'late, concat,early', known) == ['late, concat', 'early']
  assert fusion_ablation.picked('--only', 'late,early', known) == ['late', 'early']
  with pytest.raises(UserError, match=r"--only: found 'erly', .*did you mean 'early'"):
    fusion_ablation.picked('--only', 'late,erly', known)


def test_every_fusion_meets_its_budget(task):
  """By shapes alone."""
  c = cli.load_config('configs/fusion_ablation.py:sort_of_clevr')
  for fusion in grid_of.fusions(c):
    size = lambda mlp, fusion=fusion: grid_of.measure(c, task, fusion, mlp, False)[0]
    mlp = grid_of._width(fusion, size, c.budget.target, 'parameters')
    assert abs(size(mlp) / c.budget.target - 1) <= 0.005, fusion.name


def test_a_budget_of_flops(task):
  c = config(budget__of='flops', budget__target=0.0, fusions=('early merged: 1*[t<tv v<tv tied]', 'b: 2*[t<t]'))
  c.model.mlp = 64
  first, second = grid_of.sized(c, task, grid_of.fusions(c))
  assert first.mlp == 64 and second.mlp != 64
  assert second.flops == pytest.approx(first.flops, rel=0.02)
  assert second.parameters != first.parameters


@pytest.mark.parametrize('changes, said', [
  ({'budget__target': 900.0}, r'found 900 parameters, but early merged has [\d,]+ with a feed-forward width of 1'),
  ({'fusions': ('early merged: 1*[t<tv noffn]',)}, 'has no feed-forward layer'),
])  # fmt: skip
def test_an_impossible_budget_is_one_line(task, changes, said):
  c = config(**changes)
  with pytest.raises(UserError, match=said):
    grid_of.sized(c, task, grid_of.fusions(c))


@pytest.mark.parametrize('line', grid_of.BASELINES)
def test_baselines_have_the_size_that_they_have(line):
  c = config('baselines', fusions=(f'a: {line}',), reference='a')
  pixels = task_of.prepare('sort_of_clevr', 'pixels', '')
  (sized,) = grid_of.sized(c, pixels, grid_of.fusions(c))
  assert sized.mlp == 0 and sized.parameters > 50_000 and sized.fusion.sees == (line != 'bag_of_words')


def test_volta_reads_what_the_data_have(task):
  c = config('volta', budget__of='none')
  for fusion in grid_of.fusions(c):
    parameters, _ = grid_of.measure(c, task, fusion, 16, False)
    assert parameters > 1000, fusion.name


BATCH = {
  'regions': np.random.default_rng(0).uniform(-1, 1, (2, 3, 363)).astype(np.float32),
  'boxes': np.random.default_rng(1).random((2, 3, 4), np.float32),
  'question': np.array([[[2, 5, 6, 3]], [[2, 7, 3, 0]]], np.int32),
}
PIXELS = {'image': np.random.default_rng(2).integers(0, 256, (2, 9, 9, 3), np.uint8), 'question': BATCH['question']}


@pytest.mark.parametrize('batch', [BATCH, PIXELS], ids=['regions', 'pixels'])
@pytest.mark.parametrize('how', broken.BROKEN)
def test_what_is_broken_keeps_its_form(batch, how):
  found = broken.BROKEN[how](batch, np.random.default_rng(0))
  assert {k: (a.shape, a.dtype) for k, a in found.items()} == {k: (a.shape, a.dtype) for k, a in batch.items()}
  changed = {key for key in batch if not np.array_equal(found[key], batch[key])}
  seen = {'regions'} if 'regions' in batch else {'image'}
  expected = {'image hidden': seen | ({'boxes'} & set(batch)), 'words hidden': {'question'}}
  assert changed == expected.get(how, seen)


def test_broken_by_hand():
  hidden = broken.hide_words(BATCH, np.random.default_rng(0))
  assert hidden['question'].tolist() == [[[2, 0, 0, 0]], [[2, 0, 0, 0]]]
  assert (broken.hide_image(PIXELS, np.random.default_rng(0))['image'] == 255).all()
  flat = PIXELS | {'image': np.full((1, 9, 9, 3), 77, np.uint8)}
  assert (broken.blur(flat, np.random.default_rng(0))['image'] == 77).all()
  point = np.zeros((1, 9, 9, 3), np.uint8)
  point[0, 4, 4, 0] = 255
  spread = broken.blur(PIXELS | {'image': point}, np.random.default_rng(0))['image']
  assert spread[0, 4, 4, 0] == spread.max() < 20 and spread[..., 1:].max() == 0  # colours are not mixed


def cells(c, task, workdir):
  sized = [grid_of.Sized(fusion, 8, 14_000, 2e9) for fusion in grid_of.fusions(c)]
  return [Cell(s, seed, workdir / 'cells' / s.fusion.folder / str(seed)) for s in sized for seed in c.seeds]


def made(c, task, cell, rate):
  """A done cell with answers of that accuracy."""
  cell.folder.mkdir(parents=True)
  random = np.random.default_rng([cell.seed, len(cell.name)])
  shape = (len(task.splits[c.test.split]), task.questions)
  arrays = {cells_of.TESTED: (random.random(shape) < rate).astype(np.uint8)}
  arrays |= {f'{cells_of.TESTED} {how}': (random.random(shape) < rate / 2).astype(np.uint8) for how in c.test.broken}
  arrays |= {'attention': random.random((10, 6)).astype(np.float16), 'boxes': np.tile([0.1, 0.1, 0.3, 0.3], (6, 1))}
  np.savez_compressed(cell.folder / cells_of.ANSWERS, **arrays)
  content = hashlib.sha256((cell.folder / cells_of.ANSWERS).read_bytes()).hexdigest()
  (cell.folder / 'config.json').write_text(json.dumps(cells_of.config_of(c, cell)))
  done = {'fusion': cell.sized.fusion.name, 'line': cell.sized.fusion.line, 'seed': cell.seed, 'mlp': 8}
  done |= {
    'parameters': 14_000,
    'moved': 13_000,
    'flops': 2e9,
    'steps': 20,
    'step_ms': 12.5,
    'seconds': 3.0,
    'device': 'cpu, 1 device',
  }
  done |= {'validation': [[10, 0.4], [20, rate]], 'parameters_sha256': 'ab', 'answers_sha256': content}
  (cell.folder / cells_of.DONE).write_text(json.dumps(done | {'sha256': cells_of.checksum(done)}))


@pytest.fixture(scope='module')
def finished(task, tmp_path_factory):
  """A grid of three fusions and ten seeds, of which the first is clearly better and one cell of the last is missing."""
  workdir = tmp_path_factory.mktemp('grid')
  c = config(seeds=tuple(range(10)))
  every = cells(c, task, workdir)
  for cell in every[:-1]:
    made(c, task, cell, 0.9 if cell.sized.fusion.name == 'early merged' else 0.5)
  return c, every, workdir


def test_cells_say_together_what_can_be_said(task, finished):
  c, every, _ = finished
  found = result.load(c, task, every, TIMES)
  assert found.whole == ['early merged', 'late, concat'] and found.missing['question only'] == [9]
  overall = found.against('overall')
  assert overall['late, concat']['verdict'] == 'worse' and overall['late, concat']['p'] == 2 / 1024
  assert overall['early merged']['accuracy'] == pytest.approx(0.9, abs=0.03)
  rows = result.main_table(found)['rows']
  assert rows[0]['ms'] == '9' and rows[0]['parameters'] == '14,000'
  made_of = result.sizes_table(found)['rows']
  assert made_of[1]['of them read'] == '13,000' and float(made_of[1]['least that shows']) > 0
  assert 'least that shows' not in made_of[0] and 'least that shows' not in made_of[2]
  assert [row['fusion'] for row in rows][:3] == ['early merged', 'late, concat', 'question only']
  assert rows[1]['verdict'] == 'worse' and 'verdict' not in rows[2] and rows[2]['seeds'] == '9 of 10'
  assert [row['fusion'] for row in rows][3:] == [
    'majority answer of each question',
    'majority answer of all',
  ]
  groups = [found.counted(found.right['early merged'], name) for name in task.groups]
  whole = found.counted(found.right['early merged'], 'overall')
  assert (sum(g[0] for g in groups) == whole[0]).all() and (sum(g[1] for g in groups) == whole[1]).all()


def test_all_files_say_the_same(task, finished):
  c, every, workdir = finished
  found = result.load(c, task, every, TIMES)
  result.write(found, workdir, c.to_dict(), 'python -m experiments.fusion_ablation')
  rows = list(csv.DictReader((workdir / 'cells.csv').open()))
  assert len(rows) == 29 and rows[0]['fusion'] == 'early merged' and float(rows[0]['overall']) > 0.8
  assert set(broken.BROKEN) <= set(rows[0])
  content = json.loads((workdir / 'ablation.json').read_text())
  mean = np.mean([float(row['overall']) for row in rows if row['fusion'] == 'late, concat'])
  assert content['comparison']['overall']['late, concat']['accuracy'] == pytest.approx(mean, abs=1e-5)
  assert f'| late, concat | {100 * mean:.1f} (' in (workdir / 'ablation.md').read_text()
  table = (workdir / 'ablation.tex').read_text()
  assert table.count(r'\\') == 6 and '–' not in table and '−' not in table
  file = page.write(found, every, workdir, c.to_dict(), 'python -m experiments.fusion_ablation')
  text = file.read_text()
  assert 'src="http' not in text
  for part in ('class="diagram"', 'While it learns', 'All seeds', 'Accuracy against FLOPs', 'sortable', 'is the'):
    assert part in text, part


@pytest.mark.browser
def test_the_page_is_one_file_whose_tables_sort(task, finished):
  c, every, workdir = finished
  file = page.write(result.load(c, task, every, TIMES), every, workdir, c.to_dict(), 'command')
  column = "[...document.querySelector('.sortable').tBodies[0].rows].map(row => parseFloat(row.cells[1].textContent))"
  with browser.launch() as shown:
    shown.open(file)
    assert [url for url in shown.requests if not url.startswith('data:')] == [f'file://{file}']
    first = shown.run(column)
    for expected in (sorted(first, reverse=True), sorted(first), first):
      shown.point('.sortable th:nth-of-type(2) button', click=True)
      assert shown.run(column) == expected
    assert shown.errors == []


def test_only_a_whole_grid_is_kept(task, tmp_path, monkeypatch):
  c, command = (
    cli.load_config('configs/fusion_ablation.py:tiny'),
    'python -m experiments.fusion_ablation --config=configs/fusion_ablation.py:tiny',
  )
  every = cells(c, task, tmp_path / 'run')
  monkeypatch.setattr(keep, 'ROOT', tmp_path)
  with pytest.raises(UserError, match='expected the folder of a grid that is done'):
    keep.keep_grid(tmp_path / 'run', command)
  for cell in every[:-1]:
    made(c, task, cell, 0.5)
  result.write(result.load(c, task, every, TIMES), tmp_path / 'run', c.to_dict(), 'python -m x --workdir=run')
  with pytest.raises(UserError, match='5 of 6 cells are done, expected all'):
    keep.keep_grid(tmp_path / 'run', command)
  made(c, task, every[-1], 0.5)
  result.write(result.load(c, task, every, TIMES), tmp_path / 'run', c.to_dict(), 'python -m x --workdir=run')
  folder = keep.keep_grid(tmp_path / 'run', command)
  assert folder == tmp_path / 'results' / 'fusion' / 'tiny'
  assert len((folder / 'cells.csv').read_text().splitlines()) == 7
  assert f'`{command}`' in (folder / 'table.md').read_text()
  assert json.loads((folder / 'config.json').read_text())['command'] == command
  c.optim.steps = 21
  made_of = json.loads((tmp_path / 'run' / 'ablation.json').read_text())
  (tmp_path / 'run' / 'ablation.json').write_text(json.dumps(made_of | {'config': c.to_dict()}))
  with pytest.raises(UserError, match=r'its optim\.steps are not those of tiny'):
    keep.keep_grid(tmp_path / 'run', command)


def test_an_incomplete_reference_compares_nothing(task, finished, tmp_path):
  c, every, _ = finished
  other = c.copy_and_resolve_references()
  other.reference = 'question only'
  found = result.load(other, task, every, TIMES)
  assert set(found.against('overall')) == {'early merged', 'late, concat'}  # what is whole keeps its interval
  assert all('verdict' not in mine for mine in found.against('overall').values())
  content = result.main_table(found)
  assert all('difference' not in row for row in content['rows']) and '(' in content['rows'][0]['overall']
  assert any('Nothing is compared: not all seeds of the reference' in note for note in content['notes'])
  assert not any('Difference:' in note or 'smallest p' in note for note in content['notes'])
  text = page.write(found, every, tmp_path, other.to_dict(), 'command').read_text()
  assert 'nothing is compared yet' in text


def test_notes_say_what_the_numbers_are_of(task, finished):
  c, every, _ = finished
  notes = ' '.join(result.notes(result.load(c, task, every, TIMES)))
  assert 'a bias from where they lie (model.geometry), which no paper has' in notes and 'one width (8)' in notes
  few = [cell for cell in every if cell.seed == 0 and cell.sized.fusion.name != 'question only']
  assert 'With 1 seed and 1 comparison the smallest p' in ' '.join(result.notes(result.load(c, task, few, TIMES)))


def test_what_is_at_the_floor_does_not_flatten_the_rest(task, finished, monkeypatch):
  c, every, _ = finished
  monkeypatch.setattr(page, 'ABOVE', 0.1)  # two of the three answer half of all questions
  (drawing,) = page.against_costs(result.load(c, task, every, TIMES))
  assert re.search(r'not drawn: late, concat \(.* %\); question only \(.* %\)\.', drawing['note'])
  for item in drawing['items']:
    assert 'early merged' in item['svg'] and 'late, concat' not in item['svg']


@pytest.mark.parametrize('change', [
  {'parameters': 1}, {'flops': float('nan')}, {'fusion': 'x'}, {'validation': []}, {'moved': None},
])  # fmt: skip
def test_a_cell_whose_numbers_were_changed_is_refused(task, tmp_path, change):
  c = config()
  first = cells(c, task, tmp_path)[0]
  made(c, task, first, 0.5)
  found = json.loads((first.folder / cells_of.DONE).read_text())
  (first.folder / cells_of.DONE).write_text(json.dumps(found | change))
  with pytest.raises(UserError, match=r'cell\.json does not match its checksum'):
    cells_of.read(c, first)
  (first.folder / cells_of.DONE).write_text(json.dumps({k: v for k, v in found.items() if k != 'moved'}))
  with pytest.raises(UserError, match=r'cell\.json does not match its checksum'):
    cells_of.read(c, first)


@pytest.mark.parametrize('content', ['[]', 'null', '{'])
def test_a_damaged_config_is_named_with_a_way_on(task, tmp_path, content):
  c = config()
  (tmp_path / 'config.json').write_text(content)
  (tmp_path / 'cells').mkdir()
  with pytest.raises(UserError, match=r'is damaged.*or remove that file'):
    fusion_ablation.grid_folder(str(tmp_path), {})
  (tmp_path / 'config.json').unlink()
  assert fusion_ablation.grid_folder(str(tmp_path), {}) == tmp_path  # as it was told
  begun = cells(c, task, tmp_path)[0]
  begun.folder.mkdir(parents=True)
  (begun.folder / 'config.json').write_text(content)
  with pytest.raises(UserError, match='is damaged; remove the folder to have it made again'):
    fusion_ablation.check_done(c, [begun])


def test_a_budget_beyond_any_model_is_refused(task):
  c = config()
  c.budget.target = 1e12
  with pytest.raises(UserError, match=r'would need a feed-forward width of .*; expected at most 65,536'):
    grid_of.sized(c, task, grid_of.fusions(c))


def test_streams_of_volta_need_not_meet(task):
  c = cli.load_config('configs/fusion_ablation.py:volta')
  c.data.images = 2
  fusion = grid_of.read('apart: volta visualbert | 1*[t<t v<v]')
  assert grid_of.measure(c, task, fusion, 8, True)[1] > 0


def test_times_are_of_these_fusions_at_these_sizes(task, tmp_path):
  c = config(fusions=('early merged: 1*[t<tv v<tv tied]', 'apart: 1*[t<t]'), budget__of='none', model__mlp=8)
  sized = [grid_of.Sized(fusion, 8, 0, 0.0) for fusion in grid_of.fusions(c)]
  times = timing.measure(c, task, sized)
  assert list(times) == ['early merged', 'apart'] and min(times.values()) > 0
  assert timing.known(tmp_path, sized) == {}
  timing.keep(tmp_path, sized, times)
  assert timing.known(tmp_path, sized) == pytest.approx(times, abs=1e-3)
  assert timing.known(tmp_path, sized[:1]) == pytest.approx({'early merged': times['early merged']}, abs=1e-3)
  wider = dataclasses.replace(sized[0], mlp=9)
  assert timing.known(tmp_path, [wider, sized[1]]) == {}
  (tmp_path / timing.TIMES).write_text('{')
  assert timing.known(tmp_path, sized) == {}


@pytest.mark.parametrize('given, kept', [
  (['--workdir=w', '--report-only'], '--workdir=w'),
  (['--only=a, b', '--workdir=w', '--seeds', '1,2', '--config=c'], '--workdir=w --config=c'),
])  # fmt: skip
def test_the_command_that_repeats_a_grid_is_whole(monkeypatch, given, kept):
  monkeypatch.setattr(sys, 'argv', ['experiments/fusion_ablation.py', *given])
  told = telling.command_line(without=('only', 'seeds', 'report-only'))
  assert told == f'python -m experiments.fusion_ablation {kept}'


@pytest.mark.parametrize('file, content, said', [
  (cells_of.DONE, '{', 'is damaged .JSONDecodeError'),
  (cells_of.DONE, '{}', 'is damaged .KeyError'),
  (cells_of.ANSWERS, 'x', 'does not match its checksum'),
  ('config.json', '[]', 'is damaged'),
  ('config.json', '{"seed": 3}', 'was made with compute absent, now float32, .* and [0-9]+ more; go back'),
])  # fmt: skip
def test_a_cell_that_cannot_be_used_is_named_and_left(task, tmp_path, file, content, said):
  c = config()
  first = cells(c, task, tmp_path)[0]
  made(c, task, first, 0.5)
  (first.folder / file).write_text(content)
  with pytest.raises(UserError, match=said) as error:
    fusion_ablation.check_done(c, [first])
  assert str(first.folder) in str(error.value) and (first.folder / file).read_text() == content


def test_a_cell_that_fails_stops_no_other(task, tmp_path, monkeypatch, capsys):
  c = config()
  every, ran = cells(c, task, tmp_path), []

  def run(c, task, cell, begins, told):
    ran.append(cell)
    begins()
    cell.folder.mkdir(parents=True)
    if cell is every[1]:
      raise FloatingPointError('no\nnumber')
    (cell.folder / cells_of.DONE).write_text('{}')

  monkeypatch.setattr(cells_of, 'run', run)
  errors = fusion_ablation.work(c, task, every, tmp_path / 'failed')
  assert ran == every and errors == {every[1]: 'FloatingPointError: no number'}
  assert 'Traceback' in (tmp_path / 'failed' / 'early_merged_1.txt').read_text()
  assert 'early merged, seed 1: failed: FloatingPointError: no number' in capsys.readouterr().err


def test_a_cell_of_another_process_is_waited_for_and_taken_when_that_is_gone(task, tmp_path, monkeypatch):
  c = config()
  every, looks = cells(c, task, tmp_path)[:3], []

  def run(c, task, cell, begins, told):
    looks.append(cell)
    if cell is not every[1] and looks.count(cell) < 3:
      raise InUse('at it')
    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / cells_of.DONE).write_text('{}')

  def elsewhere(seconds):
    every[0].folder.mkdir(parents=True, exist_ok=True)
    (every[0].folder / cells_of.DONE).write_text('{}')  # the other process is done with the first, and dies at the last

  monkeypatch.setattr(cells_of, 'run', run)
  monkeypatch.setattr(fusion_ablation.time, 'sleep', elsewhere)
  assert fusion_ablation.work(c, task, every, tmp_path / 'failed') == {}
  assert [looks.count(cell) for cell in every] == [2, 1, 3] and all(cell.done for cell in every)


def test_a_grid_is_no_run_of_several_hosts():
  args = types.SimpleNamespace(only='', seeds='', hosts='0/2@a:1')
  with pytest.raises(UserError, match='--hosts: found with a grid, expected a process of its own on each host'):
    fusion_ablation.run(config(), args)


def test_what_the_board_says():
  assert [board.duration(s) for s in (45, 130, 3600, 7500)] == ['45 s', '2 min', '1 h 00 min', '2 h 05 min']


def test_the_time_that_is_left_goes_by_steps_done_here(task, tmp_path, monkeypatch, capsys):
  now = [0.0]
  monkeypatch.setattr(board.time, 'monotonic', lambda: now[0])
  c = config()
  first, second = cells(c, task, tmp_path)[:2]
  shown = board.Board([first, second], steps=100)
  shown.set(first, 'runs')
  shown.step(first, 40, float('nan'))  # from a checkpoint on: these were not done now
  now[0] = 60.0
  shown.step(first, 60, 3.0)
  assert '40 left' not in capsys.readouterr().err and shown._left() == ', about 7 min left'  # 140 steps of 3 s
  now[0] = 120.0
  shown.step(first, 80, 3.0)
  assert capsys.readouterr().err == f'{first.name}: step 80 of 100, 3000 ms, about 6 min left\n'


def test_answers_are_counted_where_they_are_asked(task):
  """Of a model that says 'yes' to all."""

  class Yes:
    def apply(self, variables, batch, train):
      return {'answers': jax.nn.one_hot(0 * batch['answer'].reshape(-1), 10)}

  found = cells_of.answered(task, Yes(), {}, task.splits['test200'], 8)
  truth = np.stack([task.encode(example)['answer'] for example in task.splits['test200']])
  assert found.dtype == np.uint8 and ((found == 1) == (truth == 0)).all()


def test_the_question_alone_is_always_in_the_table(task):
  assert next(row['system'] for row in showing.floors(task)) == 'majority answer of each question'
  for variant in VARIANTS:
    assert any(not fusion.sees for fusion in grid_of.fusions(cli.load_config(f'configs/fusion_ablation.py:{variant}')))
