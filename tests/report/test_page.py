"""The report: one file that loads nothing, says what it is given and survives what is missing."""

import html.parser
import re

import numpy as np
import pytest

from mmjax import report
from tests.report import synthetic


class Loads(html.parser.HTMLParser):
  """Collects what a page would load: addresses of anything but a link to click on."""

  def __init__(self):
    super().__init__()
    self.found, self.tags = [], set()

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    self.found += [value for name, value in attrs if name in ('src', 'srcset', 'data', 'poster', 'action')]
    self.found += [value for name, value in attrs if name in ('href', 'xlink:href') and tag != 'a']


def written(folder, **changes):
  path = folder / 'report.html'
  report.write(path, **synthetic.run([synthetic.example(n) for n in range(2)]) | changes)
  return path.read_text(encoding='utf-8')


def bare(**changes):
  empty = {'title': 'a run', 'summary': [], 'config': {}, 'history': [], 'tables': [], 'examples': []}
  return empty | changes


def test_loads_nothing(tmp_path):
  text = written(tmp_path)
  loads = Loads()
  loads.feed(text)
  assert loads.found and all(value.startswith(('data:', '#')) for value in loads.found)
  assert not loads.tags & {'iframe', 'object', 'embed', 'base', 'form'}
  style = re.search(r'<style>(.*?)</style>', text, re.DOTALL)[1]
  assert 'url(' not in style and '@import' not in style
  assert "default-src 'none'" in text  # and the browser is told so


def test_says_what_it_is_given(tmp_path):
  text = written(tmp_path)
  for said in (
    '99.41 %',
    'pre-norm, box-geometry bias',
    'optim.lr',
    '0.0015',
    'python -m experiments.lxmert',
    '412,683',
  ):
    assert said in text
  assert text.count('<tr class="ours">') == 2
  assert '<a href="https://arxiv.org/abs/1706.01427">arXiv:1706.01427</a>' in text
  assert 'every paper draws its own' in text


def test_is_the_same_twice_and_replaces_in_one_move(tmp_path):
  first = written(tmp_path)
  assert written(tmp_path) == first
  assert [path.name for path in tmp_path.iterdir()] == ['report.html']


def test_a_failure_leaves_the_old_file(tmp_path):
  written(tmp_path, title='old')
  with pytest.raises(ValueError):
    written(tmp_path, title='new', examples=[synthetic.example(0) | {'boxes': np.zeros((6, 3))}])
  assert '<title>old</title>' in (tmp_path / 'report.html').read_text()
  assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder_is_named(tmp_path):
  with pytest.raises(OSError, match='nowhere'):
    report.write(tmp_path / 'nowhere' / 'report.html', **bare())


def test_escapes_all_text(tmp_path):
  evil = '</script><script>alert(1)</script><b title="\'">&amp;'
  example = synthetic.example(0)
  example |= {key: evil for key in ('question', 'answer', 'prediction', 'question_type')}
  example |= {'words': [evil] * len(example['words']), 'probabilities': [(evil, 1.0)]}
  example['layer_names'] = [evil, evil + '2']
  table = {'title': evil, 'columns': ['system', evil], 'rows': [{'system': evil, evil: evil}], 'notes': [evil]}
  history = [{'step': n, 'split': evil, 'time': 0, evil: 0.5, 'loss': 1.0, 'accuracy/$x<b>': 0.5} for n in (1, 2)]
  text = written(tmp_path, title=evil, summary=[(evil, evil), (evil, 'x')], config={evil: {evil: evil}}, tables=[table],
                 history=history, examples=[example], command=evil)  # fmt: skip
  assert 'alert(1)' in text
  assert '<script>alert' not in text and '<b>' not in text and '<b title' not in text
  assert text.count('</script>') == 2  # the data's and the script's own


@pytest.mark.parametrize('part', ['summary', 'config', 'history', 'examples', 'command', 'tables'])
def test_parts_may_be_empty(tmp_path, part):
  empty = {'summary': [], 'config': {}, 'history': [], 'examples': [], 'command': '', 'tables': []}
  assert '</html>' in written(tmp_path, **{part: empty[part]})


def test_nothing_but_a_title(tmp_path):
  report.write(tmp_path / 'report.html', **bare())
  text = (tmp_path / 'report.html').read_text()
  assert '<h1>a run</h1>' in text and '<section' not in text and '<script' not in text


def test_a_missing_number_is_a_dash(tmp_path):
  rows = [{'system': 'a', 'x': None}, {'system': 'b'}, {'system': 'c', 'x': float('nan')}, {'system': 'd', 'x': 98.765}]
  table = {'title': 'x', 'columns': ['system', 'x'], 'rows': rows, 'notes': []}
  report.write(tmp_path / 'report.html', **bare(tables=[table]))
  text = (tmp_path / 'report.html').read_text()
  assert text.count('>–</span>') == 3
  assert '<td class="number">98.77</td>' in text


@pytest.mark.parametrize(
  'values, numeric',
  [
    (['98.2 ± 0.1', '> 94'], True),
    (['test200'], False),
    (['1,000 of both'], False),
    (['12.3 (9.1–15.0)'], True),
    ([None], False),
    ([0.5], True),
  ],
)
def test_columns_of_numbers_stand_to_the_right(tmp_path, values, numeric):
  table = {'title': 'x', 'columns': ['x'], 'rows': [{'x': value} for value in values], 'notes': []}
  report.write(tmp_path / 'report.html', **bare(tables=[table]))
  assert ('<th scope="col" class="number">' in (tmp_path / 'report.html').read_text()) == numeric


def test_a_question_without_known_answer(tmp_path):
  text = written(tmp_path, examples=[synthetic.example(0) | {'answer': None, 'question_type': None}])
  assert 'data-verdict="unknown"' in text and 'class="verdict' not in text and '<dt>Answer' not in text


def test_says_which_direction_the_schedule_lacks(tmp_path):
  lacking = [synthetic.example(n) | {'region_to_word': None} for n in range(2)]
  text = written(tmp_path, examples=lacking)
  assert 'no attention from regions to words' in text and 'no attention from words to regions' not in text


def test_stays_small(tmp_path):
  boxes, layers = synthetic.grid(10), [f'layer {n}' for n in range(5)]
  report.write(tmp_path / 'report.html',
               **synthetic.run([synthetic.example(n, boxes=boxes, layers=layers) for n in range(12)]))  # fmt: skip
  assert (tmp_path / 'report.html').stat().st_size < 3e6


def test_a_gallery_shows_what_was_found(tmp_path):
  red = np.full((4, 4, 3), (255, 0, 0), np.uint8)
  rows = [{'query': {'text': '<b>red</b>'}, 'found': [{'image': red, 'text': 'a wall', 'right': True, 'score': '0.9'}]}]
  report.write(tmp_path / 'report.html', **bare(galleries=[{'title': 'texts', 'note': 'the nearest', 'rows': rows}]))
  text = (tmp_path / 'report.html').read_text()
  assert '&lt;b&gt;red' in text and '<b>red' not in text
  assert text.count('<img class="crisp" src="data:image/png;base64,') == 1 and 'tile hit' in text and '>0.9<' in text


def test_a_picture_of_another_type_is_refused(tmp_path):
  rows = [{'query': {'image': np.zeros((4, 4, 3))}, 'found': []}]
  with pytest.raises(ValueError, match='uint8'):
    report.write(tmp_path / 'report.html', **bare(galleries=[{'title': 'x', 'rows': rows}]))
