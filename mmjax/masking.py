"""Masks of pre-training tasks, drawn on the device: batch -> what the model sees and what it is to say.

N images, K texts an image, B = N * K rows, L text, R regions, F features, A answers.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.objectives import Batch

WORD_RATE = REGION_RATE = 0.15  # Tan and Bansal 2019, section 3.1
NOTHING = -1  # a label of which nothing is learnt


def masked_words(
  key: jax.Array, text: jax.Array, *, mask: int, special: int, vocab: int
) -> tuple[jax.Array, jax.Array]:
  """BERT's masked words (Devlin et al. 2019, section 3.1): of each text 15 % are to be said again.

  text int [...,L], ids below `special` are no words. Of the chosen, 80 % are shown as `mask`, 10 % as another word of
  the `vocab`, 10 % as they are. Returns (what is shown, labels: the word where chosen, else -1).
  """
  choose, how, other = jax.random.split(key, 3)
  chosen = jax.random.bernoulli(choose, WORD_RATE, text.shape) & (text >= special)
  fate = jax.random.uniform(how, text.shape)
  shown = jnp.where(
    fate < 0.8, mask, jnp.where(fate < 0.9, jax.random.randint(other, text.shape, special, vocab), text)
  )
  return jnp.where(chosen, shown, text), jnp.where(chosen, text, NOTHING)


def lxmert(batch: Batch, key: jax.Array, *, mask: int, special: int, vocab: int, rivals: np.ndarray) -> Batch:
  """LXMERT's five pre-training tasks on questions with answers (Tan and Bansal 2019, section 3.1).

  batch: 'question' int [N,K,L] and 'statement' int [N,K,A,L], the question followed by each of the A answers; 'answer'
  [N,K], 'regions' [N,R,F], 'region_label' [N,R], 'weight' [N,K]. rivals bool [A,A]: which answers could stand in for
  which. Half of the rows are the bare question, whose answer is to be said; the others are statements, half of them
  with a wrong answer, and whether text and image match is to be said. Words and regions are masked at 15 % in all; a
  masked region's features are zero, its box stays. Words are to be said again in wrong statements too, as in the
  authors' code.

  Differs from the paper: a statement that does not match is the image's own with another answer, not one of another
  image, for here those hold of this image half the time.
  """
  bare, wrong, which, words, region = jax.random.split(key, 5)
  asks = jax.random.bernoulli(bare, 0.5, batch['answer'].shape)
  lies = jax.random.bernoulli(wrong, 0.5, batch['answer'].shape) & ~asks
  other = jax.random.categorical(which, jnp.where(jnp.asarray(rivals)[batch['answer']], 0.0, -jnp.inf))
  said = jnp.where(lies, other, batch['answer'])
  statement = jnp.take_along_axis(batch['statement'], said[..., None, None], 2)[:, :, 0]
  text = jnp.where(asks[..., None], batch['question'], statement)
  shown, label = masked_words(words, text, mask=mask, special=special, vocab=vocab)
  hidden = jax.random.bernoulli(region, REGION_RATE, batch['region_label'].shape)  # [N,R]
  rows = lambda a: jnp.repeat(a, batch['answer'].shape[1], axis=0)  # of an image, for each of its texts
  return {
    **batch,
    'question': shown,
    'regions': jnp.where(hidden[..., None], 0.0, batch['regions']),
    'labels': {
      'word_label': label.reshape(-1, text.shape[-1]),
      'matched': jnp.where(asks, NOTHING, 1 - lies).reshape(-1),
      'answer': jnp.where(asks, batch['answer'], NOTHING).reshape(-1),
      'feature': rows(batch['regions']),
      'feature_weight': rows(hidden.astype(jnp.float32)),
      'object': rows(batch['region_label']),
      'object_weight': jnp.ones_like(rows(hidden), jnp.float32),  # the confidence of a detector; here objects are given
      'weight': batch['weight'].reshape(-1),
    },
  }
