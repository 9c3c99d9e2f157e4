"""What was found for what: rows of pictures with their texts.

h x w pixels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmjax.report.pictures import shown


def view(gallery: Mapping) -> dict[str, Any]:
  """A gallery as the template shows it.

  gallery: {'title': str, 'note': str, 'rows': [{'query': tile, 'found': [tile]}]}; a tile is {'image': uint8 [h,w,3],
  'text': str, 'right': bool, 'score': str}, each of which may be missing. Raises ValueError for another image.
  """
  rows = [{'query': tile(row['query']), 'found': [tile(item) for item in row['found']]} for row in gallery['rows']]
  return {'title': gallery['title'], 'note': gallery.get('note', ''), 'rows': rows}


def tile(given: Mapping) -> dict[str, Any]:
  """One picture, one text, or both."""
  text = given.get('text', '')
  found: dict[str, Any] = {'source': '', 'text': text, 'alt': '' if text else 'a picture'}
  found |= {'right': given.get('right', False), 'score': given.get('score')}
  return found | (shown(np.asarray(given['image'])) if given.get('image') is not None else {})
