"""Short clips with sound of which only both together tell the class. Made up, drawn by code.

A shape moves in one of four ways while one of four sounds is heard; the class is the sum of both, modulo four. So each
class has every motion and every sound as often as any other: the picture alone, or the sound alone, says nothing.

M clips, T frames, S samples.
"""

from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data.drawn import Drawn

MOTIONS = ('right', 'down', 'left', 'up')
SOUNDS = ('rising', 'falling', 'steady', 'pulsing')
CLASSES = 4
SPLITS = {'train': (4000, 6301), 'validation': (500, 6302), 'test': (1000, 6303)}  # M, seed
FRAMES, SIDE = 8, 32  # of a clip, pixels
RATE, SAMPLES = 8000, 4000  # Hz; half a second, which 25 ms every 10 ms fill


def class_of(motion: np.ndarray, sound: np.ndarray) -> np.ndarray:
  """The class of indices into MOTIONS and SOUNDS."""
  return (motion + sound) % CLASSES


def generate(number: int, seed: int) -> dict[str, np.ndarray]:
  """Draws M clips: 'video' uint8 [M,8,32,32,3], 'wave' int16 [M,4000] at 8 kHz, 'motion', 'sound', 'label' int [M]."""
  rng = np.random.RandomState(seed)  # its streams are frozen for good (NEP 19)
  motion, sound = np.divmod(rng.permutation(number) % (len(MOTIONS) * len(SOUNDS)), len(SOUNDS))  # all as frequent
  return {
    'video': np.stack([_video(rng, way) for way in motion]),
    'wave': np.stack([_wave(rng, kind) for kind in sound]),
    'motion': motion.astype(np.int32),
    'sound': sound.astype(np.int32),
    'label': class_of(motion, sound).astype(np.int32),
  }


def _video(rng: np.random.RandomState, way: int) -> np.ndarray:
  """A disc or a square of some colour before a plain ground, which crosses the middle."""
  angle, half = np.pi / 2 * way, rng.uniform(3, 5)
  along = np.linspace(-1, 1, FRAMES) * rng.uniform(7, 10)
  aside = rng.uniform(-6, 6)
  x = SIDE / 2 + along * np.cos(angle) - aside * np.sin(angle)
  y = SIDE / 2 + along * np.sin(angle) + aside * np.cos(angle)
  rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
  across, down = columns - x[:, None, None], rows - y[:, None, None]
  inside = across**2 + down**2 < half**2 if rng.rand() < 0.5 else np.maximum(abs(across), abs(down)) < half
  ground, colour = rng.uniform(30, 220, 3), rng.uniform(0, 255, 3)
  colour = np.where(abs(colour - ground).max() < 80, ground + np.where(ground > 127, -100, 100), colour)
  clip = np.where(inside[..., None], colour, ground) + rng.normal(0, 8, (FRAMES, SIDE, SIDE, 3))
  return np.clip(clip, 0, 255).astype(np.uint8)


def _wave(rng: np.random.RandomState, kind: int) -> np.ndarray:
  """A tone with an overtone, in noise: its pitch rises or falls by an octave, stays, or it comes and goes."""
  time = np.arange(SAMPLES) / SAMPLES
  octave = {0: time, 1: 1 - time}.get(kind, np.full(SAMPLES, rng.rand()))
  pitch = rng.uniform(350, 800) * 2**octave
  phase = 2 * np.pi * np.cumsum(pitch) / RATE + rng.uniform(0, 2 * np.pi)
  wave = np.sin(phase) + rng.uniform(0.1, 0.5) * np.sin(2 * phase)
  if kind == 3:
    wave *= np.sin(np.pi * (time * rng.uniform(3, 5) + rng.rand())) ** 2 > 0.5
  wave = rng.uniform(0.1, 0.5) * wave + rng.normal(0, 0.02, SAMPLES)
  return np.clip(wave * 2**15, -(2**15), 2**15 - 1).astype(np.int16)


class Clips(Drawn):
  """TFDS builder of 4,000 training, 500 validation and 1,000 test clips."""

  SPLITS: ClassVar = SPLITS
  DESCRIPTION = 'Made-up clips of a moving shape with a sound, of which only both together tell the class.'

  def features(self) -> dict[str, Any]:
    number, tensor, raw = tfds.features.Scalar(np.int32), tfds.features.Tensor, tfds.features.Encoding.BYTES
    return {
      'video': tensor(shape=(FRAMES, SIDE, SIDE, 3), dtype=np.uint8, encoding=raw),
      'wave': tensor(shape=(SAMPLES,), dtype=np.int16),
    } | dict.fromkeys(('motion', 'sound', 'label'), number)

  def draw(self, split: str, number: int, seed: int) -> dict[str, np.ndarray]:
    return generate(number, seed)
