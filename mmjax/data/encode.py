"""An example as it is on disk -> the arrays a model reads, before batching (the pipeline adds N in front).

Every encoder is made by a factory here and gives, for K questions of a picture: 'question' int32 [K,L], 'question_type'
int32 [K], 'answer' int32 [K], 'weight' float32 [K] (1, or 0 for a question that only fills up). Sentences are tokenised
once: when the encoder is made, or, of pairs, when they first come.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from mmjax.data import tokens
from mmjax.errors import UserError

Example = Mapping[str, Any]  # as it is on disk: arrays, and text as bytes
Encoder = Callable[[Example], dict[str, np.ndarray]]
KEPT = 1 << 20  # texts of pairs, each some hundred bytes


def regions(tokenizer: Tokenizer, sentences: Sequence[str], length: int) -> Encoder:
  """Encoder for Sort-of-CLEVR with the objects given.

  Adds 'regions' float32 [R,F] (see region_features), 'boxes' float32 [R,4], x1 y1 x2 y2 in 0..1, and 'region_label'
  int32 [R], color * 2 + shape, for pre-training. sentences: all questions there are, str; length: L. Raises UserError
  for a sentence longer than that and, when used, for a question that is none of the sentences.
  """
  ask = _questions(tokenizer, sentences, length)

  def encode(example: Example) -> dict[str, np.ndarray]:
    return ask(example, len(example['question'])) | {
      'regions': region_features(example['crops']),
      'boxes': example['boxes'],
      'region_label': example['color'] * 2 + example['shape'],
    }

  return encode


def statements(tokenizer: Tokenizer, sentences: Sequence[str], answers: Sequence[str], length: int) -> Encoder:
  """`regions` for pre-training. Adds 'statement' int32 [K,A,L]: each question followed by each of the answers."""
  plain = regions(tokenizer, sentences, length)
  said = [f'{sentence} {answer}' for sentence in sentences for answer in answers]
  table = tokens.encode(tokenizer, said, length).reshape(len(sentences), len(answers), length)
  row = {sentence.encode(): i for i, sentence in enumerate(sentences)}

  def encode(example: Example) -> dict[str, np.ndarray]:
    return plain(example) | {'statement': table[[row[sentence] for sentence in example['question']]]}

  return encode


def region_features(crops: np.ndarray) -> np.ndarray:
  """Crops uint8 [...,R,11,11,3] -> float32 [...,R,363] in -1..1."""
  return crops.reshape(*crops.shape[:-3], -1) * np.float32(2 / 255) - np.float32(1)


def pixels(tokenizer: Tokenizer, sentences: Sequence[str], length: int, questions: int) -> Encoder:
  """Encoder for bare pictures. Adds 'image' uint8 [h,w,3] and, where they are known, the objects' 'boxes' as `regions`.

  questions: K; a picture with fewer is filled up with its first question, weight 0. The rest and the errors are as in
  `regions`; also raises UserError for an example of more than K questions.
  """
  ask = _questions(tokenizer, sentences, length)

  def encode(example: Example) -> dict[str, np.ndarray]:
    known = ('image', 'boxes')  # boxes are there to teach a detector, not to be read
    return ask(example, questions) | {name: example[name] for name in known if name in example}

  return encode


def pairs(tokenizer: Tokenizer, length: int) -> Encoder:
  """Encoder for an image with its name and keywords, a pair of image and text.

  Gives 'image' uint8 [h,w,3], 'weight' 1, 'text' int32 [L]: [CLS] name keyword ... [SEP], as many as fit whole, and
  'part' int32 [L]: 1 for the words of the name, 2 ... for those of each keyword, 0 for all else.
  """

  @functools.lru_cache(KEPT)
  def once(texts: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    return said(tokenizer, texts, length)

  def encode(example: Example) -> dict[str, np.ndarray]:
    ids, parts = once(tuple(texts_of(example)))
    return {'image': example['image'], 'text': ids, 'part': parts, 'weight': np.ones((), np.float32)}

  return encode


def told(source: Iterable[Example], tokenizer: Tokenizer, length: int, *keys: str) -> list[dict[str, np.ndarray]]:
  """All examples, in memory: the named keys as they are, their 'text' as int32 [L], and 'weight' 1."""
  examples = list(source)
  ids = tokens.encode(tokenizer, [example['text'].decode() for example in examples], length)
  one = np.ones((), np.float32)
  return [{key: e[key] for key in keys} | {'text': text, 'weight': one} for e, text in zip(examples, ids, strict=True)]


def texts_of(example: Example) -> list[str]:
  """The name and the keywords of an example, as they are read."""
  return [text.decode().replace('_', ' ') for text in (example['name'], *example['keywords'])]


def said(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
  """'text' and 'part' of `pairs`: int32 [L] each. A first text that is too long is cut, later ones are left out.

  Words that the tokeniser does not know are left out, see `tokens.known`.
  """
  start, end = tokenizer.encode('').ids  # [CLS] [SEP]
  ids, parts = np.zeros(length, np.int32), np.zeros(length, np.int32)
  ids[0], at = start, 1
  for part, found in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False), 1):
    new = tokens.known(tokenizer, found.ids)
    new = new[: length - 2] if part == 1 else new
    if at + len(new) < length:
      ids[at : at + len(new)], parts[at : at + len(new)] = new, part
      at += len(new)
  ids[at] = end
  return ids, parts


def _questions(
  tokenizer: Tokenizer, sentences: Sequence[str], length: int
) -> Callable[[Example, int], dict[str, np.ndarray]]:
  table = tokens.encode(tokenizer, sentences, length)
  row = {sentence.encode(): i for i, sentence in enumerate(sentences)}  # text comes back from disk as bytes

  def ask(example: Example, questions: int) -> dict[str, np.ndarray]:
    found = len(example['question'])
    if found > questions:
      raise UserError(f'picture with {found} questions: expected at most {questions}')
    try:
      rows = np.array([row[sentence] for sentence in example['question']])
    except KeyError as error:
      raise UserError(
        f'question {error.args[0].decode()!r}: expected one of the {len(row)} sentences that the encoder was made with'
      ) from None
    fill = np.arange(questions)
    real = fill < found
    fill = fill * real  # 0 1 2 ... 0 0
    return {
      'question': table[rows[fill]],
      'question_type': example['question_type'][fill],
      'answer': example['answer'][fill],
      'weight': real.astype(np.float32),
    }

  return ask
