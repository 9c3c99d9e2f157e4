"""PatchTST: A Time Series is Worth 64 Words (Nie et al. 2023, arXiv:2211.14730).

Each channel of a series is cut into patches, which are the tokens of a transformer that all channels share (section
3.1). Sizes default to those of HuggingFace's PatchTSTConfig.

B series, T steps, C channels, N patches, P steps of a patch, S tokens (N, or 1 + N), D width, A answers (classes).

Differs from the paper: nothing by default but sizes. As in HuggingFace's code can be asked for: channel_attention, that
channels read one another too, by the weights of the attention over time; an embedding for each channel; a learnt token.
"""

from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from mmjax.encoders.series import patches, scaled
from mmjax.errors import UserError
from mmjax.fusion.layers import ENTRY, STACKED, STATES, keep, read_itself
from mmjax.fusion.owner import Owner
from mmjax.layers.blocks import batch_norm, made_of
from mmjax.layers.ways import layer_step

NORMS = ('batchnorm', 'layernorm')


class ChannelLayer(nn.Module):
  """One layer: x [B,C,S,D] -> the same. Each channel's tokens read one another; with channel_attention each place's
  channels do after it, by the same weights; then a feed-forward."""

  width: int
  heads: int
  mlp: int
  eps: float
  activation: str
  dropout: float
  attention_dropout: float
  init_std: float
  norms: str
  pre_norm: bool
  channel_attention: bool

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    owner = Owner(
      self.width, self.heads, self.width // self.heads, self.mlp, self.eps, self.activation, self.dropout,
      self.init_std, name='owner',
    )  # fmt: skip
    look = nn.Dropout(self.attention_dropout, deterministic=not train)
    read = lambda name, x: read_itself(self, name, owner, x, look)
    size = {'B': len(x)}
    x = self.added(rearrange(x, 'B C S D -> (B C) S D'), 'norm1', partial(read, 'in_time'), train)
    x = rearrange(x, '(B C) S D -> B C S D', **size)
    if self.channel_attention:
      x = self.added(rearrange(x, 'B C S D -> (B S) C D'), 'norm2', partial(read, 'channels'), train)
      x = rearrange(x, '(B S) C D -> B C S D', **size)
    x = self.added(rearrange(x, 'B C S D -> (B C) S D'), 'norm3', lambda x: owner.ffn(x, train=train), train)
    x = rearrange(x, '(B C) S D -> B C S D', **size)
    keep(self, STATES, 's', x)
    return x

  def added(self, x: jax.Array, name: str, of, train: bool) -> jax.Array:
    """x + of(x), with a norm before or behind."""
    norm = (
      batch_norm(train, epsilon=self.eps, name=name)
      if self.norms == 'batchnorm'
      else nn.LayerNorm(epsilon=self.eps, name=name)
    )
    drop = nn.Dropout(self.dropout, deterministic=not train)
    return x + drop(of(norm(x))) if self.pre_norm else norm(x + drop(of(x)))


class PatchTST(nn.Module):
  """series [B,T,C] float, seen bool [B,T,C]: which numbers were measured (all where it is not given).

  Returns 's' [B,C,S,D], 'patches' [B,C,N,P] as they are read, 'location' and 'scale' [B,1,C] of each channel, and,
  where num_answers is not 0, 'answers' [B,A] (logits) off the learnt token or the mean of the patches. Raises UserError
  for a series of another length or number of channels.
  """

  num_answers: int = 0
  channels: int = 1
  context: int = 32  # T
  patch: int = 1
  stride: int = 1
  layers: int = 3
  width: int = 128
  heads: int = 4
  mlp: int = 512
  eps: float = 1e-5
  activation: str = 'gelu'
  dropout: float = 0.0
  attention_dropout: float = 0.0
  init_std: float = 0.02
  norms: str = 'batchnorm'
  pre_norm: bool = True
  channel_attention: bool = False
  share_embedding: bool = True
  token: bool = False
  scaling: str = 'std'

  @nn.compact
  def __call__(self, series: jax.Array, seen: jax.Array | None = None, *, train: bool) -> dict[str, jax.Array]:
    if series.shape[1:] != (self.context, self.channels):
      raise UserError(f'series {series.shape[1:]}: expected {self.context} steps of {self.channels} channels')
    if self.norms not in NORMS:
      raise UserError(f'norms: found {self.norms!r}, expected one of {NORMS}')
    series, location, scale = scaled(series, jnp.ones_like(series) if seen is None else seen, self.scaling)
    parts = patches(series, self.patch, self.stride)
    init = nn.initializers.normal(self.init_std)
    if self.share_embedding:
      x = nn.Dense(self.width, kernel_init=init, name='embed')(parts)
    else:
      kernel = self.param('kernel', init, (self.channels, self.patch, self.width))
      bias = self.param('bias', nn.initializers.zeros, (self.channels, self.width))
      x = jnp.einsum('BCNP,CPD->BCND', parts, kernel) + bias[:, None]
    place = self.param('position', init, (self.token + x.shape[2], self.width))
    if self.token:
      first = jnp.broadcast_to(self.param('token', init, (self.width,)), (*x.shape[:2], 1, self.width))
      x = jnp.concatenate([first, x], 2)
    x = nn.Dropout(self.dropout, deterministic=not train)(x + place)
    keep(self, STATES, ENTRY, x)
    step = layer_step(lambda module, x: module(x, train=train), scanned=True)
    scanned = nn.scan(
      lambda module, x, _: (step(module, x), None),
      variable_axes=dict.fromkeys((*STACKED, 'batch_stats'), 0),
      split_rngs={'params': True, 'dropout': True},
      length=self.layers,
    )
    x, _ = scanned(made_of(ChannelLayer, self, 'layers'), x, None)
    out = {'s': x, 'patches': parts, 'location': location, 'scale': scale}
    if self.num_answers:
      read = x[:, :, 0] if self.token else x.mean(2)
      out['answers'] = nn.Dense(self.num_answers, kernel_init=init, name='answer_score')(
        rearrange(read, 'B C D -> B (C D)')
      )
    return out
