"""Asks a trained model about a picture of one's own: a caption, an answer, or which of some labels it is.

  python -m experiments.ask --weights=FOLDER --image=FILE                          a BLIP writes a caption
  python -m experiments.ask --weights=FOLDER --image=FILE --question='how many?'   a BLIP of VQA answers
  python -m experiments.ask --weights=FOLDER --image=FILE --labels=cat,coffee      a CLIP (or BLIP of retrieval) chooses

FOLDER is the `model` of a finished run of experiments.clip or experiments.blip, the `captioner` of the latter for
captions, a published checkpoint of CLIP or BLIP, or one that `python -m mmjax.convert import` has made. Beside the
picture, FILE.ask.png shows where the model looked: raw attention of the last layer, and what the answer rests on,
attention weighed by its gradient through all layers (Chefer et al. 2021, arXiv:2103.15679); of convolutions, Grad-CAM
(Selvaraju et al. 2017, arXiv:1610.02391).
"""

import argparse
import sys
from pathlib import Path

from mmjax import cli
from mmjax.errors import UserError


def parse() -> argparse.Namespace:
  parser = cli.Parser(
    prog='python -m experiments.ask', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--weights', type=Path, required=True, help='a folder with a CLIP or a BLIP')
  parser.add_argument('--image', type=Path, required=True, help='a picture')
  parser.add_argument('--question', help='what to ask about it, of a BLIP of VQA')
  parser.add_argument('--labels', help='what it may be, with commas between')
  parser.add_argument('--out', type=Path, help='where the heat map goes (default: IMAGE.ask.png)')
  args = parser.parse_args()
  if args.question is not None and not args.question.strip():
    raise UserError('--question: found no word in it')
  if args.out and not args.out.absolute().parent.is_dir():
    raise UserError(f'--out={args.out}: found no folder {args.out.parent}, expected one that is there')
  if args.labels is not None:
    args.labels = [label.strip() for label in args.labels.split(',')]
    if not all(args.labels):
      raise UserError(f'--labels: found an empty one among {args.labels}, expected words with commas between')
  return args


def run() -> None:
  args = parse()
  from experiments import asking  # slow, and a misspelt flag is said before

  asked = asking.Asked(args.weights, args.image)
  answer = asked.answer(args.question or '', args.labels or ())
  for text, likely in answer.said:
    print(text if likely is None else f'{100 * likely:6.2f} %  {text}')
  if asked.unread:
    print(f'never read in training, left out: {", ".join(asked.unread)}')
  best = answer.said[0][0]
  out = args.out or args.image.with_name(f'{args.image.name}.ask.png')
  asking.draw(out, asked, answer, f'{args.question}: {best}' if args.question else best)
  where = 'heat map' if answer.maps else 'picture, without a map: its network sees it as one cell'
  print(f'{where}: {out}')


if __name__ == '__main__':
  sys.exit(cli.exit_code(run))
