"""Trains MBT (Nagrani et al. 2021, arXiv:2107.00135): sound and video that talk through a few bottleneck tokens.

On made-up clips whose class neither the picture nor the sound tells (data/clips.py), beside each modality alone, late
fusion, and attention of all tokens to all. Each system has a folder of its own, from which an interrupted run goes on.
The paper begins with a ViT that learnt from photographs; here the tokens are taught what moves and what sounds beside
the class (`teach`), without which nothing is learnt for long, as no class depends on either.
Prints accuracy with intervals and writes a report with pictures. Published, on AudioSet (google-research/scenic,
projects/mbt): mAP of sound 30.9, of video 27.0, of both 43.9, trained on its balanced part.
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/mbt.py:clips'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from configs import mbt as complete
from experiments import several, training
from mmjax import objectives
from mmjax.data import clips
from mmjax.data.pipeline import load
from mmjax.encoders import mel
from mmjax.encoders.image import to_float
from mmjax.errors import UserError, nearest
from mmjax.models.mbt import MBT
from mmjax.report.pictures import heat
from mmjax.workdir import open_workdir

SETS = ('clips',)
STREAMS = {'a': 'sound', 'f': 'video'}
KINDS = ('sound', 'video', 'late', 'all tokens', 'bottlenecks')


class Taught(nn.Module):
  """MBT with two more outputs: 'sound' [B,4] off the mean of the tokens of sound, 'motion' [B,4] off those of video."""

  mbt: MBT

  @nn.compact
  def __call__(
    self, inputs: Mapping[str, jax.Array], there: Mapping[str, jax.Array] | None = None, *, train: bool
  ) -> dict[str, jax.Array]:
    out = self.mbt(inputs, there, train=train)
    heads = {'a': ('sound', clips.SOUNDS), 'f': ('motion', clips.MOTIONS)}
    told = {name: nn.Dense(len(of), name=name)(out[s].mean(1)) for s, (name, of) in heads.items() if s in out}
    return out | told


def objective(
  out: Mapping, batch: Mapping, axis: str | None = None, *, teach: float
) -> tuple[objectives.Losses, objectives.Metrics]:
  """The class, and with weight `teach` each what moves and what sounds."""
  losses, metrics = objectives.answers(out, batch, axis)
  for name in ('sound', 'motion'):
    if name in out:
      loss = objectives.cross_entropy(out[name], batch[name]) * batch['weight']
      losses[name] = (loss.sum(), batch['weight'].sum(), teach)
  return losses, metrics


def model_of(kind: str, sizes: Any) -> tuple[Taught, str]:
  """One of KINDS, and the streams that it reads. Raises UserError for another."""
  if kind not in KINDS:
    raise UserError(f'--config.systems: found {kind!r}, expected one of {", ".join(KINDS)}{nearest(kind, KINDS)}')
  changes: dict[str, dict[str, Any]] = {
    'sound': {'modalities': 'a'},
    'video': {'modalities': 'f'},
    'late': {'fusion': sizes.layers},
    'all tokens': {'bottlenecks': 0},
    'bottlenecks': {},
  }
  mbt = MBT(clips.CLASSES, **(sizes.to_dict() | changes[kind]))
  return Taught(mbt), mbt.modalities


def examples(split: str, folder: str) -> list[several.Arrays]:
  """All of a split: 'a' int16 [4000], a wave, 'f' uint8 [8,32,32,3], and 'sound' and 'motion', which are not read."""
  source = load(clips.Clips, split, folder or None)
  told = lambda e: {'sound': e['sound'], 'motion': e['motion']}
  return [several.example({'a': e['wave'], 'f': e['video']}, {}, e['label']) | told(e) for e in source]


def ready(sizes: Any, waves: np.ndarray) -> Callable[[dict], dict]:
  """What makes of waves and frames what the model reads. waves [M,S]: of training, whose loudness is made normal.

  Frames and pixels are repeated where the model wants more of them, the spectrogram is filled up.
  """
  spectrogram = lambda wave: mel.kaldi(wave / 2.0**15, clips.RATE, sizes.bins)
  heard = np.asarray(jax.jit(spectrogram)(waves))
  mean, std = float(heard.mean()), float(heard.std())
  side, long = sizes.image // clips.SIDE, sizes.clip // clips.FRAMES
  multiples = side >= 1 and long >= 1 and (side * clips.SIDE, long * clips.FRAMES) == (sizes.image, sizes.clip)
  if not multiples or sizes.frames < heard.shape[1]:
    raise UserError(
      f'--config.model: found clip {sizes.clip}, image {sizes.image}, frames {sizes.frames}; expected multiples of '
      f'{clips.FRAMES} and {clips.SIDE}, and at least {heard.shape[1]}'
    )

  def of(streams: dict) -> dict:
    video = to_float(streams['f'])
    for axis, times in ((1, long), (2, side), (3, side)):
      video = jnp.repeat(video, times, axis)
    return {'a': mel.ast(spectrogram(streams['a']), sizes.frames, mean, std), 'f': video}

  return jax.jit(of)  # tests call it by itself


def prepare(c: Any) -> several.Task:
  splits = {split: examples(split, c.data.dir) for split in clips.SPLITS}
  chance = 1 / clips.CLASSES
  best = {
    'the best by sound or video alone': {several.ALL: chance},
    'the best that can be reached': {several.ALL: 1.0, 'without sound': chance, 'without video': chance},
  }
  labels = [f'class {n + 1}' for n in range(clips.CLASSES)]
  made = ready(c.model, np.stack([e['a'] for e in splits['train'][:500]]))
  return several.Task(splits, STREAMS, labels, best, made)


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/mbt.py')
  training.known_set(c.data.name, SETS)
  systems = several.systems(c.systems, lambda kind: model_of(kind, c.model))
  task = prepare(c)
  learnt = functools.partial(objective, teach=c.teach)
  recipes = {system.name: several.recipe(system, task, learnt) for system in systems}
  variables = training.all_variables(recipes, c.seed, task.first)
  workdir = open_workdir(args.workdir, c.to_dict(), fresh=fresh)
  found = {}
  for system in systems:
    fit = training.Fit(c, recipes[system.name], variables[system.name], source=task.splits['train'], encode=dict)
    with training.Course(fit, training.part(workdir, system.folder, system.name), args) as course:
      for step, batch in course:
        fit.state, sums = fit.step(fit.state, batch, course.key)
        course.log(step, sums)
        if course.due(step):
          course.save(step, functools.partial(fit.evaluate, task.splits['validation']))
      found[system.name] = several.end(course, system, task)
  several.finish(
    c,
    workdir,
    task,
    systems,
    found,
    tiles(task),
    title='MBT: class of clips by sound and video',
    made='made up, see mmjax/data/clips.py',
    params=fit.state.params,
    began=began,
  )


def tiles(task: several.Task):
  """Frames and the spectrogram of a test clip."""

  def show(n: int) -> list[dict]:
    video = task.test['f'][n]
    shown = np.concatenate(list(video[[0, len(video) // 2, -1]]), 1)
    spectrogram = np.asarray(mel.kaldi(task.test['a'][n][None] / np.float32(2**15), clips.RATE, 40))[0]
    return [
      {'image': shown, 'text': f'moves {clips.MOTIONS[task.test["motion"][n]]}: first, middle, last frame'},
      {
        'image': heat(spectrogram.T[::-1], 3),
        'text': f'{clips.SOUNDS[task.test["sound"][n]]}: time to the right, pitch up',
      },
    ]

  return show


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
