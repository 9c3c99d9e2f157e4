"""Video files as users have them, through the ffmpeg of imageio-ffmpeg: frames uint8 [T,h,w,3], and their sound.

Each file is decoded by a process of its own, which reaches no network and is ended after a while, so that
a damaged or an endless one cannot hang its reader.

T frames, S samples.
"""

import dataclasses
import os
import re
import subprocess
from collections.abc import Sequence

import imageio_ffmpeg
import numpy as np

from mmjax.errors import UserError, nearest

HOWS = ('uniform', 'dense', 'random')
LIMIT = 120.0  # seconds that one process may take
_DURATION = re.compile(r'Duration: (\d+):(\d\d):(\d\d\.\d+)')
_VIDEO = re.compile(r'Stream #0.*?: Video: .*?, (\d+)x(\d+)[ ,\n]')
_RATE = re.compile(r'([\d.]+)(k?) (?:fps|tbr)')
_SOUND = re.compile(r'Stream #0.*?: Audio: ')
_CUT = re.compile(r'partial file|ended prematurely|[Cc]orrupt|Error during demuxing')  # of a file that lacks its end
_BROKEN = re.compile(
  r'[Ii]nvalid data|Error (submitting|while decoding|decoding)|decode_frame|Header missing'
)  # of sound
_LIST = re.compile(r'Input #0, (concat|hls|dash|imf)')  # what one file names may be any other
_WHO = re.compile(r'^(\[[^]]*\] )+')  # the part of ffmpeg that speaks
_COUNT = re.compile(r'frame= *(\d+)')


@dataclasses.dataclass(frozen=True)
class Video:
  """What is known before anything is decoded: frames, how many a second, duration, pixels, and whether it sounds."""

  frames: int
  rate: float
  seconds: float
  width: int
  height: int
  sound: bool


def probe(path: str | os.PathLike, limit: float = LIMIT, about: str = 'video') -> Video:
  """What a video file holds; its packets are counted, none is decoded.

  limit: seconds that it may take. Raises UserError, about `about`, for a file that is no video, holds no frame, is
  damaged or cut off, names other files in place of holding a video, or takes longer. Kinds of file that do not tell
  where they end (MPEG, Ogg, GIF), cut off, are shorter videos.
  """
  said = _run(path, ('-map', '0:V:0', '-c', 'copy', '-f', 'null', '-'), limit, about, level='info')[1]
  if names := _LIST.search(said):
    raise UserError(f'{about} {path}: a list of other files ({names[1]}), expected a video')
  size, rate, count = _VIDEO.search(said), _RATE.search(said), _COUNT.findall(said)
  if not size or not rate or not count or not int(count[-1]) or not float(rate[1]):
    raise UserError(f'{about} {path}: found no frame, expected at least one')
  if _CUT.search(said):
    raise UserError(f'{about} {path}: damaged or cut off after {count[-1]} frames')
  frames, a_second = int(count[-1]), float(rate[1]) * (1000 if rate[2] else 1)
  told = _DURATION.search(said)
  if 'Estimating duration' in said:  # from the bytes, and far off
    told = None
  seconds = 3600 * int(told[1]) + 60 * int(told[2]) + float(told[3]) if told else frames / a_second
  return Video(frames, a_second, seconds, int(size[1]), int(size[2]), bool(_SOUND.search(said)))


def read(
  path: str | os.PathLike,
  frames: int,
  side: int,
  how: str = 'uniform',
  rng: np.random.Generator | None = None,
  every: int = 1,
  start: int = 0,
  limit: float = LIMIT,
  about: str = 'video',
) -> np.ndarray:
  """So many frames of a video file -> uint8 [frames,side,side,3]: each the middle square, as its camera was held.

  how: 'uniform', spread over the whole, the middle frame of each of so many equal parts; 'dense', each `every`-th from
  `start` on; 'random', the same from a start drawn from `rng`. Where a video is too short, 'uniform' has frames more
  than once, and the others have the last one over and over.
  limit: seconds that each of two processes may take. Raises UserError, about `about`, for a wrong argument, and for a
  file as in `probe`, of which not all these frames come, or of which ffmpeg says that it is damaged up to the last of
  them: some codecs (VP8) decode what is damaged without a word.
  """
  if how not in HOWS:
    raise UserError(f'how: found {how!r}, expected one of {HOWS}{nearest(how, HOWS)}')
  if min(frames, side, every) < 1 or start < 0:
    raise UserError(f'{frames} frames of side {side}, every {every} from {start}: expected at least 1, from 0 on')
  if how == 'random' and rng is None:
    raise UserError("how: found 'random' without rng, expected a random generator to draw from")
  chosen = places(probe(path, limit, about).frames, frames, how, rng, every, start)
  wanted, back = np.unique(chosen, return_inverse=True)
  fit = f'scale={side}:{side}:force_original_aspect_ratio=increase:flags=bicubic,crop={side}:{side},setsar=1'
  take = '+'.join(f'eq(n\\,{n})' for n in wanted)
  how_many = ('-fps_mode', 'passthrough', '-frames:v', str(len(wanted)))
  raw = ('-f', 'rawvideo', '-pix_fmt', 'rgb24', 'pipe:1')
  found, said = _run(path, ('-map', '0:V:0', '-vf', f'select={take},{fit}', *how_many, *raw), limit, about)
  if said.strip():  # a damaged frame is decoded into something all the same
    raise UserError(f'{about} {path}: damaged: {_WHO.sub("", said.strip()).splitlines()[0]}')
  size = side * side * 3
  if len(found) != size * len(wanted):
    raise UserError(f'{about} {path}: damaged, found {len(found) // size} of the {len(wanted)} frames asked for')
  return np.frombuffer(found, np.uint8).reshape(len(wanted), side, side, 3)[back]


def places(
  count: int, frames: int, how: str, rng: np.random.Generator | None = None, every: int = 1, start: int = 0
) -> np.ndarray:
  """Which frames of `count` those are that `read` takes: int [frames], rising."""
  if how == 'uniform':
    return ((2 * np.arange(frames) + 1) * count) // (2 * frames)
  if how == 'random' and rng is not None:
    start = int(rng.integers(max(count - every * (frames - 1), 1)))
  return np.minimum(start + every * np.arange(frames), count - 1)


def sound(path: str | os.PathLike, rate: int, limit: float = LIMIT, about: str = 'video') -> np.ndarray:
  """The first sound track of a video (or sound) file -> float32 [S] in -1..1, `rate` samples a second.

  Channels are mixed to one as ffmpeg does. Raises UserError, about `about`, for a rate below 1, and for a file that has
  none, is damaged, or takes longer than `limit` seconds.
  """
  if rate < 1:
    raise UserError(f'rate: found {rate}, expected at least 1 sample a second')
  raw = ('-map', '0:a:0', '-ac', '1', '-ar', str(rate), '-f', 'f32le', 'pipe:1')
  found, said = _run(path, raw, limit, about, 'warning')
  if _CUT.search(said) or _BROKEN.search(said):
    raise UserError(f'{about} {path}: damaged, its sound cannot be read as a whole')
  if len(found) < 4:
    raise UserError(f'{about} {path}: found no sample of sound, expected at least one')
  return np.frombuffer(found, '<f4').astype(np.float32)


def _run(
  path: str | os.PathLike, how: Sequence[str], limit: float, about: str, level: str = 'error'
) -> tuple[bytes, str]:
  """(what ffmpeg wrote, what it said) of a file."""
  name = os.path.abspath(path)
  if not os.path.isfile(name):
    raise UserError(f'{about} {path}: {"no file" if os.path.exists(name) else "No such file or directory"}')
  if not os.path.getsize(name):
    raise UserError(f'{about} {path}: empty, expected a video')
  try:
    program = imageio_ffmpeg.get_ffmpeg_exe()
  except RuntimeError as error:
    raise UserError(f'{about} {path}: found no ffmpeg, which imageio-ffmpeg brings: {error}') from error
  start = (program, '-nostdin', '-hide_banner', '-v', level, '-threads', '1', '-protocol_whitelist', 'file')
  try:
    done = subprocess.run((*start, '-i', f'file:{name}', *how), capture_output=True, timeout=limit, check=False)
  except subprocess.TimeoutExpired as error:  # the process was killed
    raise UserError(f'{about} {path}: not read after {limit:g} s, expected a shorter one') from error
  said = done.stderr.decode(errors='replace')
  if done.returncode:
    none = 'matches no streams' in said
    what = 'sound' if '0:a:0' in how else 'picture'
    raise UserError(f'{about} {path}: ' + (f'has no {what}' if none else 'no video that can be read'))
  return done.stdout, said
