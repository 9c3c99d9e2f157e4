"""Charts and diagrams: what is drawn of each system, and that it is a page's own."""

import re
import xml.etree.ElementTree

import numpy as np
import pytest

from mmjax import report
from mmjax.fusion import schedules
from mmjax.fusion.schedule import parse
from mmjax.report import charts, diagram
from tests.report.test_page import bare

NAMES = {'t': 'words', 'p': 'p', 'q': 'q', 'v': 'regions'}


def elements(svg, tag):
  return [e for e in xml.etree.ElementTree.fromstring(str(svg)).iter() if e.tag.rpartition('}')[2] == tag]


def texts(svg):
  return [element.text for element in elements(svg, 'text')]


@pytest.mark.parametrize('line, loops, arrows, reads, ffn, tied', [
  ('2*[t<t]', 1, 0, 1, 1, 0),
  ('2*[t<tv v<tv tied]', 2, 2, 2, 2, 4),
  ('1*[t<t v<v noffn; t<v]', 2, 1, 3, 1, 0),
  ("3*[t<t v<v noffn; t<v' v<t']", 2, 2, 4, 2, 0),
  ('2*[t<tp p<tp tied; v<vq q<vq tied]', 4, 4, 4, 4, 8),
  ('1*[t v]', 0, 0, 0, 2, 0),
])  # fmt: skip
def test_a_drawing_has_every_edge(line, loops, arrows, reads, ffn, tied):
  svg = diagram.draw(parse(line), NAMES)
  edges = [e.get('d') for e in elements(svg, 'path') if e.get('class') == 'edge']
  assert sum(' C' in d for d in edges) == loops and sum(' L' in d for d in edges) == arrows
  assert len(elements(svg, 'polygon')) == arrows and len(elements(svg, 'circle')) == reads
  boxes = [e.get('class') for e in elements(svg, 'rect')]
  assert sum('ffn' in c for c in boxes) == ffn
  assert sum('tied' in e.get('class') for tag in ('circle', 'rect') for e in elements(svg, tag)) == tied
  repeats = int(line[0])
  assert f'{repeats} layer{"s" * (repeats > 1)}' in texts(svg)


def test_lanes_have_one_order_whatever_the_schedule():
  svg = diagram.draw(parse(schedules.LXMERT), NAMES)
  assert [name for name in texts(svg) if name in NAMES.values()] == ['words', 'regions']
  assert '9 layers' in texts(svg) and texts(svg).count('5 layers') == 2


def test_what_is_read_from_the_layers_entry_begins_at_its_frame():
  starts = lambda line: [
    float(e.get('d')[1:].split()[0])
    for e in elements(diagram.draw(parse(line), NAMES), 'path')
    if e.get('class') == 'edge' and ' L' in e.get('d')
  ]
  assert starts("1*[t<t noffn; t<v']")[0] < starts('1*[t<t noffn; t<v]')[0]


def band(rise):
  at = np.array([0.4, 0.6, 0.9]) + rise
  return charts.Band(np.array([10.0, 20.0, 30.0]), at - 0.05, at, at + 0.05)


def test_each_system_has_a_panel_and_all_the_reference():
  drawn = charts.beside({'a': band(0), 'b': band(-0.1)}, 'a', 'step')
  assert [item['title'] for item in drawn['items']] == ['a', 'b']
  dashed = [item['svg'].count('stroke-dasharray') for item in drawn['items']]
  assert dashed[0] < dashed[1]  # the reference is not drawn over itself
  assert drawn['items'][1]['note'] == 'Ends at 80.0 %'
  assert all(not re.search(r'#0[1-7]0\d', item['svg']) for item in drawn['items'])  # colours are the page's own


def test_a_profile_is_the_share_of_runs_above():
  found = charts.profile(np.array([0.5, 0.7, 0.9]), np.array([0.4, 0.7, 0.95]))
  assert found.tolist() == [1.0, 2 / 3, 0.0]


def test_what_half_of_the_seeds_reach_is_said_to_the_digit():
  scores = {'a': np.array([0.93, 0.951, 0.9]), 'b': np.array([0.9399, 0.2, 0.9499, 0.1]), 'c': np.array([0.7])}
  drawn = charts.profiles(scores, 'a')
  assert [item['note'].removeprefix('Half of the seeds reach ') for item in drawn['items']] == [
    '93.0 %', '93.9 %', '70.0 %',
  ]  # fmt: skip


@pytest.mark.parametrize('count', [3, 19, 40])
def test_every_name_stands_beside_what_it_costs(count):
  points = {f'system {n}': (100.0 + n % 3, 0.95 + n / 10_000, 0.9, 0.97) for n in range(count)}
  points['system 0'] = (100.0, 0.3, 0.29, 0.31)
  item = charts.costs(points, 'system 0', ('Accuracy against time', 'ms'))
  assert item['note'].startswith(f'Highest mean: system {count - 1};')
  heights = {
    e.text: float(re.search(r'translate\(\S+ (\S+)\)', e.get('transform', ''))[1])
    if 'translate' in e.get('transform', '')
    else float(e.get('y'))
    for e in elements(item['svg'], 'text')
    if e.text in points
  }
  assert set(heights) == set(points)
  assert min(np.diff(sorted(heights.values()))) > 5  # names that would lie over each other are moved apart
  order = sorted(points, key=lambda name: -points[name][1])
  assert sorted(heights, key=heights.get) == order


def test_streams_that_are_averaged_are_joined():
  plan = parse('2*[t<t v<v] 2*[t<tp p<tp tied; v<vq q<vq tied]')
  names = {'t': 'words', 'p': 'p', 'q': 'q', 'v': 'regions'}
  joined = lambda svg: [e for e in elements(svg, 'circle') if e.get('class') == 'joined']
  assert len(joined(diagram.draw(plan, names, 'pq'))) == 2 and not joined(diagram.draw(plan, names))
  assert not joined(diagram.draw(parse('1*[t<t v<v]'), names, 'pq'))
  assert len(diagram.legend(averaged=True)) == len(diagram.legend()) + 1


@pytest.mark.parametrize('side, large', [(32, False), (300, True)])
def test_a_large_picture_of_a_gallery_is_shown_larger(tmp_path, side, large):
  rows = [{'query': {'text': 'q'}, 'found': [{'image': np.zeros((side, side, 3), np.uint8), 'text': 'a'}]}]
  report.write(tmp_path / 'a.html', **bare(galleries=[{'title': 'G', 'rows': rows}]))
  assert ('<div class="shelf large">' in (tmp_path / 'a.html').read_text()) == large
  sought = [{'query': row['found'][0], 'found': [{'text': 'q'}]} for row in rows]
  report.write(tmp_path / 'b.html', **bare(galleries=[{'title': 'G', 'rows': sought}]))
  assert ('<div class="shelf broad told">' in (tmp_path / 'b.html').read_text()) == large


def test_a_page_of_drawings(tmp_path):
  drawings = [{'title': 'What reads what', 'note': 'n', 'signs': diagram.legend(), 'items': [
    {'title': 'a < b', 'svg': diagram.draw(parse('1*[t<v]'), NAMES), 'note': '1*[t<v]'}]}]  # fmt: skip
  table = {'title': 'T', 'columns': ['a', 'b'], 'rows': [{'a': 'x', 'b': '1.0'}], 'notes': [], 'sortable': True}
  report.write(tmp_path / 'a.html', **bare(drawings=drawings, tables=[table]))
  text = (tmp_path / 'a.html').read_text()
  assert 'a &lt; b' in text and '1*[t&lt;v]' in text and '<svg class="diagram"' in text
  assert 'class="table sortable"' in text and 'aria-sort' in text
  report.write(tmp_path / 'b.html', **bare(tables=[table | {'sortable': False}]))
  assert "'use strict'" not in (tmp_path / 'b.html').read_text()
