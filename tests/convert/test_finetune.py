"""What a checkpoint gives to a model that differs in its ends."""

import numpy as np
import pytest

from mmjax.convert.finetune import begin
from mmjax.convert.load import load
from mmjax.errors import UserError
from tests.convert.cases import FOLDER


def other(loaded, *ends):
  """Variables of another model: those layers have one row more on every axis, and all numbers are zero."""

  def change(tree, path=''):
    if isinstance(tree, dict):
      return {name: change(value, f'{path}/{name}') for name, value in tree.items()}
    return np.zeros([n + 1 for n in tree.shape] if any(f'{end}/' in f'{path}/' for end in ends) else tree.shape)

  return change(loaded)


@pytest.mark.parametrize('case, ends', [
  ('uniter_vqa', ('regions/feature/kernel', 'regions/masked')),
  ('lxmert_pretraining', ('answer_score', 'object_score', 'attribute_score', 'feature_score')),
])  # fmt: skip
def test_ends_of_other_sizes_begin_anew_and_are_said(case, ends):
  _, loaded = load(FOLDER / case)
  found, said = begin(other(loaded, *ends), loaded)
  lines = [line.partition(':')[0] for line in said]
  assert lines == sorted(end.removesuffix('/kernel') for end in ends)
  assert not found['params']['answer_score']['kernel'].any() or 'answer_score' not in ends
  word = found['params']['text']['word']['embedding']
  np.testing.assert_array_equal(word, loaded['params']['text']['word']['embedding'])


def test_anything_else_is_refused():
  _, loaded = load(FOLDER / 'uniter_vqa')
  with pytest.raises(UserError, match='1 parameters do not fit: params/text/word/embedding: found'):
    begin(other(loaded, 'word/embedding'), loaded)
