"""Who contradicts the other two, by a report, a sound and a video that are not aligned: each alone, late fusion, MulT.

Trains every system of the config on made-up scenes (data/witnesses.py), each in a folder of its own that an interrupted
run goes on from. One witness alone knows nothing of the answer, by construction, and what two know is known too: both
stand in the table, with intervals, and beside them the fused systems with a modality missing. The report shows scenes
with what MulT's attention between two modalities reads, where it is the last system.

With `--config=configs/mult.py:base --config.data.file=FILE` the same on features of CMU-MOSI or MOSEI (data/mosi.py),
scored by its many measures, published figures beside.
"""

from experiments import EVAL_FLAGS as FLAGS
from experiments import MODES
from mmjax import cli

CONFIG = 'configs/mult.py:witnesses'

if __name__ == '__main__':
  cli.check(config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)  # a misspelt flag is said before the slow imports

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from configs import mult as complete
from experiments import pairs, telling, training, witnessing
from experiments.witnessing import KEYS, given
from mmjax import objectives, train
from mmjax.data import mosi, witnesses
from mmjax.data.pipeline import load
from mmjax.errors import UserError, nearest
from mmjax.layers.blocks import made_of, mean_there, zero_missing
from mmjax.metrics import retrieval, sentiment
from mmjax.models.mult import STREAMS, MulT, Net, answered
from mmjax.workdir import open_workdir

SETS = ('witnesses', 'mosi')
PADDING = ('masked', 'read')
NAMES = {'t': 'text', 'a': 'audio', 'f': 'vision'}
APART = {name: s for s, name in NAMES.items()} | {
  'late': STREAMS
}  # systems that fuse late, or nothing -> what they read
PUBLISHED = (  # of CMU-MOSEI and MOSI, unaligned; the measures as mmjax/metrics/sentiment.py names them
  ('MulT, its paper, MOSEI; second-hand: quoted in https://github.com/yaohungt/Multimodal-Transformer/issues/8',
   {'Acc-7': 50.7, 'Acc-2, without zeros': 81.6, 'F1, without zeros': 81.6, 'MAE': 0.591, 'correlation': 0.694}),
  ('MulT of MMSA, MOSEI, on text features of BERT (not comparable): results/result-stat.md of thuiar/MMSA',
   {'Acc-7': 52.84, 'Acc-2, zeros positive': 81.15, 'Acc-2, without zeros': 84.63, 'MAE': 0.5593,
    'correlation': 0.7331}),
  ('MulT of MMSA, MOSI, likewise',
   {'Acc-7': 36.91, 'Acc-2, zeros positive': 79.71, 'Acc-2, without zeros': 80.98, 'MAE': 0.8799,
    'correlation': 0.7022}),
)  # fmt: skip


class Apart(nn.Module):
  """Some modalities, each read by itself alone: MulT's stack reading itself, then its mean step; one head.

  sequences and masks as of MulT; what is not in `streams` is not read. Returns 'answers' [B,A].
  """

  num_answers: int
  streams: str
  layers: int
  width: int
  heads: int
  causal: bool
  quirks: tuple[str, ...]
  attention_dropout: float
  relu_dropout: float
  dropout: float
  embed_dropout: float
  out_dropout: float
  init_std: float
  scan: bool

  @nn.compact
  def __call__(
    self, sequences: Mapping[str, jax.Array], masks: Mapping[str, jax.Array], *, train: bool
  ) -> dict[str, jax.Array]:
    kernel_init = nn.initializers.normal(self.init_std)
    read: list[jax.Array] = []
    for s in self.streams:
      project = nn.Dense(self.width, use_bias=False, kernel_init=kernel_init, name=f'project_{s}')
      x = project(zero_missing(sequences[s], masks[s]))
      x = made_of(Net, self, f'{s}_reads_itself')(x, mask=masks[s], train=train)
      read.append(mean_there(x, masks[s]))
    return {'answers': answered(jnp.concatenate(read, -1), self.num_answers, self.out_dropout, self.init_std, train)}


def model_of(system: str, c: Any, num_answers: int) -> nn.Module:
  """Raises UserError for an unknown system."""
  if system == 'mult':
    return MulT(num_answers, **c.model)
  if system not in APART:
    known = [*APART, 'mult']
    raise UserError(f'--config.systems: found {system!r}, expected some of {tuple(known)}{nearest(system, known)}')
  shared = {key: value for key, value in c.model.items() if key not in ('targets', 'layers')}
  return Apart(num_answers, APART[system], c.apart.layers, **shared)


def name_of(system: str) -> str:
  return {'late': 'late fusion', 'mult': 'MulT'}.get(system, f'{system} alone')


def reads(system: str) -> str:
  """The streams that a system reads."""
  return APART.get(system, STREAMS)


class Task(NamedTuple):
  """What is learnt: arrays [M,...] of each split: 't', 'a' and 'f' with 't_mask' ..., 'weight', and what is wanted:
  'answer' with 'question_type', or 'target'."""

  splits: dict[str, dict[str, np.ndarray]]  # 'train', 'validation', 'test'
  num_answers: int
  objective: Any
  measure: Callable[[np.ndarray, Mapping[str, np.ndarray]], dict]  # (outputs [M,A], a split) -> {name: score}


def prepare(c: Any) -> Task:
  """Raises UserError for data that are none."""
  training.known_set(c.data.name, SETS)
  if c.data.padding not in PADDING:
    known = f'expected one of {PADDING}{nearest(c.data.padding, PADDING)}'
    raise UserError(f'--config.data.padding: found {c.data.padding!r}, {known}')
  if (c.data.name == 'mosi') != bool(c.data.file):
    wanted = 'a file of features (see mmjax/data/mosi.py)' if c.data.name == 'mosi' else "'', or data.name=mosi"
    raise UserError(f'--config.data.file: found {c.data.file!r} with data.name={c.data.name}, expected {wanted}')
  if c.data.name == 'mosi':
    found = mosi.read(c.data.file)
    part = lambda arrays: inputs(c, *mosi.features(arrays)) | {'target': arrays['labels']}
    splits = {'train': part(found['train']), 'validation': part(found['valid']), 'test': part(found['test'])}
    return Task(splits, 1, objectives.absolute_error, felt)
  splits = {}
  for split in witnesses.SPLITS:
    source = list(load(witnesses.Witnesses, split, c.data.dir or None))
    scene = pairs.stacked(source)
    kind = np.eye(len(witnesses.ANSWERS), dtype=bool)[scene['answer']]
    splits[split] = inputs(c, *witnesses.features(scene)) | scene | {'question_type': kind}
  return Task(splits, len(witnesses.ANSWERS), objectives.answers, accuracy)


def inputs(c: Any, sequences: Mapping, masks: Mapping) -> dict[str, np.ndarray]:
  """A split as it is batched: 't', 't_mask' ..., 'weight' 1."""
  seen = {s: mask if c.data.padding == 'masked' else np.ones_like(mask) for s, mask in masks.items()}
  weight = np.ones(len(sequences['t']), np.float32)
  return {**sequences, **{f'{s}_mask': mask for s, mask in seen.items()}, 'weight': weight}


LEARNT = (*KEYS, 'weight', 'answer', 'question_type', 'target')  # of a split, what is batched


def examples(arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
  """A split, one by one."""
  kept = [key for key in LEARNT if key in arrays]
  return [{key: arrays[key][n] for key in kept} for n in range(len(arrays['weight']))]


def without(batch: Mapping, stream: str, rows: Any = True) -> dict:
  """A batch that lacks a stream, in all rows or in some (bool [B]): no step may be read, and its numbers are 0.

  Both, as attention that may read nothing gives the mean of all.
  """
  there = ~(jnp.asarray(rows) & jnp.ones(len(batch[stream]), bool))
  return {
    **batch,
    stream: batch[stream] * there[:, None, None],
    f'{stream}_mask': batch[f'{stream}_mask'] & there[:, None],
  }


def dropped(rate: float, streams: str):
  """What `train.train_step` draws anew of a batch: which samples lack one of the streams, at that rate."""

  def augmented(batch, key):
    some, which = jax.random.split(key)
    rows = len(batch['weight'])
    lacks = jnp.where(
      jax.random.bernoulli(some, rate, (rows,)), jax.random.randint(which, (rows,), 0, len(streams)), -1
    )
    for n, stream in enumerate(streams):
      batch = without(batch, stream, lacks == n)
    return batch

  return augmented


@functools.partial(jax.jit, static_argnums=0)
def _answers(model: Any, variables: Mapping, batch: Mapping) -> jax.Array:
  return model.apply(variables, *given(batch), train=False)['answers']


def outputs(c: Any, model: nn.Module, variables: Mapping, held: Mapping, lacking: str = '') -> np.ndarray:
  """[M,A] of a split, without the stream that is lacking."""
  batch = {key: held[key] for key in KEYS}
  call = lambda part, lacking=lacking: _answers(model, variables, without(part, lacking) if lacking else part)
  return pairs.in_parts(call, batch, c.eval.images)


def accuracy(out: np.ndarray, held: Mapping) -> dict[str, pairs.Score]:
  """Of all, and of each answer that is right, with 95 % intervals."""
  right = (out.argmax(1) == held['answer']).astype(float)
  parts = {'all': np.ones(len(right), bool)}
  parts |= {f'right: {name}': held['answer'] == n for n, name in enumerate(witnesses.ANSWERS)}
  return {name: pairs.share(right[of]) for name, of in parts.items()}


def felt(out: np.ndarray, held: Mapping) -> dict[str, pairs.Score]:
  """The measures of metrics/sentiment.py, with 95 % intervals that draw samples."""
  both = np.stack([out[:, 0], held['target']], 1)
  told = lambda drawn: list(sentiment.scores(*drawn.T).values())
  parts = zip(told(both), *retrieval.interval(told, both), strict=True)
  return dict(zip(sentiment.scores(*both.T), parts, strict=True))


def recipe(c: Any, system: str, model: nn.Module, task: Task) -> train.Recipe:
  some = c.augment.drop and len(reads(system)) > 1
  return train.recipe(model, task.objective, given, drawn=dropped(c.augment.drop, reads(system)) if some else None)


def run(c, args) -> None:
  began, fresh = time.time(), args.mode == 'train'
  training.begin(c, args, complete.get_config(), 'configs/mult.py')
  below = training.folders(c.systems)
  task = prepare(c)
  models = {system: model_of(system, c, task.num_answers) for system in c.systems}
  recipes = {system: recipe(c, system, model, task) for system, model in models.items()}
  first = {key: task.splits['train'][key][:1] for key in KEYS}
  variables = training.all_variables(recipes, c.seed, first)
  held = task.splits['test']
  workdir = open_workdir(args.workdir, c.to_dict(), fresh=fresh)
  source = {name: examples(task.splits[name]) for name in ('train', 'validation')}
  found: dict[str, dict[str, dict]] = {}  # system -> what is lacking ('' for nothing) -> scores
  for system, model in models.items():
    fit = training.Fit(c, recipes[system], variables[system], source=source['train'], encode=dict)

    def test(system=system, model=model, fit=fit) -> dict[str, dict[str, float]]:
      lacking = ('', *reads(system)) if len(reads(system)) > 1 else ('',)
      found[system] = {s: task.measure(outputs(c, model, fit.state.variables, held, s), held) for s in lacking}
      return {f'test, without {NAMES[s]}' if s else 'test': pairs.values(found[system][s]) for s in lacking}

    folder = training.part(workdir, below[system], name_of(system))
    validate = functools.partial(fit.evaluate, source['validation'])
    with training.Course(fit, folder, args) as course:
      for step, batch in course:
        fit.state, sums = fit.step(fit.state, batch, course.key)
        course.log(step, sums)
        if course.due(step):
          course.save(step, validate)
      course.end(test, name_of(system))
  finish(c, found, task, models[c.systems[-1]], fit.state.variables, workdir, began)


def finish(c, found: Mapping, task: Task, model: nn.Module, variables: Mapping, workdir, began: float) -> None:
  """The table, the drawings and the report, of which the last system has the drawings."""
  last, held = c.systems[-1], task.splits['test']
  tables, drawings = [table_of(c, found, held)], []
  if c.data.name == 'witnesses':
    summary: list[tuple[str, object]] = [('accuracy', f'{100 * found[last][""]["all"][0]:.1f} %')]
    summary += [('data', 'scenes are made up by a program, see mmjax/data/witnesses.py')]
    if isinstance(model, MulT):
      read = witnessing.attention(model, variables, {key: held[key] for key in KEYS}, c.eval.images)
      tables.append(witnessing.table(read, held))
      likely = np.asarray(jax.nn.softmax(outputs(c, model, variables, held)))
      drawings = [witnessing.drawing(n, held, likely[n], read) for n in witnessing.chosen(held)]
  else:
    summary = [(name, f'{found[last][""][name][0]:.3f}') for name in ('MAE', 'correlation')]
    summary += [('data', f'{c.data.file}; padding is {c.data.padding}')]
  summary += [
    ('shown', f'{name_of(last)}; the others are in the table'),
    ('departures from the code', 'see mmjax/models/mult.py; the learning rate does not fall by a plateau'),
  ]
  telling.finish(
    c,
    workdir,
    title=f'MulT: {c.data.name}',
    summary=summary,
    tables=tables,
    drawings=drawings,
    params=variables['params'],
    began=began,
  )


def rows_of(c, found: Mapping, cells: Callable[[Mapping], Mapping], count: int) -> list[dict]:
  """A row for each system, whole and with each modality missing."""
  rows: list[dict] = []
  for system in c.systems:
    for lacking, scores in found[system].items():
      test = (
        f'{count:,}, without {NAMES[lacking]}'
        if lacking
        else f'{count:,} {"scenes" if c.data.name == "witnesses" else "samples"}'
      )
      ours = {'ours': True} if system == c.systems[-1] and not lacking else {}
      rows.append({'system': name_of(system), 'test': test} | dict(cells(scores)) | ours)
  return rows


def table_of(c, found: Mapping, held: Mapping) -> dict:
  count = len(held['weight'])
  if c.data.name == 'mosi':
    names = ['MAE', 'correlation', 'Acc-7', 'Acc-5']
    names += [f'{kind}, {zeros}' for zeros in sentiment.ZEROS for kind in ('Acc-2', 'F1')]
    cell = lambda name, *x: telling.Cell(*x, decimals=3) if name in names[:2] else pairs.shown('', *x)
    rows = rows_of(c, found, lambda scores: {name: cell(name, *scores[name]) for name in names}, count)
    for who, figures in PUBLISHED:
      rows.append({'system': who, 'test': 'published'} | {name: str(value) for name, value in figures.items()})
    notes = [
      'Three accuracies are called Acc-2, and are not to be compared with one another: labels of 0 are left out (the '
      "paper's, MMSA's Non0), count as positive (MMSA's Has0), or as not positive. Shares are in percent.",
      'In brackets: 95 % intervals of this one run, by bootstrap over test samples.',
      'Missing: no step of the modality may be read, and its features are 0; trained without a modality at a rate of '
      f'{c.augment.drop}.',
    ]
    return {'title': 'Sentiment', 'columns': ['system', 'test', *names], 'rows': rows, 'notes': notes}
  names = ['all', *(f'right: {answer}' for answer in witnesses.ANSWERS)]
  rows = rows_of(c, found, lambda scores: {name: pairs.shown('', *scores[name]) for name in names}, count)
  for who, best in witnesses.BEST.items():
    if ' ' in who:
      rows.append({'system': f'the best by {who}', 'test': 'by the rule', 'all': pairs.shown('', best)})
  rows.append({'system': 'the best by one, chance', 'test': 'by the rule', 'all': pairs.shown('', 1 / len(names[1:]))})
  return {
    'title': 'Who contradicts the other two: accuracy in percent',
    'columns': ['system', 'test', *names],
    'rows': rows,
    'notes': [
      'Text is the report, audio the sound, vision the video. Each scene has one of four answers: nobody, the report, '
      'the sound or the video contradicts the other two; `right: sound` is of the scenes where it is the sound.',
      "In brackets: 95 % intervals of this one run over test scenes, by Wilson's formula.",
      'Alone, and in late fusion, the mean of all steps of a modality is answered from; in MulT the last step, as in '
      'its code.',
      'Without a modality: none of its steps may be read, and its features are 0. Trained with one missing in '
      f'{100 * c.augment.drop:.0f} % of samples (augment.drop).',
    ],
  }


if __name__ == '__main__':
  cli.main(run, config=CONFIG, modes=MODES, flags=FLAGS, doc=__doc__)
