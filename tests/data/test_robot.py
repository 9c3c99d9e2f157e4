"""Made-up scenes: the rule behind the actions, what each sensor shows, and what it leaves open."""

import numpy as np
import pytest

from mmjax.data import robot
from mmjax.data.pipeline import load


@pytest.fixture(scope='module')
def drawn():
  return robot.generate(600, 3)


def test_actions_follow_the_rule_and_are_balanced(drawn):
  factors = np.stack([drawn[name] for name in robot.FACTORS], 1)
  assert drawn['action'].tolist() == [robot.decide(*scene) for scene in factors]
  assert (np.bincount(drawn['action'], minlength=3) > 150).all()


@pytest.mark.parametrize(('scene', 'action'), [
  ((1, 0, 1, 2, 1), 'go on'),  # a person, near, at speed, but the robot turns away
  ((1, 1, 0, 1, 0), 'go on'),  # far off and slow
  ((0, 1, 1, 1, 0), 'slow down'),
  ((1, 1, 1, 1, 0), 'brake'),
  ((0, 2, 1, 2, 1), 'brake'),
])  # fmt: skip
def test_the_rule_by_hand(scene, action):
  assert robot.ACTIONS[robot.decide(*scene)] == action


def test_all_sensors_tell_and_none_does_alone():
  assert robot.best(*robot.SENSORS) == pytest.approx(1)
  assert robot.best() == pytest.approx(1 / 3)
  assert [robot.best(name) for name in robot.SENSORS] == pytest.approx([7 / 12, 47 / 108, 47 / 108])


def test_the_range_sensor_shows_where_and_how_far(drawn):
  beam = np.linspace(-robot.VIEW, robot.VIEW, robot.BEAMS)
  nearest = np.median(np.sort(drawn['range'], 1)[:, :3], 1)
  assert ((nearest < 4) == drawn['distance'].astype(bool)).all()
  at = np.array([beam[row < row.min() + 0.8].mean() for row in drawn['range']])
  assert (np.round(at / robot.APART) == drawn['bearing'] - 1).mean() > 0.99


def test_odometry_shows_turn_and_speed(drawn):
  there = np.arange(robot.STEPS) < drawn['steps'][:, None]
  speed, turn = (np.where(there, drawn['odometry'][..., n], 0).sum(1) / drawn['steps'] for n in (0, 1))
  assert ((speed > 1.6) == drawn['speed'].astype(bool)).all()
  assert (np.round(-turn / 0.55).clip(-1, 1) == drawn['turn'] - 1).mean() > 0.98
  assert not drawn['odometry'][~there].any() and (drawn['steps'] >= robot.SHORTEST).all()


def test_the_camera_shows_the_obstacle_where_it_is(drawn):
  """Something differs from the ground in its columns."""
  column = robot.SIDE / 2 * (1 + (drawn['bearing'] - 1) * robot.APART / robot.VIEW * 1.3)
  rows = drawn['image'][:, 15:28].astype(float)
  ground = np.median(rows, (1, 2), keepdims=True)
  away = abs(rows - ground).sum(-1).mean(1)  # [M, columns]
  seen = away.argmax(1)
  assert (abs(seen - column) < 7).mean() > 0.9


def test_the_same_seed_draws_the_same(drawn):
  again = robot.generate(600, 3)
  assert all(np.array_equal(drawn[name], again[name]) for name in drawn)


def test_it_is_read_back_as_drawn(tmp_path, monkeypatch):
  monkeypatch.setattr(robot.Robot, 'SPLITS', {'train': (5, 3)})
  source = load(robot.Robot, 'train', tmp_path)
  first = robot.generate(5, 3)
  for name in ('image', 'range', 'odometry', 'steps', 'action'):
    np.testing.assert_array_equal(source[2][name], first[name][2])
