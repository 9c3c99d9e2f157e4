"""BLIP (Li et al. 2022, arXiv:2201.12086) trained on pairs of image and text: contrast, matching and captions at once,
then, as in section 5.2, its decoder tuned by captions alone.

Searches among pictures of concepts that no training picture shows, by contrast alone and read again by the matching
encoder, and writes captions of them, beside copies of the nearest training caption. Prints both with intervals and
writes a report with pictures. The same command goes on where an interrupted run stopped.
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/blip.py:twemoji'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import blip as complete
from experiments import faithful, pairs, searching, telling, training
from experiments.captioning import CONTRAST, READ, TUNED, UNTUNED, Reader, describe, judged, same, search
from experiments.reading import Reading, keep_model
from mmjax import augment, objectives, train
from mmjax.encoders.image import to_float
from mmjax.models.blip import BLIP, Text
from mmjax.models.blip_pretraining import Pretraining
from mmjax.models.vit import ViT
from mmjax.workdir import open_workdir

HELD_OUT = {'new concepts': ('test',), 'new categories': ('unseen',)}  # -> splits
SYSTEM = 'BLIP'
SHOWN = 12  # captions in the report


def build(c, task: pairs.Pairs) -> Pretraining:
  """BLIP and what it needs to be trained. Two ids behind the vocabulary begin what is read and what is written."""
  text = functools.partial(Text, vocab=task.vocab + 2, positions=task.length, **c.model.text)
  model = BLIP(ViT(image=task.side, **c.model.image), text(), text(writes=True), c.model.out)
  return Pretraining(model, first=(task.vocab, task.vocab + 1), **c.contrast)


def drawn(c, task: pairs.Pairs):
  """What `train.train_step` draws anew of a batch, and its captions: the names alone."""

  def augmented(batch, key):
    caption = augment.closed(batch['text'], batch['part'] <= 1)[:, : c.data.caption]
    batch = augment.pairs(batch, key, **c.augment)
    return {**batch, 'image': to_float(batch['image']), 'caption': caption}

  return augmented


def recipe(c, task: pairs.Pairs, pre: Pretraining) -> train.Recipe:
  """The first stage, of all three losses."""
  init = lambda key, batch: pre.init(key, to_float(batch['image']), batch['text'])
  lower = lambda compute: dataclasses.replace(pre, compute=compute).forward
  return train.Recipe(init, pre.forward, objectives.blip, drawn(c, task), lower=lower)


def captions_alone(out: Mapping, batch: Mapping, axis: str | None = None):
  """The objective of the second stage."""
  caption = batch['caption']
  return objectives.captions(out, {**batch, 'text': caption, 'text_mask': caption > 0})


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/blip.py')
  task = pairs.prepare(c.data.name, c.data.dir, c.data.length)
  pre = build(c, task)
  first = {key: value[None] for key, value in task.encode(task.splits['train'][0]).items()}
  learnt_from: dict[str, Any] = dict(source=task.splits['train'], encode=task.encode)
  whole = recipe(c, task, pre)
  fit = training.Fit(c, whole, training.first_variables(whole, c.seed, first), **learnt_from)
  reader = lambda: Reader(c, pre, task, pre.variables(fit.state.params))
  workdir = open_workdir(args.workdir, c.to_dict(), fresh=fresh)
  validation = task.arrays('validation')
  searches: dict[str, searching.Found] = {CONTRAST: {}, READ: {}}
  found: dict[str, Any] = {name: {'held': task.arrays(*splits)} for name, splits in HELD_OUT.items()}

  def validate() -> dict[str, float]:
    scores = reader().contrast(validation['text'], validation['image'])
    return {'accuracy': pairs.search(scores, np.eye(len(scores), dtype=bool), validation['concept'])['R@5'][0]}

  def test() -> dict[str, dict[str, float]]:
    now = reader()
    for name, part in found.items():
      text, image = part['held']['text'], part['held']['image']
      score = lambda image, text=text: now.matches(text, image)
      what = 'The probability that a picture matches its text'
      for system, scores in search(now, name, part['held']).items():
        searches[system] |= scores
      part['faithful'] = faithful.table(
        score, image, now.maps(text, image), image[0, 0, 0], what, part['held']['concept']
      )
    every = ((f'test, {where}: {system}', s) for system, found in searches.items() for where, s in found.items())
    return {name: pairs.values(scores) for name, scores in every}

  with training.Course(fit, workdir, args) as course:
    for step, batch in course:
      fit.state, sums = fit.step(fit.state, batch, course.key)
      course.log(step, sums)
      if course.due(step):
        course.save(step, validate)
    course.end(test, SYSTEM)

  begun = reader().variables['params']
  model = BLIP(pre.model.image, None, pre.model.decoder, 0)
  written = lambda caption: (caption.at[:, 0].set(pre.first[1]), caption > 0)
  captions = train.recipe(model, captions_alone, lambda batch: (batch['image'], *written(batch['caption'])))
  tuning = training.Fit(
    training.stage(c, c.captions),
    captions._replace(augment=drawn(c, task)),
    {'params': jax.tree.map(jnp.copy, {part: begun[part] for part in ('image', 'decoder')})},  # steps donate their own
    **learnt_from,
  )
  tuned = lambda: Reader(c, pre, task, {'params': {**begun, **tuning.state.params}})

  def validate_captions() -> dict[str, float]:
    scores = pairs.values(judged(tuned().write(validation['image']), validation))
    return {'accuracy': scores['CIDEr']} | scores

  def test_captions() -> dict[str, dict[str, float]]:
    for part in found.values():
      part['written'] = describe(reader(), tuned(), task, part['held'])
      part['judged'] = {system: judged(texts, part['held']) for system, texts in part['written'].items()}
    every = ((f'test, {name}: {system}', s) for name, part in found.items() for system, s in part['judged'].items())
    return {name: pairs.values(scores) for name, scores in every}

  folder = workdir / 'captions'
  folder.mkdir(exist_ok=True)
  with training.Course(tuning, folder, args) as course:
    for step, batch in course:
      tuning.state, sums = tuning.step(tuning.state, batch, course.key)
      course.log(step, sums)
      if course.due(step):
        course.save(step, validate_captions)
    course.end(test_captions, TUNED)
  finish(c, task, pre, found, searches, {'model': (pre.model, reader()), 'captioner': (model, tuned())}, workdir, began)


def finish(
  c, task: pairs.Pairs, pre: Pretraining, found: Mapping, searches: Mapping, made: Mapping, workdir, began: float
) -> None:
  """The tables, the pictures, the report, and the models that were made, in folders of these names."""
  cider = found['new concepts']['judged'][TUNED]['CIDEr'][0]
  summary = [
    ('CIDEr', f'{100 * cider:.1f}'),
    ('held out', 'concepts that no training picture shows: new ones of known categories, and ten categories'),
    (
      'departures from the paper',
      'convolutions before the ViT; sizes, recipe and data are ours, and a text to be captioned is a name alone',
    ),
  ]
  pools = {name: len(part['held']['name']) for name, part in found.items()}
  about = {system: {'source': 'this run', 'ours': True} for system in searches}
  notes = [
    f'Read again: the {c.rerank} that contrast puts first, by cosine plus the logit of a match, as the authors do.'
  ]
  telling.finish(
    c,
    workdir,
    title=f'BLIP: {c.data.name}',
    summary=summary,
    tables=[caption_table(found), searching.table(pools, searches, about, notes), found['new concepts']['faithful']],
    galleries=[gallery(name, part) for name, part in found.items()],
    params=made['model'][1].variables['params'],
    began=began,
  )
  reading = Reading(task.side, length=task.length, first=pre.first)
  for name, (model, reader) in made.items():
    params = reader.variables['params']
    kept = params if model.encoder else {part: params[part] for part in ('image', 'decoder')}
    keep_model(workdir / name, model, {'params': kept}, task.tokenizer, reading)
  print(f'for experiments.ask: --weights={workdir / "captioner"} writes captions')
  print(f'for experiments.ask: --weights={workdir / "model"}')


def caption_table(found: Mapping) -> dict:
  rows: list[dict] = []
  for name, part in found.items():
    for system, scores in part['judged'].items():
      cells = {k: pairs.shown('', *v) if isinstance(v, tuple) else pairs.shown('', v) for k, v in scores.items()}
      source = 'this run' if system in (TUNED, UNTUNED) else 'computed here'
      ours = {'ours': True} if system == TUNED else {}
      rows.append({'system': system, 'test': f'{len(part["held"]["name"])} of {name}', 'source': source} | cells | ours)
  return {
    'title': 'Captions',
    'columns': ['system', 'test', 'CIDEr', 'ROUGE-L', 'BLEU-1', 'BLEU-4', 'the very words', 'source'],
    'rows': rows,
    'notes': [
      'All times 100, against the one name that a picture has. In brackets: 95 % intervals of this one run, by drawing '
      'whole concepts. Names have one to four words, so that BLEU-4 has nearly nothing to count.',
      'The nearest training picture is that of the highest cosine of the vectors that this run learnt.',
    ],
  }


def gallery(name: str, part: Mapping) -> dict:
  held, written = part['held'], part['written']
  rows = []
  for n in np.linspace(0, len(held['name']) - 1, SHOWN).astype(int):
    own = str(held['name'][n])
    items = [{'text': texts[n], 'score': system, 'right': same(texts[n], own)} for system, texts in written.items()]
    rows.append({'query': {'image': held['image'][n], 'text': own}, 'found': items})
  return {'title': f'Captions of {name}', 'note': 'Beside each picture with its name: what was written.', 'rows': rows}


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
