"""From a model's answers to the numbers of a table, by hand: groups, question types, seeds."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import keep, showing
from experiments import visual_questions as task_of
from mmjax.errors import UserError
from mmjax.objectives import answer_metrics
from mmjax.train import divide

TYPES, GROUPS = ('shape', 'left', 'closest'), {'nonrelational': ('shape', 'left'), 'relational': ('closest',)}
TASK = task_of.Task('sort_of_clevr', 'regions', {}, dict, None, 3, 4, ('yes', 'no'), TYPES, GROUPS)


def scores_of(kinds, right, weight=None):
  """The named accuracies of rows of these question types, of which those in `right` are answered right."""
  right = np.asarray(right)
  scores = np.stack([right, ~right], 1).astype(np.float32)
  batch = {'answer': np.zeros(len(right), int), 'question_type': TASK.membership[kinds],
           'weight': np.ones(len(right)) if weight is None else np.asarray(weight)}  # fmt: skip
  return task_of.named(divide([answer_metrics(scores, batch)]), TASK)


def test_groups_and_types_count_what_is_theirs():
  found = scores_of([0, 0, 1, 2, 2], [True, False, True, False, False])
  assert found == pytest.approx({
    'accuracy': 2 / 5, 'accuracy/nonrelational': 2 / 3, 'accuracy/relational': 0.0,
    'accuracy/shape': 1 / 2, 'accuracy/left': 1.0, 'accuracy/closest': 0.0,
  })  # fmt: skip


def test_what_nothing_was_asked_of_has_no_accuracy_and_padding_counts_for_nothing():
  found = scores_of([0, 0, 2], [True, False, True], weight=[1, 1, 0])
  assert found == {'accuracy': 0.5, 'accuracy/nonrelational': 0.5, 'accuracy/shape': 0.5}


def test_a_metric_that_is_not_a_number_is_not_hidden():
  found = task_of.named(divide([{'loss/answer': (np.float32(np.nan), 4.0)}]), TASK)
  assert list(found) == ['loss'] and np.isnan(found['loss'])


def test_the_sort_of_clevr_groups_are_the_papers():
  assert task_of.sort_of_clevr.GROUPS == {
    'nonrelational': ('shape', 'left', 'top'), 'relational': ('closest', 'furthest', 'count')}  # fmt: skip


def test_the_published_scores():
  """Santoro et al. 2017, section 5.3, and the README of kimhc6028/relational-networks."""
  rows = {row['system']: (row['nonrelational'], row['relational']) for row in showing.PUBLISHED['sort_of_clevr']}
  assert rows == {
    'RN, paper (from pixels)': ('> 94', '> 94'), 'CNN+MLP, paper (from pixels)': ('> 94', '63'),
    'RN, reimplementation, 20 epochs': ('99', '89'), 'CNN+MLP, reimplementation, 100 epochs': ('66', '66'),
  }  # fmt: skip


# --- results of several seeds ----------------------------------------------------------------------------------------


def asked(*answers):
  """One image with a question of each type."""
  return {'question': ['square?', 'left?', 'closest?'], 'question_type': np.arange(3), 'answer': np.array(answers)}


SPLITS = {'train': [asked(1, 1, 0)], 'test200': [asked(0, 1, 0)], 'test2000': [asked(1, 0, 0)]}
ASKED = dataclasses.replace(TASK, splits=SPLITS)
DATA = {'name': 'sort_of_clevr', 'setting': 'regions', 'dir': ''}


def finished(folder, seed, accuracy, system='LXMERT', **config):
  """A folder as a finished run leaves it."""
  folder.mkdir()
  (folder / 'config.json').write_text(json.dumps({'seed': seed, 'data': DATA} | config))
  scores = {name: accuracy for name in TASK.metric_names}
  rows = [{'step': 1, 'split': 'train', 'time': 100.0}, {'step': 9, 'split': 'test200', 'time': 150.0} | scores,
          {'step': 9, 'split': 'test2000', 'time': 159.0} | scores,
          {'step': 9, 'split': 'final', 'time': 160.0, 'system': system, 'parameters_sha256': f'sha{seed}'},
          ]  # fmt: skip
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
  (tmp_path / 'results').mkdir()
  (tmp_path / 'README.md').write_text('before\n<!-- results -->\nold\n<!-- /results -->\nafter\n')
  monkeypatch.setattr(keep, 'ROOT', tmp_path)
  monkeypatch.setattr(keep, 'prepare', lambda *data: ASKED)
  monkeypatch.setattr(showing, 'ROOT', tmp_path)
  return tmp_path


def test_seeds_are_kept_and_shown_as_mean_and_extremes(root):
  runs = [finished(root / f'run{seed}', seed, accuracy) for seed, accuracy in ((1, 0.97), (0, 0.95), (2, 0.93))]
  keep.keep(runs, 'python -m experiments.lxmert')
  keep.keep([finished(root / 'other', 0, 0.5, system='VisualBERT')], 'python -m experiments.visualbert')
  keep.keep(runs[:2], 'again')  # replaces the row of its name, and no other
  stored, floors = showing.kept_results('sort_of_clevr').values()
  assert [(s['system'], [seed['seed'] for seed in s['seeds']]) for s in stored] == [
    ('LXMERT', [0, 1]),
    ('VisualBERT', [0]),
  ]
  assert stored[0]['seeds'][0] == {
    'system': 'LXMERT', 'seed': 0, 'test': 'test2000', 'steps': 9, 'training_minutes': 1.0,
    'parameters_sha256': 'sha0'} | {name: 0.95 for name in TASK.metric_names}  # fmt: skip
  readme = (root / 'README.md').read_text()
  assert readme.startswith('before\n') and readme.endswith('after\n') and 'old' not in readme
  assert '| LXMERT | 96.00 (95.00–97.00) | 96.00 (95.00–97.00) | 2 | 1 | `again` |' in readme.splitlines()
  assert [(floor['test'], floor['scores']['overall']) for floor in floors] == [('test2000', 2 / 3), ('test2000', 1 / 3)]
  assert '| majority answer of each question | 50.00 | 100.00 | – | – | computed here |' in readme.splitlines()
  row = showing.kept(ASKED)[0]
  assert (row['system'], row['test'], row['source']) == ('LXMERT', 'test2000', '2 seeds, again')
  assert row['relational'] == row['overall'] == '96.00 (95.00–97.00)'


def test_what_is_no_set_of_seeds_is_refused(root):
  one, two = finished(root / 'one', 0, 0.9), finished(root / 'two', 0, 0.8)
  other = finished(root / 'three', 1, 0.8, optim={'lr': 1})
  unfinished, broken = finished(root / 'four', 2, 0.8), finished(root / 'five', 3, 0.8)
  (unfinished / 'metrics.jsonl').write_text('')
  (broken / 'config.json').write_text('{')
  for runs, line in (([one, two], 'seed 0 stands twice'), ([one, other], 'differs from .* in optim.lr'),
                     ([unfinished], 'is not finished'), ([broken], 'cannot be read')):  # fmt: skip
    with pytest.raises(UserError, match=line):
      keep.keep(runs, 'x')
  assert list((root / 'results').iterdir()) == []


def test_damaged_results_are_said_and_missing_ones_are_none(root):
  assert showing.kept_results('sort_of_clevr') == {'systems': [], 'floors': []}
  (root / 'results/sort_of_clevr.json').write_text('{"systems"')
  with pytest.raises(UserError, match='cannot be read as kept results'):
    showing.kept_results('sort_of_clevr')
