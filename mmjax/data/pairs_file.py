"""Makes a file of pairs of image and text, in the form of twemoji.npz, from data that a package brings.

  npm pack openmoji@17.0.0
  python -m mmjax.data.pairs_file openmoji openmoji-17.0.0.tgz openmoji.npz     2,464 emoji (CC-BY-SA 4.0)
  apt install tuxpaint-stamps-default
  python -m mmjax.data.pairs_file stamps /usr/share/tuxpaint/stamps stamps.npz  some 950 drawings and photographs (GPL)

`--config.data.name=openmoji.npz` then takes the place of Twemoji in experiments.clip and experiments.blip. Drawings in
SVG are rendered by CairoSVG (`pip install cairosvg`). A picture that cannot be read is named and left out.
"""

import argparse
import csv
import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mmjax.data.twemoji import COLUMNS, SIDE
from mmjax.data.twemoji_file import picture
from mmjax.errors import UserError
from mmjax.workdir import replacing

LARGE = 2 * SIDE  # pixels that a drawing is rendered to, before it is made small
KINDS = {  # folders of stamps -> the category of Twemoji that is held out
  'animals/birds': 'animal-bird', 'clothes': 'clothing', 'food/fruit': 'food-fruit', 'plants/flowers': 'plant-flower',
  'hobbies/music': 'musical-instrument', 'town/houses': 'place-building', 'town/monuments': 'place-building',
  'vehicles/ship': 'transport-water',
}  # fmt: skip
Found = tuple[bytes, tuple[str, str, str, str]]  # a picture's file, and its COLUMNS


def openmoji(package: Path) -> Iterator[Found]:
  """OpenMoji as npm packs it, without the variants of skin tone."""
  with tarfile.open(package) as archive:
    files = {member.name: member for member in archive.getmembers()}
    read = lambda name: archive.extractfile(files[name]).read()  # type: ignore[union-attr]
    table = csv.DictReader(io.StringIO(read('package/data/openmoji.csv').decode()))
    for row in (row for row in table if not row['skintone']):
      words = dict.fromkeys(word.strip().lower() for word in f'{row["tags"]},{row["openmoji_tags"]}'.split(','))
      keywords = '|'.join(word for word in words if word)
      columns = row['annotation'].lower(), keywords, row['group'], row['subgroups']
      yield read(f'package/color/svg/{row["hexcode"]}.svg'), columns


def stamps(folder: Path) -> Iterator[Found]:
  """Tux Paint's stamps: the first line of a text is the caption, folders are the keywords."""
  files = sorted(folder.rglob('*.txt'))
  if not files:
    raise UserError(f"{folder}: found no captions (*.txt), expected the folder of Tux Paint's stamps")
  for file in files:
    drawings = [drawing for drawing in (file.with_suffix('.png'), file.with_suffix('.svg')) if drawing.is_file()]
    caption = file.read_text(encoding='utf-8', errors='replace').split('\n')[0].strip().rstrip('.').lower()
    if drawings and caption:
      place = file.parent.relative_to(folder).as_posix()
      kind = next((kind for start, kind in KINDS.items() if place.startswith(start)), place)
      words = [part.replace('_', ' ') for part in place.split('/') if part != 'cartoon']
      yield drawings[0].read_bytes(), (caption, '|'.join(words), place.split('/')[0], kind)


SETS = {'openmoji': openmoji, 'stamps': stamps}


def rendered(file: bytes) -> bytes:
  """A drawing in SVG as PNG; anything else as it is."""
  if not file.lstrip()[:5].lower().startswith((b'<?xml', b'<svg', b'<!doc')):
    return file
  try:
    import cairosvg
  except ImportError as error:
    raise UserError(f'{error}; expected CairoSVG, which renders SVG: `pip install cairosvg`') from error
  try:
    return cairosvg.svg2png(file, output_width=LARGE)
  except Exception as error:  # of a drawing that it does not understand, CairoSVG raises whatever comes
    raise ValueError(f'{type(error).__name__}: {error}') from error


def make(name: str, source: Path, out: Path) -> tuple[int, list[str]]:
  """Writes what `twemoji.read` returns; how many pairs, and what could not be read."""
  images, rows, bad = [], [], []
  for file, columns in tqdm(SETS[name](source), name, unit='picture'):
    try:
      images.append(picture(rendered(file)))
      rows.append(columns)
    except (OSError, ValueError, SyntaxError) as error:  # of Pillow
      bad.append(f'{columns[0]}: {error}')
  if not rows:
    raise UserError(f'{source}: found no picture that can be read; {len(bad)} were left out, the last: {bad[-1:]}')
  texts: dict[str, Any] = dict(zip(COLUMNS, map(np.array, zip(*rows, strict=True)), strict=True))
  with replacing(out) as file:
    np.savez_compressed(file, image=np.stack(images), **texts)
  return len(rows), bad


def main() -> None:
  parser = argparse.ArgumentParser(
    prog='python -m mmjax.data.pairs_file', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('set', choices=SETS)
  parser.add_argument('source', type=Path, help="the package's file, or the folder of stamps")
  parser.add_argument('out', type=Path, help='the file to write, .npz')
  args = parser.parse_args()
  if args.out.suffix != '.npz' or not args.out.absolute().parent.is_dir():
    parser.exit(2, f'error: {args.out}: expected a name that ends in .npz, in a folder that is there\n')
  try:
    count, bad = make(args.set, args.source, args.out)
  except (UserError, OSError, KeyError, UnicodeDecodeError, csv.Error, tarfile.TarError) as error:
    parser.exit(2, f'error: {args.source}: {error}; expected the data of {args.set}\n')
  for line in bad:
    print(f'left out: {line}', file=sys.stderr)
  print(f'wrote {count:,} pairs to {args.out}')


if __name__ == '__main__':
  main()
