"""FLOPs counted by hand: products, convolutions, and what runs more than once."""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax import flops

A, B = np.ones((3, 5), np.float32), np.ones((5, 7), np.float32)


def test_a_product_is_two_for_each_multiplication():
  assert flops.count(jnp.dot, A, B) == 2 * 3 * 5 * 7
  batched = jax.ShapeDtypeStruct((4, 3, 5), jnp.float32), jax.ShapeDtypeStruct((4, 5, 7), jnp.float32)
  assert flops.count(lambda a, b: jnp.tanh(a @ b).sum(), *batched) == 4 * 2 * 3 * 5 * 7


def test_a_convolution():
  x, kernel = np.ones((2, 8, 8, 4), np.float32), np.ones((3, 3, 4, 6), np.float32)
  run = lambda x, k: jax.lax.conv_general_dilated(x, k, (2, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  assert flops.count(run, x, kernel) == 2 * (2 * 4 * 4 * 6) * (3 * 3 * 4)
  grouped = lambda x, k: jax.lax.conv_general_dilated(
    x, k, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=4
  )
  assert flops.count(grouped, x, np.ones((3, 3, 1, 4), np.float32)) == 2 * (2 * 8 * 8 * 4) * (3 * 3)


def test_a_scan_counts_as_often_as_it_runs_and_a_gradient_thrice():
  square = np.ones((5, 5), np.float32)
  many = lambda x, w: jax.lax.scan(lambda x, _: (x @ w, None), x, length=6)[0]
  assert flops.count(many, A, square) == 6 * 2 * 3 * 5 * 5
  loss = lambda w, x: (x @ w).sum()
  assert flops.count(jax.value_and_grad(loss, (0, 1)), square, A) == 3 * 2 * 3 * 5 * 5
  assert flops.count(jax.grad(loss, (0, 1)), square, A) == 2 * 2 * 3 * 5 * 5  # nobody reads the value
  assert flops.count(jax.grad(loss, (0, 1)), square, A, unused=True) == 3 * 2 * 3 * 5 * 5
  twice = lambda w, x: jnp.sin(jnp.sin(x @ w) @ w).sum()
  kept, again = (flops.count(jax.value_and_grad(of), square, A) for of in (twice, jax.checkpoint(twice)))
  assert kept < again


def test_of_branches_the_larger_one():
  run = lambda a, b: jax.lax.cond(a.sum() > 0, lambda: a @ b, lambda: jnp.zeros((3, 7)))
  assert flops.count(run, A, B) == 2 * 3 * 5 * 7
