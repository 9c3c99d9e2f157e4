"""Layers on their own in place of scanned ones: the same parameters, without the axis for the repeats of a group.

A scan compiles in the same time at any depth, but has to cut each layer's weights out of those of all: on a CPU this
costs an eighth of BERT's forward pass, more the fewer rows a batch has.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.fusion.schedule import Schedule

GROUP = re.compile(r'group\d+')


def unrolled(model: nn.Module, variables: Mapping) -> tuple[nn.Module, dict]:
  """A model with scanned stacks, and its variables, as one whose layers are modules of their own (scan=False)."""
  return _unscanned(model), unroll(variables)


def _unscanned(model: nn.Module) -> nn.Module:
  """The module and those among its fields with scan=False."""
  own = {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if f.name not in ('parent', 'name')}
  new: dict[str, Any] = {name: _unscanned(value) for name, value in own.items() if isinstance(value, nn.Module)}
  return model.clone(**(new | ({'scan': False} if 'scan' in own else {})))


def unroll(tree: Any) -> Any:
  """Variables with every scanned group apart, along the first axis of its arrays: group0 [N,...] -> group0_0 ... ."""
  if not isinstance(tree, Mapping):
    return tree
  found: dict[str, Any] = {}
  for name, part in tree.items():
    if GROUP.fullmatch(name):
      repeats = len(jax.tree.leaves(part)[0])
      found |= {f'{name}_{n}': jax.tree.map(lambda a, n=n: a[n], part) for n in range(repeats)}
    else:
      found[name] = unroll(part)
  return found


def roll(params: Mapping, schedule: Schedule) -> dict:
  """The parameters of an unrolled stack as those of a scanned one: the inverse of `unroll`."""
  return {
    f'group{g}': jax.tree.map(lambda *a: jnp.stack(a), *(params[f'group{g}_{n}'] for n in range(group.repeats)))
    for g, group in enumerate(schedule.groups)
  }
