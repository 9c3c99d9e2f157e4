"""Sentences -> token ids, through the `tokenizers` library: a word-level vocabulary of our own, BERT's, or CLIP's.

Ids of [PAD] [UNK] [CLS] [SEP] [MASK] are 0 to 4 in `build`; every encoded sentence is [CLS] words [SEP] [PAD]...
"""

import gzip
import html
import os
from collections.abc import Iterable, Sequence

import ftfy
import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from mmjax.errors import UserError

CLIP_VOCAB = 49408
CLIP_ENDS = ('<|startoftext|>', '<|endoftext|>')
CLIP_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
WORD_END = '</w>'
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


def numbered(size: int) -> Tokenizer:
  """A tokenizer of that many words that nobody says, where their number alone is asked for."""
  return Tokenizer(models.WordLevel({f'word {n}': n for n in range(size)}, unk_token='word 0'))


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


def clip(merges_file: str | os.PathLike) -> Tokenizer:
  """CLIP's byte-pair Tokenizer (Radford et al. 2021, section 2.4) of the published bpe_simple_vocab_16e6.txt.gz.

  Encodes <|startoftext|> pieces <|endoftext|>, in lower case. `clip_encode` cuts and fills as the released code does.
  Raises UserError where the file is missing or is no such list.
  """
  try:
    with gzip.open(merges_file, 'rt', encoding='utf-8') as file:
      lines = file.read().split('\n')[1 : CLIP_VOCAB - 2 * 256 - 2 + 1]
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'{merges_file}: {error}, expected bpe_simple_vocab_16e6.txt.gz') from error
  merges = [(pair[0], pair[1]) for pair in (line.split(' ') for line in lines) if len(pair) == 2]
  if len(lines) != CLIP_VOCAB - 2 * 256 - 2 or len(merges) != len(lines):
    raise UserError(f'{merges_file}: found {len(merges)} pairs, expected at least {CLIP_VOCAB - 2 * 256 - 2}')
  letters = _byte_letters()
  pieces = [*letters, *(f'{letter}{WORD_END}' for letter in letters), *map(''.join, merges), *CLIP_ENDS]
  vocabulary = {piece: n for n, piece in enumerate(pieces)}
  tokenizer = Tokenizer(models.BPE(vocabulary, merges, end_of_word_suffix=WORD_END, unk_token=CLIP_ENDS[1]))
  tokenizer.add_special_tokens(list(CLIP_ENDS))
  space = normalizers.Replace(Regex(r'\s+'), ' ')
  tokenizer.normalizer = normalizers.Sequence([space, normalizers.Strip(), normalizers.Lowercase()])
  split = pre_tokenizers.Split(Regex(CLIP_PIECES), 'removed', invert=True)
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
  start, end = CLIP_ENDS
  tokenizer.post_processor = processors.TemplateProcessing(
    single=f'{start} $A {end}', special_tokens=[(token, vocabulary[token]) for token in CLIP_ENDS]
  )
  return tokenizer


def clip_encode(tokenizer: Tokenizer, texts: Sequence[str], length: int = 77) -> np.ndarray:
  """K str -> int32 [K, length], filled up with 0; what is longer is cut, its last id the end token."""
  ids = np.zeros((len(texts), length), np.int32)
  clean = [html.unescape(html.unescape(ftfy.fix_text(text))) for text in texts]
  for row, found in zip(ids, tokenizer.encode_batch(clean)):
    row[: len(found.ids)] = found.ids[:length]
    if len(found.ids) > length:
      row[-1] = found.ids[-1]
  return ids


def _byte_letters() -> list[str]:
  """A printable letter for each byte, in the order of the published vocabulary: those that are printable first."""
  own = [*range(ord('!'), ord('~') + 1), *range(ord('¡'), ord('¬') + 1), *range(ord('®'), ord('ÿ') + 1)]
  return [*map(chr, own), *(chr(256 + n) for n in range(256 - len(own)))]


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


def known(tokenizer: Tokenizer, ids: Iterable[int]) -> list[int]:
  """ids without those of words that a vocabulary of `build` lacks: nothing was ever learnt of [UNK].

  Of published vocabularies all stay, whose models know it.
  """
  strange = SPECIAL.index('[UNK]') if isinstance(tokenizer.model, models.WordLevel) else -1
  return [int(i) for i in ids if i != strange]


def words(tokenizer: Tokenizer, ids: Iterable[int]) -> list[str]:
  """The token behind each id, special tokens too: int [L] -> L str, to label attention maps with."""
  return [tokenizer.id_to_token(int(i)) or '[UNK]' for i in ids]


def sentence(tokenizer: Tokenizer, ids: np.ndarray) -> str:
  """What ids [L] say, without the special ones of `build`."""
  return ' '.join(words(tokenizer, ids[ids >= len(SPECIAL)]))
