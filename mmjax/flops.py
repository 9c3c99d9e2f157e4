"""How much a program computes: the floating-point operations of its matrix products and convolutions, and what devices
can at most.

Counted in the traced program, so that the body of a scan counts as often as it runs (XLA's own count takes it once),
and what is computed again for the gradient counts again. What else there is costs little, and is left out.
"""

import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters.partial_eval import dce_jaxpr

PEAKS = {  # TFLOP/s of dense products in bfloat16 and float32 by a device's kind: data sheets of NVIDIA and Google;
  'NVIDIA A100': (312, 156),  # float32 as JAX takes it by default: TF32 on GPUs, bfloat16 on TPUs
  'NVIDIA H100 PCIe': (756, 378),
  'NVIDIA H100 NVL': (835, 418),
  'NVIDIA H100 80GB HBM3': (989, 494),
  'NVIDIA H200': (989, 494),
  'TPU v4': (275, 275),
  'TPU v5 lite': (197, 197),  # v5e
  'TPU v5': (459, 459),  # v5p
  'TPU v6 lite': (918, 918),  # v6e
}
SIDE, ROUNDS = 1024, 5  # of the product by which a device that is not known is measured


def count(run: Callable, *given: Any, dtype: Any = None, unused: bool = False) -> float:
  """FLOPs of run(*given), a multiplication and an addition two; given: arrays or their shapes. Of all devices together.

  dtype: of products of that type alone; unused: of those too whose results nobody reads, which XLA leaves out, but for
  those in the last round of a loop. Of a branch the most that one can take, of a loop whose rounds are not known a
  single one.
  """
  return counted(jax.make_jaxpr(run)(*given), dtype, unused)


def counted(traced: Any, dtype: Any = None, unused: bool = False) -> float:
  """The same of a program that is traced already: of its ClosedJaxpr."""
  program = traced.jaxpr
  if not unused:
    program, _ = dce_jaxpr(program, [True] * len(program.outvars))
  return _of(program, dtype)


def peak(dtype: str) -> float:
  """FLOP/s that all devices of a run can reach together in products of that type: by PEAKS, else measured here."""
  device = jax.devices()[0]
  named = [peaks for kind, peaks in PEAKS.items() if device.device_kind == kind]
  named += [peaks for kind, peaks in PEAKS.items() if device.device_kind.startswith(f'{kind}-')]  # ... A100-SXM4-80GB
  if named:
    return named[0][dtype != 'bfloat16'] * 1e12 * jax.device_count()
  return _measured(dtype) * (jax.process_count() if device.platform == 'cpu' else jax.device_count())


@functools.cache
def _measured(dtype: str) -> float:
  """FLOP/s of the fastest of some products, on one device; on CPUs, whose devices share the cores, on all of them."""
  a = jax.device_put(jnp.ones((SIDE, SIDE), dtype), jax.local_devices()[0])
  product = jax.jit(jnp.matmul).lower(a, a).compile()
  seconds = []
  for _ in range(1 + ROUNDS):
    began = time.perf_counter()
    product(a, a).block_until_ready()
    seconds.append(time.perf_counter() - began)
  return 2 * SIDE**3 / min(seconds)


def _of(jaxpr: Any, dtype: Any) -> float:
  return sum(_one(equation, dtype) for equation in jaxpr.eqns)


def _one(equation: Any, dtype: Any) -> float:
  name, how = equation.primitive.name, equation.params
  if name in ('dot_general', 'conv_general_dilated') and dtype and equation.invars[0].aval.dtype != dtype:
    return 0.0
  if name == 'dot_general':
    (of_left, _), _ = how['dimension_numbers']
    left = equation.invars[0].aval.shape
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[n] for n in of_left)
  if name == 'conv_general_dilated':
    kernel, out_features = equation.invars[1].aval.shape, how['dimension_numbers'].rhs_spec[0]
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / kernel[out_features]
  inside = [_of(part, dtype) for part in _programs(how)]
  if not inside:
    return 0.0
  if name == 'cond':
    return max(inside)
  each = {'scan': 'length', 'xla_pmap': 'global_axis_size'}
  times = how['mesh'].size if name == 'shard_map' else how[each[name]] if name in each else 1
  return times * sum(inside)


def _programs(how: Any) -> list[Any]:
  """The traced programs among the parameters of an operation."""
  parts = [part for value in how.values() for part in (value if isinstance(value, tuple | list) else [value])]
  return [getattr(part, 'jaxpr', part) for part in parts if hasattr(part, 'eqns') or hasattr(part, 'jaxpr')]
