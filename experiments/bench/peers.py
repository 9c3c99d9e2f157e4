"""Models that HuggingFace has too, at their papers' sizes: the same weights, inputs and losses in both libraries.

Needs PyTorch and transformers (requirements-peers.txt). B rows, L words, R regions, A answers, V vocabulary.
"""

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import transformers
from flax import linen as nn

from mmjax import train
from mmjax.convert.load import load
from mmjax.errors import RunError
from mmjax.fusion.unrolled import unrolled
from mmjax.layers.blocks import cast

Arrays = dict[str, np.ndarray]
SAME = 1e-4  # of the largest value of what a model gives: float32 at full depth, before anything is timed
SAME_LOSS = 1e-5  # relative
WORDS, REGIONS, FEATURES, ANSWERS, PICTURE = 20, 36, 2048, 3129, 224


class Pair(NamedTuple):
  """A model here and there.

  kind, sizes: HuggingFace's class and its config, where it differs from the default; inputs: (B, random numbers) ->
  what it is called with, labels too; called: of these, what ours is called with; read: what ours gives -> what theirs
  does under `name`; loss: (what ours gives, the inputs) -> the mean over the batch, as theirs.
  """

  kind: str
  sizes: Mapping[str, Any]
  inputs: Callable[[int, np.random.Generator], Arrays]
  called: Callable[[Mapping], tuple]
  name: str
  read: Callable[[Mapping], Any]
  loss: Callable[[Mapping, Mapping], jax.Array]


def _mean_entropy(logits: jax.Array, right: jax.Array) -> jax.Array:
  """Cross-entropy over those of `right` that are not -100: the mean."""
  said = right != -100
  each = optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.where(said, right, 0))
  return jnp.where(said, each, 0).sum() / said.sum()


def _text(rows: int, rng: np.random.Generator, vocab: int, length: int = WORDS) -> Arrays:
  """Texts of 8 to `length` words."""
  long = rng.integers(8, length + 1, (rows, 1))
  mask = np.arange(length) < long
  return {
    'input_ids': np.where(mask, rng.integers(1, vocab, (rows, length)), 0),
    'attention_mask': mask.astype(np.int64),
  }


def _lxmert(rows: int, rng: np.random.Generator) -> Arrays:
  return _text(rows, rng, 30_522) | {
    'visual_feats': rng.normal(size=(rows, REGIONS, FEATURES)).astype(np.float32),
    'visual_pos': rng.random((rows, REGIONS, 4)).astype(np.float32),
    'labels': rng.integers(0, ANSWERS, rows),
  }


def _visualbert(rows: int, rng: np.random.Generator) -> Arrays:
  soft = rng.random((rows, ANSWERS)).astype(np.float32)
  return _text(rows, rng, 30_522) | {
    'visual_embeds': rng.normal(size=(rows, REGIONS, FEATURES)).astype(np.float32),
    'visual_attention_mask': np.ones((rows, REGIONS), np.int64),
    'visual_token_type_ids': np.ones((rows, REGIONS), np.int64),
    'labels': soft / soft.sum(-1, keepdims=True),
  }


def _clip(rows: int, rng: np.random.Generator) -> Arrays:
  given = _text(rows, rng, 49_000, 77)
  last = given['attention_mask'].sum(-1) - 1
  given['input_ids'][np.arange(rows), last] = 49_407
  return given | {'pixel_values': rng.normal(size=(rows, 3, PICTURE, PICTURE)).astype(np.float32)}


def _blip(rows: int, rng: np.random.Generator) -> Arrays:
  given = _text(rows, rng, 30_000)
  labels = np.where(given['attention_mask'] > 0, given['input_ids'], -100)
  return given | {'pixel_values': rng.normal(size=(rows, 3, 384, 384)).astype(np.float32), 'labels': labels}


def _answer_distribution(out: Mapping, given: Mapping) -> jax.Array:
  """Kullback-Leibler divergence, as PyTorch's 'batchmean'."""
  chances, right = jax.nn.log_softmax(out['answers']), given['labels']
  return (jax.scipy.special.xlogy(right, right) - right * chances).sum() / len(right)


def _contrast(out: Mapping, given: Mapping) -> jax.Array:
  made, right = out['scale'] * out['text'] @ out['image'].T, jnp.arange(len(out['text']))
  return (_mean_entropy(made, right) + _mean_entropy(made.T, right)) / 2


def _mask(given: Mapping) -> Any:
  return given['attention_mask'] > 0


def _pixels(given: Mapping) -> Any:
  return given['pixel_values'].transpose(0, 2, 3, 1)


PAIRS = {
  'lxmert': Pair(
    'LxmertForQuestionAnswering',
    {'num_qa_labels': ANSWERS},
    _lxmert,
    lambda given: (given['input_ids'], _mask(given), given['visual_feats'], given['visual_pos']),
    'question_answering_score',
    lambda out: out['answers'],
    lambda out, given: _mean_entropy(out['answers'], given['labels']),
  ),
  'visualbert': Pair(
    'VisualBertForQuestionAnswering',
    {'num_labels': ANSWERS, 'visual_embedding_dim': FEATURES},
    _visualbert,
    lambda given: (
      given['input_ids'], _mask(given), given['visual_embeds'], None, given['visual_attention_mask'] > 0, None, None,
      given['visual_token_type_ids'],
    ),
    'logits',  # of which theirs gives the logarithm of the softmax, where it is given labels
    lambda out: jax.nn.log_softmax(out['answers']),
    _answer_distribution,
  ),
  'clip': Pair(
    'CLIPModel',
    {},
    _clip,
    lambda given: (given['input_ids'], _pixels(given), _mask(given)),
    'logits_per_text',
    lambda out: out['scale'] * out['text'] @ out['image'].T,
    _contrast,
  ),
  'blip': Pair(
    'BlipForConditionalGeneration',
    {},
    _blip,
    lambda given: (_pixels(given), given['input_ids'], _mask(given)),
    'logits',
    lambda out: out['words'],
    lambda out, given: _mean_entropy(out['words'][:, :-1], given['labels'][:, 1:]),
  ),
}  # fmt: skip


class Both(NamedTuple):
  """A pair, made: the torch module, our model with its variables and recipe, one batch for both."""

  pair: Pair
  theirs: torch.nn.Module
  model: nn.Module
  variables: Mapping
  recipe: train.Recipe
  given: Arrays
  compute: str

  @property
  def more(self) -> dict[str, Any]:
    """What theirs is asked for its loss with."""
    return {'return_loss': True} if self.pair.kind == 'CLIPModel' else {}


def device() -> str:
  """Where PyTorch computes: where JAX does."""
  return 'cuda' if jax.default_backend() == 'gpu' else 'cpu'


def wait() -> None:
  """Until PyTorch has done what it was asked for."""
  if device() == 'cuda':
    torch.cuda.synchronize()


def computing(compute: str) -> contextlib.AbstractContextManager:
  """In which PyTorch's products are of that type, parameters float32, as ours are."""
  return torch.autocast(device(), torch.bfloat16, enabled=compute != 'float32')


def tensors(given: Mapping, labels: bool = True) -> dict[str, torch.Tensor]:
  return {name: torch.from_numpy(a).to(device()) for name, a in given.items() if labels or name != 'labels'}


def make(name: str, rows: int, layers: int = 0, seed: int = 0, compute: str = 'float32') -> Both:
  """The pair of that name with fresh weights, on a batch of that many rows. layers: in place of the papers' depth.

  Raises RunError where the two do not give the same, or not the same loss (in float32, whatever computes later).
  """
  pair = PAIRS[name]
  kind = getattr(transformers, pair.kind)
  torch.manual_seed(seed)
  theirs = kind(kind.config_class(**dict(pair.sizes) | _depth(name, layers))).eval()
  with tempfile.TemporaryDirectory() as folder:
    theirs.save_pretrained(folder)
    model, variables = unrolled(*load(Path(folder)))  # as fast as can be
  given = pair.inputs(rows, np.random.default_rng(seed))

  def objective(out: Mapping, batch: Mapping, axis: str | None = None) -> tuple[dict, dict]:
    count = jnp.asarray(len(batch['input_ids']), jnp.float32)
    return {'loss': (pair.loss(out, batch) * count, count, 1.0)}, {}

  variables = jax.device_put(cast(variables, jnp.float32))  # read from a file they lie in NumPy's memory
  recipe = train.recipe(model, objective, pair.called)
  both = Both(pair, theirs.to(device()), model, variables, recipe, given, compute)
  _check(both)
  return both


def _depth(name: str, layers: int) -> dict[str, Any]:
  if not layers:
    return {}
  towers = {key: {'num_hidden_layers': layers} for key in ('text_config', 'vision_config')}
  own = {'lxmert': {f'{kind}_layers': layers for kind in 'lrx'}, 'visualbert': {'num_hidden_layers': layers}}
  return own.get(name, towers)


def loss_of_theirs(both: Both, given: Mapping) -> float:
  with torch.no_grad():
    return float(both.theirs.eval()(**tensors(given), **both.more)['loss'])


def loss_of(pair: Pair, recipe: train.Recipe, variables: Mapping, given: Mapping) -> jax.Array:
  out, _ = recipe.forward(variables, given, train=False, key=None)
  return pair.loss(out, given)


def _check(both: Both) -> None:
  with torch.no_grad():
    told = both.theirs(**tensors(both.given), **both.more)
  wanted, loss = told[both.pair.name].cpu().numpy(), float(told['loss'])

  @jax.jit
  def ours(variables: Mapping, given: Mapping) -> tuple[Any, Any]:
    out, _ = both.recipe.forward(variables, given, train=False, key=None)
    return both.pair.read(out), both.pair.loss(out, given)

  with jax.default_matmul_precision('highest'):
    found, our_loss = ours(both.variables, both.given)
  difference = np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max()
  apart = abs(float(our_loss) - loss) / (abs(loss) or 1.0)  # the contrast of one pair is 0
  if not difference < SAME or not apart < SAME_LOSS:
    raise RunError(
      f'{both.pair.kind}: what it gives differs by {difference:.1e}, its loss by {apart:.1e}; expected at most '
      f'{SAME:.0e} and {SAME_LOSS:.0e} before anything is timed'
    )
