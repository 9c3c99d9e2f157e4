"""Which part of a captured map is whose, by hand."""

import numpy as np
import pytest

from mmjax.fusion.layers import MAPS
from mmjax.fusion.maps import read
from tests.fusion.streams import stack, start, streams

SCHEDULE = "1*[t<t] 2*[v<tv t<v; t<t'v noffn]"
LENGTHS = {'t': 2, 'v': 3}
ROWS = np.arange(2 * 5).reshape(2, 1, 1, 1, 5) / 10  # of two layers, five keys


@pytest.fixture(scope='module')
def captured():
  return {
    'group0': {'sub0/t<t': np.full((1, 1, 1, 1, 2), 0.5)},
    'group1': {'sub0/v<tv': ROWS, 'sub0/t<v': ROWS[..., :3] + 2, 'sub1/t<tv': ROWS + 4},
  }


def test_a_source_is_cut_out_of_the_row_of_keys(captured):
  found = read(captured, SCHEDULE, LENGTHS, 'v', 'v')
  assert list(found) == ['layer 2, attention 1', 'layer 3, attention 1']
  np.testing.assert_allclose(found['layer 2, attention 1'][0, 0, 0], [0.2, 0.3, 0.4])
  np.testing.assert_allclose(found['layer 3, attention 1'][0, 0, 0], [0.7, 0.8, 0.9])
  first = read(captured, SCHEDULE, LENGTHS, 'v', 't')
  np.testing.assert_allclose(first['layer 2, attention 1'][0, 0, 0], [0, 0.1])


def test_every_attention_of_a_layer_is_listed(captured):
  found = read(captured, SCHEDULE, LENGTHS, 't', 'v')
  assert list(found) == [f'layer {n}, attention {s}' for s in (1, 2) for n in (2, 3)]
  np.testing.assert_allclose(found['layer 3, attention 2'][0, 0, 0], [4.7, 4.8, 4.9])
  assert list(read(captured, SCHEDULE, LENGTHS, 't', 't')) == [
    'layer 1',
    'layer 2, attention 2',
    'layer 3, attention 2',
  ]


def test_nothing_where_nothing_reads(captured):
  assert read(captured, '1*[t<t]', LENGTHS, 'v', 't') == {}


def test_of_an_unrolled_stack_as_of_a_scanned_one(captured):
  unrolled = {f'group{g}_{n}': {name: weights[n] for name, weights in captured[f'group{g}'].items()}
              for g, repeats in ((0, 1), (1, 2)) for n in range(repeats)}  # fmt: skip
  for reader, source in (('t', 'v'), ('v', 't'), ('t', 't')):
    one, other = (read(which, SCHEDULE, LENGTHS, reader, source) for which in (captured, unrolled))
    assert list(one) == list(other)
    for name in one:
      np.testing.assert_array_equal(one[name], other[name])


def test_shares_of_a_real_stack_add_up_to_one():
  module, x = stack('2*[t<tv v<tv tied]'), streams('tv')
  _, found = module.apply(start(module, x), x, train=False, mutable=[MAPS])
  parts = [read(found[MAPS], module.schedule, {'t': 4, 'v': 4}, 't', source) for source in 'tv']
  assert list(parts[0]) == list(parts[1]) == ['layer 1', 'layer 2']
  for name in parts[0]:
    np.testing.assert_allclose(parts[0][name].sum(-1) + parts[1][name].sum(-1), 1, rtol=1e-5)
    assert (parts[0][name] > 0).all()
