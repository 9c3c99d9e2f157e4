"""Sound files of every kind, resampling by hand, and every way in which a file is none."""

import os

import numpy as np
import pytest
import soundfile

from mmjax.data import sounds
from mmjax.errors import UserError

RATE = 16_000
WAVE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)


@pytest.mark.parametrize('kind, error', [('wav', 1 / 32768), ('flac', 1 / 32768), ('ogg', 0.05)])
def test_a_file_is_read(tmp_path, kind, error):
  soundfile.write(tmp_path / f'a.{kind}', WAVE, RATE)
  wave, rate = sounds.read(tmp_path / f'a.{kind}')
  assert (wave.shape, wave.dtype, rate) == ((RATE,), np.float32, RATE)
  assert abs(wave - WAVE).max() <= error


def test_channels_are_averaged(tmp_path):
  soundfile.write(tmp_path / 'a.wav', np.stack([WAVE, 0 * WAVE, -0.5 * WAVE], 1), 8000)
  wave, rate = sounds.read(tmp_path / 'a.wav')
  assert rate == 8000
  np.testing.assert_allclose(wave, WAVE / 6, atol=2e-5)


@pytest.mark.parametrize('rate', [8000, 22_050, 44_100, 48_000])
def test_resampling_keeps_a_sine(rate):
  wave = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
  found = sounds.resampled(wave, rate, RATE)
  assert found.shape == (RATE,) and found.dtype == np.float32
  wanted = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
  assert abs(found - wanted)[200:-200].max() < 2e-3
  assert sounds.resampled(wave, rate, rate) is wave


def test_what_the_lower_rate_cannot_hold_is_gone():
  wave = np.sin(2 * np.pi * 6000 * np.arange(RATE) / RATE).astype(np.float32)
  assert abs(sounds.resampled(wave, RATE, 8000)[100:-100]).max() < 2e-3


def test_a_file_at_another_rate(tmp_path):
  soundfile.write(tmp_path / 'a.wav', WAVE[::2], 8000)
  assert abs(sounds.load(tmp_path / 'a.wav', RATE) - WAVE)[200:-200].max() < 2e-3


def damaged(folder, name):
  """A file of that name that is no whole sound."""
  file = folder / name
  if name == 'empty.wav':
    soundfile.write(file, WAVE[:0], RATE)
  elif name == 'nan.wav':
    soundfile.write(file, WAVE * np.nan, RATE, subtype='FLOAT')
  elif name.startswith('cut'):
    soundfile.write(file, np.tile(WAVE, 30), RATE)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3 if name != 'cut in its header.wav' else 30])
  elif name == 'pipe.wav':
    os.mkfifo(file)
  elif name == 'folder.wav':
    file.mkdir()
  elif name != 'nowhere.wav':
    file.write_text('' if name == 'nothing.wav' else 'no sound')
  return file


@pytest.mark.parametrize('name, said', [
  ('empty.wav', 'found no sample, expected at least one'),
  ('nothing.wav', 'no sound that can be read (WAV, FLAC or Ogg)'),
  ('text.wav', 'no sound that can be read (WAV, FLAC or Ogg)'),
  ('cut in its header.wav', 'no sound that can be read'),
  ('cut.wav', 'damaged, cut off after 1'),
  ('cut.flac', ''),
  ('cut.ogg', 'damaged, cut off after'),
  ('pipe.wav', 'no file'),
  ('text.raw', 'no sound that can be read'),
  ('nan.wav', 'damaged, holds NaN or infinity'),
  ('nowhere.wav', 'No such file or directory'),
  ('folder.wav', 'Is a directory'),
])  # fmt: skip
def test_what_is_no_sound_is_named_in_one_line(tmp_path, name, said):
  file = damaged(tmp_path, name)
  with pytest.raises(UserError) as error:
    sounds.load(file, RATE, '--file')
  assert str(error.value).startswith(f'--file {file}: ') and said in str(error.value) and '\n' not in str(error.value)


def test_a_rate_that_is_none():
  with pytest.raises(UserError, match='rate: found 0 to 16000'):
    sounds.resampled(WAVE, 0, RATE)


@pytest.mark.parametrize('rate', [1, 2**31 - 1])
def test_a_rate_that_no_sound_has_is_refused(tmp_path, rate):
  soundfile.write(tmp_path / 'a.wav', WAVE, 8000)
  content = bytearray((tmp_path / 'a.wav').read_bytes())
  content[24:28] = rate.to_bytes(4, 'little')
  (tmp_path / 'a.wav').write_bytes(content)
  with pytest.raises(UserError, match=f'found {rate:,} samples a second, expected 100 to 1,000,000'):
    sounds.load(tmp_path / 'a.wav', RATE)
