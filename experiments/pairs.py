"""Images with texts as a task: the data, and how well one finds the other. CLIP and BLIP are trained on it.

M pairs, Q queries, N candidates, L words.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from tokenizers import Tokenizer
from tqdm import tqdm

from experiments.telling import Cell
from experiments.training import known_set
from mmjax import augment
from mmjax.data import encode, tokens, twemoji
from mmjax.data.pipeline import Source, load
from mmjax.encoders.image import to_float
from mmjax.metrics import retrieval
from mmjax.objectives import Batch

Arrays = dict[str, np.ndarray]
SETS = ('twemoji',)
KS = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class Pairs:
  """A prepared data set. `splits`: 'train', 'validation', and what a model never sees: 'test' and 'unseen'.

  length: L; labels: names of the categories of which 'unseen' is; side: pixels of an image.
  """

  splits: Mapping[str, Source | list[dict[str, Any]]]
  tokenizer: Tokenizer
  length: int
  labels: tuple[str, ...]
  side: int = dataclasses.field(default=twemoji.SIDE, kw_only=True)

  @property
  def vocab(self) -> int:
    return self.tokenizer.get_vocab_size()

  @functools.cached_property
  def encode(self) -> encode.Encoder:
    return encode.pairs(self.tokenizer, self.length)

  kept: ClassVar[tuple[str, ...]] = ('image', 'text')  # of what `encode` gives, in `arrays`

  def said(self, texts: Sequence[str]) -> Arrays:
    """Texts as `arrays` has them: 'text' ids [Q,L]; what is too long is cut."""
    return {'text': np.stack([encode.said(self.tokenizer, [text], self.length)[0] for text in texts])}

  def given(self, batch: Mapping) -> tuple:
    """What its CLIP is called with."""
    return given(batch)

  def drawn(self, batch: Batch, key: jax.Array, **how: Any) -> Batch:
    """A batch as it is learnt from once."""
    return augment.pairs(batch, key, **how)

  def arrays(self, *splits: str) -> Arrays:
    """All of some splits: 'image' uint8 [M,h,w,3], 'text' [M,L], 'concept' and 'label' [M], 'name' and 'words' str."""
    examples = [example for split in splits for example in self.splits[split]]
    rows = [
      {key: self.encode(example)[key] for key in self.kept}
      | {key: example[key] for key in ('concept', 'label')}
      | {'name': encode.texts_of(example)[0], 'words': ', '.join(encode.texts_of(example))}
      for example in examples
    ]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def given(batch: Mapping) -> tuple:
  """What a CLIP of pictures and words is called with: (text, image, mask)."""
  return batch['text'], to_float(jnp.asarray(batch['image'])), batch['text'] > 0


def prepare(name: str, folder: str, length: int) -> Pairs:
  """The data set of that name, or of a file of pairs (.npz). The words are those of the training texts.

  Raises UserError for an unknown one.
  """
  splits: Mapping[str, Source | list[dict[str, Any]]]
  if name.endswith('.npz'):
    splits = twemoji.of_file(Path(name))
  else:
    known_set(name, SETS, 'or a file of pairs, .npz')
    splits = {split: load(twemoji.Twemoji, split, folder or None) for split in twemoji.SPLITS}
  tokenizer = tokens.build(text for example in splits['train'] for text in encode.texts_of(example))
  return Pairs(splits, tokenizer, length, tuple(twemoji.HELD_OUT.values()))


def stacked(examples: Sequence[Mapping[str, Any]]) -> Arrays:
  """Examples as arrays of all of them."""
  return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


Score = tuple[float, float, float]  # a value, and its 95 % interval


def mean(values: np.ndarray, groups: np.ndarray | None = None) -> Score:
  """The mean of values [Q]; intervals draw whole groups [Q], where there are some."""
  return float(values.mean()), *retrieval.interval(lambda drawn: float(drawn.mean()), values, groups)


def share(right: np.ndarray) -> Score:
  """How many of [Q] are right, with Wilson's 95 % interval: no point, where all are."""
  ends = stats.binomtest(int(right.sum()), len(right)).proportion_ci(method='wilson')
  return float(right.mean()), float(ends.low), float(ends.high)


def in_parts(call: Callable, given: Any, rows: int, numbered: bool = False, what: str = '') -> np.ndarray:
  """call(part) of arrays [M,...], so many rows at a time, the last ones filled up: one size, compiled once.

  numbered: call(part, n). what: is being done, where progress is shown.
  """
  count = len(jax.tree.leaves(given)[0])
  found = []
  for n, start in enumerate(tqdm(range(0, count, rows), what, unit='batch', leave=False, disable=not what)):
    at = np.arange(start, start + rows) % count
    part = jax.tree.map(lambda a, at=at: a[at], given)
    found.append(np.asarray(call(part, n) if numbered else call(part))[: count - start])
  return np.concatenate(found)


def values(scores: Mapping[str, Score | float]) -> dict[str, float]:
  """Scores without their intervals."""
  return {name: value[0] if isinstance(value, tuple) else value for name, value in scores.items()}


def search(scores: np.ndarray, right: np.ndarray, concept: np.ndarray) -> dict[str, Score]:
  """How well queries find what is theirs: 'R@1' ... and 'median rank' of scores [Q,N]; right [Q,N] bool.

  Intervals draw whole concepts [Q], as pictures of one are not independent.
  """
  places = retrieval.ranks(scores, right)
  value = retrieval.summary(places, KS)
  measure = lambda name: lambda drawn: retrieval.summary(drawn, KS)[name]
  return {name: (value[name], *retrieval.interval(measure(name), places, concept)) for name in value}


def accuracy(scores: np.ndarray, label: np.ndarray, concept: np.ndarray) -> Score:
  """How often the highest of scores [Q, labels] is label [Q]; intervals as in `search`."""
  return mean((scores.argmax(1) == label).astype(float), concept)


def chance(among: int) -> dict[str, float]:
  """`search` of a random order."""
  right = np.ones((1, among)) * (np.arange(among) == 0)
  return {f'R@{k}': retrieval.chance(right, k) for k in KS} | {'median rank': (among + 1) / 2}


def shown(name: str, *found: float) -> Cell:
  """A score in a table, with its interval where it has one: in percent, or a rank."""
  return Cell(*found, decimals=0) if name == 'median rank' else Cell(*(100 * x for x in found))
