"""Frames and sound of video files: a clip whose n-th frame is as grey as n says, and files that are none."""

import os
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from mmjax.data import videos
from mmjax.errors import UserError

COUNT, RATE, STEP = 24, 12, 10  # frames, a second, and how much lighter each is than the one before


def ffmpeg(*how, given=b''):
  program = imageio_ffmpeg.get_ffmpeg_exe()
  subprocess.run([program, '-v', 'error', '-y', *map(str, how)], input=given, check=True)


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
  """24 frames of 32 x 16, 2 s, with a sine of 500 Hz; its index stands in front."""
  path = tmp_path_factory.mktemp('clip') / 'a clip.mp4'
  grey = np.full((COUNT, 16, 32, 3), 1) * STEP * np.arange(COUNT)[:, None, None, None]
  grey[:, :, :8] = 255  # what the middle square leaves out
  grey[:, :, 24:] = 255
  ffmpeg('-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', '32x16', '-r', RATE, '-i', 'pipe:0',
         '-f', 'lavfi', '-i', 'sine=500:sample_rate=16000:duration=2', '-c:v', 'libx264', '-crf', 4, '-g', 6,
         '-pix_fmt', 'yuv420p', '-movflags', 'faststart', path, given=grey.astype(np.uint8).tobytes())  # fmt: skip
  return path


def numbers(frames):
  """Which frame of the clip each one is."""
  middle = frames[:, 2:-2, 2:-2].mean((1, 2, 3))
  assert np.abs(middle / STEP - np.rint(middle / STEP)).max() < 0.35
  return np.rint(middle / STEP).astype(int).tolist()


def test_what_a_clip_holds_is_known_before(clip):
  found = videos.probe(clip)
  assert (found.frames, found.rate, found.width, found.height, found.sound) == (COUNT, RATE, 32, 16, True)
  assert found.seconds == pytest.approx(2, abs=0.1)


def test_uniform_takes_the_middle_of_equal_parts(clip):
  found = videos.read(clip, 4, 16)
  assert found.shape == (4, 16, 16, 3) and found.dtype == np.uint8
  assert numbers(found) == [3, 9, 15, 21]
  assert found.max() < 245  # the white sides are outside of the middle square
  assert numbers(videos.read(clip, COUNT, 8)) == list(range(COUNT))


def test_a_short_video_has_frames_more_than_once(clip):
  assert numbers(videos.read(clip, 2 * COUNT, 8)) == sorted([*range(COUNT)] * 2)
  assert numbers(videos.read(clip, 4, 8, 'dense', start=22)) == [22, 23, 23, 23]


def test_dense_takes_each_nth_from_a_start(clip):
  assert numbers(videos.read(clip, 4, 8, 'dense')) == [0, 1, 2, 3]
  assert numbers(videos.read(clip, 3, 8, 'dense', every=5, start=2)) == [2, 7, 12]


def test_random_is_dense_from_where_the_generator_says(clip):
  starts = {numbers(videos.read(clip, 3, 8, 'random', np.random.default_rng(seed), 4))[0] for seed in range(3)}
  again = [videos.read(clip, 3, 8, 'random', np.random.default_rng(5), 4) for _ in range(2)]
  np.testing.assert_array_equal(*again)
  first = numbers(again[0])
  assert np.diff(first).tolist() == [4, 4] and len(starts) > 1


@pytest.mark.parametrize('count', [1, 7, 40])
def test_random_starts_everywhere_and_never_too_late(count):
  starts = {int(videos.places(count, 3, 'random', np.random.default_rng(n), 2)[0]) for n in range(300)}
  assert starts == set(range(max(count - 4, 1)))


def test_its_sound_is_a_wave(clip):
  wave = videos.sound(clip, 8000)
  assert wave.dtype == np.float32 and abs(len(wave) - 16000) < 800 and np.abs(wave).max() < 1
  spectrum = np.abs(np.fft.rfft(wave[4000:12000]))
  assert spectrum.argmax() == 500


def test_a_video_without_sound_says_so(clip, tmp_path):
  ffmpeg('-i', clip, '-an', '-c', 'copy', tmp_path / 'mute.mp4')
  assert not videos.probe(tmp_path / 'mute.mp4').sound
  with pytest.raises(UserError, match=r'mute\.mp4: has no sound$'):
    videos.sound(tmp_path / 'mute.mp4', 8000)
  ffmpeg('-i', clip, '-vn', tmp_path / 'sound.wav')
  with pytest.raises(UserError, match=r'sound\.wav: has no picture$'):
    videos.read(tmp_path / 'sound.wav', 1, 8)


@pytest.mark.parametrize('content, said', [
  (b'', 'empty, expected a video'), (b'no video', 'no video that can be read'), (bytes(4096), 'no video that can be'),
])  # fmt: skip
def test_what_is_no_video_is_said_in_a_line(tmp_path, content, said):
  (tmp_path / 'a.mp4').write_bytes(content)
  for read in (videos.probe, lambda path: videos.read(path, 2, 8), lambda path: videos.sound(path, 8000)):
    with pytest.raises(UserError, match=rf'^video .*a\.mp4: {said}') as error:
      read(tmp_path / 'a.mp4')
    assert '\n' not in str(error.value)


def test_a_file_that_was_cut_off_is_named(clip, tmp_path):
  content = clip.read_bytes()
  (tmp_path / 'half.mp4').write_bytes(content[: len(content) // 2])  # its index promises 24 frames
  with pytest.raises(UserError, match=r'half\.mp4: damaged or cut off after \d+ frames'):
    videos.read(tmp_path / 'half.mp4', 2, 8)
  with pytest.raises(UserError, match=r'half\.mp4: damaged, its sound cannot be read as a whole'):
    videos.sound(tmp_path / 'half.mp4', 8000)
  (tmp_path / 'start.mp4').write_bytes(content[:200])
  with pytest.raises(UserError, match=r'start\.mp4: has no picture'):
    videos.read(tmp_path / 'start.mp4', 2, 8)


def test_an_endless_file_is_ended(clip, tmp_path):
  """A live playlist, whose next part never comes: ffmpeg waits for it, the reader does not."""
  ffmpeg('-i', clip, '-c', 'copy', '-f', 'mpegts', tmp_path / 'part.ts')
  live = tmp_path / 'live.m3u8'
  live.write_text('#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:2.0,\npart.ts\n')
  with pytest.raises(UserError, match=r'live\.m3u8: not read after 1\.5 s'):
    videos.read(live, 2, 8, limit=1.5)


def test_no_network_is_reached(tmp_path):
  (tmp_path / 'far.m3u8').write_text(
    '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\nhttp://127.0.0.1:9/part.ts\n#EXT-X-ENDLIST\n'
  )
  with pytest.raises(UserError, match=r'far\.m3u8: no video that can be read'):
    videos.read(tmp_path / 'far.m3u8', 2, 8, limit=20)
  with pytest.raises(UserError, match='No such file'):
    videos.read('http://127.0.0.1:9/part.ts', 2, 8)


def test_what_is_no_file_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(UserError, match='pipe: no file'):
    videos.read(tmp_path / 'pipe', 2, 8)


@pytest.mark.parametrize('how, words', [
  ({'how': 'densely'}, "found 'densely', expected one of .*did you mean 'dense'"),
  ({'how': 'random'}, 'without rng'),
  ({'every': 0}, 'expected at least 1'),
  ({'frames': 0}, 'expected at least 1'),
])  # fmt: skip
def test_a_wrong_argument_is_said(clip, how, words):
  with pytest.raises(UserError, match=words):
    videos.read(**{'path': clip, 'frames': 2, 'side': 8} | how)


@pytest.mark.parametrize('name', ['a.ffconcat', 'a.mp4', 'a.m3u8'])
def test_a_list_of_other_files_is_no_video(clip, tmp_path, name):
  (tmp_path / 'there.mp4').write_bytes(clip.read_bytes())
  hls = '#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nthere.mp4\n#EXT-X-ENDLIST\n'
  (tmp_path / name).write_text(hls if name == 'a.m3u8' else 'ffconcat version 1.0\nfile there.mp4\n')
  with pytest.raises(UserError, match='a list of other files'):
    videos.read(tmp_path / name, 2, 8)


def test_frames_that_are_damaged_are_refused(clip, tmp_path):
  content = bytearray(clip.read_bytes())
  middle = len(content) // 2
  content[middle : middle + 400] = b'\xa5' * 400
  (tmp_path / 'bad.mp4').write_bytes(content)
  with pytest.raises(UserError, match=r'damaged: [^[]'):
    videos.read(tmp_path / 'bad.mp4', COUNT, 8)
