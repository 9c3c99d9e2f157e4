"""Spectrograms by hand: a sine's bin, silence, lengths, and what padding, loudness and a batch change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.encoders import mel
from mmjax.errors import UserError


def sine(hertz, rate=mel.RATE, seconds=0.5, height=0.5):
  return height * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)[None]


def drawn(*shape):
  return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


@pytest.mark.parametrize('hertz', [200, 440, 1000, 3000, 6000])
def test_a_sine_is_loudest_in_the_bin_that_has_it(hertz):
  slaney = 0.015 * hertz if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)
  top = 15 + 27 * np.log(8) / np.log(6.4)
  found = np.asarray(mel.whisper(sine(hertz)))[0, 5:-5].argmax(-1)
  assert (abs(found - (slaney / top * 81 - 1)) <= 1).all()
  scale = lambda f: 1127 * np.log(1 + f / 700)
  found = np.asarray(mel.kaldi(sine(hertz), bins=40))[0].argmax(-1)
  assert (abs(found - ((scale(hertz) - scale(20)) / (scale(8000) - scale(20)) * 41 - 1)) <= 1).all()


def test_lengths():
  assert mel.whisper(drawn(2, 16_000)).shape == (2, 100, 80)
  assert mel.whisper(drawn(1, 16_159), bins=128).shape == (1, 100, 128)
  assert mel.whisper(drawn(1, 201)).shape == (1, 1, 80)
  assert mel.kaldi(drawn(3, 16_000)).shape == (3, 98, 128)  # 1 + (16,000 - 400) // 160
  assert mel.kaldi(drawn(1, 400)).shape == (1, 1, 128)
  assert mel.kaldi(drawn(1, 8000), rate=8000, bins=40).shape == (1, 98, 40)


def test_one_window_by_hand():
  """Kaldi's steps, written out with a loop and a transform as a sum."""
  rate, size, bins = 2000, 50, 5
  wave = drawn(size)
  x = wave - wave.mean()
  raised = [x[0] - 0.97 * x[0]] + [x[n] - 0.97 * x[n - 1] for n in range(1, size)]
  window = [0.5 - 0.5 * np.cos(2 * np.pi * n / (size - 1)) for n in range(size)]
  power = [
    abs(sum(raised[n] * window[n] * np.exp(-2j * np.pi * f * n / 64) for n in range(size))) ** 2 for f in range(33)
  ]
  scale = lambda hertz: 1127 * np.log(1 + hertz / 700)
  edge = np.linspace(scale(20), scale(1000), bins + 2)
  wanted = []
  for b in range(bins):
    rise = [(scale(f * rate / 64) - edge[b]) / (edge[b + 1] - edge[b]) for f in range(33)]
    fall = [(edge[b + 2] - scale(f * rate / 64)) / (edge[b + 2] - edge[b + 1]) for f in range(33)]
    wanted.append(np.log(sum(p * max(0, min(r, f)) for p, r, f in zip(power, rise, fall))))
  np.testing.assert_allclose(mel.kaldi(wave[None], rate, bins)[0, 0], wanted, atol=1e-4)


def test_a_window_of_whispers_by_hand():
  """The frame around sample 1,600: Hann's window, a transform as a sum, Slaney's first triangle (0 to 75.4 Hz)."""
  wave = drawn(3200)
  window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
  frame = wave[1400:1800] * window
  power = [abs(sum(frame * np.exp(-2j * np.pi * f * np.arange(400) / 400))) ** 2 for f in (0, 1, 2)]
  step = (15 + 27 * np.log(8) / np.log(6.4)) / 81 / 0.015  # Hz
  height = 2 / (2 * step)
  first = height * sum(p * max(0, min(f * 40 / step, 2 - f * 40 / step)) for f, p in enumerate(power))
  got = np.asarray(mel.whisper(wave[None]))[0, 10, 0]
  assert got == pytest.approx((np.log10(first) + 4) / 4, abs=1e-5)


def test_silence_is_even():
  assert (np.asarray(mel.whisper(np.zeros((1, 16_000), np.float32))) == -1.5).all()
  assert np.asarray(mel.kaldi(np.zeros((1, 16_000), np.float32))) == pytest.approx(np.log(mel.FLOOR))


def test_nothing_is_more_than_80_dB_below_the_loudest():
  wave = np.concatenate([sine(440), np.zeros((1, 16_000), np.float32)], 1)
  found = np.asarray(mel.whisper(wave))
  assert found.max() - found.min() == pytest.approx(2)


def test_padding_changes_only_frames_that_reach_it():
  wave = np.concatenate([sine(440), drawn(1, 8000)], 1)
  padded = np.pad(wave, ((0, 0), (0, 3200)))
  np.testing.assert_allclose(mel.whisper(padded)[:, :98], mel.whisper(wave)[:, :98], atol=1e-6)
  np.testing.assert_allclose(mel.kaldi(padded)[:, :98], mel.kaldi(wave), atol=1e-4)


def test_rows_do_not_meet_and_it_can_be_jitted():
  wave = drawn(3, 4000) * np.array([[1], [10], [0.01]], np.float32)
  for front in (mel.whisper, mel.kaldi):
    whole = jax.jit(front)(wave)
    for n in range(3):
      np.testing.assert_allclose(whole[n], front(wave[n : n + 1])[0], atol=1e-4)


def test_a_constant_is_taken_off_and_loudness_is_added():
  wave = drawn(1, 4000)
  found = mel.kaldi(wave, bins=40)  # of 128, some are narrower than a frequency and hold nothing
  np.testing.assert_allclose(mel.kaldi(wave + 0.25, bins=40), found, atol=1e-2)
  np.testing.assert_allclose(mel.kaldi(10 * wave, bins=40) - found, 2 * np.log(10), atol=1e-3)
  np.testing.assert_allclose(mel.whisper(10 * wave) - mel.whisper(wave), 0.5, atol=1e-5)


def test_what_ast_reads():
  spectrogram = jnp.arange(6.0).reshape(1, 3, 2)
  found = mel.ast(spectrogram, 4, mean=1, std=2)
  assert found.tolist() == [[[-0.25, 0], [0.25, 0.5], [0.75, 1], [-0.25, -0.25]]]
  assert mel.ast(spectrogram, 2).shape == (1, 2, 2)


@pytest.mark.parametrize('call, said', [
  (lambda: mel.whisper(np.zeros((1, 200), np.float32)), 'wave of 200 samples: expected more than 200'),
  (lambda: mel.kaldi(np.zeros((1, 399), np.float32)), 'wave of 399 samples: shorter than a window of 400'),
  (lambda: mel.kaldi(np.zeros((1, 399), np.float32), rate=40), 'rate 40: expected at least 100'),
])  # fmt: skip
def test_what_is_too_short_is_one_line(call, said):
  with pytest.raises(UserError, match=said) as error:
    call()
  assert '\n' not in str(error.value)
