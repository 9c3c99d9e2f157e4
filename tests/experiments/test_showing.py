"""Under which name a model's numbers stand."""

import pytest

from experiments.showing import departures, system
from mmjax.encoders.image import ConvGrid, Detector
from mmjax.models.answering import Answering
from mmjax.models.lxmert import LXMERT
from mmjax.models.visualbert import VisualBERT


@pytest.mark.parametrize(
  ('model', 'name'),
  [
    (Answering(LXMERT()), 'LXMERT'),
    (Answering(LXMERT(schedule='1*[t<t] 2*[v<v] 2*[t<v v<t tied noffn; t<t v<v]', width=64)), 'LXMERT'),
    (Answering(VisualBERT(schedule='4*[t<tv v<tv tied]')), 'VisualBERT'),
    (Answering(LXMERT(geometry=True)), 'LXMERT + box-geometry bias'),
    (Answering(LXMERT(norm='pre'), ConvGrid((24,))), 'LXMERT + pre-norm, on a CNN grid'),
    (Answering(VisualBERT(), Detector(6)), 'VisualBERT, on a detector learnt beside'),
    (Answering(LXMERT(schedule='4*[t<tv v<tv tied]')), 'LXMERT + schedule 4*[t<tv v<tv tied]'),
    (Answering(VisualBERT(answer_from='pooled')), 'VisualBERT + answers off the pooler'),
    (Answering(VisualBERT(), blind=True), 'VisualBERT + image hidden'),
  ],
)
def test_a_name_without_qualifier_is_the_paper_alone(model, name):
  assert system(model) == name
  assert (not departures(model)) == (name.split(',')[0] in ('LXMERT', 'VisualBERT'))
