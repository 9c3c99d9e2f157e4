"""Keeps the scores of finished runs, one a seed, in results/, where every later table shows them.

  python -m experiments.keep RUN [RUN ...] --command='python -m experiments.lxmert --config=...'

The system's name and data set come from the runs' config; a row of the same name is replaced. A run that is not
finished, or not of the same config but for its seed, is one line on stderr and exit code 2.
"""

import argparse
import json
import sys
from pathlib import Path

from mmjax.cli import ROOT
from mmjax.errors import UserError
from mmjax.workdir import flatten, write_atomic

SEED = {'seed'}  # the keys in which the runs of a row may differ


def read(run: Path) -> tuple[dict, dict]:
  """(config, {'seed', the scores on the largest test split, 'minutes', 'parameters_sha256'}) of a finished run."""
  try:
    config = json.loads((run / 'config.json').read_text())
    rows = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
  except OSError as error:
    raise UserError(f'{error.filename}: {error.strerror}') from error
  if not rows or rows[-1]['split'] != 'final':
    raise UserError(f'{run}: the run is not finished (metrics.jsonl has no final line)')
  test = [row for row in rows if row['split'].startswith('test')][-1]
  minutes = (rows[-1]['time'] - rows[0]['time']) / 60
  scores = {name: round(value, 5) for name, value in test.items() if name.startswith('accuracy')}
  return config, {
    'system': rows[-1]['system'],
    'seed': config['seed'],
    'test': test['split'],
    'steps': test['step'],
  } | scores | {
    'training_minutes': round(minutes, 1),
    'parameters_sha256': rows[-1]['parameters_sha256'],
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('runs', nargs='+', type=Path)
  parser.add_argument('--command', required=True, help='what made them, without --workdir and --config.seed')
  args = parser.parse_args()
  try:
    configs, seeds = zip(*map(read, args.runs), strict=True)
    first = flatten(configs[0])
    for run, config in zip(args.runs, configs, strict=True):
      other = flatten(config)
      keys = {key for key in first | other if first.get(key) != other.get(key)} - SEED
      if keys:
        raise UserError(f'{run}: differs from {args.runs[0]} in {", ".join(sorted(keys))}, expected the seed alone')
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
  system = seeds[0]['system']
  file = ROOT / 'results' / f'{configs[0]["data"]["name"]}.json'
  systems = [s for s in json.loads(file.read_text())['systems'] if s['system'] != system]
  systems.append({
    'system': system,
    'command': args.command,
    'seeds': sorted(seeds, key=lambda seed: seed['seed']),
    'config': configs[0],
  })  # fmt: skip
  write_atomic(file, json.dumps({'systems': sorted(systems, key=lambda s: s['system'])}, indent=1) + '\n')
  print(f'kept {len(seeds)} seeds of {system} in {file}')


if __name__ == '__main__':
  main()
