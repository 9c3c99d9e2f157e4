"""Several hosts on one machine: trained by two, one killed, gone on with by one. Which example was learnt from when?

  python -m tests.hosts --workdir=DIR

A linear model learns from 96 numbered examples, 8 a step, through the loop of every experiment. Each host writes down
the numbers that it was given. Says of each epoch how often an example came, and whether the end is that of one host.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

EXAMPLES, ROWS, STEPS, EVERY = 96, 8, 60, 10


def host(workdir: Path, log: Path, where: str, pause: float) -> None:
  """One host: trains, and writes a line {'step', 'ids'} for each step."""
  from flax import linen as nn

  from configs import lxmert as complete
  from experiments import training
  from mmjax import cli, objectives, train
  from mmjax.workdir import open_workdir

  c = complete.get_config('tiny')
  c.data.images, c.eval.every, c.log.every, c.optim.lr = ROWS, EVERY, EVERY, 0.05
  c.optim.steps, c.optim.warmup = STEPS, 1
  source = [{'id': n} for n in range(EXAMPLES)]
  import numpy as np

  def encode(example):
    x = np.random.default_rng(example['id']).normal(size=4).astype(np.float32)
    return {'id': np.int32(example['id']), 'x': x, 'target': x.sum(), 'weight': np.float32(1)}

  class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
      return {'answers': nn.Dense(1)(x)}

  def run(c, args):
    recipe = train.recipe(Linear(), objectives.absolute_error, lambda batch: (batch['x'],))
    first = {key: np.asarray(value)[None] for key, value in encode(source[0]).items()}
    fit = training.Fit(c, recipe, training.first_variables(recipe, 0, first), source=source, encode=encode)
    folder = open_workdir(args.workdir, c.to_dict())
    with open(log, 'a') as file, training.Course(fit, folder, args) as course:
      for step, batch in course:
        fit.state, sums = fit.step(fit.state, batch, course.key)
        ids = [int(n) for part in batch['id'].addressable_shards for n in np.asarray(part.data)]
        file.write(json.dumps({'step': step, 'ids': ids}) + '\n')
        file.flush()
        course.log(step, sums)
        if course.due(step):
          course.save(step, lambda: fit.evaluate(source))
        time.sleep(pause)
      course.end(dict, 'linear')

  sys.argv = ['host', f'--workdir={workdir}', *([f'--hosts={where}', '--heartbeat=10'] if where else [])]
  cli.main(lambda _, args: run(c, args), config='configs/lxmert.py:tiny', flags={'checkpoint': ('latest', '')})


def start(workdir: Path, name: str, where: str, pause: float = 0.0) -> subprocess.Popen:
  argv = [sys.executable, '-m', 'tests.hosts', f'--workdir={workdir}', f'--log={workdir}.{name}.jsonl',
          f'--where={where}', f'--pause={pause}']  # fmt: skip
  environment = os.environ | {'JAX_PLATFORMS': 'cpu'}
  return subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


def free_port() -> int:
  with socket.socket() as any_port:
    any_port.bind(('127.0.0.1', 0))
    return any_port.getsockname()[1]


def lines(workdir: Path, name: str) -> list[dict]:
  return [json.loads(line) for line in Path(f'{workdir}.{name}.jsonl').read_text().splitlines()]


def final(workdir: Path) -> dict:
  return json.loads((workdir / 'metrics.jsonl').read_text().splitlines()[-1])


def campaign(root: Path, victim: int = 1) -> dict:
  """Two hosts, of which the victim is killed behind step 30; then one. What each said, and which examples came when."""
  root.mkdir(parents=True, exist_ok=True)
  run, alone = root / 'run', root / 'alone'
  whole = start(alone, 'whole', '')
  _, err = whole.communicate(timeout=300)
  assert whole.returncode == 0, err
  address = f'127.0.0.1:{free_port()}'
  pair = [start(run, f'host{n}', f'{n}/2@{address}', pause=0.15) for n in range(2)]
  file = Path(f'{run}.host{victim}.jsonl')
  until = time.monotonic() + 200
  while time.monotonic() < until and not (file.exists() and len(file.read_text().splitlines()) > 33):
    time.sleep(0.02)
  pair[victim].send_signal(signal.SIGKILL)
  killed = time.monotonic()
  _, said = pair[1 - victim].communicate(timeout=100)
  took = time.monotonic() - killed
  pair[victim].communicate()
  saved = max(
    int(folder.name) for folder in (run / 'checkpoints').glob('[0-9]*') if (folder / 'manifest.json').is_file()
  )
  rest = start(run, 'rest', '')
  _, err = rest.communicate(timeout=300)
  assert rest.returncode == 0, err
  counted = [line for n in range(2) for line in lines(run, f'host{n}') if line['step'] <= saved] + lines(run, 'rest')
  epochs: list[dict[int, int]] = [{} for _ in range(STEPS * ROWS // EXAMPLES)]
  for line in counted:
    epoch = epochs[(line['step'] - 1) * ROWS // EXAMPLES]
    for n in line['ids']:
      epoch[n] = epoch.get(n, 0) + 1
  same = [line['ids'] for line in lines(alone, 'whole')]
  return {
    'said': [line for line in said.splitlines() if line.startswith('error: host')], 'code': pair[1 - victim].returncode,
    'seconds': round(took, 1), 'saved': saved, 'went on from': lines(run, 'rest')[0]['step'] - 1,
    'epochs': [{'examples': len(epoch), 'times': sorted(set(epoch.values()))} for epoch in epochs],
    'as one host': all(
      sorted(n for line in counted if line['step'] == step for n in line['ids']) == sorted(ids)
      for step, ids in enumerate(same, 1)
    ),
  }  # fmt: skip


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--workdir', type=Path, required=True)
  for name in ('log', 'where'):
    parser.add_argument(f'--{name}', default='', help=argparse.SUPPRESS)
  parser.add_argument('--pause', type=float, default=0.0, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.log:
    host(args.workdir, Path(args.log), args.where, args.pause)
  for victim, name in ((1, 'host 1 killed'), (0, 'host 0 killed')):
    print(name, json.dumps(campaign(args.workdir / name.replace(' ', '_'), victim), indent=1))


if __name__ == '__main__':
  main()
