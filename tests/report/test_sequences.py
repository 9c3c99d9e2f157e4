"""Sequences as drawings: what is framed and named, and that the strongest cell is told right."""

import base64
import io
import re

import numpy as np
from PIL import Image

from mmjax.report.sequences import ABOVE, BELOW, FINE, Span, reading, series
from tests.report.test_charts import elements, texts


def cells(svg, shape):
  """The picture in an SVG, a pixel a cell: uint8 [rows,columns,4]."""
  found = re.search(r'data:image/png;base64,([^"]+)"', svg).group(1)
  image = Image.open(io.BytesIO(base64.b64decode(re.sub(r'\s', '', found)))).convert('RGBA')
  assert image.size == (shape[1] * FINE, shape[0] * FINE)
  return np.asarray(image)[FINE // 2 :: FINE, FINE // 2 :: FINE]


def test_features_stand_above_one_another_and_events_are_named():
  values = np.array([[2.0, 0.0], [-1.0, 0.0], [0.0, 2.0]])  # three steps of two features
  item = series('The sound', values, [Span(1, 3, 'a bell')])
  shown = cells(item['svg'], (2, 3))
  assert shown[0, 0].tolist() == [*ABOVE, 255] and tuple(shown[0, 1][:3]) == BELOW and shown[0, 1, 3] == 127
  assert shown[1, :, 3].tolist() == [0, 0, 255]
  assert 'a bell' in texts(item['svg']) and item['note'] == 'a bell from step 1 to 2'
  assert series('x', np.zeros((4, 2)))['note'] == '4 steps'


def test_a_row_for_each_step_that_reads():
  weights = np.array([[0.5, 0.25, 0.25], [0.0, 0.1, 0.9]])
  item = reading('Words read', weights, ['who', 'says'], [Span(1, 2, '')], [Span(2, 3, 'a bell')])
  shown = cells(item['svg'], (2, 3))
  assert shown[1, 2, 3] == 255 and shown[0, 0, 3] == int(255 * 0.5 / 0.9)
  assert {'who', 'says', 'a bell', 'step that is read'} <= set(texts(item['svg']))
  assert item['note'] == "Strongest: 'says' reads step 2 with 90 %"
  assert reading('x', weights)['note'] == 'Strongest: step 1 reads step 2 with 90 %'


def test_the_same_input_gives_the_same_text():
  once, again = (series('x', np.eye(3), [Span(0, 1, 'y')]) for _ in range(2))
  assert once == again and elements(once['svg'], 'image')
