"""Words -> tokens by word vectors and recurrence. B batch, L text, D width.

Transformers that encode text are models of their own: models/bert.py, models/gpt.py.
"""

import jax
from flax import linen as nn

from mmjax.layers.embed import Embed
from mmjax.layers.recurrent import Recurrent


class WordRNN(nn.Module):
  """Word vectors, read in order by an LSTM or a GRU, both ways: the text encoder of much that came before transformers.

  text [B,L] int, mask [B,L] bool -> tokens [B,L,D], mask. vectors: length of a word's vector, the rows of the parameter
  word/embedding [vocab,vectors], in whose place published ones can be put (data/vectors.py). D is even.
  """

  vocab: int
  width: int
  kind: str = 'lstm'
  vectors: int = 50
  layers: int = 1
  dropout: float = 0.0

  @nn.compact
  def __call__(self, text: jax.Array, mask: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    x = Embed(self.vocab, self.vectors, init_std=0.1, name='word')(text)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    read = Recurrent(self.kind, self.width // 2, self.layers, both_ways=True, dropout=self.dropout, name='read')
    return read(x, mask, train=train), mask
