"""Whether a step is the same however it lies on devices: python -m tests.layouts prints a table, --json it as JSON.

  python -m tests.layouts [--json] [--only='NAME;NAME'] [--layouts='NAME;NAME']

The step of each paper, made small, on simulated devices in each layout against one device: loss and gradients, without
dropout and augmentation, matmul precision 'highest'. The counts of the losses differ from device to device, and the
last rows of a batch have weight 0, as the last batch of an evaluation may. Never compared after Adam, which makes much
of rounding errors.
"""

import json
import os
import sys
import tempfile

DEVICES = 8
if __name__ == '__main__':  # before jax starts
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_force_host_platform_device_count={DEVICES}'
  os.environ['JAX_PLATFORMS'] = 'cpu'

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import traverse_util

from experiments import compile_for, shaped
from mmjax import cli, flops, objectives, train
from mmjax.checkpoint import Checkpoints, sha256
from mmjax.layers.packed import places
from mmjax.models.lxmert import LXMERT
from mmjax.parallel import Launch
from mmjax.train import divide
from mmjax.workdir import flatten

ROWS = 16
SIZES = {'width': 16, 'heads': 4, 'mlp': 32, 'dropout': 0.0, 'attention_dropout': 0.0}
QUESTIONS = {f'model.{key}': value for key, value in SIZES.items()} | {'model.init_std': 0.2}
TOWERS = {
  f'model.{part}.{key}': SIZES[key] for part in ('text', 'image') for key in ('width', 'heads', 'mlp')
}  # which have no dropout
FAMILIES = {  # name -> config, and what makes it small
  'LXMERT': ('lxmert:base', QUESTIONS | {'model.schedule': '1*[t<t] 1*[v<v] 2*[t<v v<t tied noffn; t<t v<v]'}),
  'LXMERT, packed': ('lxmert:base', QUESTIONS | {'model.schedule': '1*[t<t] 2*[t<v v<t tied noffn; t<t v<v]'}),
  'VisualBERT': ('visualbert:base', QUESTIONS | {'model.schedule': '2*[t<tv v<tv tied]'}),
  'ViLBERT': ('vilbert:base', {
    'model.schedule': '1*[t<t] 2*[t<v v<t 2x8; v<v t<t]', 'model.width.t': 16, 'model.width.v': 24, 'model.heads.t': 4,
    'model.heads.v': 4, 'model.mlp.t': 32, 'model.mlp.v': 32, 'model.pooled': 16, 'model.dropout': 0.0,
    'model.attention_dropout': 0.0,
  }),
  'UNITER': ('uniter:base', QUESTIONS | {'model.schedule': '2*[t<tv v<tv tied]'}),
  'CLIP': ('clip:base', TOWERS | {
    'model.text.schedule': '2*[t<t]', 'model.image.schedule': '2*[v<v]', 'model.out': 16, 'model.image.patch': 16}),
  'CLIP, ResNet': ('clip:base', TOWERS | {
    'model.text.schedule': '2*[t<t]', 'model.image.blocks': (1, 1, 1, 1), 'model.image.width': 4, 'model.out': 16}),
  'BLIP': ('blip:base', TOWERS | {
    'model.text.schedule': '2*[t<t noffn; t<v]', 'model.image.schedule': '2*[v<v]', 'model.out': 16,
    'contrast.queue': 64}),
  'DALL-E': ('dalle:base', {
    'model.width': 16, 'model.depth': 3, 'model.heads': 4, 'model.head_size': 8, 'dvae.codes': 64}),
  'MulT': ('mult:base', {
    'model.width': 8, 'model.heads': 2, 'model.layers': 1, 'model.attention_dropout': 0.0, 'model.relu_dropout': 0.0,
    'model.dropout': 0.0, 'model.embed_dropout': 0.0, 'model.out_dropout': 0.0}),
  'MBT': ('mbt:base', {
    'model.width': 16, 'model.heads': 4, 'model.mlp': 32, 'model.layers': 3, 'model.fusion': 1, 'model.clip': 4,
    'model.image': 32, 'model.frames': 32, 'model.bins': 32, 'model.dropout': 0.0}),
  'speech': ('speech_retrieval:base', {
    'model.width': 16, 'model.heads': 4, 'model.mlp': 32, 'model.out': 16, 'model.channels': (4, 8),
    'model.text_schedule': '1*[t<t]', 'model.sound_schedule': '1*[a<a]', 'model.dropout': 0.0, 'data.seconds': 0.5,
    'data.length': 12}),
  'series': ('series:base', {'model.width': 16, 'model.mlp': 32, 'model.schedule': '1*[s<s]', 'model.dropout': 0.0}),
}  # fmt: skip
PRETRAINING = "LXMERT's pre-training"
# what is another thing by parts, or cannot be: rivals are those of a micro-batch, devices of pmap draw own negatives
APART = {(name, 'micro') for name in ('LXMERT, packed', 'CLIP', 'CLIP, ResNet', 'speech', 'BLIP')} | {('BLIP', 'pmap')}
# XLA swaps rows of packed texts on a mesh cut along three axes; what is computed before is right (jaxlib 0.10)
APART |= {('LXMERT, packed', 'data 2, fsdp 2, tensor 2')}
MADE_SMALL = {  # of the shapes of the data
  'PICTURE': 32, 'DALLE_SIZES': {'vocab': 40, 'words': 6, 'side': 4}, 'BERT_WORDS': 96, 'CLIP_WORDS': 96,
  'MOSEI': {'t': (6, 12), 'a': (10, 8), 'f': (8, 6)},
  'VQA': {'answers': 24, 'regions': 5, 'features': 12, 'words': 6},
}  # fmt: skip
LOW = 'one, bfloat16'
LAYOUTS = {  # name -> launcher, devices, mesh, micro-batches, and what it computes in
  'data 8': ('jit', 8, {'data': 8}, 1),
  'fsdp 8': ('jit', 8, {'fsdp': 8}, 1),
  'data 2, fsdp 4': ('jit', 8, {'data': 2, 'fsdp': 4}, 1),
  'tensor 4': ('jit', 4, {'tensor': 4}, 1),
  'data 2, tensor 4': ('jit', 8, {'data': 2, 'tensor': 4}, 1),
  'data 2, fsdp 2, tensor 2': ('jit', 8, {'data': 2, 'fsdp': 2, 'tensor': 2}, 1),
  'pmap 8': ('pmap', 8, None, 1),
  'one, 4 micro-batches': ('jit', 1, None, 4),
  'data 4, 2 micro-batches': ('jit', 4, {'data': 4}, 2),
  LOW: ('jit', 1, None, 1, 'bfloat16'),
}
ONE = ('jit', 1, None, 1)
KEEP = optax.GradientTransformation(  # the gradients, as the optimiser sees them, become the optimiser's state
  lambda params: jax.tree.map(jnp.zeros_like, params),
  lambda grads, state, params: (jax.tree.map(jnp.zeros_like, grads), grads),
)


def pretraining() -> tuple[train.Recipe, dict, dict]:
  """As `family`: LXMERT and its five losses, two texts an image, in which every label is there for some rows only."""
  texts, length, regions, features, vocab, answers = 2, 4, 3, 5, 11, 7
  rows, rng = ROWS * texts, np.random.default_rng(0)
  label = lambda high, share, *shape: np.where(rng.random(shape) < share, rng.integers(high, size=shape), -1)
  weight = np.ones(rows, np.float32)
  weight[-rows // DEVICES :] = weight[3] = 0
  batch = {
    'text': rng.integers(1, vocab, (rows, length)) * (np.arange(length) < rng.integers(2, length + 1, (rows, 1))),
    'types': rng.integers(2, size=(rows, length)),
    'regions': rng.normal(size=(ROWS, regions, features)).astype(np.float32),
    'boxes': rng.random((ROWS, regions, 4), np.float32),
    'word_label': label(vocab, 0.4, rows, length), 'matched': rng.integers(2, size=rows),
    'answer': label(answers, 0.5, rows), 'feature': rng.normal(size=(rows, regions, features)).astype(np.float32),
    'feature_weight': (rng.random((rows, regions)) < 0.5).astype(np.float32),
    'object': rng.integers(4, size=(rows, regions)), 'object_weight': rng.random((rows, regions), np.float32),
    'weight': weight,
  }  # fmt: skip
  model = LXMERT(
    answers, vocab, length, 2, '1*[t<v v<t]', width=8, heads=2, mlp=12, dropout=0.0, attention_dropout=0.0,
    pretrain=True, num_features=features, num_objects=4, scan=False,
  )  # fmt: skip
  given = lambda b: (b['text'], b['text'] > 0, b['regions'], b['boxes'], None, b['types'])
  recipe = train.recipe(model, objectives.lxmert_pretraining, given)
  return recipe, jax.device_get(jax.jit(recipe.init)(jax.random.key(0), batch)), batch


def family(name: str) -> tuple[train.Recipe, dict, dict]:
  """(what is learnt, its variables, a batch) of one of FAMILIES."""
  if name == PRETRAINING:
    return pretraining()
  spec, small = FAMILIES[name]
  paper, _, variant = spec.partition(':')
  c = cli.load_config(f'configs/{paper}.py:{variant}')
  unknown = set(small) - set(flatten(c.to_dict()))
  assert not unknown, unknown
  c.update_from_flattened_dict(small | {'data.images': ROWS})
  for constant, value in MADE_SMALL.items():
    setattr(shaped, constant, value)
  step = shaped.step(paper, c)
  batch = step.batch(ROWS)
  rng = np.random.default_rng(1)
  batch['weight'] = (rng.random(batch['weight'].shape) < 0.8).astype(np.float32)
  batch['weight'][-ROWS // DEVICES :] = 0
  if 'packed' in name:
    there = np.arange(batch['question'].shape[-1]) < rng.integers(2, batch['question'].shape[-1], (ROWS, 1, 1))
    batch['question'] *= there
    batch['places'] = places(there[:, 0], DEVICES, room=2)
  variables = jax.device_get(jax.jit(step.recipe.init)(jax.random.key(0), step.batch(1)))
  drawn = lambda a: a + rng.normal(0, 0.05, a.shape).astype(a.dtype)  # else biases and gates are 0
  return step.recipe._replace(drawn=None), {**variables, 'params': jax.tree.map(drawn, variables['params'])}, batch


def gradients(
  recipe: train.Recipe, variables: dict, batch: dict, how: str, devices: int, mesh, micro_batches: int,
  compute: str = 'float32',
):  # fmt: skip
  """(gradients {name: array}, losses {name: number}) of one step."""
  launch = Launch(how, ROWS, micro_batches, jax.devices()[:devices], mesh)
  state = launch.place(train.init(variables, KEEP))
  run = launch.compile_step(recipe.computing(compute).step(KEEP, micro_batches), state)
  state, sums = run(state, launch.put(batch), jax.random.key(0))
  grads = traverse_util.flatten_dict(jax.device_get(state.opt_state), sep='/')
  found = {name: float(np.sum(value)) for name, value in divide([sums]).items() if name.startswith('loss')}
  return {name: np.asarray(g, np.float64) for name, g in grads.items()}, found


def without_dropout(call, given, keywords, context):
  return given[0] if isinstance(context.module, nn.Dropout) else call(*given, **keywords)


def compare(name: str, layouts) -> list[dict]:
  """For each layout: how far loss and gradients are from those of one device, relatively."""
  given = family(name)
  norm = lambda grads: sum((g**2).sum() for g in grads.values()) ** 0.5
  with jax.default_matmul_precision('highest'), nn.intercept_methods(without_dropout):
    one, losses = gradients(*given, *ONE)
    rows = []
    for layout in layouts:
      if any(name == family and part in layout for family, part in APART):
        continue
      grads, its = gradients(*given, *LAYOUTS[layout])
      apart = {key: grads[key] - one[key] for key in one}
      # a bias on all keys changes no softmax: its gradient is 0 but for rounding, so it is held against the whole norm
      most = {key: norm(one) if key.endswith('key/bias') else max(np.abs(g).max(), 1e-9) for key, g in one.items()}
      tensors = {key: float(np.abs(apart[key]).max() / most[key]) for key in one}
      worst = max(tensors, key=tensors.get)
      rows.append({
        'family': name, 'layout': layout,
        'loss': max(abs(its[key] - value) / max(abs(value), 1e-9) for key, value in losses.items()),
        'all': norm(apart) / norm(one), 'worst': worst, 'worst_error': tensors[worst], 'tensors': len(tensors),
        'low': low_share(*given) if layout == LOW else 0.0,
      })  # fmt: skip
  return rows


def low_share(recipe: train.Recipe, variables: dict, batch: dict) -> float:
  """The share of the products of a step in bfloat16 that are of bfloat16."""
  given = recipe.computing('bfloat16').step(KEEP), train.init(variables, KEEP), batch, jax.random.key(0)
  return flops.count(*given, dtype=jnp.bfloat16) / flops.count(*given)


def evaluated() -> list[float]:
  """For each launcher on all devices: how far the means of an evaluation are from those of one device."""
  recipe, variables, batch = pretraining()

  def means(how, devices):
    launch = Launch(how, ROWS, devices=jax.devices()[:devices])
    return divide([launch.compile_eval(recipe.evaluation())(launch.place(variables), launch.put(batch))])

  with jax.default_matmul_precision('highest'):
    one, *others = (means(how, devices) for how, devices in (('jit', 1), ('jit', DEVICES), ('pmap', DEVICES)))
  apart = lambda a, b: float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-9)))
  return [max(apart(found[name], one[name]) for name in one) for found in others]


def draws() -> float:
  """How far apart the dropout keys of pmap's devices are: the variance of one number drawn on each of them."""

  def forward(variables, batch, *, train, key):
    return {'drawn': jax.random.uniform(key, ()), 'nothing': (variables['params']['a'] * 0).sum()}, {}

  def objective(out, batch, axis=None):
    one = jnp.ones(())
    return {'nothing': (out['nothing'], one, 1.0)}, {'mean': (out['drawn'], one), 'square': (out['drawn'] ** 2, one)}

  launch = Launch('pmap', DEVICES)
  state = launch.place(train.init({'params': {'a': jnp.ones(2)}}, KEEP))
  step = launch.compile_step(train.Recipe(dict, forward, objective).step(KEEP), state)
  _, sums = step(state, launch.put({'x': np.zeros((DEVICES, 1), np.float32)}), jax.random.key(0))
  mean = divide([sums])
  return float(mean['square'] - mean['mean'] ** 2)


def moved() -> list[str]:
  """The hash of a state on eight devices, and of what was saved there, restored on four, saved, and restored on one."""
  _, variables, _ = pretraining()
  state, hashes = train.init(variables, optax.adam(1e-3)), []
  with tempfile.TemporaryDirectory() as folder, Checkpoints(folder) as checkpoints:
    for step, (devices, mesh) in enumerate(((8, {'fsdp': 8}), (4, {'fsdp': 2, 'tensor': 2}), (1, None))):
      launch = Launch('jit', ROWS, devices=jax.devices()[:devices], mesh=mesh)
      state = checkpoints.restore(launch.place(jax.tree.map(jnp.zeros_like, state)))[0] if step else launch.place(state)
      assert all(len(leaf.sharding.device_set) == devices for leaf in jax.tree.leaves(state))
      checkpoints.save(step, state)
      hashes.append(sha256(state))
  return hashes


def contrast_memory(rows: int = 512, size: int = 128) -> dict[int, int]:
  """devices -> bytes that one of them needs on the way of a contrastive step, always with so many rows of its own."""
  found = {}
  for devices in (1, 2, 4, DEVICES):
    launch = Launch('jit', rows * devices, devices=jax.devices()[:devices])
    out = {name: np.zeros((rows * devices, size), np.float32) for name in ('text', 'image')}
    weight = launch.put({'weight': np.ones(rows * devices, np.float32)})
    loss = lambda out, weight: objectives.contrastive(out | {'scale': 10.0}, weight)[0]['contrast'][0]
    program = launch.compile_eval(jax.grad(loss)).lower(launch.put(out), weight).compile()
    found[devices] = program.memory_analysis().temp_size_in_bytes
  return found


def step_memory(rows: int = 64) -> dict[str, int]:
  """Axis -> bytes that a device needs on the way of VisualBERT's step of two layers, cut along it by all devices."""
  c, found = cli.load_config('configs/visualbert.py:base'), {}
  c.model.schedule = '2*[t<tv v<tv tied]'
  for axis in ('data', 'fsdp'):
    c.parallel.mesh.update({'data': 1, 'fsdp': 1} | {axis: DEVICES})
    found[axis] = compile_for.Step(c, 'visualbert', jax.devices(), quick=False).compiled(rows).temporary
  return found


def main() -> None:
  asked = dict(flag.removeprefix('--').partition('=')[::2] for flag in sys.argv[1:])
  pick = lambda flag, every: [name for name in every if not asked.get(flag) or name in asked[flag].split(';')]
  memory = step_memory()  # before shapes are MADE_SMALL
  rows = []
  for name in pick('only', (*FAMILIES, PRETRAINING)):
    found = compare(name, pick('layouts', LAYOUTS))
    rows += found
    if 'json' not in asked:
      for row in found:
        print(f'{name:20} {row["layout"]:26} loss {row["loss"]:.1e}  |g-g1|/|g1| {row["all"]:.1e}  worst '
              f'{row["worst_error"]:.1e} {row["worst"]}', flush=True)  # fmt: skip
  if 'json' in asked:
    more = {'evaluations': evaluated(), 'draws': draws(), 'contrast': contrast_memory(), 'moved': moved()}
    print(json.dumps({'steps': rows, 'memory': memory} | more))
  else:
    print('an evaluation on 8 devices against one: jit {:.1e}, pmap {:.1e}'.format(*evaluated()))
    print('a state on 8 devices, on 4 from its checkpoint, on 1 from that:', *(found[:12] for found in moved()))
    for devices, size in contrast_memory().items():
      print(f'a contrast of 512 rows a device on {devices}: {size / 2**20:.2f} MiB a device on the way')
    for axis, size in memory.items():
      print(f'a step of VisualBERT with two layers and 64 rows, {axis} 8: {size / 2**20:.0f} MiB a device on the way')


if __name__ == '__main__':
  main()
