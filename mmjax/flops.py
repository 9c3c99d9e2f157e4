"""How much a program computes: the floating-point operations of its matrix products and convolutions.

Counted in the traced program, so that the body of a scan counts as often as it runs (XLA's own count takes it once),
and what is computed again for the gradient counts again. What else there is costs little, and is left out.
"""

import math
from collections.abc import Callable
from typing import Any

import jax


def count(run: Callable, *given: Any, dtype: Any = None) -> float:
  """FLOPs of run(*given), a multiplication and an addition two; given: arrays or their shapes. Of all devices together.

  dtype: of products of that type alone. Of a branch the most that one can take, of a loop whose rounds are not known a
  single one.
  """
  return _of(jax.make_jaxpr(run)(*given).jaxpr, dtype)


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
  times = how['length'] if name == 'scan' else how['mesh'].size if name == 'shard_map' else 1
  return times * sum(inside)


def _programs(how: Any) -> list[Any]:
  """The traced programs among the parameters of an operation."""
  parts = [part for value in how.values() for part in (value if isinstance(value, tuple | list) else [value])]
  return [getattr(part, 'jaxpr', part) for part in parts if hasattr(part, 'eqns') or hasattr(part, 'jaxpr')]
