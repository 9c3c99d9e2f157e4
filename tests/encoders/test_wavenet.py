"""WaveNet as an encoder: tokens are means, read no later sample, and padding cannot be seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.encoders.audio import WaveNet
from mmjax.errors import UserError
from tests.variables import drawn

WAVE = np.random.default_rng(0).uniform(-1, 1, (2, 22)).astype(np.float32)
FULL = np.ones(WAVE.shape, bool)
MODEL = WaveNet(4, (1, 2, 4), 5, skip=3, channels=6)
VARIABLES = drawn(MODEL, WAVE, FULL, train=False)
run = jax.jit(lambda wave, mask: MODEL.apply(VARIABLES, wave, mask, train=False))


def test_a_token_for_each_pool_and_one_for_the_rest():
  tokens, there = run(WAVE, FULL)
  assert tokens.shape == (2, 5, 4) and there.all()


def test_a_token_is_the_mean_of_the_samples_it_stands_for():
  each = WaveNet(4, (1, 2, 4), 1, skip=3, channels=6).apply(VARIABLES, WAVE, FULL, train=False)[0]
  tokens, _ = run(WAVE, FULL)
  np.testing.assert_allclose(tokens[:, 1], each[:, 5:10].mean(1), atol=1e-5)
  np.testing.assert_allclose(tokens[:, 4], each[:, 20:].mean(1), atol=1e-5)


@pytest.mark.parametrize('noise', [100.0, np.nan])
def test_padding_cannot_be_seen(noise):
  mask = FULL & (np.arange(22) < 13)
  found, there = run(np.where(mask, WAVE, noise).astype(np.float32), mask)
  alone, _ = run(WAVE[:, :13], FULL[:, :13])
  assert there.tolist() == [[True] * 3 + [False] * 2] * 2
  np.testing.assert_allclose(found[:, :3], alone, atol=1e-5)
  assert np.isfinite(found).all()


def test_no_token_reads_a_later_sample_and_how_far_back_one_reads():
  changed = WAVE.copy()
  changed[:, 10] += 0.5
  first, other = run(WAVE, FULL)[0], run(changed, FULL)[0]
  same = np.isclose(first, other, atol=1e-6).all((0, 2))
  assert same.tolist() == [True, True, False, False, True]  # samples 10 to 18: 1 + 1 + 2 + 4 back


def test_silence_that_is_no_sound_leaves_zero_and_gradients():
  def total(variables):
    return (MODEL.apply(variables, WAVE, ~FULL, train=False)[0] ** 2).sum()

  value, grads = jax.value_and_grad(total)(VARIABLES)
  assert value == 0 and all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_what_does_not_fit_is_one_line():
  for wave, mask in ((WAVE, FULL[:, :3]), (WAVE[..., None], FULL), (WAVE, FULL.astype(np.float32))):
    with pytest.raises(UserError, match=r'expected \[B,S\] and bool \[B,S\]') as error:
      MODEL.apply(VARIABLES, jnp.asarray(wave), mask, train=False)
    assert '\n' not in str(error.value)
