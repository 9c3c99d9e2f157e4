"""What a robot's sensors see before it decides: a camera, a range sensor and its own odometry. Made up, drawn by code.

An obstacle stands somewhere ahead. The camera tells what it is and in which direction, not how far: sizes vary. The
range sensor tells how far and in which direction, not what it is. Odometry tells where the robot is turning and how
fast. What is right to do follows by a rule from all three (`decide`), so the best that any of them can do without the
others is known (`best`).

M scenes, T steps of odometry.
"""

import itertools
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from mmjax.data.drawn import Drawn, best_by, picture

ACTIONS = ('go on', 'slow down', 'brake')
FACTORS = {  # what is hidden behind a scene
  'kind': ('crate', 'person'),
  'bearing': ('left', 'ahead', 'right'),
  'distance': ('far', 'near'),
  'turn': ('left', 'straight', 'right'),
  'speed': ('slow', 'fast'),
}
SENSORS = {'camera': ('kind', 'bearing'), 'range': ('bearing', 'distance'), 'odometry': ('turn', 'speed')}
SPLITS = {'train': (6000, 6101), 'validation': (500, 6102), 'test': (1000, 6103)}  # M, seed
SIDE, BEAMS, STEPS = 32, 48, 20  # pixels, directions of the range sensor, most steps of odometry
SHORTEST = 12  # steps
REACH, VIEW = 12.0, 60.0  # metres that the range sensor sees, degrees to either side
APART = 30.0  # degrees between left, ahead and right


def decide(kind: int, bearing: int, distance: int, turn: int, speed: int) -> int:
  """The right action. Each is an index into FACTORS, the result into ACTIONS."""
  if bearing != turn or (not distance and not speed):
    return 0  # nothing in the way, or far off at low speed
  return 2 if kind or (distance and speed) else 1


def scenes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """All combinations of FACTORS int [72,5], their actions [72], and how likely each is [72]: actions are balanced."""
  every = np.array(list(itertools.product(*(range(len(names)) for names in FACTORS.values()))))
  action = np.array([decide(*scene) for scene in every])
  return every, action, 1 / (len(ACTIONS) * np.bincount(action)[action])


def best(*sensors: str) -> float:
  """The highest accuracy that these sensors alone can reach."""
  told = {list(FACTORS).index(factor) for sensor in sensors for factor in SENSORS[sensor]}
  return best_by(*scenes(), sorted(told))


def generate(number: int, seed: int) -> dict[str, np.ndarray]:
  """Draws M scenes: 'image' uint8 [M,32,32,3], 'range' float32 [M,48] in 0..12 metres from left to right, 'odometry'
  float32 [M,20,2] of speed (m/s) and turning (rad/s, left is positive), of which the first 'steps' [M] are measured,
  'action' [M], and FACTORS, int [M] each."""
  rng = np.random.RandomState(seed)  # its streams are frozen for good (NEP 19)
  every, action, likely = scenes()
  drawn = rng.choice(len(every), number, p=likely / likely.sum())
  factors = dict(zip(FACTORS, every[drawn].T.astype(np.int32), strict=True))
  ahead = (factors['bearing'] - 1) * APART + rng.uniform(-5, 5, number)  # degrees, right is positive
  steps = rng.randint(SHORTEST, STEPS + 1, number)
  return factors | {
    'image': np.stack([_image(rng, kind, at) for kind, at in zip(factors['kind'], ahead, strict=True)]),
    'range': np.stack([_scan(rng, near, at) for near, at in zip(factors['distance'], ahead, strict=True)]),
    'odometry': np.stack(
      [_drive(rng, *way) for way in zip(factors['turn'], factors['speed'], steps, strict=True)]
    ),
    'steps': steps.astype(np.int32),
    'action': action[drawn].astype(np.int32),
  }  # fmt: skip


def _image(rng: np.random.RandomState, kind: int, at: float) -> np.ndarray:
  """A street with a person or a crate on it, of any size and colour."""
  y, x = np.mgrid[:SIDE, :SIDE] + 0.5
  sky = np.array([150, 180, 210]) * rng.uniform(0.7, 1.1)
  ground = np.array([110, 105, 95]) * rng.uniform(0.7, 1.1)
  image = np.where((y < 14)[..., None], sky, ground)
  foot, size = rng.uniform(21, 28), rng.uniform(8, 13)
  centre = SIDE / 2 * (1 + at / VIEW * 1.3)
  colour = rng.uniform(20, 235, 3)
  inside = lambda wide, low, high: (abs(x - centre) < wide) & (y > foot - high) & (y < foot - low)
  if kind:
    body = inside(size * 0.17, 0, 0.75 * size)
    head = (x - centre) ** 2 + (y - (foot - 0.85 * size)) ** 2 < (0.17 * size) ** 2
    image = np.where((body | head)[..., None], colour, image)
  else:
    box = inside(0.36 * size, 0, 0.72 * size)
    edge = inside(0.36 * size, 0.3 * size, 0.42 * size)
    image = np.where(box[..., None], colour, image)
    image = np.where(edge[..., None], colour * 0.6, image)
  return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def _scan(rng: np.random.RandomState, near: int, at: float) -> np.ndarray:
  """Distances by direction: walls, and the obstacle before them."""
  beam = np.linspace(-VIEW, VIEW, BEAMS)
  wall = rng.uniform(8, 10) + 1.5 * np.sin(beam / 20 + rng.uniform(0, 2 * np.pi))
  there = rng.uniform(2, 3) if near else rng.uniform(4.5, 6)
  wide = np.rad2deg(np.arctan(rng.uniform(0.25, 0.45) / there)) + 2
  found = np.where(abs(beam - at) < wide, there, wall) + rng.normal(0, 0.15, BEAMS)
  lost = rng.rand(BEAMS) < 0.05  # nothing came back
  return np.clip(np.where(lost, REACH, found), 0, REACH).astype(np.float32)


def _drive(rng: np.random.RandomState, turn: int, fast: int, steps: int) -> np.ndarray:
  """Speed and turning, with what wheels slip; 0 behind the last step."""
  speed = (rng.uniform(2, 3) if fast else rng.uniform(0.5, 1.2)) + rng.normal(0, 0.2, STEPS)
  rate = (1 - turn) * rng.uniform(0.4, 0.7) + rng.normal(0, 0.25, STEPS)
  return (np.stack([speed, rate], 1) * (np.arange(STEPS) < steps)[:, None]).astype(np.float32)


class Robot(Drawn):
  """TFDS builder of 6,000 training, 500 validation and 1,000 test scenes."""

  SPLITS: ClassVar = SPLITS
  DESCRIPTION = 'Made-up scenes of a robot with a camera, a range sensor and odometry, and what is right to do.'

  def features(self) -> dict[str, Any]:
    number = tfds.features.Scalar(np.int32)
    return {
      'image': picture(SIDE),
      'range': tfds.features.Tensor(shape=(BEAMS,), dtype=np.float32),
      'odometry': tfds.features.Tensor(shape=(STEPS, 2), dtype=np.float32),
      'steps': number,
      'action': number,
    } | dict.fromkeys(FACTORS, number)

  def draw(self, split: str, number: int, seed: int) -> dict[str, np.ndarray]:
    return generate(number, seed)
