"""What users do with these models: several questions an image, of unequal length, as in VQA v2, no work done twice.

Batches of 32 questions, as LXMERT is fine-tuned with (Tan and Bansal 2019, section 3.3). Images have 3 questions and
more, 5.4 in the mean (Goyal et al. 2017, arXiv:1612.00837, section 3); a question has 6.2 words in the mean and mostly
4 to 10 (Antol et al. 2015, arXiv:1505.00468, section 4.1), here 3 and a Poisson number, with a mark and both ends at
most 20 tokens, which is what HuggingFace's examples fill all up to.

B questions, N images of a batch, L tokens, R regions.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from experiments.bench import peers, steps
from mmjax import train
from mmjax.errors import RunError
from mmjax.layers.packed import places

MODELS = ('lxmert', 'visualbert')
BATCH, BATCHES, LENGTH = 32, 3, 20
ROOM = 2  # N is a multiple of it
OWN_IMAGE, ONCE, PACKED = 'filled up, an image a question', 'filled up, each image once', 'packed, each image once'
DOCUMENTED, BUCKETS = 'filled up to 20 as documented', 'as long as the longest of a batch'
NAMED = {  # of a batch, what is of an image
  'lxmert': ('visual_feats', 'visual_pos'),
  'visualbert': ('visual_embeds', 'visual_attention_mask', 'visual_token_type_ids'),
}
CALLED: dict[str, Callable[[Mapping], tuple]] = {
  'lxmert': lambda g: (None, None, g['image_of'], g.get('places')),
  'visualbert': lambda g: (None, g['image_of'], g.get('places')),
}  # behind what a pair is called with


def questions(model: str, seed: int = 0) -> list[tuple[peers.Arrays, np.ndarray]]:
  """[(a batch as HuggingFace's model takes it, an image for each question; which image is whose, int [B])]."""
  rng = np.random.default_rng(seed)
  count = BATCH * BATCHES
  image = np.repeat(np.arange(count), 3 + rng.poisson(2.4, count))[:count]
  length = np.minimum(3 + rng.poisson(3.2, count) + 3, LENGTH)
  pair = peers.PAIRS[model]
  given = pair.inputs(count, rng)
  mask = np.arange(LENGTH) < length[:, None]
  given['input_ids'] = np.where(mask, rng.integers(1, 30_522, (count, LENGTH)), 0)
  given['attention_mask'] = mask.astype(np.int64)
  for name in NAMED[model]:
    given[name] = given[name][image]
  cut = [slice(n * BATCH, (n + 1) * BATCH) for n in range(BATCHES)]
  return [({name: a[part] for name, a in given.items()}, image[part]) for part in cut]


def spared(model: str, given: peers.Arrays, image: np.ndarray, how: str) -> peers.Arrays:
  """A batch with each image once, to a multiple of ROOM of them, and, PACKED, without what texts are filled up with."""
  if how == OWN_IMAGE:
    return given
  _, first, image_of = np.unique(image, return_index=True, return_inverse=True)
  kept = np.concatenate([first, np.repeat(first[-1:], -len(first) % ROOM)])
  found = given | {name: given[name][kept] for name in NAMED[model]} | {'image_of': image_of.astype(np.int32)}
  return found | ({'places': places(given['attention_mask'] > 0)} if how == PACKED else {})


def trimmed(given: peers.Arrays) -> peers.Arrays:
  longest = int(given['attention_mask'].sum(1).max())
  return given | {name: given[name][:, :longest] for name in ('input_ids', 'attention_mask')}


def recipe_of(model: str, both: peers.Both, how: str) -> train.Recipe:
  """The pair's recipe on what `spared` gives."""
  if how == OWN_IMAGE:
    return both.recipe
  called = lambda given: (*both.pair.called(given), *CALLED[model](given))
  return train.recipe(both.model, both.recipe.objective, called)


def mean_work(both: peers.Both, task: str, recipe: train.Recipe, batches: list[peers.Arrays], unused: bool) -> float:
  """FLOPs of a batch, as `steps.work`: the mean, those of the same shapes counted once."""
  sized = [tuple(sorted((name, a.shape) for name, a in batch.items())) for batch in batches]
  one = {size: steps.work(both, task, recipe, batch, unused) for size, batch in dict(zip(sized, batches)).items()}
  return sum(one[size] for size in sized) / len(sized)


def rows(model: str, rounds: int, layers: int = 0, compute: str = 'float32') -> Iterator[dict[str, Any]]:
  """Rows of the table: fine-tuning and evaluation, ours against HuggingFace fed in both ways, and against ours with
  nothing spared. Raises RunError where losses differ."""
  both = peers.make(model, 2, layers, compute=compute)
  batches = questions(model)
  recipes = {how: recipe_of(model, both, how) for how in (OWN_IMAGE, ONCE, PACKED)}
  ours = {how: [spared(model, *batch, how) for batch in batches] for how in recipes}
  theirs = {DOCUMENTED: [given for given, _ in batches], BUCKETS: [trimmed(given) for given, _ in batches]}
  apart = _apart(both, recipes, ours, theirs)
  for task, made in (('evaluation', steps.evaluations), ('fine-tuning', steps.trainings)):
    ways: dict[str, steps.Way] = {}
    costs: dict[str, float] = {}
    for how in reversed(recipes):  # the first is the one that is compared
      ways[f'{steps.OURS}, {how}'] = steps.ours(both, task, recipes[how], ours[how])
      costs[f'{steps.OURS}, {how}'] = mean_work(both, task, recipes[how], ours[how], unused=False)
    for how, given in theirs.items():
      run_by = {f'{name}, {how}': run for name, run in made(both, given).items()}
      ways |= run_by
      costs |= dict.fromkeys(run_by, mean_work(both, task, recipes[OWN_IMAGE], given, unused=True))
    documented = next(cost for name, cost in costs.items() if name.endswith(DOCUMENTED))
    more = {'loss_apart': apart, 'work_of_ours': round(costs[f'{steps.OURS}, {PACKED}'] / documented, 3)}
    yield from steps.compared(model, f'{task}, VQA-shaped', BATCH, both, ways, costs, rounds, times=BATCHES, more=more)


def _apart(both: peers.Both, recipes: Mapping, ours: Mapping, theirs: Mapping) -> float:
  """The largest relative difference of a batch's loss between what is timed."""
  wanted = [peers.loss_of_theirs(both, given) for given in theirs[DOCUMENTED]]
  found = {how: [peers.loss_of_theirs(both, given) for given in batches] for how, batches in theirs.items()}
  with jax.default_matmul_precision('highest'):
    for how, recipe in recipes.items():
      loss = jax.jit(lambda variables, given, recipe=recipe: peers.loss_of(both.pair, recipe, variables, given))
      found[how] = [float(loss(both.variables, given)) for given in ours[how]]
  apart = max(abs(a - b) / abs(b) for how in found for a, b in zip(found[how], wanted, strict=True))
  if both.compute == 'float32' and not apart < peers.SAME_LOSS:
    raise RunError(f'{both.pair.kind}, VQA-shaped: losses differ by {apart:.1e}, expected {peers.SAME_LOSS:.0e}')
  return apart
