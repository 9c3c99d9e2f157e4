"""MBT: what may pass between sound and video, and what may not."""

import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.models.mbt import MBT
from tests.variables import drawn

RNG = np.random.default_rng(0)
INPUTS = {
  'a': RNG.normal(size=(2, 16, 8)).astype(np.float32),
  'f': RNG.normal(size=(2, 4, 16, 16, 3)).astype(np.float32),
}
SIZES = {'frames': 16, 'bins': 8, 'clip': 4, 'image': 16, 'patch': 8, 'width': 8, 'heads': 2, 'mlp': 12}


def mbt(inputs=INPUTS, there=None, **more):
  model = MBT(3, **({'layers': 3, 'fusion': 2} | SIZES | more))
  return model.apply(drawn(model, INPUTS, train=False), inputs, there, train=False)


@pytest.mark.parametrize('read', ['mean', 'token'])
def test_there_are_tokens_of_both(read):
  found = mbt(read=read)
  token = read == 'token'
  assert found['answers'].shape == (2, 3)
  assert found['a'].shape == (2, token + 2, 8) and found['f'].shape == (2, token + 8, 8)


@pytest.mark.parametrize(('bottlenecks', 'fusion', 'seen'), [(4, 2, True), (0, 2, True), (4, 3, False), (0, 0, True)])
def test_sound_is_told_to_video_by_the_layers_of_fusion_alone(bottlenecks, fusion, seen):
  """With one layer of bottlenecks nothing has passed yet: they are averaged behind it."""
  louder = INPUTS | {'a': INPUTS['a'] + 1}
  layers = {'layers': 4, 'fusion': fusion} if bottlenecks and seen else {'fusion': fusion}
  first, other = (mbt(given, bottlenecks=bottlenecks, **layers)['f'] for given in (INPUTS, louder))
  assert np.allclose(first, other, atol=1e-6) is not seen


def test_one_layer_of_bottlenecks_passes_nothing_on():
  first, other = (mbt(given)['f'] for given in (INPUTS, INPUTS | {'a': INPUTS['a'] + 1}))
  np.testing.assert_allclose(first, other, atol=1e-6)


@pytest.mark.parametrize('bottlenecks', [4, 0])
@pytest.mark.parametrize('read', ['mean', 'token'])
def test_what_is_missing_is_not_read(bottlenecks, read):
  there = {'a': jnp.array([True, False])}
  how = {'bottlenecks': bottlenecks, 'read': read, 'fusion': 1}
  first = mbt(there=there, **how)['answers']
  other = mbt(INPUTS | {'a': INPUTS['a'].copy() + np.array([0, 9])[:, None, None]}, there, **how)['answers']
  assert jnp.isfinite(first).all()
  np.testing.assert_allclose(first, other, atol=1e-5)
  assert not np.allclose(first[1], mbt(**how)['answers'][1], atol=1e-3)


def test_nothing_there_is_a_number_still():
  none = {'a': jnp.zeros(2, bool), 'f': jnp.zeros(2, bool)}
  first, other = (mbt(given, none)['answers'] for given in (INPUTS, {s: x + 1 for s, x in INPUTS.items()}))
  assert jnp.isfinite(first).all()
  np.testing.assert_allclose(first, other, atol=1e-6)


@pytest.mark.parametrize('modality', ['a', 'f'])
def test_one_modality_needs_no_other(modality):
  found = mbt({modality: INPUTS[modality]}, modalities=modality)
  assert set(found) == {modality, 'answers'}


@pytest.mark.parametrize('read', ['mean', 'token'])
def test_what_is_answered_from(read):
  """The mean of all tokens, or of the logits of each modality's own."""
  found = mbt(read=read)
  tokens = [found['a'], found['f']] if read == 'mean' else [found['a'][:, :1], found['f'][:, :1]]
  head = drawn(MBT(3, layers=3, fusion=2, read=read, **SIZES), INPUTS, train=False)['params']['answer_score']
  wanted = jnp.concatenate(tokens, 1).mean(1) @ head['kernel'] + head['bias']
  np.testing.assert_allclose(found['answers'], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('more', 'says'), [
  ({'modalities': 'v'}, "modalities: found 'v', expected some of 'af'"),
  ({'modalities': ''}, "modalities: found ''"),
  ({'read': 'tokens'}, r"read: found 'tokens', expected one of .*did you mean 'token'"),
  ({'fusion': 4}, 'fusion: found 4, expected a layer, 0 to 3'),
  ({'clip': 8}, r'video \(4, 16, 16\): expected \(8, 16, 16\)'),
  ({'frames': 24}, r'spectrogram \(16, 8\): expected 24 frames of 8 bins'),
])  # fmt: skip
def test_sizes_and_choices_that_are_none_are_refused(more, says):
  with pytest.raises(UserError, match=says):
    mbt(**more)
