"""What the page needs of an example: checked, packed, placed."""

import base64
import io

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from mmjax.report import examples
from tests.report import synthetic


def unpacked(direction, shape):
  fixed = np.frombuffer(base64.b64decode(direction['weights']), '<u2').reshape(shape)
  return np.where(fixed > examples.STEPS, np.nan, fixed / examples.STEPS)


def test_weights_survive_to_four_decimals():
  example = synthetic.example(0)
  seen = examples.view(example)['attention']
  for name in examples.DIRECTIONS:
    np.testing.assert_allclose(unpacked(seen[name], example[name].shape), example[name], atol=1e-5)
    assert seen[name]['heads'] == 4 and seen[name]['layers'] == ['layer 4', 'layer 5']


def test_not_finite_weights_stay_not_finite():
  assert unpacked({'weights': examples.pack(np.array([0.5, np.nan, np.inf, 1.0]))}, (4,)) == pytest.approx(
    [0.5, np.nan, np.nan, 1.0], abs=1e-5, nan_ok=True
  )


def test_knows_a_softmax_over_more_than_the_regions():
  dual, single = (examples.view(synthetic.example(0, single_stream=s))['attention'] for s in (False, True))
  assert dual['word_to_region']['shared'] == dual['region_to_word']['shared'] == [False, False]
  assert single['word_to_region']['shared'] == single['region_to_word']['shared'] == [True, True]


def test_rounding_of_bfloat16_is_no_sharing():
  example = synthetic.example(0, boxes=synthetic.grid(10))
  example['word_to_region'] = example['word_to_region'].astype(ml_dtypes.bfloat16)
  assert examples.view(example)['attention']['word_to_region']['shared'] == [False, False]


@pytest.mark.parametrize(
  'change, message',
  [
    ({'image': np.zeros((75, 75, 3), np.float32)}, r'image must be uint8 \[h,w,3\], found float32 \[75, 75, 3\]'),
    ({'image': np.zeros((75, 75), np.uint8)}, r'found uint8 \[75, 75\]'),
    ({'boxes': np.zeros((6, 5))}, r'boxes must be \[R,4\], found \[6, 5\]'),
    ({'boxes': np.full((6, 4), 40.0)}, r'boxes must be x1 y1 x2 y2 in 0..1'),
    ({'boxes': np.full((6, 4), np.nan)}, r'boxes must be x1 y1 x2 y2 in 0..1'),
    ({'boxes': np.tile([0.5, 0.5, 0.2, 0.9], (6, 1))}, r'boxes must be x1 y1 x2 y2'),
    ({'words': ['one']}, r'word_to_region must be \[2,H,1,6\] .* found \[2, 4, 11, 6\]'),
    ({'layer_names': ['only']}, r'word_to_region must be \[1,H,11,6\] for layers'),
    (
      {'region_to_word': np.full((2, 4, 6, 11), 7.0)},
      r'region_to_word must be softmax weights in 0..1, found 7.0..7.0',
    ),
  ],
)
def test_refuses(change, message):
  with pytest.raises(ValueError, match=message):
    examples.view(synthetic.example(0) | change)


def test_directions_may_have_layers_of_their_own():
  example = synthetic.example(0)
  example['region_to_word'] = example['region_to_word'][:1]
  example['layer_names'] = {'word_to_region': ['layer 4', 'layer 5'], 'region_to_word': ['layer 4']}
  seen = examples.view(example)['attention']
  assert (seen['word_to_region']['layers'], seen['region_to_word']['layers']) == (['layer 4', 'layer 5'], ['layer 4'])


def test_no_regions_or_no_maps_show_no_attention():
  example = synthetic.example(0, boxes=np.zeros((0, 4), np.float32))
  for changed in (example, synthetic.example(0) | dict.fromkeys(examples.DIRECTIONS)):
    seen = examples.view(changed)['attention']
    assert seen['word_to_region'] is None and seen['region_to_word'] is None


@pytest.mark.parametrize(
  'boxes, layout',
  [
    (synthetic.grid(5), 'cells'),
    (synthetic.grid(10), 'cells'),
    (synthetic.picture(0)[1], 'few'),
    (np.tile(np.float32([[0.1, 0.1, 0.9, 0.9]]), (13, 1)), 'many'),
    (np.float32([[0, 0, 1, 1]]), 'few'),
  ],
)
def test_layout(boxes, layout):
  assert examples.view(synthetic.example(0, boxes=boxes))['layout'] == layout


def test_a_small_box_lies_above_a_large_one():
  boxes = np.float32([[0.4, 0.4, 0.5, 0.5], [0, 0, 1, 1], [0.3, 0.3, 0.6, 0.6]])
  styles = [box['style'] for box in examples.view(synthetic.example(0, boxes=boxes))['boxes']]
  assert styles[0] == 'left:40.00%;top:40.00%;width:10.00%;height:10.00%;z-index:3'
  assert [style[-1] for style in styles] == ['3', '1', '2']


@pytest.mark.parametrize('shape, kind, size', [((75, 75), 'png', (75, 75)), ((500, 1000), 'jpeg', (720, 360))])
def test_image(shape, kind, size):
  image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
  seen = examples.view(synthetic.example(0) | {'image': image})
  head, data = seen['source'].split(',')
  picture = Image.open(io.BytesIO(base64.b64decode(data)))
  assert head == f'data:image/{kind};base64' and picture.size == size and seen['crisp'] == (kind == 'png')
  if kind == 'png':
    np.testing.assert_array_equal(np.asarray(picture), image)
