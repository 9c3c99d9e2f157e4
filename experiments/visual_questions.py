"""Questions about images as a task: its data, its model inputs and its scores. LXMERT and VisualBERT are trained on it.

N images a step, K questions an image, B = N * K rows, M names of metrics, A answers.
"""

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import freeze
from tokenizers import Tokenizer

from experiments import training
from mmjax import masking, objectives, train
from mmjax.convert import finetune
from mmjax.convert.load import load as load_checkpoint
from mmjax.data import easy_vqa, encode, sort_of_clevr, tokens
from mmjax.data.pipeline import Source, load
from mmjax.encoders.image import ConvGrid, Detector, Patches
from mmjax.errors import UserError, nearest
from mmjax.models.answering import Answering

OBJECTIVES = {
  'answers': objectives.answers,
  'soft_answers': objectives.soft_answers,
  'answer_distribution': objectives.answer_distribution,
}
PRETRAINING = 'lxmert_pretraining'  # the objective of the setting 'statements'
RIVALS = (
  ('yes', 'no'),
  ('square', 'circle'),
  ('0', '1', '2', '3', '4', '5'),
)  # answers that could stand for one another

GIVEN = ('num_answers', 'vocab', 'positions', 'parent', 'name')  # fields of a model that no config.model sets
SIZES = ('schedule', 'width', 'heads', 'mlp', 'init_std', 'scan')  # of config.model: a checkpoint has its own


@dataclasses.dataclass(frozen=True)
class Task:
  """A prepared data set. `splits`: 'train', 'validation' and the `tests`; `encode`: example -> arrays of one image."""

  name: str
  setting: str
  splits: Mapping[str, Source]
  encode: Callable[[Mapping], dict[str, np.ndarray]]
  tokenizer: Tokenizer
  length: int
  questions: int  # an image, at most
  answers: tuple[str, ...]
  question_types: tuple[str, ...]
  groups: Mapping[str, tuple[str, ...]]

  @property
  def tests(self) -> tuple[str, ...]:
    return tuple(split for split in self.splits if split.startswith('test'))

  @property
  def metric_names(self) -> tuple[str, ...]:
    """'accuracy', 'accuracy/<group>' ..., 'accuracy/<question type>' ...: [M]."""
    return ('accuracy', *(f'accuracy/{name}' for name in (*self.groups, *self.question_types)))

  @property
  def membership(self) -> np.ndarray:
    """Which metrics a question type counts for: bool [T,M]."""
    row = lambda kind: [
      True,
      *(kind in kinds for kinds in self.groups.values()),
      *(kind == t for t in self.question_types),
    ]
    return np.array([row(kind) for kind in self.question_types])


def prepare(name: str, setting: str, folder: str, pretrained: str = '') -> Task:
  """The task of that name, in the setting 'regions', 'pixels' or 'statements' (regions, and answers in the text).

  pretrained: a checkpoint's folder; where a vocab.txt lies in it, sentences are told in its words.

  Raises UserError for an unknown name, and for a setting that it does not have.
  """
  data: types.ModuleType
  tests: tuple[str, ...]
  settings: tuple[str, ...]
  if name == 'sort_of_clevr':
    data, builder, tests = sort_of_clevr, sort_of_clevr.SortOfClevr, ('test200', 'test2000')
    settings, questions = ('regions', 'pixels', 'statements'), 2 * sort_of_clevr.QUESTIONS
  elif name == 'easy_vqa':
    data, builder, tests = easy_vqa, easy_vqa.EasyVqa, ('test',)
    settings, questions = ('pixels',), easy_vqa.MOST_QUESTIONS
  else:
    raise UserError(
      f'data.name: found {name!r}, which is not prepared here{nearest(name, ("sort_of_clevr", "easy_vqa"))}'
    )
  if setting not in settings:
    raise UserError(f'data.setting: found {setting!r}, {name} has {", ".join(settings)}{nearest(setting, settings)}')
  sentences, length = data.SENTENCES, data.LENGTH
  if pretrained and (Path(pretrained) / 'vocab.txt').is_file():
    tokenizer = tokens.wordpiece(Path(pretrained) / 'vocab.txt')
    length = max(len(found.ids) for found in tokenizer.encode_batch(list(sentences)))
  else:
    tokenizer = tokens.build((*sentences, *data.ANSWERS))
  length += setting == 'statements'
  if setting == 'regions':
    encoder = encode.regions(tokenizer, sentences, length)
  elif setting == 'pixels':
    encoder = encode.pixels(tokenizer, sentences, length, questions)
  else:
    encoder = encode.statements(tokenizer, sentences, data.ANSWERS, length)
  splits = {split: load(builder, split, folder or None) for split in ('train', 'validation', *tests)}
  return Task(
    name, setting, splits, encoder, tokenizer, length, questions, data.ANSWERS, data.QUESTION_TYPES, data.GROUPS
  )


def augment(task: Task) -> train.Augment | None:
  """The masks of pre-training in the setting 'statements', nothing otherwise."""
  if task.setting != 'statements':
    return None
  kind = {answer: n for n, kinds in enumerate(RIVALS) for answer in kinds}
  rivals = np.array([[a != b and kind[a] == kind[b] for b in task.answers] for a in task.answers])
  (mask,) = task.tokenizer.encode('[MASK]', add_special_tokens=False).ids
  vocab = task.tokenizer.get_vocab_size()
  return functools.partial(masking.lxmert, mask=mask, special=len(tokens.SPECIAL), vocab=vocab, rivals=rivals)


def pixels(
  kind: str, channels: tuple[int, ...], patch: int, regions: int, data: Mapping
) -> ConvGrid | Patches | Detector | None:
  """What stands in for regions: 'grid', 'patches' or 'detector' in the setting 'pixels', else 'none'."""
  known = ('grid', 'patches', 'detector') if data['setting'] == 'pixels' else ('none',)
  if kind not in known:
    raise UserError(
      f'pixels.kind: found {kind!r} in setting {data["setting"]!r}, expected {" or ".join(map(repr, known))}'
    )
  if kind == 'detector':
    if data['name'] == 'easy_vqa':
      raise UserError(
        "pixels.kind: found 'detector', but easy_vqa has no boxes to teach it; expected 'grid' or 'patches'"
      )
    return Detector(regions)
  if kind == 'grid':
    if min(channels, default=0) < 1:
      raise UserError(f'pixels.channels: found {tuple(channels)}, expected a number from 1 for each convolution')
    return ConvGrid(tuple(channels))
  return Patches(patch) if kind == 'patches' else None


def objective(name: str, task: Task) -> train.Objective:
  """The objective of that name, on rows: what the batch says per image and question is flattened to B rows."""
  if (name == PRETRAINING) != (task.setting == 'statements'):
    raise UserError(f"objective: found {name!r} in setting {task.setting!r}; {PRETRAINING!r} goes with 'statements'")
  if name == PRETRAINING:
    return lambda out, batch, axis=None: objectives.lxmert_pretraining(out, batch['labels'], axis)
  if name not in OBJECTIVES:
    raise UserError(f'objective: found {name!r}{nearest(name, (*OBJECTIVES, PRETRAINING))}')
  score, membership = OBJECTIVES[name], task.membership

  def on_rows(out, batch, axis=None):
    rows = {key: batch[key].reshape(-1) for key in ('answer', 'weight')}
    kinds = jnp.asarray(membership)[batch['question_type'].reshape(-1)]
    losses, metrics = score(out, rows | {'question_type': kinds}, axis)
    if 'objectness' not in out:
      return losses, metrics
    # an image whose objects are not all found yet teaches the detector alone: what it would teach the rest is noise
    whole = objectives.seen(out, batch).all(-1, keepdims=True) * batch['weight']
    taught, _ = score(out, rows | {'question_type': kinds, 'weight': whole.reshape(-1)}, axis)
    losses = {name: (taught[name][0], count, weight) for name, (_, count, weight) in losses.items()}
    more, found = objectives.detection(out, batch)
    return losses | more, metrics | found

  return on_rows


def named(mean: Mapping[str, np.ndarray], task: Task) -> dict[str, float]:
  """Divided metric sums under their names; those that nothing counted for are left out."""
  flat = {name: value for name, value in mean.items() if name != 'accuracy'}
  if 'accuracy' in mean:
    flat |= dict(zip(task.metric_names, mean['accuracy'], strict=True))
  return training.scalars(flat)


def build(kind: type, c: Any, pretrained: str = '') -> tuple[Task, Answering, Mapping | None]:
  """The task and the model of a config, and the variables of a checkpoint's folder, where one is given."""
  eyes = pixels(c.pixels.kind, c.pixels.channels, c.pixels.patch, c.pixels.regions, c.data)
  fits(kind, c.model.to_dict(), c.data.setting)
  task = prepare(c.data.name, c.data.setting, c.data.dir, pretrained)
  model, loaded = encoder(kind, freeze(c.model.to_dict()), task, pretrained)  # frozen: a number a stream must hash
  return task, Answering(model, eyes, c.place, c.blind), loaded


def fits(kind: type, arguments: Mapping, setting: str) -> None:
  """Raises UserError where a config's `model` is that of another class, or its sizes are not those of the data."""
  known = {field.name for field in dataclasses.fields(kind)} - set(GIVEN)
  unknown = sorted(set(arguments) - known)
  if unknown:
    own = f'configs/{kind.__name__.lower()}.py'
    raise UserError(
      f'config.model: found {", ".join(unknown)}, which {kind.__name__} has not; expected {own} or its like'
    )
  if setting != 'statements' or not arguments.get('pretrain'):
    return
  sizes = {  # of the regions and labels of data.encode
    'num_features': 3 * (2 * sort_of_clevr.HALF + 1) ** 2,
    'num_objects': len(sort_of_clevr.COLORS) * len(sort_of_clevr.SHAPES),
  }
  for key, size in sizes.items():
    found = arguments.get(key, getattr(kind, key, 0))
    if found not in (0, size):
      raise UserError(
        f'--config.model.{key}: found {found}, expected {size}, which the data have, or 0 for no such task'
      )


def encoder(kind: type, arguments: Mapping, task: Task, pretrained: str) -> tuple[nn.Module, Mapping | None]:
  """The encoder of a config's `model`, or that of a checkpoint's folder with its variables.

  Of the config, the latter takes dropout and what it adds or departs in; sizes are the checkpoint's. Raises UserError
  for a checkpoint of another model, and for one whose words are not known here.
  """
  words = task.tokenizer.get_vocab_size()
  if not pretrained:
    return kind(num_answers=len(task.answers), vocab=words, positions=task.length, **arguments), None
  model, variables = load_checkpoint(pretrained)
  if not isinstance(model, kind):
    raise UserError(f'--pretrained={pretrained}: found {type(model).__name__}, expected {kind.__name__}')
  found: Any = model
  if found.vocab != words:
    raise UserError(
      f'--pretrained={pretrained}: its model knows {found.vocab:,} words, the task here {words:,}; '
      'expected a vocab.txt of as many lines in the folder'
    )
  ours = {key: value for key, value in arguments.items() if key not in SIZES}
  return model.clone(num_answers=len(task.answers), **ours), variables


def recipe(name: str, task: Task, model: nn.Module) -> train.Recipe:
  """By the objective of that name."""
  return train.recipe(model, objective(name, task), augment=augment(task))


def first_variables(
  recipe: train.Recipe, model: Any, task: Task, seed: int, loaded: Mapping | None = None
) -> tuple[Mapping, list[str]]:
  """The model's variables before training, on one image's questions, and in words what became of a checkpoint's.

  loaded: the variables of a checkpoint for the encoder.
  """
  example = {name: np.asarray(value)[None] for name, value in task.encode(task.splits['train'][0]).items()}
  fresh = training.first_variables(recipe, seed, example)
  if loaded is None:
    return fresh, []
  own = {name: part['encoder'] for name, part in fresh.items() if 'encoder' in part}
  begun, said = finetune.begin(own, loaded)
  taken = ', '.join(f'{name} {getattr(model.encoder, name)}' for name in SIZES)
  said.insert(0, f'of the checkpoint, whatever the config says: {taken}')
  return {name: {**part, **({'encoder': begun[name]} if name in begun else {})} for name, part in fresh.items()}, said
