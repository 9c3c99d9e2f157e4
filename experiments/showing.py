"""What a run on visual questions shows: the table beside published numbers, the report, and a single prediction.

L text, R regions, H heads.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from PIL import Image

from experiments import telling
from experiments.visual_questions import Task
from mmjax import report
from mmjax.cli import ROOT
from mmjax.data import baselines, encode, images, sort_of_clevr, tokens
from mmjax.errors import UserError, nearest
from mmjax.fusion import maps
from mmjax.fusion.layers import MAPS
from mmjax.fusion.schedule import parse
from mmjax.models.answering import Answering

TITLE = 'Accuracy in percent'
EXAMPLES, STRIDE = 12, 7  # question 7 n of image n: all kinds of questions come up

# Published accuracies in percent. Santoro et al. 2017 (arXiv:1706.01427, section 5.3) state bounds, kept as text.
PUBLISHED = {
  'sort_of_clevr': (
    {'system': 'RN, paper (from pixels)', 'nonrelational': '> 94', 'relational': '> 94', 'source': 'arXiv:1706.01427'},
    {
      'system': 'CNN+MLP, paper (from pixels)',
      'nonrelational': '> 94',
      'relational': '63',
      'source': 'arXiv:1706.01427',
    },
    {
      'system': 'RN, reimplementation, 20 epochs',
      'nonrelational': '99',
      'relational': '89',
      'source': 'kimhc6028/relational-networks',
    },
    {
      'system': 'CNN+MLP, reimplementation, 100 epochs',
      'nonrelational': '66',
      'relational': '66',
      'source': 'kimhc6028/relational-networks',
    },
  ),
  'easy_vqa': (),
}
NOTES = {
  'sort_of_clevr': (
    'Sort-of-CLEVR has no canonical files: every paper draws its own. Numbers are not comparable to the last digit.',
    'The published systems read pixels; a run in the setting "regions" is given the objects (their crops and boxes).',
    "A region's features are the pixels of its crop with its box beside them, scaled by the config's `place`.",
    'The reimplementation lets an object be its own nearest neighbour in 7 % of cases, and tests with dropout on.',
    'On the 200-image test the standard error of an accuracy of 95 % is about 0.5 points.',
  ),
  'easy_vqa': ('The majority answer knows the question only; most yes/no answers follow from the sentence.',),
}


def check(name: str, args) -> None:
  """What would fail at the end of a run only. Raises UserError for kept results and flags that cannot be used."""
  kept_results(name)
  if args.checkpoint not in ('latest', 'best'):
    raise UserError(f"--checkpoint: found {args.checkpoint!r}, expected 'latest' or 'best'")
  if args.checkpoint == 'best' and args.mode == 'train':
    raise UserError('--checkpoint=best: training goes on from the latest; it is for the modes eval and predict')
  if args.mode == 'predict':
    if not args.image or not args.question:
      raise UserError('mode predict: --image=FILE and --question=TEXT are both needed')
    read_image(Path(args.image), (1, 1))


def table(task: Task, title: str, results: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
  """Columns and rows of accuracies in percent: this run, results kept with the code, published ones."""
  if 'accuracy' not in results[task.tests[0]]:
    return pretraining_table(task, title, results)
  whole = [] if task.name == 'sort_of_clevr' else ['overall']  # papers give Sort-of-CLEVR by group only
  columns = ['system', 'test', *whole, *task.groups, *task.question_types, 'source']
  rows: list[dict] = []
  for split in task.tests:
    scores = {column(name): f'{100 * value:.2f}' for name, value in results[split].items()}
    rows.append({'system': f'{title} (this run)', 'test': split, 'source': 'this run', 'ours': True} | scores)
  rows += kept(task)
  for floor in floors(task):
    scores = {name: f'{100 * value:.2f}' for name, value in floor.pop('scores').items()}
    rows.append(floor | {'source': 'computed here'} | scores)
  rows += PUBLISHED[task.name]
  keys = set(columns) | {'ours'}
  rows = [{key: value for key, value in row.items() if key in keys} for row in rows]
  notes = [*NOTES[task.name], *(['Of several seeds: mean (lowest–highest).'] if kept(task) else [])]
  return {'title': TITLE, 'columns': columns, 'rows': rows, 'notes': notes}


def floors(task: Task) -> list[dict[str, Any]]:
  """What two answerers that see no picture reach: {'system', 'test', 'scores': {column: 0..1}} of each on each test."""
  answerer = baselines.Majority(task.splits['train'])
  asked = {split: baselines.questions(task.splits[split]) for split in task.tests}  # read once
  return [
    {
      'system': words,
      'test': split,
      'scores': answerer.score(asked[split], task.question_types, task.groups, by_sentence),
    }
    for words, by_sentence in (('majority answer of each question', True), ('majority answer of all', False))
    for split in task.tests
  ]


def pretraining_table(task: Task, title: str, results: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
  """Accuracies in percent of the pre-training tasks, as far as they are classifications."""
  tasks = [name.removeprefix('accuracy/') for name in results[task.tests[0]] if name.startswith('accuracy/')]
  score = lambda split, name: f'{100 * results[split][f"accuracy/{name}"]:.2f}'
  rows = [
    {'system': f'{title} (this run)', 'test': split, 'ours': True} | {name: score(split, name) for name in tasks}
    for split in task.tests
  ]
  return {
    'title': TITLE,
    'columns': ['system', 'test', *tasks],
    'rows': rows,
    'notes': ['Masks are the same at each evaluation.'],
  }


def column(metric: str) -> str:
  """The column of a metric: 'accuracy/left' -> 'left', 'accuracy' -> 'overall'."""
  return metric.partition('/')[2] or 'overall'


def kept_results(name: str) -> dict[str, list[dict]]:
  """'systems' and 'floors' in results/<name>.json; none where there is no such file. Raises UserError for damage."""
  file = ROOT / 'results' / f'{name}.json'
  if not file.is_file():
    return {'systems': [], 'floors': []}
  try:
    found = json.loads(file.read_text())
    return {key: found[key] for key in ('systems', 'floors')}
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f'{file}: cannot be read as kept results ({type(error).__name__}: {error})') from error


def kept(task: Task) -> list[dict]:
  """Rows of results/<task>.json: of each system the mean of its seeds on the largest test split, and the extremes."""
  rows: list[dict] = []
  for system in kept_results(task.name)['systems']:
    row = {
      'system': system['system'],
      'test': task.tests[-1],
      'source': f'{len(system["seeds"])} seeds, {system["command"]}',
    }
    for name in task.metric_names:
      group = column(name) in ('overall', *task.groups)  # the extremes of every question type would not fit
      row[column(name)] = spread(system, name) if group else spread(system, name).split()[0]
    rows.append(row)
  return rows


def spread(system: Mapping, name: str) -> str:
  """A metric of kept seeds in percent: 'mean (lowest–highest)', or the one that there is."""
  scores = [100 * seed[name] for seed in system['seeds']]
  if len(scores) == 1:
    return f'{scores[0]:.2f}'
  return f'{np.mean(scores):.2f} ({min(scores):.2f}–{max(scores):.2f})'


def departures(model: Answering) -> list[str]:
  """Where the model departs from its paper, in words. Sizes and numbers of layers are no departure, their order is."""
  encoder: Any = model.encoder
  order = lambda schedule: [group.subs for group in parse(schedule).groups]
  found = {
    'pre-norm': getattr(encoder, 'norm', 'post') == 'pre',
    'box-geometry bias': getattr(encoder, 'geometry', False),
    f'schedule {encoder.schedule}': order(encoder.schedule) != order(type(encoder).schedule),
    'answers off the pooler': getattr(encoder, 'answer_from', 'last') == 'pooled',
    'image hidden': model.blind,
  }
  return [words for words, departs in found.items() if departs]


def system(model: Answering) -> str:
  """The name under which a model's numbers stand: its paper's name alone only where it departs in nothing."""
  eyes = {
    'NoneType': [],
    'ConvGrid': ['on a CNN grid'],
    'Patches': ['on patches'],
    'Detector': ['on a detector learnt beside'],
  }[type(model.pixels).__name__]
  return ', '.join([' + '.join([type(model.encoder).__name__, *departures(model)]), *eyes])


def finish(c, task: Task, model: Answering, variables: Mapping, results: Mapping, workdir: Path, began: float) -> None:
  """Prints the table, writes report.html and says where it is."""
  largest = results[task.tests[-1]]
  headline = [f'accuracy/{name}' for name in (*task.groups, 'words', 'matched', 'objects', 'answers')]
  summary = [
    *((name.removeprefix('accuracy/'), f'{100 * score:.2f} %') for name, score in largest.items() if name in headline),
    ('test set', f'{task.tests[-1]}, {len(task.splits[task.tests[-1]]):,} images'),
    ('departures from the paper', ', '.join(departures(model)) or 'none; sizes, initial scale and recipe are ours'),
  ]
  shown = [
    examine(task, model, variables, task.splits[task.tests[-1]][n], STRIDE * n % task.questions)
    for n in range(EXAMPLES)
  ]
  telling.finish(
    c,
    workdir,
    title=f'{system(model)}: {task.name}',
    summary=summary,
    tables=[table(task, system(model), results)],
    params=variables['params'],
    began=began,
    examples=shown,
  )


def examine(task: Task, model: Answering, variables: Mapping, example: Mapping, question: int) -> dict:
  """One question of an example, with the answer, its probabilities and the attention between words and regions."""
  batch = {name: value[None] for name, value in task.encode(example).items()}
  question %= int(batch['weight'].sum())
  ids = batch['question'][0, question]
  out = look(model, variables, batch | {'question': batch['question'][:, question : question + 1]})
  text = example['question'][question]
  return shown(task, example['image'], text.decode() if isinstance(text, bytes) else text, ids, out) | {
    'answer': task.answers[batch['answer'][0, question]],
    'question_type': task.question_types[batch['question_type'][0, question]],
  }


def look(model: Answering, variables: Mapping, batch: Mapping) -> dict:
  """Logits of one question about one image, the boxes [R,4], and the attention between the two streams."""
  out, captured = _apply(model, variables, batch)
  lengths = {'t': batch['question'].shape[-1], 'v': out['boxes'].shape[1]}
  return {'answers': np.asarray(out['answers'][0]), 'boxes': np.asarray(out['boxes'][0])} | {
    name: maps.read(captured[MAPS]['encoder']['encoder'], model.encoder.schedule, lengths, *edge)
    for name, edge in (('word_to_region', 'tv'), ('region_to_word', 'vt'))
  }


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: nn.Module, variables: Mapping, batch: Mapping):
  return model.apply(variables, batch, train=False, mutable=[MAPS])


def shown(task: Task, image: np.ndarray, question: str, ids: np.ndarray, out: Mapping) -> dict:
  """A prediction as the report shows it."""
  words = tokens.words(task.tokenizer, ids[ids > 0])
  likely = np.asarray(jax.nn.softmax(out['answers']))
  order = np.argsort(-likely)[:5]
  stack = lambda layers, cut: np.stack([m[0][cut] for m in layers.values()]) if layers else None
  return {
    'image': np.asarray(image),
    'boxes': out['boxes'],
    'words': words,
    'question': question,
    'prediction': task.answers[order[0]],
    'probabilities': [(task.answers[n], float(likely[n])) for n in order],
    'word_to_region': stack(out['word_to_region'], np.s_[:, : len(words)]),
    'region_to_word': stack(out['region_to_word'], np.s_[..., : len(words)]),
    'layer_names': {direction: list(out[direction]) for direction in ('word_to_region', 'region_to_word')},
  }


def predict(task: Task, model: Answering, variables: Mapping, args, step: int, workdir: Path) -> None:
  """Answers args.question about the image file args.image; writes prediction.html with the attention over the image."""
  image = read_image(Path(args.image), np.asarray(task.splits['train'][0]['image']).shape)
  known = {word for sentence in task.tokenizer.get_vocab() for word in sentence.split()}
  words = args.question.lower().replace('?', ' ').split()
  if not words:
    raise UserError(f'--question: found no word in {args.question!r}')
  for word in words:
    if word not in known:
      raise UserError(f'--question: the model never saw the word {word!r}{nearest(word, known)}')
  ids = tokens.encode(task.tokenizer, [args.question], task.length)
  batch = {'question': ids[None], 'image': image[None]}
  if task.setting != 'pixels':
    boxes, crops = sort_of_clevr.find_regions(image)
    batch = {'question': ids[None], 'boxes': boxes[None], 'regions': encode.region_features(crops)[None]}
  found = shown(task, image, args.question, ids[0], look(model, variables, batch))
  file = workdir / 'prediction.html'
  report.write(
    file,
    title=f'{system(model)}: one question',
    summary=[('answer', found['prediction']), ('step', f'{step:,}')],
    config={},
    history=[],
    examples=[found | {'answer': None, 'question_type': None}],
  )
  for answer, probability in found['probabilities']:
    print(f'{answer:>12}  {100 * probability:6.2f} %')
  print(f'answer: {found["prediction"]}; attention over the image: {file}')


def read_image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
  """An image file as uint8 of the given shape. Raises UserError for a file that is none."""
  picture = Image.fromarray(images.read(path, '--image'))
  return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.NEAREST))  # which mixes no colours
