"""A checkpoint understood: which model, which tensor is which parameter, and how the published code calls it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmjax.convert.models import variables_of
from mmjax.convert.names import Row, to_theirs
from mmjax.errors import UserError, nearest
from mmjax.fusion.layers import ENTRY, MAPS, STATES

Config = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]  # of the tensors that are there
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Plan:
  """What a family makes of a config.json and the names and shapes of the tensors beside it."""

  config: Config
  model: Any  # one of convert/models.py
  rows: list[Row]
  example: tuple  # what the model is called with, for the shapes of its parameters
  outputs: Callable[['Plan', Mapping, Arrays], Arrays]  # (plan, variables, the peer's inputs) -> the peer's outputs
  tied: Mapping[str, str] = field(default_factory=dict)  # a tensor's second name -> its first
  buffers: Mapping[str, np.ndarray] = field(default_factory=dict)  # no parameters: made anew
  stored: Shapes | None = None  # of the outputs that a case holds, where they are known

  @cached_property
  def shapes(self) -> Mapping:
    """The model's variables as shapes; nothing is computed."""
    return variables_of(self.model, self.example)


def number(config: Config, key: str, default: Any = None) -> Any:
  """config[key]; `default`, where one is given, is what the peer's code takes for a missing key."""
  if key in config:
    return config[key]
  if default is None:
    raise UserError(f'config.json: no {key!r}{nearest(key, config)}')
  return default


def fixed(config: Config, values: Mapping[str, Any]) -> None:
  """Raises UserError where the config asks for another value of a key than the one that is known here."""
  for key, value in values.items():
    if config.get(key, value) != value:
      raise UserError(f'config.json: {key} {config[key]!r}, expected {value!r}')


def numbered(shapes: Shapes, below: str) -> int:
  """How many numbers follow 'below.' in the names of tensors: a checkpoint's layers."""
  return len({name[len(below) + 1 :].split('.')[0] for name in shapes if name.startswith(f'{below}.')})


def activation(config: Config, key: str = 'hidden_act', default: str = 'gelu') -> str:
  """The name here of a HuggingFace activation."""
  names = {'gelu': 'gelu', 'quick_gelu': 'quick_gelu', 'relu': 'relu', 'gelu_new': 'gelu_tanh',
           'gelu_pytorch_tanh': 'gelu_tanh', 'gelu_fast': 'gelu_tanh'}  # fmt: skip
  found = number(config, key, default)
  if found not in names:
    raise UserError(f'config.json: {key} {found!r}, expected one of {tuple(names)}{nearest(found, names)}')
  return names[found]


def position_ids(name: str, length: int) -> dict[str, np.ndarray]:
  """The buffer that older HuggingFace checkpoints keep: 0, 1, 2 ..."""
  return {name: np.arange(length)[None]}


def wanted(plan: Plan, name: str, axis: int, default: int) -> int:
  """How many ids the peer wrote, which no input says: a size of the stored output, 0 where a case has no such output.

  `default` where no outputs are stored.
  """
  if plan.stored is None:
    return default
  return plan.stored[name][axis] if name in plan.stored else 0


def learnt(
  plan: Plan,
  variables: Mapping,
  loss: Callable[[Callable[..., Any]], tuple[jax.Array, Arrays]],
  method: str | None = None,
) -> Arrays:
  """The peer's 'loss', its parts, and 'grad::NAME' of every tensor.

  loss: takes what runs the model (or a method of it), called as that is, and returns (the sum, {name: part}).
  """

  def of(params):
    return loss(lambda *given: plan.model.apply({**variables, 'params': params}, *given, train=False, method=method))

  (total, parts), grads = jax.value_and_grad(of, has_aux=True)(variables['params'])
  named = to_theirs(plan.rows, {'params': grads})
  return parts | {'loss': total} | {f'grad::{name}': gradient for name, gradient in named.items()}


def captured(plan: Plan, variables: Mapping, *given: Any) -> tuple[Any, Mapping, Mapping]:
  """Runs the model: (outputs, attention maps, states), each nested as the model's modules are."""
  out: Any
  out, kept = plan.model.apply(variables, *given, train=False, mutable=[MAPS, STATES])
  return out, kept.get(MAPS, {}), kept.get(STATES, {})


def inside(maps: Mapping, states: Mapping, stream: str, last: jax.Array | None = None) -> Arrays:
  """HuggingFace's 'attentions.N' and 'hidden_states.N' of a stream that begins with reading itself.

  maps and states: as `captured` gives them, of the module that has the encoder. last: what stands for the last state.
  """
  states, maps = states['encoder'], maps['encoder']['group0'][f'sub0/{stream}<{stream}']
  hidden = [states[ENTRY][stream], *states['group0'][stream]]
  if last is not None:
    hidden[-1] = last
  return {f'attentions.{n}': m for n, m in enumerate(maps)} | {f'hidden_states.{n}': h for n, h in enumerate(hidden)}


def margin(scores: jax.Array) -> jax.Array:
  """The least difference of the two best of scores [..., V]: how safe ids are."""
  best = jax.lax.top_k(scores, 2)[0]
  return (best[..., 0] - best[..., 1]).min()


def cross_entropy(scores: jax.Array, labels: np.ndarray) -> jax.Array:
  """The mean over the labels that are no -1 (the authors') and no -100 (HuggingFace's)."""
  valid = labels.reshape(scores.shape[:-1]) >= 0
  loss = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.maximum(labels, 0).reshape(scores.shape[:-1]))
  return (loss * valid).sum() / valid.sum()
