"""A page to search pictures by typing: the text tower of a CLIP runs in the browser, and nothing else is needed.

N pictures of h x w pixels, L words of a text, V vocabulary, D width, E size of the shared space.
"""

import base64
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.report.page import environment
from mmjax.report.pictures import png_uri
from mmjax.workdir import write_atomic


def write(
  path: str | os.PathLike,
  *,
  title: str,
  note: str,
  first: str,
  words: Sequence[str],
  tower: Mapping[str, Any],
  how: Mapping[str, Any],
  images: np.ndarray,
  names: Sequence[str],
  vectors: np.ndarray,
  learnt: int,
) -> None:
  """Writes the page, in one move.

  first: what is looked for when the page opens; words [V]: the vocabulary by id, of `data.tokens.build`.
  tower: {'word' [V,D], 'position' [L,D], 'layers': [{'norm', 'query', 'key', 'value', 'out', 'ffn_norm', 'ffn'}],
  'norm', 'project'}, the parameters of `models.clip.TextTower`, which are kept as float16; how: {'length': L,
  'width': D, 'heads', 'eps', 'activation'}. images uint8 [N,h,w,3], names [N], vectors [N,E] of unit length; the first
  `learnt` pictures were learnt from.
  """
  columns = int(np.ceil(len(images) ** 0.5))
  blank = np.full((-len(images) % columns, *images.shape[1:]), 255, np.uint8)
  rows = np.concatenate([images, blank]).reshape(-1, columns, *images.shape[1:])
  sprite = rows.transpose(0, 2, 1, 3, 4).reshape(len(rows) * images.shape[1], -1, 3)
  data = {
    'words': list(words),
    'tower': packed(tower),
    'vectors': packed(vectors),
    'names': list(names),
    'learnt': learnt,
    'columns': columns,
    **how,
  }
  text = (
    environment()
    .get_template('search.html')
    .render(title=title, note=note, first=first, sprite=png_uri(sprite), columns=columns, data=data)
  )
  write_atomic(path, text)


def packed(tree: Any) -> Any:
  """A tree of arrays with each as base64 of little-endian float16, row-major."""
  if isinstance(tree, Mapping):
    return {name: packed(part) for name, part in tree.items()}
  if isinstance(tree, list):
    return [packed(part) for part in tree]
  return base64.b64encode(np.asarray(tree).astype('<f2').tobytes()).decode()
