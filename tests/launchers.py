"""Whether the launchers of a training step agree: python -m tests.launchers prints a table, --json one line of JSON.

The gradients of LXMERT's pre-training losses on eight simulated devices, by each launcher, against those of one device.
Dropout is off, matmul precision 'highest'. The counts of the losses differ from device to device, and the last device
holds rows of weight 0 only, as the last batch of an evaluation may.
"""

import json
import os
import sys

DEVICES = 8
if __name__ == '__main__':  # before jax starts
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={DEVICES}'
  os.environ['JAX_PLATFORMS'] = 'cpu'

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from mmjax.models.lxmert import LXMERT
from mmjax.objectives import lxmert_pretraining
from mmjax.parallel import Launch
from mmjax.train import divide, eval_step, init, train_step

IMAGES, TEXTS, LENGTH, REGIONS, FEATURES, WORDS, ANSWERS = 16, 2, 4, 3, 5, 11, 7
MODEL = LXMERT(
  ANSWERS, WORDS, LENGTH, 2, '1*[t<v v<t]', width=8, heads=2, mlp=12, dropout=0.0,
  attention_dropout=0.0, pretrain=True, num_features=FEATURES, num_objects=4, scan=False,
)  # fmt: skip
WAYS = [
  ('jit', 1, 1),
  ('jit', DEVICES, 1),
  ('pmap', DEVICES, 1),
  ('pmap', DEVICES, 2),
]  # launcher, devices, micro-batches
KEEP = optax.GradientTransformation(  # the gradients, as the optimiser sees them, become the optimiser's state
  lambda params: jax.tree.map(jnp.zeros_like, params),
  lambda grads, state, params: (jax.tree.map(jnp.zeros_like, grads), grads),
)


def batch_of(seed=0):
  """A global batch in which every label is there for some rows only."""
  rng = np.random.default_rng(seed)
  rows = IMAGES * TEXTS
  label = lambda high, share, *shape: np.where(rng.random(shape) < share, rng.integers(high, size=shape), -1)
  weight = np.ones(rows, np.float32)
  weight[-rows // DEVICES :] = 0
  weight[3] = 0
  return {
    'text': rng.integers(1, WORDS, (rows, LENGTH)) * (np.arange(LENGTH) < rng.integers(2, LENGTH + 1, (rows, 1))),
    'types': rng.integers(2, size=(rows, LENGTH)),
    'regions': rng.normal(size=(IMAGES, REGIONS, FEATURES)).astype(np.float32),
    'boxes': rng.random((IMAGES, REGIONS, 4), np.float32),
    'word_label': label(WORDS, 0.4, rows, LENGTH), 'matched': rng.integers(2, size=rows),
    'answer': label(ANSWERS, 0.5, rows),
    'feature': rng.normal(size=(rows, REGIONS, FEATURES)).astype(np.float32),
    'feature_weight': (rng.random((rows, REGIONS)) < 0.5).astype(np.float32),
    'object': rng.integers(4, size=(rows, REGIONS)), 'object_weight': rng.random((rows, REGIONS), np.float32),
    'weight': weight,
  }  # fmt: skip


def forward(variables, batch, *, train, key):
  text, seen = batch['text'], batch['text'] > 0
  return MODEL.apply(variables, text, seen, batch['regions'], batch['boxes'], None, batch['types'], train=train), {}


def gradients(how, devices, micro_batches):
  """(gradients {name: array}, loss) of one step."""
  rng = np.random.default_rng(1)
  batch = batch_of()
  given = [jnp.asarray(batch[name]) for name in ('text', 'regions', 'boxes')]
  shapes = jax.eval_shape(lambda: MODEL.init(jax.random.key(0), given[0], given[0] > 0, *given[1:], train=False))
  params = jax.tree.map(lambda a: (0.5 * rng.normal(size=a.shape) + (a.ndim == 1)).astype(np.float32), shapes['params'])
  launch = Launch(how, IMAGES, micro_batches, jax.devices()[:devices])
  step = functools.partial(
    train_step, forward=forward, tx=KEEP, objective=lxmert_pretraining, micro_batches=micro_batches
  )
  state = launch.place(init({'params': params}, KEEP))
  state, metrics = launch.compile_step(step, state)(state, launch.put(batch), jax.random.key(0))
  grads = traverse_util.flatten_dict(jax.device_get(state.opt_state), sep='/')
  return {name: np.asarray(g, np.float64) for name, g in grads.items()}, float(metrics['loss'][0])


def evaluation(how, devices):
  """The means of one evaluation of the same parameters."""
  launch = Launch(how, IMAGES, devices=jax.devices()[:devices])
  batch = batch_of()
  given = [jnp.asarray(batch[name]) for name in ('text', 'regions', 'boxes')]
  params = MODEL.init(jax.random.key(2), given[0], given[0] > 0, *given[1:], train=False)['params']
  step = launch.compile_eval(functools.partial(eval_step, forward=forward, objective=lxmert_pretraining))
  return divide([step(launch.place({'params': params}), launch.put(batch))])


def draws(devices):
  """How far apart the devices' dropout keys are: the variance of one number drawn on each of them, by pmap."""

  def forward(variables, batch, *, train, key):
    return {'drawn': jax.random.uniform(key, ()), 'nothing': (variables['params']['a'] * 0).sum()}, {}

  def objective(out, batch, axis=None):
    one = jnp.ones(())
    return {'nothing': (out['nothing'], one, 1.0)}, {'mean': (out['drawn'], one), 'square': (out['drawn'] ** 2, one)}

  launch = Launch('pmap', devices, devices=jax.devices()[:devices])
  state = launch.place(init({'params': {'a': jnp.ones(2)}}, KEEP))
  step = launch.compile_step(functools.partial(train_step, forward=forward, tx=KEEP, objective=objective), state)
  _, sums = step(state, launch.put({'x': np.zeros((devices, 1), np.float32)}), jax.random.key(0))
  mean = divide([sums])
  return float(mean['square'] - mean['mean'] ** 2)


def compare():
  """For each way to run a step: how far its gradients are from those of one device."""
  with jax.default_matmul_precision('highest'):
    found = [gradients(*way) for way in WAYS]
  one, loss = found[0]
  norm = lambda grads: sum((g**2).sum() for g in grads.values()) ** 0.5
  rows = []
  for (how, devices, micro_batches), (grads, its_loss) in zip(WAYS, found, strict=True):
    apart = {name: grads[name] - one[name] for name in one}
    # a bias on all keys changes no softmax: its gradient is 0 but for rounding, so it is held against the whole norm
    most = {name: norm(one) if name.endswith('key/bias') else np.abs(g).max() for name, g in one.items()}
    tensors = {name: float(np.abs(apart[name]).max() / most[name]) for name in one}
    worst = max(tensors, key=tensors.get)
    rows.append({
      'how': how, 'devices': devices, 'micro_batches': micro_batches, 'loss': abs(its_loss / loss - 1),
      'all': norm(apart) / norm(one), 'worst': worst, 'worst_error': tensors[worst], 'tensors': len(tensors),
    })  # fmt: skip
  return rows


def evaluated():
  """For each launcher on eight devices: how far the means of an evaluation are from those of one device."""
  with jax.default_matmul_precision('highest'):
    one, *others = (evaluation(how, devices) for how, devices in (('jit', 1), ('jit', DEVICES), ('pmap', DEVICES)))
  apart = lambda a, b: float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-9)))
  return [max(apart(found[name], one[name]) for name in one) for found in others]


def main():
  rows = compare()
  if '--json' in sys.argv[1:]:
    print(json.dumps({'gradients': rows, 'evaluations': evaluated(), 'draws': draws(DEVICES)}))
    return
  print('launcher  devices  micro-batches  |g-g1|/|g1|  loss     worst tensor: max|g-g1|/max|g1|')
  for row in rows:
    print(f'{row["how"]:8}  {row["devices"]:7}  {row["micro_batches"]:13}  {row["all"]:11.1e}  {row["loss"]:.1e}  '
          f'{row["worst_error"]:.1e} {row["worst"]}')  # fmt: skip
  print('an evaluation on 8 devices against one: jit {:.1e}, pmap {:.1e}'.format(*evaluated()))


if __name__ == '__main__':
  main()
