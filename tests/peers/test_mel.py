"""Spectrograms against transformers' feature extractors: Whisper's through torch, and AST's, which runs through numpy
where torchaudio is missing and through torchaudio where it is there; 1e-4 holds for either."""

import numpy as np
import pytest

from mmjax.encoders import mel

pytestmark = pytest.mark.peers

SECONDS = np.arange(5 * mel.RATE) / mel.RATE
NOISE = np.random.default_rng(0).normal(0, 1, SECONDS.size)
WAVES = {
  'noise': 0.1 * NOISE,
  'quiet noise': 1e-4 * NOISE,
  'a voice of harmonics': sum(np.sin(2 * np.pi * 120 * n * SECONDS) / n for n in range(1, 40)) * 0.2 + 1e-3 * NOISE,
  'a tone that begins': 0.5 * np.sin(2 * np.pi * 440 * SECONDS) * (SECONDS > 2) + 0.01 * NOISE,
  'short': 0.1 * NOISE[:3000],
  'longer than 10 s': 0.1 * np.random.default_rng(1).normal(0, 1, 12 * mel.RATE),
  'silence': 0 * NOISE,
}


@pytest.mark.parametrize('bins', [80, 128])
@pytest.mark.parametrize('name', WAVES)
def test_whisper(name, bins):
  from transformers import WhisperFeatureExtractor

  wave = WAVES[name].astype(np.float32)
  theirs = WhisperFeatureExtractor(bins)(wave, sampling_rate=mel.RATE, return_tensors='np')['input_features']
  ours = mel.whisper(np.pad(wave, (0, 30 * mel.RATE - wave.size))[None], bins)
  assert ours.shape == (1, 3000, bins)
  np.testing.assert_allclose(ours, theirs.swapaxes(1, 2), rtol=0, atol=1e-4)


@pytest.mark.parametrize('name', WAVES)
def test_ast(name):
  from transformers import ASTFeatureExtractor

  wave = WAVES[name].astype(np.float32)
  theirs = ASTFeatureExtractor()(wave, sampling_rate=mel.RATE, return_tensors='np')['input_values']
  np.testing.assert_allclose(mel.ast(mel.kaldi(wave[None])), theirs, rtol=0, atol=1e-4)
