"""Pictures drawn from texts as a task: the data, who judges, and what is shown. DALL-E is judged by it.

M texts, C candidates (samples of a text), h x w pixels, L words. Attributes are int [...,2,2], see `data.scenes`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn
from tokenizers import Tokenizer

from experiments import pairs
from experiments.telling import Cell
from experiments.training import known_set
from mmjax import objectives
from mmjax.data import encode, scenes, tokens
from mmjax.data.pipeline import Source, load
from mmjax.encoders.image import ConvGrid
from mmjax.metrics.images import psnr

SETS = ('scenes',)
AT_ONCE = 200  # pictures of one call
SHOWN = 8  # texts in the report, of each split
TESTS = {'test': 'pairs known from training', 'unseen': 'pairs that are held out'}  # split -> what its texts are
WHOLE, JUDGED = 'all that is said', 'by the classifier'


@dataclasses.dataclass(frozen=True)
class Task:
  """Prepared scenes: 'train', 'validation', 'test', and 'unseen', of pairs of objects that no training text has."""

  splits: Mapping[str, Source]
  tokenizer: Tokenizer

  @property
  def vocab(self) -> int:
    return self.tokenizer.get_vocab_size()

  def examples(self, split: str) -> list[dict[str, np.ndarray]]:
    """All of a split, in memory: 'image' uint8 [h,w,3], 'text' int32 [L], 'attributes', 'weight' 1."""
    return encode.told(self.splits[split], self.tokenizer, scenes.LENGTH, 'image', 'attributes')


def prepare(name: str, folder: str) -> Task:
  """The data set of that name. Raises UserError for an unknown one."""
  known_set(name, SETS)
  splits = {split: load(scenes.Scenes, split, folder or None) for split in scenes.SPLITS}
  return Task(splits, tokens.build(example['text'].decode() for example in splits['train']))


class Classifier(nn.Module):
  """Who judges besides the program: convolutions, then colour and shape of either side. image [B,h,w,3] of 0..255.

  Returns 'colour' [B,2,colours] and 'shape' [B,2,shapes]: logits.
  """

  channels: tuple[int, ...]

  @nn.compact
  def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
    cells, _ = ConvGrid(self.channels, name='cells')(image, train=train)
    x = nn.relu(nn.Dense(128, name='hidden')(rearrange(cells, 'B P F -> B (P F)')))
    score = lambda name, kinds: nn.Dense(2 * kinds, name=name)(x).reshape(-1, 2, kinds)
    return {'colour': score('colour', len(scenes.COLORS)), 'shape': score('shape', len(scenes.SHAPES))}


def attributes(out: Mapping, batch: Mapping, axis: str | None = None):
  """The objective of the classifier: softmax of all four attributes."""
  losses, metrics = {}, {}
  for n, name in enumerate(('colour', 'shape')):
    label, row = batch['attributes'][..., n], batch['weight'][:, None] * jnp.ones(2)
    loss = objectives.cross_entropy(out[name], label) * row
    losses[name] = (loss.sum(), row.sum(), 1.0)
    metrics[f'accuracy/{name}'] = (((out[name].argmax(-1) == label) * row).sum(), row.sum())
  return losses, metrics


@functools.partial(jax.jit, static_argnums=0)
def _classify(model: Any, variables: Mapping, image: jax.Array) -> jax.Array:
  out = model.apply(variables, image, train=False)
  return jnp.stack([out[name].argmax(-1) for name in ('colour', 'shape')], -1)


def judge(stages: Any, task: Task, texts: int, candidates: int, seed: int) -> dict[str, Any]:
  """{'rows': {what was looked at: its scores}, 'shown': what the report shows}.

  stages: with draw, rank, reconstruct, and `classifier` with its variables. texts: of each split, candidates: C.
  """
  see = lambda part: _classify(stages.classifier, stages.variables['classifier'], part)
  classify = lambda image: pairs.in_parts(see, image, AT_ONCE)
  rows, shown = {}, {}
  for split, what in TESTS.items():
    held = task.examples(split)[:texts]
    said, text = (np.stack([example[key] for example in held]) for key in ('attributes', 'text'))
    real = np.stack([example['image'] for example in held])
    keys = jax.random.split(jax.random.key(seed + 2), candidates)
    drawn = np.stack([stages.draw(text, key) for key in keys], 1)  # [M,C,h,w,3]
    score = stages.rank(text, drawn)
    best = drawn[np.arange(len(drawn)), score.argmax(1)]
    again = stages.reconstruct(real)
    flat = rearrange(drawn, 'M C h w c -> (M C) h w c')
    rows[f'samples, {what}'] = scores(flat, np.repeat(said, candidates, 0), classify, candidates)
    rows[f'the best of {candidates} by CLIP, {what}'] = scores(best, said, classify)
    rows[f'real pictures, {what}'] = scores(real, said, classify)
    if split == 'test':
      near = {'PSNR': pairs.mean(psnr(real, again))}
      rows['real pictures through the codes'] = scores(again, said, classify) | near
      rows['real pictures of other texts (chance)'] = scores(np.roll(real, 1, 0), said, classify)
    right = np.array([[(scenes.read(one) == wanted).all() for one in row] for row, wanted in zip(drawn, said)])
    sentences = [example['text'].decode() for example, _ in zip(task.splits[split], held)]
    shown[what] = {'text': sentences, 'drawn': drawn, 'right': right, 'score': score, 'real': real, 'again': again}
  return {'rows': rows, 'shown': shown}


def scores(image: np.ndarray, said: np.ndarray, classify: Callable, each: int = 1) -> dict[str, tuple]:
  """How often pictures uint8 [M,h,w,3] show what is said, int [M,2,2]: by the program, whole and by attribute, and by
  the classifier; `each` pictures in a row are of one text and drawn together for the 95 % intervals."""
  seen = np.stack([scenes.read(one) for one in image]) == said
  texts = np.arange(len(image)) // each
  whole = {WHOLE: seen.all((1, 2)).astype(float), JUDGED: (classify(image) == said).all((1, 2)).astype(float)}
  found = {name: pairs.mean(right, texts) for name, right in whole.items()}
  return found | {name: (float(seen[:, n // 2, n % 2].mean()),) for n, name in enumerate(scenes.NAMES)}


def headlines(found: Mapping) -> list[tuple[str, str]]:
  rows = found['rows']
  whole = rows[f'samples, {TESTS["test"]}'][WHOLE]
  near = rows['real pictures through the codes']['PSNR'][0]
  return [('show all that is said', f'{100 * whole[0]:.1f} %'), ('reconstructions', f'{near:.1f} dB')]


def table(found: Mapping) -> dict:
  rows: list[dict] = []
  for name, row in found['rows'].items():
    cells = {key: pairs.shown('', *value) for key, value in row.items() if key != 'PSNR'}
    if 'PSNR' in row:
      cells['PSNR, dB'] = Cell(*row['PSNR'])
    rows.append({'system': name, **cells} | ({'ours': True} if 'samples' in name or 'best' in name else {}))
  return {
    'title': 'Pictures that show what their text says, in percent',
    'columns': ['system', WHOLE, *scenes.NAMES, JUDGED, 'PSNR, dB'],
    'rows': rows,
    'notes': [
      'Read back by the program of data/scenes.py, which knows nothing of the models; the classifier learnt from real '
      'pictures alone and counts all four attributes.',
      'In brackets: 95 % intervals of this one run, by drawing whole texts.',
    ],
  }


def galleries(found: Mapping) -> list[dict]:
  """Samples of some texts, CLIP's choice first, and reconstructions."""
  parts = []
  for what, given in found['shown'].items():
    rows = []
    for n in np.linspace(0, len(given['text']) - 1, min(SHOWN, len(given['text']))).astype(int):
      order = np.argsort(-given['score'][n], kind='stable')
      items = [
        {'image': given['drawn'][n, m], 'right': bool(given['right'][n, m]), 'score': f'{given["score"][n, m]:.2f}'}
        for m in order
      ]
      rows.append({'query': {'text': given['text'][n]}, 'found': items})
    note = 'CLIP’s order, its cosine below each; framed in green where the program reads all that is said.'
    parts.append({'title': f'Drawn from text: {what}', 'note': note, 'rows': rows})
  given = found['shown'][TESTS['test']]
  count = min(SHOWN, len(given['real']))
  rows = [
    {'query': {'text': name}, 'found': [{'image': image} for image in given[key][:count]]}
    for name, key in (('real', 'real'), ('through the codes', 'again'))
  ]
  return [
    *parts,
    {'title': 'Reconstructions', 'note': 'Test pictures, and what their codes keep of them.', 'rows': rows},
  ]
