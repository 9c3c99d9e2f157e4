"""Finished runs that differ in their seed alone, as one: their tables, with the mean and the extremes of each number.

They are kept in results/EXPERIMENT.json and shown in docs/results.md; what counts most of each is in the README.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.telling import TABLES
from mmjax.cli import ROOT
from mmjax.errors import UserError
from mmjax.workdir import flatten, write_atomic

MINUTES = (
  'Minutes are those from the first step to the last score, of seeds trained side by side: a core each, or a GPU for',
  'all; some had other work beside them, and took longer for it.',
)
SEED = {'seed'}  # the keys in which the runs may differ
ORDER = (
  'clip', 'blip', 'dalle', 'composed_search', 'sentiment', 'mult', 'mbt', 'sensors', 'records', 'series',
  'speech_retrieval',
)  # fmt: skip
SOURCE = 'source'  # a column that the command stands for

# experiment, what is shown of it, a part of a table's title, a column, and what rows must have in other columns
EITHER = 'either'  # what chance finds by: one row for both ways
POOLS = 'among 121 of new concepts / 196 of new categories / all 317'
NEW = {'test': '121 of new concepts'}
HEADLINES: tuple[tuple[str, str, str, str, dict[str, str]], ...] = (
  ('clip', f'R@5 of pictures for a text, {POOLS}', 'Search', 'R@5', {'what finds what': 'text to image'}),
  ('clip', f'R@5 of texts for a picture, {POOLS}', 'Search', 'R@5', {'what finds what': 'image to text'}),
  ('clip', 'zero-shot accuracy, ten categories that were held out', 'Zero-shot', 'accuracy', {}),
  ('blip', 'CIDEr of captions of 121 new concepts', 'Captions', 'CIDEr', NEW),
  ('dalle', 'pictures that show all that their text says', 'Pictures', 'all that is said', {}),
  ('dalle', 'reconstructions, PSNR in dB', 'Pictures', 'PSNR, dB', {}),
  ('composed_search', 'R@1 of products held out, by picture and wish', 'Search', 'R@1', {'wishes': 'held out'}),
  ('sentiment', 'accuracy on posts with new pictures', 'Accuracy', 'all', {'test': 'new pictures'}),
  ('mult', 'accuracy: which of three witnesses contradicts the others', 'Who contradicts', 'all', {'test': 'scenes'}),
  ('mbt', 'accuracy on clips whose class neither picture nor sound tells', 'Accuracy', 'all there', {}),
  ('sensors', "accuracy of a robot's actions", 'Accuracy', 'all there', {}),
  ('records', 'accuracy on records', 'Accuracy', 'all there', {}),
  ('series', 'accuracy on BasicMotions', 'Accuracy', 'BasicMotions', {}),
  ('series', 'accuracy on JapaneseVowels', 'Accuracy', 'JapaneseVowels', {}),
  ('series', 'accuracy on GunPoint', 'Accuracy', 'GunPoint', {}),
  ('speech_retrieval', 'R@5 of speech for a text', 'Search', 'R@5', {'what finds what': 'text to speech'}),
  ('speech_retrieval', 'R@5 of texts for speech', 'Search', 'R@5', {'what finds what': 'speech to text'}),
)


def lines(run: Path) -> tuple[dict, list[dict]]:
  """(config, lines of metrics.jsonl) of a finished run. Raises UserError for one that cannot be read or is not done."""
  try:
    config = json.loads((run / 'config.json').read_text())
    rows = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
  except (OSError, ValueError) as error:
    raise UserError(f'{run}: config.json or metrics.jsonl cannot be read ({error})') from error
  whole = isinstance(config, dict) and all(isinstance(row, dict) and 'split' in row and 'time' in row for row in rows)
  if not whole or not isinstance(config.get('seed'), int):
    raise UserError(f'{run}: config.json without a seed, or lines of metrics.jsonl without split and time: damaged')
  if not rows or rows[-1]['split'] != 'final':
    raise UserError(f'{run}: the run is not finished (metrics.jsonl has no final line)')
  return config, rows


def alike(runs: Sequence[Path], configs: Sequence[Mapping]) -> None:
  """Raises UserError for runs that differ in more than their seed, and for a seed that stands twice."""
  first = flatten(configs[0])
  for run, config in zip(runs, configs, strict=True):
    other = flatten(config)
    keys = {key for key in first | other if first.get(key) != other.get(key)} - SEED
    if keys:
      raise UserError(f'{run}: differs from {runs[0]} in {", ".join(sorted(keys))}, expected the seed alone')
  numbers = [config['seed'] for config in configs]
  for number in numbers:
    if numbers.count(number) > 1:
      raise UserError(f'seed {number} stands twice among the runs, expected each once')


def minutes(run: Path) -> float:
  """From the first step of the first stage to the last score."""
  times = [
    json.loads(line)['time'] for file in run.rglob('metrics.jsonl') for line in file.read_text().splitlines() if line
  ]
  return round((max(times) - min(times)) / 60, 1)


def tables(run: Path, name: str) -> tuple[list[dict], str]:
  """(the tables, the device) of a run of that experiment. Raises UserError where it has none, or another's."""
  try:
    made = json.loads((run / TABLES).read_text())
    found, content, device = made['experiment'], made['tables'], made['device']
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{run / TABLES}: {type(error).__name__}: {error}; expected the tables of a run, which --mode=eval of the same '
      'command writes again'
    ) from error
  if found != name:
    raise UserError(f'{run}: a run of experiments.{found}, expected one of experiments.{name}, as --command says')
  return content, device


def file_of(name: str) -> Path:
  return ROOT / 'results' / f'{name}.json'


def kept(name: str) -> list[dict]:
  """The kept runs of an experiment, each of several seeds; none where nothing is kept."""
  file = file_of(name)
  return json.loads(file.read_text())['runs'] if file.is_file() else []


def everything() -> dict[str, list[dict]]:
  """experiment -> its kept runs."""
  return {name: kept(name) for name in ORDER}


def of_tables(command: str) -> str:
  """The experiment of a command, where its tables are what is kept; else ''."""
  named = re.search(r'-m experiments\.(\w+)', command)
  return named[1] if named and named[1] in ORDER else ''


def keep(runs: Sequence[Path], command: str) -> Path:
  """Keeps the tables of finished runs, in the place of those of the same command. Returns the file."""
  name = of_tables(command)
  read = sorted(((*lines(run), run) for run in runs), key=lambda part: part[0]['seed'])
  configs, rows, runs = zip(*read, strict=True)
  alike(runs, configs)
  contents, devices = zip(*(tables(run, name) for run in runs), strict=True)
  found = {
    'command': command,
    'config': configs[0],
    'seeds': [config['seed'] for config in configs],
    'minutes': [minutes(run) for run in runs],
    'parameters_sha256': [row[-1]['parameters_sha256'] for row in rows],
    'device': '; '.join(sorted(set(devices))),
    'tables': joined(contents),
  }
  headlines({name: [found]})  # what cannot be shown is said before anything is written
  every = sorted([run for run in kept(name) if run['command'] != command] + [found], key=lambda run: run['command'])
  text = document(everything() | {name: every})
  write_atomic(file_of(name), json.dumps({'runs': every}, indent=1, ensure_ascii=False) + '\n')
  write_atomic(ROOT / 'docs' / 'results.md', text)
  return file_of(name)


def joined(seeds: Sequence[Sequence[Mapping]]) -> list[dict]:
  """The tables of several seeds as one, in which a number is {'values', 'decimals'}.

  Raises UserError where their rows are not the same.
  """
  first = seeds[0]
  texts = lambda tables: [
    (t['title'], [{k: v for k, v in row.items() if not isinstance(v, Mapping)} for row in t['rows']]) for t in tables
  ]
  for other in seeds[1:]:
    if texts(other) != texts(first):
      raise UserError(f'{TABLES}: found other rows in one of the runs, expected the same systems and tests in all')

  def cell(t: int, n: int, key: str) -> Any:
    of = [tables[t]['rows'][n][key] for tables in seeds]
    if not isinstance(of[0], Mapping):
      return of[0]
    return {'values': [round(x['value'], 4) for x in of], 'decimals': of[0]['decimals']}

  return [
    {key: table[key] for key in ('title', 'columns', 'notes')}  # not its curves, which are those of one run
    | {'rows': [{key: cell(t, n, key) for key in row} for n, row in enumerate(table['rows'])]}
    for t, table in enumerate(first)
  ]


def spread(cell: Any) -> str:
  """A number of several seeds: 'mean (lowest–highest)', or the one that there is, or that all have; text as it is."""
  if not isinstance(cell, Mapping):
    return str(cell)
  show = lambda x: f'{x:.{cell["decimals"]}f}'
  values = cell['values']
  if show(min(values)) == show(max(values)):
    return show(values[0])
  return f'{show(float(np.mean(values)))} ({show(min(values))}–{show(max(values))})'


def document(every: Mapping[str, Sequence[Mapping]]) -> str:
  """docs/results.md of `everything`."""
  text = [
    '# Results of several seeds',
    '',
    'Each number is the mean of the seeds, with the lowest and the highest; made by `python -m experiments.keep` from',
    'finished runs. Reports of single runs have 95 % intervals.',
    *MINUTES,
  ]
  for name in ORDER:
    for run in every[name]:
      seeds = ', '.join(map(str, run['seeds']))
      took = f'at most {max(run["minutes"]):.0f} minutes a seed; {run["device"]}.'
      text += ['', f'## `{run["command"]}`', '', f'Seeds {seeds}; {took}']
      for table in run['tables']:
        columns = [column for column in table['columns'] if column != SOURCE]
        text += ['', f'**{table["title"]}**', '', f'| {" | ".join(columns)} |', '|' + '---|' * len(columns)]
        text += [f'| {" | ".join(spread(row.get(column, "–")) for column in columns)} |' for row in table['rows']]
  return '\n'.join(text) + '\n'


def kind(run: Mapping) -> str:
  """What a kept run was trained on: 'cpu', 'gpu (NVIDIA H100 80GB HBM3)'."""
  return run['device'].split(',')[0]


def headlines(every: Mapping[str, Sequence[Mapping]]) -> list[str]:
  """What counts most of `everything`, as a table in Markdown; nothing where nothing is kept.

  Raises UserError where a run has not what is shown of it.
  """
  rows = []
  for name, says, title, column, where in HEADLINES:
    for run in every.get(name, ()):
      right = [
        row
        for table in run['tables']
        if title in table['title']
        for row in table['rows']
        if column in row and all(v in row.get(k, '') or row.get(k) == EITHER for k, v in where.items())
      ]
      if not right:
        raise UserError(f'{run["command"]}: its tables lack {column!r} of {title!r}, which the README shows')
      of: dict[str, list[str]] = {}  # system -> its numbers, one or one a pool
      for row in right:
        of.setdefault(row['system'], []).append(spread(row[column]))
      short = '; '.join(f'{system} {" / ".join(found)}' for system, found in of.items())
      rows.append(
        f'| {says} | {short} | {len(run["seeds"])} | {max(run["minutes"]):.0f}, {kind(run)} | `{run["command"]}` |'
      )
  if not rows:
    return []
  head = ['| what | reached | seeds | minutes a seed, at most | made by |', '|---|---|---|---|---|']
  title = '**Other tasks** (all tables: [docs/results.md](docs/results.md))'
  return ['', title, '', *head, *rows]
