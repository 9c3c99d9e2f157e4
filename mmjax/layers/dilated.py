"""Causal dilated convolutions over time: the TCN's residual block, and WaveNet's gated one.

TCN: Bai et al. 2018, An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling,
arXiv:1803.01271. WaveNet: van den Oord et al. 2016, A Generative Model for Raw Audio, arXiv:1609.03499.

A masked step is read as 0, which is what stands before the first step too: so padding, on whichever side, changes
nothing. B batch, T time, F features, D width.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.layers.recurrent import check_mask


def causal_conv(width: int, kernel: int, dilation: int, name: str | None = None) -> nn.Conv:
  """What reads a step and the kernel - 1 before it that are multiples of `dilation` away (TCN, section 3.2)."""
  return nn.Conv(width, (kernel,), kernel_dilation=dilation, padding='CAUSAL', name=name)


class TcnBlock(nn.Module):
  """The residual block of a TCN (figure 1b): twice a convolution, ReLU and dropout of whole channels; x is added.

  Kernels are kept as direction and length (weight norm, arXiv:1602.07868). x [B,T,F] float, mask [B,T] bool ->
  [B,T,width]; x is projected where F is another width. Raises UserError for a mask that does not fit.

  Differs from the paper: lengths begin with 1, and directions as flax's convolution (the authors' code: normal, 0.01).
  """

  width: int
  kernel: int
  dilation: int
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array, *, train: bool) -> jax.Array:
    check_mask(x, mask)
    y = x
    for n in range(2):
      conv = nn.WeightNorm(causal_conv(self.width, self.kernel, self.dilation, f'conv{n}'), name=f'norm{n}')
      y = nn.relu(conv(y * mask[..., None]))
      y = nn.Dropout(self.dropout, broadcast_dims=(1,), deterministic=not train)(y)
    if x.shape[-1] != self.width:
      x = nn.Dense(self.width, name='project')(x)
    return nn.relu(x + y)


class WaveNetBlock(nn.Module):
  """WaveNet's gated activation (equation 2) with its residual and skip outputs (figure 4).

  x [B,T,D] float, mask [B,T] bool -> (x for the next block [B,T,D], what is kept for the end [B,T,skip]). Raises
  UserError for a mask that does not fit.
  """

  dilation: int
  skip: int
  kernel: int = 2

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    check_mask(x, mask)
    width = x.shape[-1]
    both = causal_conv(2 * width, self.kernel, self.dilation, 'conv')(x * mask[..., None])
    filtered, gate = jnp.split(both, 2, -1)
    z = jnp.tanh(filtered) * jax.nn.sigmoid(gate)
    return x + nn.Dense(width, name='residual')(z), nn.Dense(self.skip, name='skip')(z)
