"""Three witnesses of a scene, made up: which of them contradicts the other two? Sequences that are not aligned in time.

In a scene a door opens or closes and a light goes on or off. The report, a sentence of word vectors, names one of the
two events at some place in it and says which way it went; the sound and the video, series of features, have both, each
at a time of its own: a scene begins late in one or the other, runs at another rate, and lasts as long as it likes. Each
witness may lie. Asked is who contradicts the other two about the event that the report names: nobody, the report, the
sound or the video.

Which way an event went is drawn for each witness alike, so that one witness alone tells nothing of the answer. Two of
them tell whether they agree, which halves the answers, if one of the two is the report; sound and video do not know
which event is asked for. The three tell it. The numbers are in BEST, and hold by construction: all CASES are equally
frequent, and times, words and noise are drawn apart from them.

M scenes, L steps of the report, T steps of the sound, N frames of the video, F features of a step.
"""

import functools
import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data.drawn import RAW, Drawn

ANSWERS = ('nobody', 'report', 'sound', 'video')  # who contradicts the other two
EVENTS = ('door', 'light')
WAYS = ('closes', 'opens', 'goes off', 'goes on')  # of the door, of the light
FILLERS = ('a', 'the', 'then', 'there', 'was', 'and', 'i', 'saw', 'heard', 'in', 'house', 'late', 'evening', 'street',
           'quiet', 'nothing', 'else', 'someone', 'far', 'away')  # fmt: skip
NAMES = (  # words that say which way an event went, in the order of WAYS
  ('shut', 'closed', 'locked'),
  ('opened', 'unlocked', 'ajar'),
  ('dark', 'dimmed', 'unlit'),
  ('lit', 'bright', 'glowing'),
)
WORDS = ('', *FILLERS, *itertools.chain.from_iterable(NAMES))  # 0 is no word
REPORT, SOUND, VIDEO = (10, 16), (24, 8), (15, 10)  # the most steps, and features, of each
LASTS = {'sound': 4, 'video': 3}  # steps of an event
LENGTH, NOISE = 3.0, 0.3  # of an event in the space of features; deviation of each feature
CASES = tuple(itertools.product(range(2), *[range(2)] * 3, *[range(2)] * 2))
# (event that is named, which way it went by report, sound, video, which way the other went by sound, video)
SPLITS = {'train': (12_800, 6101), 'validation': (512, 6102), 'test': (2048, 6103)}  # M (whole turns of CASES), seed
BEST = {  # the most that can be known of the answer, by those who are asked
  'report': 0.25, 'sound': 0.25, 'video': 0.25,
  'report and sound': 0.5, 'report and video': 0.5, 'sound and video': 0.375,
  'all three': 1.0,
}  # fmt: skip


@functools.cache
def tables() -> dict[str, np.ndarray]:
  """What the features are made of: 'report' float32 [words,F], a vector a word; 'sound' and 'video' [WAYS,F]."""
  rng = np.random.RandomState(6100)  # its streams are frozen for good (NEP 19)
  spread = lambda steps: LENGTH * np.linalg.qr(rng.randn(steps[1], steps[1]))[0]  # at right angles to one another
  axes = spread(REPORT)
  fillers = rng.randn(len(FILLERS), REPORT[1] - len(WAYS)) @ axes[len(WAYS) :] / 4
  names = axes[: len(WAYS), None] + NOISE * rng.randn(len(WAYS), len(NAMES[0]), REPORT[1])
  words = np.concatenate([np.zeros((1, REPORT[1])), fillers, names.reshape(-1, REPORT[1])])
  return {'report': words.astype(np.float32)} | {
    w: spread(s)[: len(WAYS)] for w, s in (('sound', SOUND), ('video', VIDEO))
  }


def contradicts(report: np.ndarray, sound: np.ndarray, video: np.ndarray) -> np.ndarray:
  """Index into ANSWERS of which way each says that the event went, int [M] of 0 and 1 each."""
  return np.select([(report == sound) & (sound == video), sound == video, report == video], [0, 1, 2], 3)


def generate(number: int, seed: int) -> dict[str, np.ndarray]:
  """Draws `number` scenes: 'words' int32 [M,L], 0 behind the end, 'sound' float32 [M,T,F], 'video' [M,N,F], 0 likewise.

  'steps' int32 [M,3], how long each is; 'answer' int32 [M]; 'case' int32 [M,6], a row of CASES; 'at' int32 [M,2,3]: the
  step at which each event begins in each, -1 where the report does not name it.
  """
  rng, table, each = np.random.RandomState(seed), tables(), np.arange(number)
  case = np.array(CASES)[rng.permutation(np.resize(np.arange(len(CASES)), number))]
  named, other = case[:, 0], 1 - case[:, 0]
  at, found = np.full((number, 2, 3), -1), {}
  long = np.stack([rng.randint(most * 2 // 3, most + 1, size=number) for most, _ in (REPORT, SOUND, VIDEO)], 1)
  words = rng.randint(1, 1 + len(FILLERS), size=(number, REPORT[0]))
  at[each, named, 0] = place = (rng.rand(number) * long[:, 0]).astype(int)
  name = rng.randint(len(NAMES[0]), size=number)
  words[each, place] = 1 + len(FILLERS) + (2 * named + case[:, 1]) * len(NAMES[0]) + name
  found['words'] = np.where(np.arange(REPORT[0]) < long[:, :1], words, 0)
  moment = np.sort(rng.rand(number, 2), 1)[each[:, None], rng.rand(number, 2).argsort(1)]  # of each event, in 0..1
  late = np.argsort(moment, 1)[:, 1]
  for m, (what, (most, features)) in enumerate((('sound', SOUND), ('video', VIDEO)), 1):
    lasts, series = LASTS[what], NOISE * rng.randn(number, most, features)
    room = long[:, m] - 2 * lasts  # the later event begins when the earlier one is over
    delay = rng.rand(number)  # at which the scene begins, and the share of what is left that it takes
    takes = 1 - delay * rng.rand(number)
    begins = (room * (delay * (1 - takes) + takes * moment.T)).astype(int)
    begins[late, each] += lasts
    at[..., m] = begins.T
    way = np.zeros((number, 2), int)
    way[each, named], way[each, other] = case[:, 1 + m], case[:, 3 + m]
    for event, step in itertools.product(range(2), range(lasts)):
      series[each, begins[event] + step] += table[what][2 * event + way[:, event]]
    found[what] = np.where((np.arange(most) < long[:, m, None])[..., None], series, 0).astype(np.float32)
  found |= {'steps': long, 'case': case, 'at': at, 'answer': contradicts(*case[:, 1:4].T)}
  return {name: array if array.dtype == np.float32 else array.astype(np.int32) for name, array in found.items()}


def solve(words: np.ndarray, sound: np.ndarray, video: np.ndarray) -> np.ndarray:
  """The answers int [M] to scenes as in `generate`, by what each witness is made of. The report must name an event."""
  table = tables()
  told = (words[words > len(FILLERS)] - 1 - len(FILLERS)) // len(NAMES[0])  # of WAYS
  said = [told % 2]
  for what, series in (('sound', sound), ('video', video)):
    like = series @ table[what].T  # [M,T,WAYS]
    best = np.stack([like[:, n : like.shape[1] - LASTS[what] + 1 + n] for n in range(LASTS[what])]).sum(0).max(1)
    said.append(best.reshape(-1, 2, 2)[np.arange(len(best)), told // 2].argmax(1))
  return contradicts(*said)


def features(scene: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """A scene, or several, as a model of three streams reads them: ({'t', 'a', 'f': float32 [...,steps,F]}, their masks).

  't' is the report, 'a' the sound, 'f' the video; masks bool [...,steps], True where a step is there.
  """
  found = {'t': tables()['report'][scene['words']], 'a': scene['sound'], 'f': scene['video']}
  return found, {s: np.arange(x.shape[-2]) < scene['steps'][..., n, None] for n, (s, x) in enumerate(found.items())}


class Witnesses(Drawn):
  """TFDS builder of train 12,800, validation 512 and test 2,048 scenes."""

  SPLITS: ClassVar[Mapping[str, tuple[int, int]]] = SPLITS
  DESCRIPTION = 'Made-up scenes, told by a report, a sound and a video that are not aligned, one of which may lie.'

  def features(self) -> dict[str, Any]:
    number = lambda *shape: tfds.features.Tensor(shape=shape, dtype=np.int32)
    series = lambda shape: tfds.features.Tensor(shape=shape, dtype=np.float32, encoding=RAW)
    return {
      'words': number(REPORT[0]),
      'sound': series(SOUND),
      'video': series(VIDEO),
      'steps': number(3),
      'answer': number(),
      'case': number(len(CASES[0])),
      'at': number(len(EVENTS), 3),
    }

  def draw(self, split: str, number: int, seed: int) -> dict[str, np.ndarray]:
    return generate(number, seed)
