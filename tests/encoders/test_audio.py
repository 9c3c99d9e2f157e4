"""Spectrograms as tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.encoders.audio import SpectrogramConv

MODEL = SpectrogramConv(width=6, channels=(3, 5))


def tokens(spectrogram, frames, model=MODEL, variables=None):
  mask = jnp.arange(spectrogram.shape[1]) < jnp.asarray(frames)[:, None]
  variables = variables or model.init(jax.random.key(0), spectrogram, mask, train=False)
  return *model.apply(variables, spectrogram, mask, train=False), variables


def test_a_convolution_by_hand():
  """One channel of ones, no norm's gain but its bias: the norm of one channel is 0, so its bias is what is left."""
  model = SpectrogramConv(width=1, channels=(1,))
  spectrogram, mask = jnp.ones((1, 4, 2)), jnp.ones((1, 4), bool)
  variables = model.init(jax.random.key(0), spectrogram, mask, train=False)
  variables = jax.tree.map(jnp.ones_like, variables)
  found, found_mask = model.apply(variables, spectrogram, mask, train=False)
  assert found_mask.tolist() == [[True, True]]
  np.testing.assert_allclose(found, jnp.full((1, 2, 1), jax.nn.gelu(1.0) + 1), rtol=1e-6)  # one bin is left


def test_two_channels_by_hand():
  """The one weight is that of a frame later and a bin higher, so that only the first cell hears the 1."""
  model = SpectrogramConv(width=2, channels=(2,))
  spectrogram, mask = jnp.zeros((1, 3, 3)).at[0, 1, 1].set(1.0), jnp.ones((1, 3), bool)
  params = model.init(jax.random.key(0), spectrogram, mask, train=False)['params']
  kernel = jnp.zeros((3, 3, 1, 2)).at[2, 2, 0, 0].set(7.0)
  params['conv0'] = {'kernel': kernel, 'bias': jnp.zeros(2)}
  params['project'] = {'kernel': jnp.array([[1.0, 0], [0, 1], [0, 0], [0, 0]]), 'bias': jnp.zeros(2)}
  found, _ = model.apply({'params': params}, spectrogram, mask, train=False)
  np.testing.assert_allclose(found[0, 0], jax.nn.gelu(jnp.array([1.0, -1.0])), atol=1e-5)
  np.testing.assert_allclose(found[0, 1], 0, atol=1e-6)


@pytest.mark.parametrize('frames', [1, 6, 8])
def test_padding_cannot_be_seen(frames):
  """Neither what stands behind a sound nor how much of it."""
  sound = jax.random.normal(jax.random.key(1), (2, frames, 7))
  alone, mask, variables = tokens(sound, [frames, frames])
  count = -(-frames // 4)
  assert alone.shape == (2, count, 6) and mask.all()
  for more in (1, 3):
    wide = jnp.pad(sound, ((0, 0), (0, more), (0, 0)), constant_values=100.0)  # shout from behind the mask
    found, mask, _ = tokens(wide, [frames, frames], variables=variables)
    np.testing.assert_allclose(found[:, :count], alone, atol=1e-5)
    assert mask.sum(1).tolist() == [count, count] and mask[:, :count].all()


def test_a_sound_of_nothing_is_finite():
  found, mask, _ = tokens(jnp.ones((1, 8, 7)), [0])
  assert not mask.any() and np.isfinite(found).all()
