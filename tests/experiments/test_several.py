"""Several modalities as a task: lines of systems, what is hidden, and what a table says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments import pairs, several, training
from mmjax import augment
from mmjax.errors import UserError


class Sum(nn.Module):
  """The class is what is there of a, plus what is there of b."""

  @nn.compact
  def __call__(self, inputs, masks, *, train):
    there = {s: jnp.where(masks[s].reshape(len(x), -1).any(1), x[:, 0], 0) for s, x in inputs.items()}
    scale = self.param('scale', nn.initializers.ones, ())
    return {'answers': scale * 9 * jax.nn.one_hot((there['a'] + there['b']).astype(int), 3)}


def task():
  rows = [(a, b) for a in (0, 1) for b in (0, 1)] * 3
  examples = [
    several.example({'a': np.array([a], np.float32), 'b': np.array([b], np.float32)}, {'a': np.ones(1, bool)}, a + b)
    for a, b in rows
  ]
  splits = {'train': examples, 'test': examples}
  return several.Task(
    splits,
    {'a': 'first', 'b': 'second'},
    ('none', 'one', 'both'),
    {'the best by a guess': {several.ALL: 0.5, 'without first': 0.25}},
  )


@pytest.fixture(scope='module')
def measured():
  (system,) = several.systems(['sum: anything | 0.5'], lambda what: (Sum(), 'ab'))
  return system, several.measure(
    system, training.first_variables(several.recipe(system, task()), 0, task().first), task()
  )


def test_accuracies_with_all_there_and_without_each(measured):
  system, found = measured
  assert (system.name, system.missing, system.folder) == ('sum', 0.5, '')
  assert found[several.ALL][::2] == (1.0, 1.0) and 0.7 < found[several.ALL][1] < 1
  assert found['without first'][0] == found['without second'][0] == 0.5
  assert several.values(found) == {'accuracy': 1.0, 'without first': 0.5, 'without second': 0.5}


def test_a_table_has_systems_limits_and_the_most_frequent(measured):
  system, found = measured
  table = several.table(task(), [system], {'sum': found}, ['a note'])
  assert table['columns'] == ['system', 'all there', 'without first', 'without second']
  assert [(row['system'], row['all there'].value) for row in table['rows']] == [
    ('sum', 100.0), ('the best by a guess', 50.0), ('the most frequent answer', 50.0),
  ]  # fmt: skip
  assert table['rows'][0]['ours'] and table['notes'][-1] == 'a note'
  assert table['rows'][1]['without first'].value == 25 and 'without second' not in table['rows'][1]


def test_a_gallery_says_what_was_wrong():
  likely = np.eye(3)[[0, 1, 1, 1] * 3]
  rows = several.gallery(task(), likely, lambda n: [{'text': str(n)}], 4)['rows']
  texts = [[tile['text'] for tile in row['found']] for row in rows]
  assert texts == [['none'], ['one', 'right: both'], ['one', 'right: both'], ['one', 'right: both']]
  assert [row['query']['text'] for row in rows] == ['0', '3', '7', '11']


@pytest.mark.parametrize(('line', 'says'), [
  ('no colon', "expected 'NAME: WHAT' or 'NAME: WHAT | SHARE'"),
  (': what', "expected 'NAME: WHAT'"),
  ('name:', "expected 'NAME: WHAT'"),
  ('name: what | often', "found 'often', expected a share, 0 to below 1"),
  ('name: what | 1', "found '1', expected a share"),
])  # fmt: skip
def test_a_line_that_is_no_system_is_refused(line, says):
  with pytest.raises(UserError, match=says):
    several.systems([line], lambda what: (Sum(), 'ab'))


def test_a_system_that_stands_twice_is_refused():
  with pytest.raises(UserError, match='each once'):
    several.systems(['one: a', 'one: b'], lambda what: (Sum(), 'ab'))


def test_hidden_modalities_are_never_all():
  batch = pairs.stacked(task().splits['train'] * 40)
  found = augment.missing(jax.random.key(0), batch, ('a', 'b'), 0.6)
  a, b = np.asarray(found['a_mask'])[:, 0], np.asarray(found['b_mask'])
  assert (a | b).all()
  lost = np.array([(~a).mean(), (~b).mean()])  # 0.6 of each, less those that would lose both
  assert np.abs(lost - 0.6 * 0.4).max() < 0.06
  assert augment.missing(jax.random.key(0), batch, ('a', 'b'), 0.0)['a_mask'].all()
  gone = batch | {'a_mask': np.zeros_like(batch['a_mask'])}
  found = augment.missing(jax.random.key(0), gone, ('a', 'b'), 0.6)
  assert found['b_mask'].all() and not found['a_mask'].any()  # the only one that is there stays
