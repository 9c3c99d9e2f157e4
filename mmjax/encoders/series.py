"""Time series -> tokens: recurrence, dilated convolutions, or patches.

Every encoder is called with

  series [B,T,C] float; what is not there may be any number, NaN too, and is not read
  mask   bool [B,T], which steps are there, or [B,T,C], which values were measured: a step is there if one of them was
  time   [B,T] float in seconds, for steps that are not evenly spaced; None for those that are

and gives tokens [B,N,D] with their mask [B,N]. What is missing is read as 0, and, where the mask says it for each
channel, as missing. Time is read as `time_features`. Steps that are not there change no token that is, and what stands
at tokens that are not there means nothing.

B series, T steps, C channels, N tokens, P steps of a patch, F features, D width.
"""

import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.layers.dilated import TcnBlock
from mmjax.layers.recurrent import Recurrent

SCALINGS = ('std', 'mean', 'none')


def scaled(series: jax.Array, seen: jax.Array, how: str, least: float = 1e-5) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Each channel of a series [B,T,C] by its own steps that were seen, bool [B,T,C]: (scaled, location, scale [B,1,C]).

  how: 'std' takes the mean off and divides by the deviation, 'mean' divides by the mean of absolute values, 'none' does
  neither. least: of a variance, or of a mean. Raises UserError for another.
  """
  if how not in SCALINGS:
    raise UserError(f'scaling: found {how!r}, expected one of {SCALINGS}')
  count = jnp.maximum(seen.sum(1, keepdims=True), 1.0)
  zero, one = jnp.zeros_like(series[:, :1]), jnp.ones_like(series[:, :1])
  if how == 'std':
    location = (series * seen).sum(1, keepdims=True) / count
    scale = jnp.sqrt((((series - location) * seen) ** 2).sum(1, keepdims=True) / count + least)
    return (series - location) / scale, location, scale
  if how == 'mean':
    scale = jnp.maximum((jnp.abs(series) * seen).sum(1, keepdims=True) / count, least)
    return series / scale, zero, scale
  return series, zero, one


def patches(series: jax.Array, length: int, stride: int) -> jax.Array:
  """series [B,T,C] -> [B,C,N,P], patches `stride` steps apart; steps that fill no patch are left out at the start.

  Raises UserError for a series that is shorter than a patch.
  """
  steps = series.shape[1]
  if steps < length:
    raise UserError(f'series of {steps} steps: shorter than a patch of {length}')
  count = (steps - length) // stride + 1
  first = steps - length - stride * (count - 1)
  at = first + stride * jnp.arange(count)[:, None] + jnp.arange(length)
  return series.swapaxes(1, 2)[:, :, at]


PERIODS = (0.1, 1e4)  # seconds: the shortest and longest that time is told by


def time_features(time: jax.Array, mask: jax.Array, count: int = 8) -> jax.Array:
  """time [B,T] float in seconds, mask [B,T] bool -> [B,T,1 + 2 count]: how long ago the step before was, and a clock.

  log(1 + seconds since the last step that is there), then sine and cosine of the time since the first one, for `count`
  periods from PERIODS[0] to PERIODS[1], each as many times the one before (the frequencies of Vaswani et al. 2017,
  section 3.5, for times that are no whole numbers). Neither changes when all clocks are moved.
  """
  first = jnp.where(mask, time, jnp.inf).min(1, keepdims=True)
  since = jnp.where(mask, time - first, 0)  # of none that is there all are 0
  latest = jax.lax.cummax(since, axis=1)
  before = jnp.concatenate([jnp.zeros_like(latest[:, :1]), latest[:, :-1]], 1)
  gap = jnp.where(mask, jnp.maximum(since - before, 0), 0)
  shortest, longest = PERIODS
  period = shortest * (longest / shortest) ** (jnp.arange(count) / max(count - 1, 1))
  angle = 2 * math.pi * since[..., None] / period
  return jnp.concatenate([jnp.log1p(gap)[..., None], jnp.sin(angle), jnp.cos(angle)], -1)


def steps(series: jax.Array, mask: jax.Array, time: jax.Array | None) -> tuple[jax.Array, jax.Array]:
  """What an encoder reads of each step, [B,T,F] with 0 where nothing is, and which steps are there, bool [B,T].

  F: the channels, then, for a mask of each of them, which are missing, then, with time, its features. Raises UserError
  for a mask or a time of another shape.
  """
  if mask.dtype != bool or mask.shape not in (series.shape, series.shape[:2]):
    raise UserError(
      f'mask: found {mask.dtype} {mask.shape}, expected bool {series.shape[:2]} or {series.shape} (True = is there)'
    )
  if time is not None and time.shape != series.shape[:2]:
    raise UserError(f'time: found {time.shape}, expected {series.shape[:2]}, in seconds')
  seen = mask if mask.ndim == 3 else jnp.broadcast_to(mask[..., None], series.shape)
  there = seen.any(-1)
  read = [jnp.where(seen, series, 0)]
  if mask.ndim == 3:
    read.append((there[..., None] & ~seen).astype(series.dtype))
  if time is not None:
    read.append(jnp.where(there[..., None], time_features(time, there), 0))
  return jnp.concatenate(read, -1), there


class SeriesRNN(nn.Module):
  """LSTM or GRU over the steps, after a projection of each: N = T tokens.

  D is width, or twice that where the series is read both ways. Arguments as of `layers.recurrent.Recurrent`.
  """

  kind: str
  width: int
  layers: int = 1
  both_ways: bool = False
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, series: jax.Array, mask: jax.Array, time: jax.Array | None = None, *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    x, there = steps(series, mask, time)
    x = nn.Dense(self.width, name='project')(x)
    read = Recurrent(self.kind, self.width, self.layers, self.both_ways, self.dropout, name='recurrent')
    return read(x, there, train=train), there


class SeriesTCN(nn.Module):
  """A temporal convolutional network (Bai et al. 2018, arXiv:1803.01271, section 3): N = T tokens of that width.

  A block for each of the dilations; with 1, 2, 4 ... a token reads 1 + 2 (kernel - 1) (sum of dilations) steps, its own
  and those before it.
  """

  width: int
  dilations: tuple[int, ...] = (1, 2, 4, 8)
  kernel: int = 3
  dropout: float = 0.0

  @nn.compact
  def __call__(
    self, series: jax.Array, mask: jax.Array, time: jax.Array | None = None, *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    x, there = steps(series, mask, time)
    for n, dilation in enumerate(self.dilations):
      x = TcnBlock(self.width, self.kernel, dilation, self.dropout, name=f'block{n}')(x, there, train=train)
    return x, there


class SeriesPatches(nn.Module):
  """Patches of steps, projected, with learnt positions (Nie et al. 2023, arXiv:2211.14730, section 3.1).

  A patch is a token, which is there if a step is that no patch before it has; which steps are there is read too. The
  last patch is filled up, so that the first one begins with the first step however long the series is. positions: the
  most patches there can be. Raises UserError for more.

  Differs from the paper: a patch has the steps of all channels, which the paper keeps apart (`models.patchtst` does).
  """

  width: int
  patch: int
  stride: int
  positions: int
  init_std: float = 0.02

  @nn.compact
  def __call__(
    self, series: jax.Array, mask: jax.Array, time: jax.Array | None = None, *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    x, there = steps(series, mask, time)
    x = jnp.concatenate([x, there[..., None].astype(x.dtype)], -1)
    length = x.shape[1]
    count = max(-(-(length - self.patch) // self.stride), 0) + 1
    if count > self.positions:
      raise UserError(f'series of {length} steps: {count} patches, expected at most {self.positions}')
    more = self.patch + self.stride * (count - 1) - length
    x = rearrange(patches(jnp.pad(x, ((0, 0), (0, more), (0, 0))), self.patch, self.stride), 'B F N P -> B N (F P)')
    there = patches(jnp.pad(there[..., None], ((0, 0), (0, more), (0, 0))), self.patch, self.stride)[:, 0]
    own = jnp.arange(self.patch) >= jnp.where(jnp.arange(count) > 0, self.patch - self.stride, 0)[:, None]
    there = (there & own).any(-1)
    place = self.param('position', nn.initializers.normal(self.init_std), (self.positions, self.width))
    return nn.Dense(self.width, name='project')(x) + place[:count], there
