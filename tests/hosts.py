"""Several hosts on one machine: trained by two, one killed, gone on with by one. Which example was learnt from when?

  python -m tests.hosts --workdir=DIR

A linear model learns from 96 numbered examples, 8 a step, through the loop of every experiment. Each host writes down
the numbers that it was given. Says of each epoch how often an example came, and whether the end is that of one host;
then the same where one is asked to end, and what both say where one has another example than the other.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

EXAMPLES, ROWS, STEPS, EVERY = 96, 8, 60, 10


def host(workdir: Path, log: Path, where: str, pause: float, odd: int) -> None:
  """One host: trains, and writes a line {'step', 'ids'} for each step. odd: the example that it alone has, -1: none."""
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
    seed = EXAMPLES if example['id'] == odd else example['id']
    x = np.random.default_rng(seed).normal(size=4).astype(np.float32)
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


def start(
  workdir: Path, name: str, where: str = '', pause: float = 0.0, odd: int = -1, environment: Mapping[str, str] = {}
) -> subprocess.Popen:
  argv = [sys.executable, '-m', 'tests.hosts', f'--workdir={workdir}', f'--log={workdir}.{name}.jsonl',
          f'--where={where}', f'--pause={pause}', f'--odd={odd}']  # fmt: skip
  environment = os.environ | {'JAX_PLATFORMS': 'cpu'} | environment
  return subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


def two(run: Path, pause: float = 0.0, odd: tuple[int, int] = (-1, -1)) -> list[subprocess.Popen]:
  """Both hosts of a run."""
  run.parent.mkdir(parents=True, exist_ok=True)
  address = f'127.0.0.1:{free_port()}'
  return [start(run, f'host{n}', f'{n}/2@{address}', pause, odd[n]) for n in range(2)]


def ended(process: subprocess.Popen) -> tuple[int, list[str]]:
  """The exit code of a host, and what it said of its end."""
  _, err = process.communicate(timeout=300)
  return process.returncode, [line for line in err.splitlines() if line.startswith(('error: ', 'preempted: '))]


def free_port() -> int:
  with socket.socket() as any_port:
    any_port.bind(('127.0.0.1', 0))
    return any_port.getsockname()[1]


def lines(workdir: Path, name: str) -> list[dict]:
  return [json.loads(line) for line in Path(f'{workdir}.{name}.jsonl').read_text().splitlines()]


def campaign(root: Path, victim: int = 1, by: signal.Signals = signal.SIGKILL) -> dict:
  """Two hosts, one of which gets a signal behind step 30; then one. How each ended, and which examples came when."""
  run, alone = root / 'run', root / 'alone'
  pair = two(run, pause=0.15)
  file = Path(f'{run}.host{victim}.jsonl')
  until = time.monotonic() + 200
  while time.monotonic() < until and not (file.exists() and len(file.read_text().splitlines()) > 33):
    time.sleep(0.02)
  pair[victim].send_signal(by)
  sent = time.monotonic()
  other = ended(pair[1 - victim])
  took = time.monotonic() - sent
  own = ended(pair[victim])
  saved = max(
    int(folder.name) for folder in (run / 'checkpoints').glob('[0-9]*') if (folder / 'manifest.json').is_file()
  )
  assert ended(start(run, 'rest')) == ended(start(alone, 'whole')) == (0, [])
  counted = [line for n in range(2) for line in lines(run, f'host{n}') if line['step'] <= saved] + lines(run, 'rest')
  epochs: list[dict[int, int]] = [{} for _ in range(STEPS * ROWS // EXAMPLES)]
  for line in counted:
    epoch = epochs[(line['step'] - 1) * ROWS // EXAMPLES]
    for n in line['ids']:
      epoch[n] = epoch.get(n, 0) + 1
  same = [line['ids'] for line in lines(alone, 'whole')]
  return {
    'victim': own, 'other': other, 'seconds': round(took, 1),
    'saved': saved, 'went on from': lines(run, 'rest')[0]['step'] - 1,
    'epochs': [{'examples': len(epoch), 'times': sorted(set(epoch.values()))} for epoch in epochs],
    'as one host': all(
      sorted(n for line in counted if line['step'] == step for n in line['ids']) == sorted(ids)
      for step, ids in enumerate(same, 1)
    ),
  }  # fmt: skip


def in_slurm(root: Path) -> list[tuple[int, list[str]]]:
  """Two hosts that find each other by what SLURM tells each of its tasks: how each ended."""
  root.mkdir(parents=True, exist_ok=True)
  told = {'SLURM_JOB_ID': str(os.getpid()), 'SLURM_STEP_NODELIST': 'localhost', 'SLURM_NTASKS': '2'}
  own = lambda n: told | {'SLURM_PROCID': str(n), 'SLURM_LOCALID': str(n)}
  pair = [start(root / 'run', f'host{n}', 'auto', environment=own(n)) for n in range(2)]
  return [ended(one) for one in pair]


def unequal(root: Path) -> list[tuple[int, list[str]]]:
  """Two hosts, of which the second has another example in the middle: how each ended."""
  return [ended(one) for one in two(root / 'run', odd=(-1, EXAMPLES // 2))]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--workdir', type=Path, required=True)
  for name, kind in (('log', str), ('where', str), ('pause', float), ('odd', int)):
    parser.add_argument(f'--{name}', default=kind(), type=kind, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.log:
    host(args.workdir, Path(args.log), args.where, args.pause, args.odd)
  for n, (victim, by) in enumerate(((1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGTERM))):
    print(f'host {victim} gets {by.name}', json.dumps(campaign(args.workdir / str(n), victim, by), indent=1))
  print('unequal data', json.dumps(unequal(args.workdir / 'unequal'), indent=1))


if __name__ == '__main__':
  main()
