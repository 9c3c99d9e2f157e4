"""How near written captions are to given ones: CIDEr, BLEU and ROUGE-L of pycocoevalcap, as COCO's evaluation has them.

Texts are told apart into words by spaces, in lower case and without punctuation; COCO's own tokeniser (PTB) needs Java.
M captions.
"""

import re
from collections.abc import Sequence

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from mmjax.errors import UserError


def plain(text: str) -> str:
  """Lower case, words alone."""
  return ' '.join(re.findall(r'[\w]+', text.lower()))


def scores(written: Sequence[str], given: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
  """{'CIDEr', 'ROUGE-L'} of each caption [M] against those given for its picture.

  CIDEr (Vedantam et al. 2015, arXiv:1411.5726; 10 for the very words) weighs words by how few of the M pictures have
  them. The mean of it and of ROUGE-L is the score of all; BLEU of all is `bleu`, not a mean.
  Raises UserError where the two are not of one length, or nothing is there.
  """
  if len(written) != len(given) or not written:
    raise UserError(f'{len(written)} captions for {len(given)} pictures: expected one each')
  said = {n: [plain(text)] for n, text in enumerate(written)}
  right = {n: [plain(text) for text in texts] for n, texts in enumerate(given)}
  return {
    'CIDEr': np.asarray(Cider().compute_score(right, said)[1]),
    'ROUGE-L': np.asarray(Rouge().compute_score(right, said)[1]),
  }


def bleu(written: Sequence[str], given: Sequence[Sequence[str]]) -> dict[str, float]:
  """{'BLEU-1', 'BLEU-4'} of all captions together (Papineni et al. 2002), 0..1."""
  said = {n: [plain(text)] for n, text in enumerate(written)}
  right = {n: [plain(text) for text in texts] for n, texts in enumerate(given)}
  found, _ = Bleu(4).compute_score(right, said, verbose=0)
  return {'BLEU-1': float(found[0]), 'BLEU-4': float(found[3])}
