"""Curves: every metric that is there, none that is not, no spike lost."""

import re
import xml.etree.ElementTree

import numpy as np
import pytest

from mmjax.report import curves
from tests.report import synthetic


def row(step, split='train', **metrics):
  return {'step': step, 'split': split, 'time': 0.0, **metrics}


def test_a_whole_run():
  drawn = curves.panels(synthetic.history())
  assert [panel['title'] for panel in drawn['main']] == ['Loss', 'Accuracy', 'Learning rate', 'Examples per second']
  assert [panel['title'] for panel in drawn['more']] == ['accuracy: relational', 'accuracy: nonrelational', 'data wait']
  assert [key['split'] for key in drawn['key']] == ['train', 'validation']
  for panel in drawn['main'] + drawn['more']:
    svg = xml.etree.ElementTree.fromstring(panel['svg'])
    said = {element.text for element in svg.iter() if element.tag.endswith('text')}
    assert 'step' in said
    assert 'width' not in svg.attrib and 'viewBox' in svg.attrib
    assert set(re.findall(r'#[0-9a-f]{6}\b', panel['svg'])) <= {'#ffffff'}  # colours are the page's own
    assert 'id="figure' not in panel['svg']
  assert re.fullmatch(r'At step 5,000: train 99\.\d\d %, validation 9\d\.\d\d %', drawn['main'][1]['note'])


def test_names_in_two_panels_do_not_clash():
  drawn = curves.panels(synthetic.history())
  ids = [set(re.findall(r'id="([^"]*)"', panel['svg'])) for panel in drawn['main'] + drawn['more']]
  assert sum(map(len, ids)) == len(set.union(*ids))


@pytest.mark.parametrize(
  'rows',
  [
    [],
    [row(0, 'final', parameters_sha256='1' * 64)],
    [row(5, 'test200', accuracy=0.5)],
    [row(1)],
    [row(1, loss='nan')],
  ],
)
def test_nothing_to_draw(rows):
  assert curves.panels(rows) == {'main': [], 'more': [], 'key': []}


@pytest.mark.parametrize('value', [0.0, 1.0, -3.5, 1e-12, 1e12])
@pytest.mark.parametrize('name', ['loss', 'accuracy', 'lr', 'examples_per_s', 'x'])
def test_one_row(name, value):
  drawn = curves.panels([row(1, **{name: value})])
  (panel,) = drawn['main'] + drawn['more']
  assert panel['svg'].startswith('<svg')


def test_metrics_that_come_and_go_and_not_finite_ones():
  drawn = curves.panels(
    [row(3, loss=1.0), row(1, loss='inf', lr=1e-3), row(2, 'validation', accuracy=0.25), row(4, loss='nan')]
  )
  loss, accuracy, rate = drawn['main']
  assert loss['note'] == 'At step 3: train 1; 2 values not finite, not drawn'
  assert accuracy['note'] == 'At step 2: validation 25.00 %'
  assert rate['note'] == 'At step 1: train 0.001'


def test_a_falling_loss_is_drawn_on_a_log_scale():
  label = lambda values: 'log scale' in curves.panels([row(n, loss=v) for n, v in enumerate(values)])['main'][0]['svg']
  assert label([3, 1, 0.01])
  assert not label([3, 1, 0.5])
  assert not label([3, 1, 0])


def test_thin_keeps_every_spike():
  steps, values = np.arange(10_000), np.zeros(10_000)
  values[[17, 7_777]] = 5, -5
  few_steps, few = curves.thin(steps, values, most=100)
  assert len(few) <= 100
  assert {17, 7_777} <= set(few_steps) and set(few) == {0, 5, -5}
  assert (np.diff(few_steps) > 0).all()


def test_thin_leaves_a_short_curve():
  steps, values = np.arange(3), np.ones(3)
  assert curves.thin(steps, values) == (steps, values)


def test_a_long_history_stays_small():
  drawn = curves.panels([row(n, loss=1 + np.sin(n)) for n in range(30_000)])
  assert len(drawn['main'][0]['svg']) < 120_000


def test_curves_of_a_table():
  drawn = curves.lines(
    {'x': 'cells', 'y': 'score', 'panels': {'deletion': {'a map': [9.0, 4, 2], 'random': [9.0, 8, 7]}}}
  )
  (panel,) = drawn['panels']
  said = {element.text for element in xml.etree.ElementTree.fromstring(panel['svg']).iter() if element.text}
  assert {'cells', 'score'} <= said and panel['title'] == 'Deletion'
  assert panel['note'] == 'Mean: a map 5.0, random 8.0'
  assert drawn['key'] == [{'split': 'a map', 'number': 1}, {'split': 'random', 'number': 2}]
