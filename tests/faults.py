"""What a run survives, tried for real: kill -9 at random moments, and a flipped byte in every file of a checkpoint.

  python -m tests.faults kill  --kills=20 --workdir=DIR -- --config=configs/lxmert.py:tiny --config.optim.steps=2000
  python -m tests.faults flip  --workdir=DIR -- --config=configs/lxmert.py:tiny
  python -m tests.faults grid  --kills=10 --workdir=DIR -- --config=configs/fusion_ablation.py:quick
  python -m tests.faults share --workdir=DIR -- --config=configs/fusion_ablation.py:quick

What stands behind '--' goes to python -m experiments.lxmert, or fusion_ablation. `kill` runs the command once
undisturbed (DIR/whole), then in DIR/killed until it ends, killing it at random moments after the first checkpoint, and
compares the parameters' sha256. `flip` trains DIR/whole, then for each file of its newest checkpoint in turn flips the
middle byte of a copy and restores: a checkpoint with a flipped byte must be named and passed over. `grid` is `kill` for
a whole grid: done cells must stay as they are, and all be the same as in DIR/whole. `share` gives DIR/shared to two
processes, and kills one of them in the middle of a cell: all cells must be done, each once. Exit code 1 where anything
is wrong, 2 for a mistake of the command line or a DIR with one checkpoint only.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from experiments import lxmert, visual_questions
from mmjax import cli, optim, train
from mmjax.checkpoint import Checkpoints
from mmjax.cli import ROOT
from mmjax.errors import UserError
from mmjax.models.lxmert import LXMERT


def start(workdir: Path, more: list[str], log, experiment: str = 'lxmert') -> subprocess.Popen:
  command = [sys.executable, '-m', f'experiments.{experiment}', f'--workdir={workdir}', *more]
  return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def sha256(workdir: Path) -> str:
  last = json.loads((workdir / 'metrics.jsonl').read_text().splitlines()[-1])
  return last['parameters_sha256']


def whole(workdir: Path, more: list[str]) -> float:
  """Trains DIR/whole undisturbed. Returns its seconds."""
  began = time.time()
  with open(workdir / 'whole.log', 'w') as log:
    if start(workdir / 'whole', more, log).wait():
      sys.exit(f'the undisturbed run failed, see {workdir / "whole.log"}')
  print(f'undisturbed: sha256 {sha256(workdir / "whole")[:16]}..., {time.time() - began:.0f} s', flush=True)
  return time.time() - began


def good(workdir: Path) -> list[int]:
  """Steps of the sealed checkpoints."""
  return sorted(int(file.parent.name) for file in (workdir / 'checkpoints').glob('[0-9]*/manifest.json'))


def kill(workdir: Path, more: list[str], kills: int, seed: int) -> bool:
  seconds, chance, killed = whole(workdir, more), random.Random(seed), workdir / 'killed'
  longest = seconds / 15  # of a life, counted from its first sign of training: 20 lives fit into one run
  done = 0
  with open(workdir / 'killed.log', 'w') as log:
    while done < kills:
      process, began = start(killed, more, log), time.time()
      metrics = killed / 'metrics.jsonl'
      before = metrics.stat().st_size if metrics.exists() else 0
      while process.poll() is None and (not good(killed) or not metrics.exists() or metrics.stat().st_size == before):
        time.sleep(0.01)
      moment = chance.uniform(0, longest)
      time.sleep(moment)
      if process.poll() is not None:
        sys.exit(f'the run ended before {kills} kills: take more steps')
      process.kill()
      process.wait()
      done += 1
      print(f'kill {done}: {time.time() - began:.1f} s after the start, good checkpoints {good(killed)}', flush=True)
    code = start(killed, more, log).wait()
  same = code == 0 and sha256(killed) == sha256(workdir / 'whole')
  print(f'after {kills} kills: exit {code}, sha256 {sha256(killed)[:16]}...: {"the same" if same else "NOT the same"}')
  return same


def flip(workdir: Path, more: list[str]) -> bool:
  if not (workdir / 'whole').exists():
    whole(workdir, more)
  steps = good(workdir / 'whole')
  if len(steps) < 2:  # what has the flipped byte is passed over for the one before
    raise UserError(
      f'{workdir / "whole"}: found {len(steps)} good checkpoint{"" if len(steps) == 1 else "s"}, expected at least 2; '
      'take another --workdir and a lower --config.eval.every'
    )
  newest = steps[-1]
  c, _ = cli.parse(['--workdir=unused', *more], config=lxmert.CONFIG, modes=('train',))
  task, model, _ = visual_questions.build(LXMERT, c)
  tx = optim.build(c.optim.name, lambda step: c.optim.lr, clip=c.optim.clip, decay=c.optim.decay)
  recipe = visual_questions.recipe(c.objective, task, model)
  template = train.init(visual_questions.first_variables(recipe, model, task, c.seed)[0], tx)
  fine = True
  for file in sorted(p for p in (workdir / 'whole' / 'checkpoints' / str(newest)).rglob('*') if p.is_file()):
    copy = shutil.copytree(workdir / 'whole', workdir / 'flipped')
    victim = copy / file.relative_to(workdir / 'whole')
    content = bytearray(victim.read_bytes())
    if not content:
      content = bytearray(b'\0')  # an empty file gains a byte
    else:
      content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with Checkpoints(copy) as checkpoints:
      _, _, step = checkpoints.restore(template)
    fine &= step < newest
    print(f'{victim.relative_to(copy / "checkpoints")}: restored step {step}{"" if step < newest else " SILENTLY"}')
    shutil.rmtree(copy)
  return fine


GRID = 'fusion_ablation'


def cells(workdir: Path) -> dict[str, tuple]:
  """Done cell -> its parameters' sha256, and what it answered to each test."""
  found = {}
  for file in sorted(workdir.glob('cells/*/*/cell.json')):
    with np.load(file.with_name('answers.npz')) as arrays:
      answers = tuple((name, arrays[name].tobytes()) for name in arrays.files)
    found['/'.join(file.parts[-3:-1])] = (json.loads(file.read_text())['parameters_sha256'], answers)
  return found


def whole_grid(workdir: Path, more: list[str]) -> float:
  """Makes the grid DIR/whole undisturbed. Returns its seconds."""
  began = time.time()
  with open(workdir / 'whole.log', 'w') as log:
    if start(workdir / 'whole', more, log, GRID).wait():
      sys.exit(f'the undisturbed grid failed, see {workdir / "whole.log"}')
  print(f'undisturbed: {len(cells(workdir / "whole"))} cells, {time.time() - began:.0f} s', flush=True)
  return time.time() - began


def busy(workdir: Path, since: float) -> bool:
  """Whether a cell was worked at."""
  return any(file.stat().st_mtime > since for file in workdir.glob('cells/*/*/metrics.jsonl'))


def compared(workdir: Path, name: str) -> bool:
  ours, theirs = cells(workdir / name), cells(workdir / 'whole')
  same = ours == theirs
  print(f'{name}: {len(ours)} cells done, of {len(theirs)}: {"all the same" if same else "NOT the same"}', flush=True)
  return same


def grid(workdir: Path, more: list[str], kills: int, seed: int) -> bool:
  seconds, chance = whole_grid(workdir, more), random.Random(seed)
  made: dict[str, float] = {}  # done cell -> when it was written
  with open(workdir / 'killed.log', 'w') as log:
    for n in range(kills):
      began = time.time()
      process = start(workdir / 'killed', more, log, GRID)
      while process.poll() is None and not busy(workdir / 'killed', began):
        time.sleep(0.05)
      time.sleep(chance.uniform(0, seconds / kills))
      if process.poll() is not None:
        sys.exit(f'the grid ended before {kills} kills: take more steps')
      process.kill()
      process.wait()
      files = {str(file): file.stat().st_mtime for file in workdir.glob('killed/cells/*/*/cell.json')}
      rewritten = [file for file, when in made.items() if files.get(file) != when]
      if rewritten:
        sys.exit(f'done cells were lost or written again: {", ".join(rewritten)}')
      made = files
      print(f'kill {n + 1}: {time.time() - began:.0f} s after the start, {len(made)} cells done', flush=True)
    code = start(workdir / 'killed', more, log, GRID).wait()
  return compared(workdir, 'killed') and code == 0


def share(workdir: Path, more: list[str]) -> bool:
  if not (workdir / 'whole').exists():
    whole_grid(workdir, more)
  logs = [open(workdir / f'shared{n}.log', 'w') for n in (1, 2)]  # noqa: SIM115, they live as long as the processes
  began = time.time()
  first, second = (start(workdir / 'shared', more, log, GRID) for log in logs)
  cells_of_first = workdir / 'shared1.log'
  while second.poll() is None and not (busy(workdir / 'shared', began) and 'begins' in cells_of_first.read_text()):
    time.sleep(0.05)
  time.sleep(2)
  first.kill()
  first.wait()
  last = [line for line in cells_of_first.read_text().splitlines() if ': begins' in line][-1].partition(':')[0]
  print(f'the first process is killed while it is at {last}', flush=True)
  code = second.wait()
  told = [line for n in (1, 2) for line in (workdir / f'shared{n}.log').read_text().splitlines() if ': done' in line]
  taken = [line for line in told if line.startswith(f'{last}:')]
  once = len(told) == len({line.partition(':')[0] for line in told})
  by = 'the other' if len(taken) == 1 else f'{len(taken)} processes'
  print(f'{last} was done by {by}; each cell once: {once}')
  return compared(workdir, 'shared') and code == 0 and len(taken) == 1 and once


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('what', choices=['kill', 'flip', 'grid', 'share'])
  parser.add_argument('--workdir', type=Path, required=True)
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  at = sys.argv.index('--') if '--' in sys.argv else len(sys.argv)
  args, more = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
  args.workdir.mkdir(parents=True, exist_ok=True)
  given = (args.workdir, more)
  chance = (args.kills, args.seed) if args.what in ('kill', 'grid') else ()
  fine = {'kill': kill, 'flip': flip, 'grid': grid, 'share': share}[args.what](*given, *chance)
  sys.exit(0 if fine else 1)


if __name__ == '__main__':
  sys.exit(cli.exit_code(main))
