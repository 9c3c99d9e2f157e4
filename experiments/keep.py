"""Keeps the scores of finished runs, one a seed, in results/, where every later table shows them, and in the README.

Of visual questions that are accuracies, of a grid of fusions its cells, tables and config, which go to results/fusion/,
of other experiments all their tables, which docs/results.md shows then.

  python -m experiments.keep RUN [RUN ...] --command='python -m experiments.lxmert --config=...'

The system's name and data set come from the runs' config; a row of the same name is replaced. A run that is not
finished, or not of the same config but for its seed, is one line on stderr and exit code 2.
"""

import argparse
import json
import sys
from pathlib import Path

from experiments import seeds
from experiments.showing import PUBLISHED, column, floors, kept_results, spread
from experiments.visual_questions import prepare
from mmjax import cli
from mmjax.cli import ROOT
from mmjax.data import easy_vqa, sort_of_clevr
from mmjax.errors import UserError
from mmjax.workdir import FREE, flatten, write_atomic

MARKS = '<!-- results -->\n', '<!-- /results -->'  # around what is written into the README
TASKS = {  # name -> (its heading, the metrics that count)
  'sort_of_clevr': ('Sort-of-CLEVR, test of 2,000 images', [f'accuracy/{group}' for group in sort_of_clevr.GROUPS]),
  'easy_vqa': ('easy-VQA, published test split', ['accuracy', *(f'accuracy/{group}' for group in easy_vqa.GROUPS)]),
}


def read(run: Path) -> tuple[dict, dict]:
  """(config, {'seed', the scores on the largest test split, 'minutes', 'parameters_sha256'}) of a finished run."""
  config, rows = seeds.lines(run)
  if 'accuracy' not in rows[-2]:
    raise UserError(f'{run}: a run of pre-training, which has no accuracy to be kept')
  test = [row for row in rows if row['split'].startswith('test')][-1]
  scores = {name: round(value, 5) for name, value in test.items() if name.startswith('accuracy')}
  return config, {
    'system': rows[-1]['system'],
    'seed': config['seed'],
    'test': test['split'],
    'steps': test['step'],
  } | scores | {
    'training_minutes': seeds.minutes(run),
    'parameters_sha256': rows[-1]['parameters_sha256'],
  }


def keep(runs: list[Path], command: str) -> None:
  configs, found = zip(*map(read, runs), strict=True)
  seeds.alike(runs, configs)
  system = found[0]['system']
  name = configs[0]['data']['name']
  systems = [s for s in kept_results(name)['systems'] if s['system'] != system]
  systems.append({
    'system': system,
    'command': command,
    'seeds': sorted(found, key=lambda seed: seed['seed']),
    'config': configs[0],
  })  # fmt: skip
  task = prepare(name, configs[0]['data']['setting'], configs[0]['data']['dir'])
  content = {
    'systems': sorted(systems, key=lambda s: s['system']),
    'floors': [floor for floor in floors(task) if floor['test'] == task.tests[-1]],
  }
  file = ROOT / 'results' / f'{name}.json'
  write_atomic(file, json.dumps(content, indent=1) + '\n')
  told(file, f'{len(runs)} seeds of {system}')


def keep_grid(workdir: Path, command: str) -> Path:
  """Keeps what a grid wrote in results/fusion/VARIANT. Raises UserError where a cell of it is not done."""
  try:
    made = json.loads((workdir / 'ablation.json').read_text())
    cells, table = (workdir / 'cells.csv').read_text(), (workdir / 'ablation.md').read_text()
    config, count = made['config'], len(made['cells'])
    wanted = len(config['fusions']) * len(config['seeds'])
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f'{workdir}: {type(error).__name__}: {error}; expected the folder of a grid that is done'
    ) from error
  if count != wanted:
    raise UserError(f'{workdir}: {count} of {wanted} cells are done, expected all')
  variant = command.partition('fusion_ablation.py:')[2].split(' ')[0] or 'sort_of_clevr'
  asked = json.loads(json.dumps(cli.load_config(f'configs/fusion_ablation.py:{variant}').to_dict()))
  flat = flatten(config)
  differ = [key for key, value in flatten(asked).items() if flat.get(key) != value and not key.startswith(FREE)]
  if differ:
    raise UserError(f'{workdir}: its {", ".join(differ)} are not those of {variant}, as --command says')
  folder = ROOT / 'results' / 'fusion' / variant
  folder.mkdir(parents=True, exist_ok=True)
  write_atomic(folder / 'cells.csv', cells)
  write_atomic(folder / 'table.md', table.replace(made['command'], command))
  write_atomic(folder / 'config.json', json.dumps({'command': command} | config, indent=1) + '\n')
  return folder


def told(file: Path, what: str) -> None:
  """Writes the README's section anew, and says so."""
  readme = ROOT / 'README.md'
  before, rest = readme.read_text().split(MARKS[0])
  write_atomic(readme, before + MARKS[0] + section() + MARKS[1] + rest.split(MARKS[1])[1])
  print(f'kept {what} in {file} and in {readme}')


def section() -> str:
  """All kept results beside the published ones, in Markdown."""
  lines = [
    'Accuracy in percent, mean (lowest–highest) of the seeds. A name says where a system departs from its paper.',
    *seeds.MINUTES,
  ]
  for name, (heading, metrics) in TASKS.items():
    found = kept_results(name)
    if not found['systems']:
      continue
    names = [column(metric) for metric in metrics]
    lines += ['', f'**{heading}**', '', f'| system | {" | ".join(names)} | seeds | minutes a seed, at most | made by |']
    lines += ['|' + '---|' * (len(names) + 4)]
    for system in found['systems']:
      minutes = max(seed['training_minutes'] for seed in system['seeds'])
      scores = [spread(system, metric) for metric in metrics]
      about = [str(len(system['seeds'])), f'{minutes:.0f}', f'`{system["command"]}`']
      lines.append(f'| {" | ".join((system["system"], *scores, *about))} |')
    for floor in found['floors']:
      scores = [f'{100 * floor["scores"][group]:.2f}' for group in names]
      lines.append(f'| {" | ".join((floor["system"], *scores, "–", "–", "computed here"))} |')
    for row in PUBLISHED[name]:
      lines.append(f'| {" | ".join((row["system"], *(row[group] for group in names), "–", "–", row["source"]))} |')
  return '\n'.join(lines + seeds.headlines(seeds.everything())) + '\n'


def main() -> None:
  parser = cli.Parser(
    prog='python -m experiments.keep', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('runs', nargs='+', type=Path)
  parser.add_argument('--command', required=True, help='what made them, without --workdir and --config.seed')

  def run():
    args = parser.parse_args()
    if '-m experiments.fusion_ablation' in args.command:
      if len(args.runs) != 1:
        raise UserError(f'found {len(args.runs)} folders, expected that of the grid')
      print(f'kept the grid in {keep_grid(args.runs[0], args.command)}')
    elif seeds.of_tables(args.command):
      told(seeds.keep(args.runs, args.command), f'{len(args.runs)} seeds')
    else:
      keep(args.runs, args.command)

  sys.exit(cli.exit_code(run))


if __name__ == '__main__':
  main()
