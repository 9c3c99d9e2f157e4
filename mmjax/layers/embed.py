"""Embedding tables, and the sum of word, position and segment embeddings that BERT reads (Devlin et al. 2019, fig. 2).

B batch, L text, D width, V vocabulary.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.errors import UserError


class Embed(nn.Module):
  """A table of `size` rows. ids [...] int -> [..., width].

  `padding` names a row that receives no gradient from look-ups (torch's padding_idx); a negative number names none.
  """

  size: int
  width: int
  padding: int = -1
  init_std: float = 0.02

  def setup(self):
    self.embedding = self.param('embedding', nn.initializers.normal(self.init_std), (self.size, self.width))

  def __call__(self, ids: jax.Array) -> jax.Array:
    rows = jnp.take(self.embedding, ids, axis=0, mode='clip')
    if self.padding < 0:
      return rows
    return jnp.where((ids == self.padding)[..., None], jax.lax.stop_gradient(rows), rows)

  def attend(self, x: jax.Array) -> jax.Array:
    """Scores of every row against x [..., D]: the output layer tied to the table. -> [..., size]."""
    return x @ self.embedding.T


class TextEmbed(nn.Module):
  """Word + position + segment embedding, layer norm, dropout. ids [B,L] int, types [B,L] int -> [B,L,D].

  at [1|B,L] int: the words' positions, 0 1 2 ... where not given. types=0: there are no segments (BLIP).

  The three paddings name rows without gradient (see Embed): BERT has one for words only, LXMERT's code row 0 of all
  three tables.
  """

  vocab: int
  positions: int
  types: int
  width: int
  eps: float = 1e-12
  dropout: float = 0.1
  word_padding: int = 0
  position_padding: int = -1
  type_padding: int = -1
  init_std: float = 0.02

  def setup(self):
    embed = partial(Embed, width=self.width, init_std=self.init_std)
    self.word = embed(self.vocab, padding=self.word_padding)
    self.position = embed(self.positions, padding=self.position_padding)
    if self.types:
      self.type = embed(self.types, padding=self.type_padding)
    self.norm = nn.LayerNorm(epsilon=self.eps)
    self.drop = nn.Dropout(self.dropout)

  def __call__(
    self, ids: jax.Array, types: jax.Array | None = None, at: jax.Array | None = None, *, train: bool
  ) -> jax.Array:
    if ids.shape[1] > self.positions:
      raise UserError(f'text of {ids.shape[1]} tokens: expected at most {self.positions} (positions)')
    x_BLD = self.word(ids) + self.position(jnp.arange(ids.shape[1])[None] if at is None else at)
    if self.types:
      x_BLD += self.type(jnp.zeros_like(ids) if types is None else types)
    return self.drop(self.norm(x_BLD), deterministic=not train)
