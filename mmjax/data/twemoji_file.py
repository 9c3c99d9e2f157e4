"""Makes mmjax/data/twemoji.npz, which is in the project, from the two npm packages that it is of.

  npm pack emoji-datasource-twitter@16.0.0 emojilib@4.0.3
  python -m mmjax.data.twemoji_file emoji-datasource-twitter-16.0.0.tgz emojilib-4.0.3.tgz

Pictures are made 32 x 32, on pale green. The same packages give the same bytes.
"""

import argparse
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmjax.data.twemoji import COLUMNS, FILE, SIDE

PAPER = '#c8d8b0'  # behind the pictures: a pale green, which few of them are of


def make(pictures: Path, words: Path, out: Path) -> int:
  """Writes the arrays that `twemoji.read` returns; how many pairs."""
  with tarfile.open(words) as archive:
    keywords = json.load(_member(archive, 'package/dist/emoji-en-US.json'))
  with tarfile.open(pictures) as archive:
    entries = json.load(_member(archive, 'package/emoji.json'))
    images = {e['image']: picture(_member(archive, f'package/img/twitter/64/{e["image"]}').read()) for e in entries}
  entries.sort(key=lambda entry: entry['sort_order'])
  rows = []
  for entry in entries:
    name, *more = keywords.get(_letters(entry['unified']), [entry['name'].lower()])
    rows.append(
      (
        name.replace('_', ' ').lower(),
        '|'.join(word.replace('_', ' ').replace('\xa0', ' ').lower() for word in more),
        entry['category'],
        entry['subcategory'],
      )
    )
  columns: dict[str, Any] = dict(zip(COLUMNS, map(np.array, zip(*rows, strict=True)), strict=True))
  np.savez_compressed(out, image=np.stack([images[entry['image']] for entry in entries]), **columns)
  return len(rows)


def _member(archive: tarfile.TarFile, name: str):
  found = archive.extractfile(name)
  if found is None:
    raise KeyError(f'{name} is no file')
  return found


def _letters(codes: str) -> str:
  """'0023-FE0F' -> the text that it is."""
  return ''.join(chr(int(code, 16)) for code in codes.split('-'))


def picture(file: bytes) -> np.ndarray:
  """A picture's file -> uint8 [SIDE,SIDE,3]: as large as fits, in the middle, on PAPER."""
  image = Image.open(io.BytesIO(file)).convert('RGBA')
  scale = SIDE / max(image.size)
  width, height = (max(1, round(size * scale)) for size in image.size)
  paper = Image.new('RGBA', (SIDE, SIDE), PAPER)
  paper.alpha_composite(
    image.resize((width, height), Image.Resampling.LANCZOS), ((SIDE - width) // 2, (SIDE - height) // 2)
  )
  return np.asarray(paper.convert('RGB'))


if __name__ == '__main__':
  parser = argparse.ArgumentParser(
    prog='python -m mmjax.data.twemoji_file',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('pictures', type=Path, help='emoji-datasource-twitter, as npm packs it')
  parser.add_argument('words', type=Path, help='emojilib, likewise')
  parser.add_argument('--out', type=Path, default=FILE)
  args = parser.parse_args()
  try:
    count = make(args.pictures, args.words, args.out)
  except (OSError, KeyError, ValueError, tarfile.TarError) as error:
    parser.exit(2, f'error: {args.pictures}, {args.words}: {error}; expected the two packages as npm packs them\n')
  print(f'wrote {count} pairs to {args.out}', file=sys.stderr)
