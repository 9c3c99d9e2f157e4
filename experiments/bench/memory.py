"""The most memory that a forward pass or a training step takes, in a process of its own, on a CPU.

  python -m experiments.bench.memory MODEL BATCH TASK WHOSE LAYERS COMPUTE

prints bytes: the most that was resident during three rounds, less what was before the model was made.
"""

import gc
import re
import subprocess
import sys
from pathlib import Path

from mmjax.cli import ROOT

WHOSE = ('ours', 'peer')


def of_both(model: str, batch: int, task: str, layers: int, compute: str) -> dict[str, float]:
  """{'ours_gib', 'peer_gib'}; nothing where the system does not tell, and on a GPU, whose memory this is not."""
  from experiments.bench import peers

  if peers.device() != 'cpu' or not Path('/proc/self/clear_refs').exists():
    return {}
  found = {}
  for whose in WHOSE:
    command = [sys.executable, '-m', 'experiments.bench.memory', model, str(batch), task, whose, str(layers), compute]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found[f'{whose}_gib'] = round(int(done.stdout.split()[-1]) / 2**30, 3)
  return found


def resident(which: str) -> int:
  """Bytes of this process: 'VmRSS' now, or 'VmHWM' the most since it was last cleared."""
  found = re.search(rf'{which}:\s+(\d+) kB', Path('/proc/self/status').read_text())
  assert found is not None
  return 1024 * int(found[1])


def main(model: str, batch: str, task: str, whose: str, layers: str, compute: str) -> None:
  from experiments.bench import peers, steps  # what they take is not the model's

  before = resident('VmRSS')
  both = peers.make(model, int(batch), int(layers), compute=compute)
  if whose == 'ours':
    both.theirs.to('meta')
    way = steps.ours(both, task, both.recipe, [both.given])
    both = both._replace(variables={} if task in steps.TRAINED else both.variables)
  else:
    both = both._replace(variables={})
    way = next(iter((steps.trainings if task in steps.TRAINED else steps.evaluations)(both, [both.given]).values()))
  gc.collect()
  way()  # compiled
  Path('/proc/self/clear_refs').write_text('5')
  for _ in range(3):
    way()
  print(resident('VmHWM') - before)


if __name__ == '__main__':
  main(*sys.argv[1:])
