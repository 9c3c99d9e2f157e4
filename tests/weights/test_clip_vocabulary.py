"""CLIP's published vocabulary: the ids of `tokens.clip_encode` against the published algorithm, written out here."""

import gzip
import html
import itertools
import random
from importlib import metadata

import ftfy
import numpy as np
import pytest

from mmjax.data import tokens

pytestmark = pytest.mark.weights

SPOKEN = (
  'a photo of a cat', "it's the dogs' bowl, isn't it?", 'A  diagram\tof\nthe  HEART', 'she said “hello” — twice…',
  '3 cats & 12,345 dogs (50% off!)', 'naïve café in Zürich', 'I&#39;ll &amp;amp; you&#8217;ve', 'x' * 60, '', '   ',
  "we're they'll I'd he's I'm you've don't", 'C++ / C# @ #hashtag $9.99', 'ﬁancé ﬂowers Ｆｕｌｌ width', 'a_b__c --- d',
)  # fmt: skip
SCRIPTS = (
  '中文字符的照片', 'фотография кошки', 'صورة قطة', '고양이 사진', 'तस्वीर', 'ελληνικά', 'עברית', 'İstanbul ǅ ß ﷺ',
  '👩\u200d👩\u200d👧\u200d👦 🐈\u200d⬛ 🇩🇪 ❤️',
)  # fmt: skip


def texts():
  """200 texts: spoken ones, scripts and emoji, mixtures of them, and long ones that have to be cut."""
  draw = random.Random(0)
  letters = 'abcdefghijklmnopqrstuvwxyz0123456789 .,\'’"-éüñß中ф한👍🎉\u200d\u00a0'
  found = [*SPOKEN, *SCRIPTS]
  while len(found) < 170:
    found.append(''.join(draw.choice(letters) for _ in range(draw.randrange(1, 60))))
  while len(found) < 200:
    found.append(' '.join(draw.choice([*SPOKEN[:7], *SCRIPTS]) for _ in range(draw.randrange(10, 30))))
  return found


@pytest.fixture(scope='module')
def merges_file():
  (file,) = (f for f in metadata.files('open-clip-torch') if f.name == 'bpe_simple_vocab_16e6.txt.gz')
  return file.locate()


@pytest.fixture(scope='module')
def published(merges_file):
  """text -> ids: the released tokenizer's steps. Pairs are joined in the order of the list until none is left."""
  import regex

  with gzip.open(merges_file, 'rt', encoding='utf-8') as file:
    pairs = [tuple(line.split()) for line in file.read().split('\n')[1 : 49152 - 256 - 2 + 1]]
  byte = [*range(33, 127), *range(161, 173), *range(174, 256)]
  letter = {b: chr(b) for b in byte} | {b: chr(256 + n) for n, b in enumerate(b for b in range(256) if b not in byte)}
  vocabulary = [*letter.values(), *(c + '</w>' for c in letter.values()), *map(''.join, pairs)]
  ids = {piece: n for n, piece in enumerate([*vocabulary, '<|startoftext|>', '<|endoftext|>'])}
  rank = {pair: n for n, pair in enumerate(pairs)}
  pattern = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
  )

  def pieces(word):
    parts = [*word[:-1], word[-1] + '</w>']
    while len(parts) > 1:
      best = min(itertools.pairwise(parts), key=lambda pair: rank.get(pair, len(rank)))
      if best not in rank:
        break
      joined, n = [], 0
      while n < len(parts):
        both = tuple(parts[n : n + 2]) == best
        joined.append(''.join(best) if both else parts[n])
        n += 1 + both
      parts = joined
    return parts

  def encode(text):
    text = regex.sub(r'\s+', ' ', html.unescape(html.unescape(ftfy.fix_text(text))).strip()).strip().lower()
    words = (''.join(letter[b] for b in token.encode()) for token in pattern.findall(text))
    found = [ids['<|startoftext|>'], *(ids[piece] for word in words for piece in pieces(word)), ids['<|endoftext|>']]
    if len(found) > 77:
      found = [*found[:76], ids['<|endoftext|>']]
    return found + [0] * (77 - len(found))

  return encode


def test_ids_are_those_of_the_published_algorithm(merges_file, published):
  given = texts()
  found = tokens.clip_encode(tokens.clip(merges_file), given)
  assert len(given) == 200 and found.shape == (200, 77)
  assert (found[:, -1] == 49407).sum() >= 10  # long ones, cut, with their end token
  for text, row in zip(given, found, strict=True):
    np.testing.assert_array_equal(row, published(text), err_msg=repr(text))


def test_a_known_text(merges_file):
  ids = tokens.clip_encode(tokens.clip(merges_file), ['a photo of a cat'])[0]
  assert ids[:8].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407, 0]
