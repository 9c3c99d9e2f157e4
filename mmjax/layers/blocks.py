"""Blocks that know no modality: the feed-forward layer, its activations, and the pooler.

D width, F features.
"""

from dataclasses import fields
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.errors import UserError, nearest
from mmjax.layers.axes import mapped

Kind = TypeVar('Kind', bound=nn.Module)
ACTIVATIONS = {
  'gelu': partial(nn.gelu, approximate=False),  # x * Phi(x) through erf: BERT and all that descends from it
  'gelu_tanh': partial(nn.gelu, approximate=True),  # the tanh approximation: GPT-2, scenic's ViT
  'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x),  # CLIP
  'relu': nn.relu,
  'tanh': nn.tanh,
}


def cast(tree: Any, dtype: Any) -> Any:
  """A tree of arrays, those of floats in that type."""
  return jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


def activation(name: str):
  """The activation of that name. Raises UserError for an unknown one."""
  if name not in ACTIVATIONS:
    raise UserError(f'activation: found {name!r}, expected one of {tuple(ACTIVATIONS)}{nearest(name, ACTIVATIONS)}')
  return ACTIVATIONS[name]


def batch_norm(train: bool, *, momentum: float = 0.99, epsilon: float = 1e-5, name: str | None = None) -> nn.BatchNorm:
  """Batch norm over the rows of all devices (Ioffe and Szegedy 2015, arXiv:1502.03167)."""
  return nn.BatchNorm(not train, momentum=momentum, epsilon=epsilon, axis_name=mapped(), name=name)


NORMS = {'layer': nn.LayerNorm, 'rms': nn.RMSNorm}  # rms: no mean is taken off, no bias added (arXiv:1910.07467)


def norm_of(kind: str) -> type[nn.LayerNorm] | type[nn.RMSNorm]:
  """The normalisation of that name. Raises UserError for an unknown one."""
  if kind not in NORMS:
    raise UserError(f'norms: found {kind!r}, expected one of {tuple(NORMS)}{nearest(kind, NORMS)}')
  return NORMS[kind]


def made_of(kind: type[Kind], model: nn.Module, name: str, /, **others: Any) -> Kind:
  """A `kind` of that name, with the arguments that `model` has under the same names, and these others."""
  known = {f.name for f in fields(kind)} - {'parent', 'name'}
  own = {f.name: getattr(model, f.name) for f in fields(model) if f.name in known}
  return kind(**own | others, name=name)


def mean_there(x: jax.Array, mask: jax.Array) -> jax.Array:
  """The mean of x [B,N,D] over what is there, mask bool [B,N]: [B,D], 0 where nothing is."""
  there = mask[..., None]
  return (x * there).sum(1) / jnp.maximum(there.sum(1), 1)


def zero_missing(x: jax.Array, mask: jax.Array) -> jax.Array:
  """x [B,...], 0 where mask bool [B,...] says that nothing is there: what stands there, be it NaN, nobody reads."""
  here = mask.reshape(len(mask), -1).any(1)
  return jnp.where(here.reshape(-1, *[1] * (x.ndim - 1)), x, 0)


def unit(x: jax.Array) -> jax.Array:
  """x [..., D] with length 1."""
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


class Mlp(nn.Module):
  """Position-wise feed-forward network (Vaswani et al. 2017, section 3.3): [..., F] -> [..., width].

  `dropout` is the rate between the two projections (0 in BERT, which drops after the second one only).
  """

  hidden: int
  width: int
  activation: str = 'gelu'
  dropout: float = 0.0
  init_std: float = 0.02

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    dense = partial(nn.Dense, kernel_init=nn.initializers.normal(self.init_std))
    x = activation(self.activation)(dense(self.hidden, name='expand')(x))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return dense(self.width, name='project')(x)


def convolved(x: jax.Array, channels: tuple[int, ...], prefix: str = '') -> jax.Array:
  """x [B,y,x,F] after a 3x3 convolution of stride 2, layer norm over the channels and ReLU for each of `channels`.

  To be called in a compact module, whose the parameters are: 'conv0', 'norm0', ... behind the prefix.
  """
  for n, size in enumerate(channels):
    x = nn.Conv(size, (3, 3), (2, 2), name=f'{prefix}conv{n}')(x)
    x = nn.relu(nn.LayerNorm(name=f'{prefix}norm{n}')(x))
  return x


class Pooler(nn.Module):
  """BERT's pooler (Devlin et al. 2019): the first token, projected, through tanh. x [B,L,D] -> [B,width].

  Raises UserError for L = 0.
  """

  width: int
  init_std: float = 0.02
  activation: str = 'tanh'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if not x.shape[1]:
      raise UserError('pooler: found no token to read, expected at least 1')
    project = nn.Dense(self.width, kernel_init=nn.initializers.normal(self.init_std), name='project')
    return activation(self.activation)(project(x[:, 0]))


class Transform(nn.Module):
  """Dense, activation and, where `norm`, layer norm: before BERT's word classifier. [..., D] -> [..., width]."""

  width: int
  eps: float = 1e-12
  activation: str = 'gelu'
  init_std: float = 0.02
  norm: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = nn.Dense(self.width, kernel_init=nn.initializers.normal(self.init_std), name='project')(x)
    x = activation(self.activation)(x)
    return nn.LayerNorm(epsilon=self.eps, name='norm')(x) if self.norm else x
