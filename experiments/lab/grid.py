"""The grid of an ablation: fusions, each one line and sized to the budget, by seeds.

A fusion is `NAME: LINE`, where LINE is one of
  [raw |] SCHEDULE [| JOIN]     mmjax/models/fused.py
  volta EMBEDDING | SCHEDULE    one of VOLTA's five (mmjax/models/volta.py) with that schedule
  relation_network, cnn_mlp, bag_of_words    the baselines of Sort-of-CLEVR (mmjax/models/relation_network.py)

Equal budgets: a fusion gets the feed-forward width `mlp` at which it has as many parameters, or its training step as
many floating-point operations, as the budget says. Both grow linearly with mlp, so that two looks tell the rest.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.core import freeze

from experiments import visual_questions as task_of
from experiments.training import optimiser
from mmjax import train
from mmjax.errors import UserError, nearest
from mmjax.fusion.schedule import WIDEST, Schedule, parse
from mmjax.models.answering import Answering
from mmjax.models.fused import Fused, parse_fusion
from mmjax.models.relation_network import BagOfWords, ConvMlp, RelationNetwork
from mmjax.models.volta import EMBEDDINGS, VOLTA

BASELINES = {'relation_network': RelationNetwork, 'cnn_mlp': ConvMlp, 'bag_of_words': BagOfWords}
BUDGETS = {'parameters': 'parameters', 'flops': 'FLOPs of a step', 'none': ''}
LAST_SEED = 2**32 - 2
WITHIN = 0.02  # of the target
NARROW, WIDE = 32, 64  # the two widths that are looked at


@dataclasses.dataclass(frozen=True)
class Fusion:
  """A named line. schedule: None for what has none; sees: whether the answer can depend on the image."""

  name: str
  line: str
  schedule: Schedule | None
  sees: bool

  @property
  def folder(self) -> str:
    return re.sub(r'[^a-z0-9]+', '_', self.name.lower()).strip('_')


@dataclasses.dataclass(frozen=True)
class Sized:
  """A fusion at its width (0: what has none), with its numbers of parameters and of FLOPs of a training step."""

  fusion: Fusion
  mlp: int
  parameters: int
  flops: float


def read(given: str) -> Fusion:
  """A fusion from 'NAME: LINE'. Raises UserError."""
  name, colon, line = (part.strip() for part in given.partition(':'))
  if not colon or not name or not line:
    raise UserError(f"--config.fusions: found {given!r}, expected 'NAME: LINE', as 'late: 4*[t<t v<v] | concat'")
  if line in BASELINES:
    return Fusion(name, line, None, line != 'bag_of_words')
  try:
    if line.startswith('volta '):
      return Fusion(name, line, _volta(line)[1], True)  # its product of pooled words and regions is read
    plain = parse_fusion(line)
    return Fusion(name, str(plain), plain.schedule, plain.sees('v'))
  except UserError as error:
    hint = nearest(line, BASELINES) if re.fullmatch(r'\w+', line) else ''
    raise UserError(f'--config.fusions: {name}: {error}{hint}') from error


def _volta(line: str) -> tuple[str, Schedule]:
  """(embedding, schedule) of 'volta EMBEDDING | SCHEDULE'."""
  embedding, _, schedule = (part.strip() for part in line.removeprefix('volta ').partition('|'))
  if embedding not in EMBEDDINGS:
    hint = nearest(embedding, EMBEDDINGS)
    raise UserError(f'found embedding {embedding!r}, expected one of {", ".join(EMBEDDINGS)}{hint}')
  return embedding, parse(schedule, 'tv')


def fusions(c: Any) -> tuple[Fusion, ...]:
  """Those of a config. Raises UserError for none, for a name that stands twice, and for numbers that make no grid."""
  found = tuple(map(read, c.fusions))
  if not found:
    raise UserError("--config.fusions: found none, expected one or more 'NAME: LINE'")
  nameless = next((fusion.name for fusion in found if not fusion.folder), None)
  if nameless is not None:
    raise UserError(f'--config.fusions: found name {nameless!r}, expected a letter from a to z or a digit in it')
  for key, what in (('name', 'name'), ('folder', 'folder')):
    names = [getattr(fusion, key) for fusion in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
      of = ' and '.join(repr(f.name) for f in found if getattr(f, key) == twice)
      raise UserError(f'--config.fusions: found {of}, whose {what} is the same, expected each name once')
  names = [fusion.name for fusion in found]
  if c.reference not in names:
    raise UserError(
      f'--config.reference: found {c.reference!r}, expected a name of config.fusions{nearest(c.reference, names)}'
    )
  if not c.seeds or len(set(c.seeds)) < len(c.seeds) or min(c.seeds) < 0 or max(c.seeds) > LAST_SEED:
    raise UserError(f'--config.seeds: found {tuple(c.seeds)}, expected one or more from 0 on, each once')
  if any(f.line.startswith('volta ') for f in found) and (c.model.geometry or c.model.norm != 'post'):
    raise UserError(
      "--config.model: found geometry or norm 'pre', which VOLTA's models have not; expected False and 'post'"
    )
  if c.budget.of not in BUDGETS:
    raise UserError(
      f'--config.budget.of: found {c.budget.of!r}, expected one of {tuple(BUDGETS)}{nearest(c.budget.of, BUDGETS)}'
    )
  if c.budget.target < 0:
    raise UserError(f'--config.budget.target: found {c.budget.target}, expected at least 0')
  if c.budget.of != 'none' and any(fusion.line in BASELINES for fusion in found):
    raise UserError(
      f"--config.budget.of: found {c.budget.of!r}, but baselines have the sizes that they have; expected 'none'"
    )
  return found


def model_of(c: Any, task: task_of.Task, fusion: Fusion, mlp: int, scan: bool | None = None) -> nn.Module:
  """The model of a fusion: called as model(batch, train=), gives 'answers'."""
  given = {'num_answers': len(task.answers), 'vocab': task.tokenizer.get_vocab_size()}
  if fusion.line in BASELINES:
    kind: Any = BASELINES[fusion.line]
    return kind(**given, **({'place': c.place} if kind is RelationNetwork else {}))
  eyes = task_of.pixels(c.pixels.kind, c.pixels.channels, c.pixels.patch, c.pixels.regions, c.data)
  own = c.model.to_dict() | given | {'positions': task.length, 'mlp': mlp}
  own['scan'] = c.model.scan if scan is None else scan
  if not fusion.line.startswith('volta '):
    return Answering(Fused(fusion.line, **own), eyes, c.place)
  embedding, schedule = _volta(fusion.line)
  sizes = {key: own[key] for key in own if key not in ('bottlenecks', 'norm', 'geometry')}
  whole = {'pooled': c.model.width, 'classifier': 2 * c.model.width, 'coordinates': 16}
  return Answering(VOLTA(embedding, schedule=str(schedule), **freeze(sizes | whole)), eyes, c.place)


def example_batch(task: task_of.Task, images: int) -> dict[str, jax.ShapeDtypeStruct]:
  """The shapes of a batch."""
  one = task.encode(task.splits['train'][0])
  return {name: jax.ShapeDtypeStruct((images, *np.shape(a)), np.asarray(a).dtype) for name, a in one.items()}


def measure(c: Any, task: task_of.Task, fusion: Fusion, mlp: int, flops: bool) -> tuple[int, float]:
  """(parameters, FLOPs of a training step by XLA's cost analysis, or nan where they are not asked for)."""
  model, batch = (
    model_of(c, task, fusion, mlp, scan=False),
    example_batch(task, c.data.images),
  )  # a scan is counted once
  recipe = task_of.recipe(c.objective, task, model).computing(c.compute)
  variables = jax.eval_shape(lambda given: recipe.init(jax.random.key(0), given), batch)
  parameters = sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
  if not flops:
    return parameters, float('nan')
  _, tx = optimiser(c.optim)
  state = jax.eval_shape(lambda given: train.init(given, tx), variables)
  with jax.default_device(jax.local_devices(backend='cpu')[0]):  # what a GPU's compiler has no count of
    costs: Any = jax.jit(recipe.step(tx)).lower(state, batch, jax.eval_shape(lambda: jax.random.key(0))).cost_analysis()
  return parameters, float(costs['flops'])


def sized(c: Any, task: task_of.Task, found: tuple[Fusion, ...], flops: bool = True) -> list[Sized]:
  """Every fusion at the width that the budget gives it. flops: whether theirs are wanted, which take a second each.

  Raises UserError for a budget that a fusion cannot meet, with the least that it needs.
  """
  by_flops = c.budget.of == 'flops'
  size = lambda fusion, mlp: measure(c, task, fusion, mlp, by_flops)[by_flops]
  target = c.budget.target
  if c.budget.of != 'none' and not target:
    target = size(next(fusion for fusion in found if fusion.name == c.reference), c.model.mlp)
  rows = []
  for fusion in found:
    mlp = 0 if fusion.line in BASELINES else c.model.mlp
    if c.budget.of != 'none':
      mlp = _width(fusion, functools.partial(size, fusion), target, BUDGETS[c.budget.of])
    rows.append(Sized(fusion, mlp, *measure(c, task, fusion, mlp, flops)))
  return rows


def _width(fusion: Fusion, size: Callable[[int], float], target: float, what: str) -> int:
  """The mlp at which a fusion has the target's size."""
  low, high = size(NARROW), size(WIDE)
  each = (high - low) / (WIDE - NARROW)
  if not each:
    raise UserError(
      f'--config.budget: {fusion.name} has no feed-forward layer that could be made wider; it has {low:,.0f} {what}'
    )
  mlp = round(NARROW + (target - low) / each)
  if mlp > WIDEST:
    raise UserError(
      f'--config.budget.target: found {target:,.0f} {what}, for which {fusion.name} would need a feed-forward width of '
      f'{mlp:,}; expected at most {WIDEST:,}'
    )
  if mlp < 1:
    raise UserError(
      f'--config.budget.target: found {target:,.0f} {what}, but {fusion.name} has {size(1):,.0f} with a feed-forward '
      'width of 1; expected that or more, or a smaller model.width'
    )
  if abs(size(mlp) / target - 1) > WITHIN:
    raise UserError(
      f'--config.budget.target: found {target:,.0f} {what}; {fusion.name} has {size(mlp):,.0f} at its nearest width, '
      f'{mlp}; expected a target that all fusions meet within {WITHIN:.0%}'
    )
  return mlp
