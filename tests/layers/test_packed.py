"""Positions that hold something, side by side, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.layers.packed import packed, places

MASK = np.arange(5) < np.array([3, 1, 5, 0])[:, None]


@pytest.mark.parametrize('parts', [1, 2, 4])
def test_what_holds_something_comes_back_and_the_rest_is_zero(parts):
  x = np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32)
  at = places(MASK, parts, room=2)
  side = packed(jnp.asarray(MASK), jnp.asarray(at))
  lying = side.pack(jnp.asarray(x))
  assert lying.shape == (parts, at.shape[1], 2)
  assert sorted(np.asarray(lying)[at < 20 // parts][:, 0]) == sorted(x[MASK][:, 0])
  np.testing.assert_array_equal(side.unpack(lying), x * MASK[..., None])


def test_places_are_as_many_as_the_fullest_part_needs_rounded_up():
  np.testing.assert_array_equal(places(MASK, 2, room=3), [[0, 1, 2, 5, 10, 10], [0, 1, 2, 3, 4, 10]])
  assert places(np.zeros((2, 3), bool), room=8).tolist() == [[6] * 8]


def test_gradients_are_those_of_what_is_multiplied_by_the_mask():
  x, w = jax.random.normal(jax.random.key(0), (2, 4, 5))
  side = packed(jnp.asarray(MASK), jnp.asarray(places(MASK, room=4)))
  lying = lambda x: (side.unpack(jnp.sin(side.pack(x))) * w).sum()
  plain = lambda x: (jnp.sin(x * MASK) * w).sum()
  np.testing.assert_allclose(jax.grad(lying)(x), jax.grad(plain)(x), rtol=1e-6)


def test_parts_that_do_not_divide_are_refused():
  with pytest.raises(UserError, match='4 rows in 3 parts'):
    places(MASK, 3)
  with pytest.raises(UserError, match='packed in 3 parts: expected a divisor of the 4 rows'):
    packed(jnp.asarray(MASK), jnp.zeros((3, 4), int))
