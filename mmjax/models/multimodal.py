"""Any modalities, each by an encoder of its own, fused by one schedule: streams of any letter, two, three or more.

Nothing here is of one paper: it is the frame in which a new pair or triple of modalities is one line of a config. Tsai
et al. 2019 (MulT, arXiv:1906.00295) is near '1*[t<af a<tf f<ta]'; early, late and hybrid fusion are schedules.

A modality can be missing from an example (its mask all False): its tokens are then read by nobody. What stands for it
is a token of the modality that is always there, so that there is always something to read.

B batch, N tokens of a stream, D width, A answers.
"""

from collections.abc import Mapping
from functools import cache

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.errors import UserError
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedule import parse
from mmjax.layers.blocks import made_of
from mmjax.models.modalities import Encoder, kind_of


@cache
def streams_of(encoders: tuple[str, ...]) -> dict[str, str]:
  """Lines 'LETTER: MODALITY KIND' -> {letter: 'MODALITY KIND'}. Raises UserError for a line that is none."""
  found: dict[str, str] = {}
  for line in encoders:
    letter, colon, what = (part.strip() for part in line.partition(':'))
    if not colon or len(letter) != 1 or not 'a' <= letter <= 'z':
      raise UserError(f"encoder {line!r}: expected 'LETTER: MODALITY KIND', as 'a: audio conv'")
    if letter in found:
      raise UserError(f'encoder {line!r}: stream {letter!r} stands twice, expected each once')
    kind_of(what)
    found[letter] = what
  if not found:
    raise UserError("encoders: found none, expected one or more of 'LETTER: MODALITY KIND'")
  return found


class Multimodal(nn.Module):
  """inputs {stream: as its modality has it}, masks {stream: bool [B] or [B,·]}: see `modalities.Encoder`; all is there
  where a mask is not given. Inputs of streams that the schedule has not are left alone.

  Returns 'answers' [B,A] (logits), off the means of the streams of the schedule, and each stream [B,1+N,D], its own
  token first. Raises UserError for a schedule with streams that have no encoder, for inputs that are missing, and what
  encoders raise.
  """

  encoders: tuple[str, ...]  # 'v: image grid', 's: series lstm' ...
  schedule: str
  num_answers: int
  width: int = 64
  heads: int = 4
  mlp: int = 128
  layers: int = 2  # of encoders that are transformers
  vocab: int = 0
  channels: tuple[int, ...] = (16, 32, 64)
  patch: int = 8
  eps: float = 1e-6
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.0
  init_std: float = 0.02
  scan: bool = False

  @nn.compact
  def __call__(
    self, inputs: Mapping[str, jax.Array], masks: Mapping[str, jax.Array] | None = None, *, train: bool
  ) -> dict[str, jax.Array]:
    known = streams_of(self.encoders)
    streams = parse(self.schedule, ''.join(known)).streams
    x: dict[str, jax.Array] = {}
    mask: dict[str, jax.Array] = {}
    for s in streams:
      if s not in inputs:
        raise UserError(f'stream {s!r} ({known[s]}): found no input, expected one, as the schedule reads it')
      there = (masks or {}).get(s, jnp.ones(len(inputs[s]), bool))
      tokens, here = made_of(Encoder, self, f'encode_{s}', what=known[s])(inputs[s], there, train=train)
      x[s], mask[s] = self.placed(s, tokens), jnp.pad(here, ((0, 0), (1, 0)), constant_values=True)
    x = made_of(FusionStack, self, 'fuse', norm='pre')(x, mask, train=train)
    norm = lambda s: nn.LayerNorm(epsilon=self.eps, name=f'norm_{s}')(x[s])
    x = {s: norm(s) for s in streams}
    means = [x[s].mean(1, where=mask[s][..., None]) for s in streams]  # of what is there, its own token at least
    read = jnp.concatenate(means, -1)
    deep = nn.relu(nn.Dense(self.width, name='hidden')(read))
    deep = nn.Dropout(self.dropout, deterministic=not train)(deep)
    return x | {'answers': nn.Dense(self.num_answers, name='answer_score')(deep)}

  def placed(self, stream: str, tokens: jax.Array) -> jax.Array:
    """Tokens [B,N,D] with learnt places, behind a token of the stream."""
    init = nn.initializers.normal(self.init_std)
    first = self.param(f'token_{stream}', init, (self.width,))
    place = self.param(f'place_{stream}', init, tokens.shape[1:])
    return jnp.concatenate([jnp.broadcast_to(first, (len(tokens), 1, self.width)), tokens + place], 1)
