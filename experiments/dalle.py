"""DALL-E (Ramesh et al. 2021, arXiv:2102.12092) trained on scenes that are told in words, and judged by a program.

Four stages, each going on where an interrupted run stopped: an autoencoder that makes a grid of codes of a picture, the
transformer that writes codes behind words, a classifier that never sees a sample, and a CLIP that ranks samples. Then
pictures are drawn from texts, and how many show all that their text says is printed beside real pictures and chance,
with a report that shows them.
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/dalle.py:scenes'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from configs import dalle as complete
from experiments import painting, pairs, telling, training
from mmjax import generate, objectives, train
from mmjax.data import tokens
from mmjax.data.scenes import LENGTH, SIDE
from mmjax.models.clip import CLIP, ImageTower, TextTower
from mmjax.models.dalle import DALLE, painter
from mmjax.models.dvae import DVAE
from mmjax.workdir import open_workdir


def recipe_dvae(model: DVAE, numbers: Any) -> train.Recipe:
  """The autoencoder; Gumbel noise is annealed from `temperature` to `lowest` over all steps (section 2.1)."""
  first, lowest, steps = numbers.temperature, numbers.lowest, numbers.steps

  def init(key, batch):
    return {**model.init(key, batch['image'] / 255, train=False), 'schedule': {'step': jnp.zeros((), jnp.int32)}}

  def forward(variables, batch, *, train, key):
    step, image = variables['schedule']['step'], batch['image'] / 255
    temperature = first * (lowest / first) ** (step / steps)
    out: Any = model.apply({'params': variables['params']}, image, key, temperature, train=train)
    return {**out, 'target': (image - 0.5) / 0.5}, {'schedule': {'step': step + 1}} if train else {}

  return train.Recipe(init, forward, functools.partial(objectives.dvae, uniform=numbers.uniform))


def recipe(model: DALLE, image_weight: float) -> train.Recipe:
  """The transformer, on words and codes."""
  given = lambda batch: (batch['text'], batch['codes'])
  plain = train.recipe(model, functools.partial(objectives.dalle, image_weight=image_weight), given)

  def followed(forward: train.Forward) -> train.Forward:
    def run(variables, batch, *, train, key):
      out, kept = forward(variables, batch, train=train, key=key)
      return {**out, 'next': model.together(*given(batch))[:, 1:]}, kept

    return run

  return plain.around(followed)


class Pipeline:
  """The models of all stages, and the folders that each is trained in."""

  def __init__(self, c, task: painting.Task, workdir: Path, args):
    self.c, self.task, self.workdir, self.args = c, task, workdir, args
    sizes = ('codes', 'entry', 'layers', 'residuals', 'width')
    self.dvae = DVAE(**{key: c.dvae[key] for key in sizes})
    self.side = SIDE // 2**c.dvae.layers
    self.dalle = DALLE(vocab=task.vocab, words=LENGTH, codes=c.dvae.codes, side=self.side, **c.model)
    self.classifier = painting.Classifier(c.classifier.channels)
    tower = {'schedule': f'{c.clip.layers}*[t<t]', 'width': c.clip.width, 'heads': 4, 'mlp': 2 * c.clip.width}
    text = TextTower(task.vocab, LENGTH, out=c.clip.out, end=tokens.SPECIAL.index('[SEP]'), scan=False, **tower)
    tower['schedule'] = tower['schedule'].replace('t', 'v')
    self.clip = CLIP(text, ImageTower(SIDE, c.clip.patch, out=c.clip.out, scan=False, **tower))
    self.variables: dict[str, Any] = {}
    self.recipes = {
      'dvae': recipe_dvae(self.dvae, c.dvae),
      'classifier': train.recipe(self.classifier, painting.attributes, lambda batch: (batch['image'],)),
      'clip': train.recipe(self.clip, objectives.contrastive, pairs.given),
      'dalle': recipe(self.dalle, c.image_weight),
    }

  def train(self, name: str, variables: Mapping, system: str, source: Sequence[Mapping], test=dict) -> None:
    """One stage, in its folder; the variables are kept under its name."""
    group = self.c.optim if name == 'dalle' else self.c[name]
    fit = training.Fit(training.stage(self.c, group), self.recipes[name], variables, source=source, encode=dict)
    folder = self.workdir if name == 'dalle' else self.workdir / name
    folder.mkdir(exist_ok=True)
    held = self.held(name)

    def tested():
      self.variables[name] = fit.state.variables
      return test()

    with training.Course(fit, folder, self.args) as course:
      for step, batch in course:
        fit.state, sums = fit.step(fit.state, batch, course.key)
        course.log(step, sums)
        if course.due(step):
          course.save(step, lambda: fit.evaluate(held))
      course.end(tested, system)

  def held(self, name: str) -> Any:
    return self.coded('validation') if name == 'dalle' else self.task.examples('validation')

  def coded(self, split: str) -> list[dict]:
    """The examples of a split with their pictures as codes [P]."""
    examples = self.task.examples(split)
    image = np.stack([example['image'] for example in examples])
    codes = pairs.in_parts(lambda part: _see(self.dvae, self.variables['dvae'], part), image, painting.AT_ONCE)
    return [
      {'text': example['text'], 'codes': code, 'weight': example['weight']} for example, code in zip(examples, codes)
    ]

  def reconstruct(self, image: np.ndarray) -> np.ndarray:
    """uint8 [M,h,w,3] -> the same through their likeliest codes."""
    variables = self.variables['dvae']
    again = lambda part: _paint(self.dvae, variables, _see(self.dvae, variables, part))
    return pairs.in_parts(again, image, painting.AT_ONCE)

  def draw(self, text: np.ndarray, key: jax.Array) -> np.ndarray:
    """text [M,L] -> a sample of each, uint8 [M,h,w,3]."""
    how = self.c.sample

    def one(part, n):
      prompt = self.dalle.together(jnp.asarray(part), jnp.zeros((len(part), 0), jnp.int32))
      codes = _sample(
        self.dalle, self.variables['dalle'], prompt, jax.random.fold_in(key, n), how.temperature, how.top_k, how.top_p
      )
      return _paint(self.dvae, self.variables['dvae'], codes)

    return pairs.in_parts(one, text, painting.AT_ONCE, numbered=True)

  def rank(self, text: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The cosine of each text [M,L] with each of its pictures uint8 [M,C,h,w,3], by CLIP: [M,C]."""
    flat = rearrange(image, 'M C h w c -> (M C) h w c')
    pair = {'text': np.repeat(text, image.shape[1], 0), 'image': flat}
    score = pairs.in_parts(lambda part: _cosine(self.clip, self.variables['clip'], part), pair, painting.AT_ONCE)
    return rearrange(score, '(M C) -> M C', C=image.shape[1])


@functools.partial(jax.jit, static_argnums=0)
def _see(model: Any, variables: Mapping, image: jax.Array) -> jax.Array:
  logits = model.apply({'params': variables['params']}, image / 255, method='encode')
  return rearrange(logits.argmax(-1), 'B y x -> B (y x)')


@functools.partial(jax.jit, static_argnums=0)
def _paint(model: Any, variables: Mapping, codes: jax.Array) -> jax.Array:
  side = round(codes.shape[1] ** 0.5)
  grid = rearrange(codes, 'B (y x) -> B y x', y=side)
  image = model.apply({'params': variables['params']}, grid, method='decode') * 0.5 + 0.5
  return jnp.round(255 * jnp.clip(image, 0, 1)).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6))
def _sample(model: DALLE, variables, prompt, key, temperature: float, top_k: int, top_p: float) -> jax.Array:
  length = 1 + model.words + model.side**2
  how: dict[str, Any] = {'temperature': temperature, 'top_k': top_k, 'top_p': top_p}
  ids = generate.sample(painter(model, variables), prompt, key, length=length, **how)
  return ids[:, 1 + model.words :] - model.vocab - model.words


@functools.partial(jax.jit, static_argnums=0)
def _cosine(model: Any, variables: Mapping, pair: Mapping) -> jax.Array:
  out, _ = train.forward_of(model, pairs.given)(variables, pair, train=False, key=None)
  return (out['text'] * out['image']).sum(-1)


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/dalle.py')
  task = painting.prepare(c.data.name, c.data.dir)
  workdir = open_workdir(args.workdir, c.to_dict(), fresh=fresh)
  stages, source = Pipeline(c, task, workdir, args), task.examples('train')
  first = {key: np.asarray(value)[None] for key, value in source[0].items()}
  first['codes'] = np.zeros((1, stages.side**2), np.int32)
  variables = training.all_variables(stages.recipes, c.seed, first)
  for name, system in (('dvae', 'dVAE'), ('classifier', 'classifier'), ('clip', 'CLIP')):
    stages.train(name, variables[name], system, source)
  coded = stages.coded('train')
  found: dict[str, Any] = {}

  def test() -> Mapping[str, Mapping[str, float]]:
    found.update(painting.judge(stages, task, c.sample.texts, c.sample.candidates, c.seed))
    return {f'test, {name}': {key: value for key, (value, *_) in row.items()} for name, row in found['rows'].items()}

  stages.train('dalle', variables['dalle'], 'DALL-E', coded, test)
  summary = [
    *painting.headlines(found),
    (
      'departures from the paper',
      'the transformer is DALLE-pytorch’s, for the paper’s was not released; sizes are ours',
    ),
  ]
  telling.finish(
    c,
    workdir,
    title=f'DALL-E: {c.data.name}',
    summary=summary,
    tables=[painting.table(found)],
    galleries=painting.galleries(found),
    params=stages.variables['dalle']['params'],
    began=began,
  )


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
