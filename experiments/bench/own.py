"""What this project holds itself to: start-up, waiting for data, checkpoints, decoding, and the kept accuracies."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments import keep
from experiments.showing import column, kept_results, spread
from mmjax.cli import ROOT
from mmjax.errors import RunError

STEPS = 300
RUN = ['--config=configs/lxmert.py:tiny', f'--config.optim.steps={STEPS}', '--config.eval.every=300']


def start_up_and_speed(folder: Path) -> dict[str, float]:
  """Three runs of one command: the first may compile, the others are warm. Seconds; a share; examples a second.

  The first two log every step, so that the first step is seen; the last logs as a run does, and is the one measured.
  """
  seconds = []
  for name, every in (('first', 1), ('warm', 1), ('steady', STEPS // 3)):
    began = time.time()
    command = [sys.executable, '-m', 'experiments.lxmert', f'--workdir={folder / name}', *RUN]
    subprocess.run([*command, f'--config.log.every={every}'], cwd=ROOT, check=True, capture_output=True)
    rows = [json.loads(line) for line in (folder / name / 'metrics.jsonl').read_text().splitlines()]
    train = [row for row in rows if row['split'] == 'train']
    seconds.append(train[0]['time'] - began)
  steady = train[1:]
  mean = lambda key: sum(row[key] for row in steady) / len(steady)
  return {
    'start-up to the first step, first run (s)': seconds[0],
    'start-up to the first step, warm (s)': seconds[1],
    'waiting for data (share of step time)': mean('data_wait'),
    'questions a second': mean('examples_per_s'),
  }


def aside(folder: Path, million: int = 100) -> dict[str, float]:
  """What is done once or beside training: a checkpoint of so many million parameters with Adam's state, until training
  goes on and until it is on the disk, seconds; and a text of pairs, tokenised and looked up, microseconds."""
  import jax

  from mmjax.checkpoint import Checkpoints
  from mmjax.data import encode, tokens

  draw = lambda n: jax.random.normal(jax.random.key(n), (million, 1000, 1000))
  state = {name: draw(n) for n, name in enumerate(('params', 'mu', 'nu'))}
  jax.block_until_ready(state)
  with Checkpoints(folder) as checkpoints:
    began = time.perf_counter()
    checkpoints.save(1, state)
    free = time.perf_counter() - began
    checkpoints.wait()
    saved = time.perf_counter() - began
  texts = [{'name': f'thing {n}'.encode(), 'keywords': [b'small', b'round', b'red']} for n in range(1000)]
  pairs = encode.pairs(tokens.build(text for e in texts for text in encode.texts_of(e)), 16)
  took = []
  for _ in range(2):
    began = time.perf_counter()
    for example in texts:
      pairs({**example, 'image': None})
    took.append(1e6 * (time.perf_counter() - began) / len(texts))
  return {
    'checkpoint, until training goes on (s)': free,
    'checkpoint, until it is on the disk (s)': saved,
    'a text, tokenised (us)': took[0],
    'a text, looked up (us)': took[1],
  }


def decoding(codes: int = 256, rows: int = 2, rounds: int = 1) -> dict[str, float]:
  """Codes a second of a DALL-E, with what was read kept and with all of it read again for each; the best of rounds.

  Raises RunError where the two do not write the same.
  """
  import jax
  import jax.numpy as jnp
  import numpy as np

  from mmjax import generate
  from mmjax.models.dalle import DALLE, painter

  model = DALLE(vocab=100, words=16, codes=128, side=round(codes**0.5), width=256, depth=4, heads=8, head_size=32)
  text = jax.random.randint(jax.random.key(0), (rows, model.words), 1, model.vocab)
  variables = model.init(jax.random.key(1), text, jnp.zeros((rows, 0), int), train=False)
  prompt = model.together(text, jnp.zeros((rows, 0), int))

  def read_all(ids, new, at):
    """A step that keeps nothing but the ids, [B,T,1,1]."""
    ids = jnp.zeros((rows, model.length + 1, 1, 1), int) if ids is None else ids
    ids = jax.lax.dynamic_update_slice_in_dim(ids, new[..., None, None], at, 1)
    logits: Any = model.apply(variables, ids[:, : model.length, 0, 0], train=False, method='scores')
    return jax.lax.dynamic_slice_in_dim(logits, at, new.shape[1], 1), ids

  fastest: dict[str, float] = {}
  written: dict[str, np.ndarray] = {}
  ways = {'kept': painter(model, variables), 'read again': read_all}
  runs = {
    name: jax.jit(lambda step=step: generate.greedy(step, prompt, length=model.length + 1))
    for name, step in ways.items()
  }
  for _ in range(1 + rounds):  # the first compiles
    for name, run in runs.items():
      began = time.perf_counter()
      written[name] = np.asarray(run())
      fastest[name] = min(fastest.get(name, float('inf')), time.perf_counter() - began)
  if not np.array_equal(written['kept'], written['read again']):
    raise RunError('decoding: what is written with and without a cache differs')
  kept, read_again = (rows * codes / fastest[name] for name in ways)
  return {
    f'decoding {codes} codes, cached (codes/s)': kept,
    f'decoding {codes} codes, uncached (codes/s)': read_again,
    'decoding, ratio': kept / read_again,
  }


def suite_seconds() -> dict[str, float]:
  began = time.time()
  subprocess.run([sys.executable, '-m', 'pytest', '-q'], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
  return {'default test suite (s)': time.time() - began}


def accuracies() -> list[dict]:
  """What results/ holds: mean and range over seeds, in percent."""
  return [
    {'data': name, 'system': system['system'], 'seeds': len(system['seeds']), 'command': system['command']}
    | {column(metric): spread(system, metric) for metric in metrics}
    for name, (_, metrics) in keep.TASKS.items()
    for system in kept_results(name)['systems']
  ]


def measured(tests: bool, say: Callable[[str], None]) -> dict[str, float]:
  """All of the above. tests: the default test suite too; say: is told what is measured."""
  with tempfile.TemporaryDirectory() as folder:
    say('start-up and speed: three short runs')
    found = start_up_and_speed(Path(folder))
    say('checkpoints and texts')
    found |= aside(Path(folder) / 'state')
  say('decoding with and without a cache')
  found |= decoding()
  if tests:
    say('the default tests')
    found |= suite_seconds()
  return found
