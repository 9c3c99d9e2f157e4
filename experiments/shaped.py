"""The steps of the papers on batches of their shapes: what can be compiled, timed and compared where no data are.

`step` gives what the `base` of a config trains, with the arrays that a batch of it has. N images, pairs or samples.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.core import freeze
from ml_collections import ConfigDict

from experiments import blip, clip, dalle, mbt, mult, pairs, several, speech_retrieval
from experiments import series as of_series
from experiments import visual_questions as task_of
from mmjax import objectives, train
from mmjax.data import prompts, tokens
from mmjax.errors import UserError, nearest
from mmjax.models.answering import Answering
from mmjax.models.dalle import DALLE
from mmjax.models.lxmert import LXMERT
from mmjax.models.uniter import UNITER
from mmjax.models.vilbert import ViLBERT
from mmjax.models.visualbert import VisualBERT

BERT_WORDS, CLIP_WORDS = 30_522, 49_408
VQA = {'answers': 3129, 'regions': 36, 'features': 2048, 'words': 20}  # VQA v2 as LXMERT's code reads it
PICTURE = 224  # pixels a side
DALLE_SIZES: dict[str, Any] = {'vocab': 16_384, 'words': 256, 'side': 32}  # section 2.2
MOSEI = {'t': (50, 300), 'a': (500, 74), 'f': (500, 35)}  # unaligned: steps, features


class Field(NamedTuple):
  """An array of one example: int of `least` to below `most`, float normal, or of 0..1 where most is 1; bool True."""

  shape: tuple[int, ...]
  dtype: str = 'float32'
  most: int = 0
  least: int = 0


class Shaped(NamedTuple):
  """What is learnt, and the arrays of an example that it is learnt from."""

  recipe: train.Recipe
  fields: Mapping[str, Field]

  def abstract(self, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch without its numbers."""
    return {name: jax.ShapeDtypeStruct((rows, *of.shape), of.dtype) for name, of in self.fields.items()}

  def batch(self, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """A batch of random numbers."""
    rng = np.random.default_rng(seed)

    def drawn(of: Field) -> np.ndarray:
      shape = (rows, *of.shape)
      if of.dtype == 'bool':
        return np.ones(shape, bool)
      if of.dtype == 'float32':
        return (rng.random(shape) if of.most else rng.normal(size=shape)).astype(np.float32)
      return rng.integers(of.least, of.most, shape).astype(of.dtype)

    found = {name: drawn(of) for name, of in self.fields.items()}
    return found | ({'weight': np.ones_like(found['weight'])} if 'weight' in found else {})


def words(length: int, vocab: int) -> Field:
  """Ids of words; 0, which fills up, is none of them."""
  return Field((length,), 'int32', vocab, 1)


def questions(kind: type) -> Callable[[Any], Shaped]:
  """A model that answers questions of VQA v2, one an image."""

  def of(c: Any) -> Shaped:
    names = tuple(map(str, range(VQA['answers'])))
    words_of = tokens.numbered(BERT_WORDS)
    task = task_of.Task('vqa_v2', 'regions', {}, dict, words_of, VQA['words'], 1, names, ('question',), {})
    task_of.fits(kind, c.model.to_dict(), task.setting)
    encoder, _ = task_of.encoder(kind, freeze(c.model.to_dict()), task, '')
    fields = {
      'regions': Field((VQA['regions'], VQA['features'])),
      'boxes': Field((VQA['regions'], 4), most=1),
      'question': Field((1, VQA['words']), 'int32', BERT_WORDS, 1),
      'answer': Field((1,), 'int32', VQA['answers']),
      'question_type': Field((1,), 'int32', 1),
      'weight': Field((1,), most=1),
    }
    return Shaped(task_of.recipe(c.objective, task, Answering(encoder, None, c.place, c.blind)), fields)

  return of


def of_pairs(c: Any, vocab: int) -> tuple[pairs.Pairs, dict[str, Field]]:
  """Pictures with texts, as a task and as arrays."""
  length = c.data.length
  fields = {
    'image': Field((PICTURE, PICTURE, 3), 'uint8', 256),
    'text': words(length, vocab),
    'part': Field((length,), 'int32', 2, 1),  # all of one part
    'weight': Field((), most=1),
  }
  return pairs.Pairs({}, tokens.numbered(vocab), length, (), side=PICTURE), fields


def of_clip(c: Any) -> Shaped:
  task, fields = of_pairs(c, CLIP_WORDS)
  return Shaped(clip.recipes(c, task, *clip.build(c, task))[0], fields)


def of_blip(c: Any) -> Shaped:
  task, fields = of_pairs(c, BERT_WORDS)
  return Shaped(blip.recipe(c, task, blip.build(c, task)), fields)


def of_dalle(c: Any) -> Shaped:
  """Its transformer, on words and codes."""
  model = DALLE(codes=c.dvae.codes, **DALLE_SIZES, **c.model)
  fields = {
    'text': words(model.words, model.vocab),
    'codes': Field((model.side**2,), 'int32', model.codes),
    'weight': Field((), most=1),
  }
  return Shaped(dalle.recipe(model, c.image_weight), fields)


def of_mult(c: Any) -> Shaped:
  task, system = mult.Task({}, 1, objectives.absolute_error, mult.felt), c.systems[-1]
  fields = {s: Field(shape) for s, shape in MOSEI.items()}
  fields |= {f'{s}_mask': Field(shape[:1], 'bool') for s, shape in MOSEI.items()}
  fields |= {'target': Field(()), 'weight': Field((), most=1)}
  return Shaped(mult.recipe(c, system, mult.model_of(system, c, task.num_answers), task), fields)


def of_mbt(c: Any) -> Shaped:
  """Its last system, on spectrograms and frames."""
  system = several.systems(c.systems, lambda kind: mbt.model_of(kind, c.model))[-1]
  m = c.model
  task = several.Task({}, mbt.STREAMS, (), {})
  answers = {'answer': Field((), 'int32', mbt.clips.CLASSES), 'weight': Field((), most=1)}
  kinds = {'sound': Field((), 'int32', len(mbt.clips.SOUNDS)), 'motion': Field((), 'int32', len(mbt.clips.MOTIONS))}
  seen = {'a': Field((m.frames, m.bins)), 'f': Field((m.clip, m.image, m.image, 3))}
  masks = {f'{s}_mask': Field((), 'bool') for s in seen}
  learnt = lambda out, batch, axis=None: mbt.objective(out, batch, axis, teach=c.teach)
  fields = seen | masks | answers | kinds | {'question_type': Field((1,), 'bool')}
  return Shaped(several.recipe(system, task, learnt), fields)


def of_speech(c: Any) -> Shaped:
  vocab = tokens.build([speech_retrieval.spelt(speech_retrieval.ALPHABET)]).get_vocab_size()
  frames = 1 + (int(c.data.seconds * prompts.RATE) - speech_retrieval.WINDOW) // speech_retrieval.HOP
  fields = {
    'text': words(c.data.length, vocab),
    'sound': Field((frames, c.data.bins)),
    'frames': Field((), 'int32', frames + 1, frames),
    'weight': Field((), most=1),
  }
  return Shaped(speech_retrieval.recipe(c, speech_retrieval.build(c, vocab)), fields)


def of_series_set(c: Any) -> Shaped:
  """Its last system, on series as those of BasicMotions."""
  steps, channels, classes = 100, 6, 4
  model = of_series.Classifier(c.systems[-1], classes, steps, **c.model)
  fields = {
    'series': Field((steps, channels)),
    'seen': Field((steps, channels), 'bool'),
    'answer': Field((), 'int32', classes),
    'question_type': Field((1,), 'bool'),
    'weight': Field((), most=1),
  }
  return Shaped(of_series.recipe(c, model), fields)


STEPS: dict[str, Callable[[Any], Shaped]] = {
  'lxmert': questions(LXMERT),
  'visualbert': questions(VisualBERT),
  'vilbert': questions(ViLBERT),
  'uniter': questions(UNITER),
  'clip': of_clip,
  'blip': of_blip,
  'dalle': of_dalle,
  'mult': of_mult,
  'mbt': of_mbt,
  'speech_retrieval': of_speech,
  'series': of_series_set,
}


def step(name: str, c: ConfigDict) -> Shaped:
  """What configs/NAME.py's `base`, or its like, trains. Raises UserError for one whose shapes are not known here."""
  if name not in STEPS:
    known = ', '.join(STEPS)
    raise UserError(f'configs/{name}.py: found no shapes of its data, expected one of {known}{nearest(name, STEPS)}')
  return STEPS[name](c)
