"""Sentences -> token ids, through the `tokenizers` library: a word-level vocabulary of our own, or BERT's.

Ids of [PAD] [UNK] [CLS] [SEP] [MASK] are 0 to 4 in `build`; every encoded sentence is [CLS] words [SEP] [PAD]...
"""

import os
from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from mmjax.errors import UserError

SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')

_clean = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace('?', ' ')])
_split = pre_tokenizers.WhitespaceSplit()


def build(sentences: Iterable[str]) -> Tokenizer:
  """A word-level Tokenizer of all words of `sentences` (iterable of str), in lower case and without '?'.

  Ids are alphabetical after SPECIAL, so that the same sentences give the same ids in whatever order they come.
  """
  words = {word for s in sentences for word, _ in _split.pre_tokenize_str(_clean.normalize_str(s))}
  vocabulary = {word: i for i, word in enumerate(SPECIAL + tuple(sorted(words - set(SPECIAL))))}
  tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token='[UNK]'))
  tokenizer.normalizer, tokenizer.pre_tokenizer = _clean, _split
  return _framed(tokenizer)


def wordpiece(vocab_file: str | os.PathLike) -> Tokenizer:
  """The uncased BERT Tokenizer (Devlin et al. 2019, arXiv:1810.04805) of a published vocab.txt.

  Raises UserError where the file is missing or is no such list.
  """
  if not os.path.isfile(vocab_file):
    raise UserError(f'vocabulary {vocab_file}: no such file, expected a BERT vocab.txt (one piece a line)')
  tokenizer = Tokenizer(models.WordPiece.from_file(str(vocab_file), unk_token='[UNK]'))
  missing = [token for token in SPECIAL if tokenizer.token_to_id(token) is None]
  if missing:
    raise UserError(f'vocabulary {vocab_file}: expected a BERT vocab.txt, found no {" ".join(missing)} in it')
  tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
  tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  return _framed(tokenizer)


def _framed(tokenizer: Tokenizer) -> Tokenizer:
  tokenizer.add_special_tokens(list(SPECIAL))
  tokenizer.post_processor = processors.TemplateProcessing(
    single='[CLS] $A [SEP]', special_tokens=[(t, tokenizer.token_to_id(t)) for t in ('[CLS]', '[SEP]')]
  )
  return tokenizer


def encode(tokenizer: Tokenizer, sentences: Sequence[str], length: int) -> np.ndarray:
  """K str -> int32 [K, length], filled up with [PAD]. Raises UserError where a sentence is longer: nothing is cut."""
  ids = np.full((len(sentences), length), tokenizer.token_to_id('[PAD]'), np.int32)
  for row, sentence, found in zip(ids, sentences, tokenizer.encode_batch(list(sentences))):
    if len(found.ids) > length:
      raise UserError(
        f'question {sentence!r}: expected at most {length} tokens with [CLS] and [SEP], found {len(found.ids)}'
      )
    row[: len(found.ids)] = found.ids
  return ids


def words(tokenizer: Tokenizer, ids: Iterable[int]) -> list[str]:
  """The token behind each id, special tokens too: int [L] -> L str, to label attention maps with."""
  return [tokenizer.id_to_token(int(i)) or '[UNK]' for i in ids]
