"""The report page: puts key figures, tables, galleries, curves, examples and config into template.html.

h, w image height and width, L words, R regions, H heads.
"""

import collections
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from mmjax.report import curves, gallery
from mmjax.report import examples as example_views
from mmjax.workdir import flatten, write_atomic

FOLDER = Path(__file__).parent
SHORT = 16  # characters: up to here a value of the summary is set large
LINK = re.compile(r'https?://[^\s<>"\']*[\w/]|arXiv:\d{4}\.\d{4,5}')
DASH = '–'


def write(
  path: str | os.PathLike,
  *,
  title: str,
  summary: Sequence[tuple[str, object]],
  config: Mapping,
  history: Sequence[Mapping],
  tables: Sequence[Mapping] = (),
  drawings: Sequence[Mapping] = (),
  galleries: Sequence[Mapping] = (),
  examples: Sequence[Mapping] = (),
  command: str = '',
) -> None:
  """Writes one HTML file that loads nothing else; a part with nothing to show is left out.

  path: of the file, in a folder that exists; it is replaced in one move. The same input gives the same bytes.
  summary: (label, value) pairs, shown at the top.
  config: nested dict, shown with dotted keys; command: the command line that repeats the run.
  history: rows of metrics.jsonl, see `curves.panels`.
  tables: {'title': str, 'columns': [str], 'rows': [{column: value}], 'notes': [str]}; a row with a true 'ours' is
    emphasised; a missing value, None or nan is a dash; a float is shown with four digits, a string as it is; with
    'lines', see `curves.lines`, curves are drawn below it; with a true 'sortable', a click on a column sorts by it.
  drawings: {'title': str, 'note': str, 'items': [{'title', 'svg', 'note'}]}, and where given 'key' as of `curves` or
    `charts`, 'signs' [(svg, meaning)] and 'wide', for drawings that need a line each; svg comes as it is.
  galleries: what was found for what, in pictures, see `gallery.view`.
  examples: dicts of
    image uint8 [h,w,3]; boxes float [R,4], x1 y1 x2 y2 in 0..1; words [L] str; question str;
    answer str or None (not known); prediction str; question_type str or None;
    probabilities [(answer, probability in 0..1)], the highest first;
    word_to_region float [layers,H,L,R], softmax weights in 0..1, or None where no word reads a region;
    region_to_word float [layers,H,R,L] or None; rows that sum to less than 1 attend to more than is shown;
    layer_names [layers] str, or {'word_to_region': [...], 'region_to_word': [...]} where the two differ.
  Raises ValueError for an example of other shapes or ranges, OSError that names the path.
  """
  views = [example_views.view(example) for example in examples]
  attention = [view.pop('attention') for view in views]
  maps = [maps[name] for maps in attention for name in example_views.DIRECTIONS if maps[name]]
  template = environment().get_template('template.html')
  text = template.render(
    title=title,
    figures=[(label, value) for label, value in summary if len(str(value)) <= SHORT],
    facts=[(label, value) for label, value in summary if len(str(value)) > SHORT],
    tables=[{**table, 'numeric': _numeric(table), **_lines(table)} for table in tables],
    drawings=[{'key': [], 'signs': [], 'wide': False, **drawing} for drawing in drawings],
    sortable=any(table.get('sortable') for table in tables),
    galleries=[gallery.view(part) for part in galleries],
    curves=curves.panels(history),
    examples=views,
    attention=attention,
    layers=list(dict.fromkeys(name for m in maps for name in m['layers'])),
    heads=max((m['heads'] for m in maps), default=0),
    absent={name: bool(views) and all(m[name] is None for m in attention) for name in example_views.DIRECTIONS},
    filters=_filters(views),
    config=flatten(config),
    command=command,
  )
  write_atomic(path, text)


def environment() -> jinja2.Environment:
  """What the templates of this folder are read with: text is escaped, a missing name is an error."""
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {'cell': _cell, 'linked': _linked}
  environment.globals['file'] = lambda name: Markup((FOLDER / name).read_text(encoding='utf-8'))
  return environment


def _lines(table: Mapping) -> dict[str, object]:
  """The curves of a table that has some."""
  spec = table.get('lines')
  return {'lines': curves.lines(spec), 'along': spec['x']} if spec else {'lines': None}


def _filters(views: Iterable[Mapping]) -> list[tuple[str, str]]:
  """(value, label) of each choice of the filter, with the number of examples; question types in alphabetical order."""
  views = list(views)
  wrong = sum(view['verdict'] == 'wrong' for view in views)
  types = collections.Counter(view['type'] for view in views if view['type'] is not None)
  return [
    ('all', f'all ({len(views)})'),
    ('wrong', f'wrong only ({wrong})'),
    *((f'type:{name}', f'{name.replace("_", " ")} ({types[name]})') for name in sorted(types)),
  ]


def _numeric(table: Mapping) -> set[str]:
  """The columns that hold numbers, or text of them without a word, such as '> 94' or '98.5 ± 0.2': set to the right."""
  numeric = lambda value: isinstance(value, int | float) or re.fullmatch(r'[<>≤≥~±+−-]?\s*\d[^a-zA-Z]*', str(value))
  shown = {c: [v for v in (row.get(c) for row in table['rows']) if v is not None] for c in table['columns']}
  return {column for column, values in shown.items() if values and all(map(numeric, values))}


def _cell(value: object) -> Markup:
  if value is None or (isinstance(value, float) and math.isnan(value)):
    return Markup('<span class="none" title="no number">{}</span>').format(DASH)
  return _linked(f'{value:.4g}' if isinstance(value, float) else value)


def _linked(text: object) -> Markup:
  """Escaped text in which addresses and arXiv numbers are links."""
  text, end, parts = str(text), 0, []
  for found in LINK.finditer(text):
    address = found.group().replace('arXiv:', 'https://arxiv.org/abs/')
    parts += [escape(text[end : found.start()]), Markup('<a href="{}">{}</a>').format(address, found.group())]
    end = found.end()
  return Markup('').join([*parts, escape(text[end:])])
