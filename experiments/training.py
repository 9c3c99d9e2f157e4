"""What stands around the loop of an experiment: the steps of a model, and their course in a folder.

N examples a step.
"""

import contextlib
import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import optax

from mmjax import cli, flops, hosts, optim, parallel, train
from mmjax import run as runs
from mmjax.checkpoint import Checkpoints, sha256
from mmjax.data.pipeline import Encode, Examples, eval_batches, prefetch, train_batches
from mmjax.errors import UserError, nearest
from mmjax.layers.packed import places
from mmjax.layers.ways import Ways
from mmjax.logging import Logger, device_line, parameter_table
from mmjax.objectives import Metrics
from mmjax.workdir import check_workdir, flatten

Scores = Mapping[str, float]
Results = Mapping[str, Scores]

AT_LEAST = {  # low -> the numbers that are not below it
  0: 'seed model.init_std model.image.init_std model.text.init_std model.num_features model.num_objects optim.lr '
  'optim.warmup optim.clip optim.decay optim.eps augment.shift augment.tint augment.keep dvae.uniform dvae.lr '
  'dvae.warmup classifier.lr classifier.warmup clip.lr clip.warmup bag.warmup captions.lr captions.warmup '
  'sample.top_k image_weight dvae.residuals augment.jitter augment.scale teach letters augment.pace augment.gain '
  'augment.join augment.hide augment.hide_time augment.hide_bins',
  1: 'data.images model.bottlenecks test.broken_images pixels.patch pixels.regions optim.steps optim.micro_batches '
  'eval.every eval.images log.every model.out bag.steps captions.steps contrast.warmup contrast.queue rerank '
  'beams dvae.codes dvae.entry dvae.layers dvae.width dvae.steps classifier.steps clip.steps clip.out '
  'clip.width clip.layers clip.patch sample.texts sample.candidates model.depth model.head_size model.channels '
  'channels classifier.channels model.image.stem model.image.blocks model.layers model.dilations model.kernel '
  'model.stride apart.layers model.frames model.bins model.clip model.tubelet data.bins',
  3: 'data.length data.caption',  # a word between the two that frame a text
  32: 'frozen.side',
}
AT_MOST = {  # the last seed but one: one more is a seed too
  'seed': 2**32 - 2, 'augment.tint': 1, 'augment.keep': 1, 'augment.shift': 32, 'sample.top_p': 1,
  'augment.pace': 0.9, 'augment.join': 1, 'augment.hide_time': 1,
}  # fmt: skip
ABOVE_0 = ('sample.temperature', 'sample.top_p', 'dvae.temperature', 'dvae.lowest', 'data.seconds', 'data.held_out')
COMPARED = 8  # examples, far apart, that hosts compare before they train
OF_A_RUN = ('checkpoints', 'tensorboard')  # folders in the workdir of any run
SIZES = re.compile(r'model\.(\w+\.)?(width|heads|mlp|patch)')  # at least 1
SHARES = re.compile(
  r'model\.(\w+\.)?(\w+_)?dropout|optim\.b2|frozen\.dropout|contrast\.(momentum|soft)|augment\.(warp|crop|drop)'
  r'|data\.held_out'
)  # from 0 to below 1


def check(config: Mapping, complete: Mapping, file: str, free: Sequence[str] = ()) -> None:
  """Raises UserError that names what a config lacks, or a number of it that makes no sense, before anything is made.

  complete: a config that has every key, from `file`; free: groups whose keys the model decides.
  """
  flat, inside = flatten(config), lambda key, groups: any(key.startswith(f'{group}.') for group in groups)
  lacks = [key for key in flatten(complete) if key not in flat and not inside(key, free)]
  lacks += [group for group in free if not any(inside(key, [group]) for key in flat)]
  more = [key for key in flat if key not in flatten(complete) and key not in free and not inside(key, free)]
  if more:
    raise UserError(f'config: found {", ".join(more)}; expected the keys of {file}')
  if lacks:
    own = f', `{", ".join(free)}` as its model has' if free else ''
    raise UserError(f'config: lacks {", ".join(lacks)}; expected the keys of {file}{own}')
  low = {key: low for low, names in AT_LEAST.items() for key in names.split()}
  for key, value in flat.items():
    least = 1 if SIZES.match(key) else next((low[name] for name in low if f'{key}.'.startswith(f'{name}.')), None)
    some = value if isinstance(value, tuple | list) else (value,)
    if least is not None and any(one < least for one in some):  # one number, one a stream, or several
      raise UserError(f'--config.{key}: found {value}, expected at least {least}')
    if key in ABOVE_0 and not value > 0:
      raise UserError(f'--config.{key}: found {value}, expected more than 0')
    if key in AT_MOST and value > AT_MOST[key]:
      raise UserError(f'--config.{key}: found {value}, expected at most {AT_MOST[key]}')
    if SHARES.fullmatch(key) and not 0 <= value < 1:
      raise UserError(f'--config.{key}: found {value}, expected 0 to below 1')


def begin(c: Any, args: Any, complete: Any, file: str) -> None:
  """What comes first: `check`, whether the folder may be used, and where programs and memory are kept."""
  check(c.to_dict(), complete.to_dict(), file)
  check_workdir(args.workdir, c.to_dict(), fresh=args.mode == 'train')
  runs.keep_compiled()
  runs.keep_memory()


def known_set(name: str, sets: Sequence[str], more: str = '') -> None:
  """Raises UserError for a data set that is not one of these. more: what else it could have been."""
  if name not in sets:
    other = f', {more}' if more else ''
    raise UserError(f'data.name: found {name!r}, expected one of {sets}{other}{nearest(name, sets)}')


def folders(systems: Sequence[str]) -> dict[str, str]:
  """Where each of several systems is trained: the last one, which the report shows, in the workdir, others below it.

  Raises UserError for none of them, and for one that stands twice.
  """
  if len(set(systems)) != len(systems) or not systems:
    raise UserError(f'--config.systems: found {systems}, expected one or more, each once')
  below = {system: re.sub(r'[^a-z0-9]+', '_', system.lower()).strip('_') for system in systems}
  for system, folder in below.items():
    if not folder or folder in OF_A_RUN:
      raise UserError(f'--config.systems: found name {system!r}, expected a letter or digit, and none of {OF_A_RUN}')
  first: dict[str, str] = {}
  for system, folder in below.items():
    if first.setdefault(folder, system) != system:
      raise UserError(f'--config.systems: found {first[folder]!r} and {system!r}, whose folder is {folder!r} for both')
  return below | {systems[-1]: ''}


def stage(c: Any, group: Mapping) -> ml_collections.ConfigDict:
  """The config of a stage of a run: c, with the numbers of `optim` that the group has."""
  own = ml_collections.ConfigDict(c.to_dict())
  own.optim.update({key: group[key] for key in own.optim if key in group})
  return own


def scalars(mean: Mapping[str, Any]) -> dict[str, float]:
  """Divided metric sums as numbers, the mean of those that are several; those that nothing counted for are left out."""
  counted = {name: np.ma.compressed(value) for name, value in mean.items()}
  return {name: float(value.mean()) for name, value in counted.items() if value.size}


def first_variables(recipe: train.Recipe, seed: int, batch: Mapping) -> Mapping:
  """What a model begins with, before the first step. batch: of one example. Raises UserError for one that cannot be."""
  return jax.jit(recipe.init)(jax.random.key(seed), batch)


def all_variables(recipes: Mapping[Any, train.Recipe], seed: int, batch: Mapping) -> dict[Any, Mapping]:
  """Those of several, so that one that cannot be is said before any is trained."""
  return {name: first_variables(recipe, seed, batch) for name, recipe in recipes.items()}


@functools.partial(jax.jit, static_argnums=0)
def likely(model: Any, variables: Mapping, *given: Any) -> jax.Array:
  """How likely each answer is to a model that is called as model(*given, train=): [B,A]."""
  return jax.nn.softmax(model.apply(variables, *given, train=False)['answers'])


def part(workdir: Path, folder: str, name: str) -> Path:
  """The folder below the workdir in which a system of that name is trained, which is said."""
  below = workdir / folder
  below.mkdir(exist_ok=True)
  print(f'{name}: {below}')
  return below


def optimiser(numbers: Any) -> tuple[optax.Schedule, optax.GradientTransformation]:
  """(learning rate by step, the optimiser) of a config's `optim`. Raises UserError for numbers that make none."""
  rate = optim.schedule(numbers.schedule, numbers.lr, numbers.steps, numbers.warmup)
  how = {key: numbers[key] for key in ('clip', 'decay', 'decay_on', 'b2', 'eps')}
  return rate, optim.build(numbers.name, rate, **how)


def launch(c: Any, rows: int | None = None, devices: Sequence[Any] | None = None) -> parallel.Launch:
  """How a config's steps run. rows: in place of data.images; devices: all where not given.

  Raises UserError for a layout that cannot be.
  """
  p, rows, devices = c.parallel, c.data.images if rows is None else rows, devices or jax.devices()
  where = devices[0].platform
  if p.attention == 'cudnn' and (where, c.compute) != ('gpu', 'bfloat16'):
    found = f"'cudnn' with compute {c.compute} on a {where.upper()}"
    raise UserError(f"--config.parallel.attention: found {found}, expected bfloat16 on a GPU, or 'auto'")
  return parallel.Launch(p.how, rows, c.optim.micro_batches, devices, p.mesh, p.rules, Ways(p.attention, p.remat))


def packable(text: str, launch: parallel.Launch) -> str:
  """The same. Raises UserError where texts are to be packed and cannot be."""
  cut = [axis for axis, size in launch.sizes.items() if size > 1]
  for why, wrong in (
    ('a model or a task that reads no texts so', not text),
    ('several hosts', hosts.several()),
    (f'{launch.micro_batches} micro_batches', launch.micro_batches > 1),
    # XLA's partitioner (jaxlib 0.10) swaps rows there: see tests/layouts.py
    (f'a mesh cut along {", ".join(cut)}', len(cut) > 2),
  ):
    if wrong:
      raise UserError(f'--config.parallel.pack: found True with {why}, expected False')
  return text


class Fit:
  """A model on its way from first variables to trained ones: `state`.

  c: a config with seed, data.images (N), optim, eval, log and parallel. source: what is learnt from, encode: one of its
  examples -> arrays; rows: how many questions (or pairs) an example stands for, in the speed that is shown; named:
  divided metric sums -> {name: number}; text: the array of texts (0 = padding) that the model can read packed, '' none.
  Raises UserError for a number of the config that does not fit, and where hosts do not have the same data.
  """

  def __init__(
    self,
    c: Any,
    recipe: train.Recipe,
    variables: Mapping,
    *,
    source: Examples,
    encode: Encode,
    rows: int = 1,
    named: Callable[[Mapping], dict[str, float]] = scalars,
    text: str = '',
  ):
    self.c, self.source, self.encode, self.rows, self.named = c, source, encode, rows, named
    if hosts.several():  # before anything lies on them
      some = [encode(source[n]) for n in range(0, len(source), -(-len(source) // COMPARED))]
      held = hashlib.sha256(b''.join(np.asarray(one[key]).tobytes() for one in some for key in sorted(one)))
      hosts.agree(f'{len(source)} {held.hexdigest()}', 'data')
    recipe = recipe.computing(c.compute)
    self.launch = launch(c)
    self.text = packable(text, self.launch) if c.parallel.pack else ''
    self.rate, tx = optimiser(c.optim)
    self.state: train.State = self.launch.place(train.init(variables, tx))
    self.step = self.launch.compile_step(recipe.step(tx, c.optim.micro_batches), self.state)
    self.eval_step = self.launch.compile_eval(recipe.evaluation())

  def evaluate(self, source: Examples) -> dict[str, float]:
    """Loss and metrics of one pass, eval.images at a time (or, to divide by the devices, a few more)."""
    images = self.c.eval.images + -self.c.eval.images % self.launch.parts
    batches = eval_batches(source, self.encode, images=images, shard=self.launch.shard)
    variables = self.launch.place(self.state.variables)  # which is where they are, but for several hosts
    with prefetch(batches, self.put) as ready:
      sums = [self.eval_step(variables, batch) for batch in ready]
    return self.named(train.divide(sums))

  def put(self, batch: Mapping[str, np.ndarray]) -> Any:
    """This host's part of a batch, on the devices, and where its texts hold words, if they are packed."""
    if self.text:
      words = batch[self.text].reshape(-1, batch[self.text].shape[-1]) > 0
      batch = {**batch, 'places': places(words, self.launch.parts)}
    return self.launch.put(batch)

  @contextlib.contextmanager
  def at_home(self) -> Iterator[None]:
    """Where the state lies on several hosts, each has all of it in here, to test with what it likes."""
    laid_out, self.state = self.state, hosts.gathered(self.state)
    yield
    self.state = laid_out


class Course:
  """The way of a Fit through its steps in a folder: from the newest checkpoint on, with log, progress and checkpoints.

    with training.Course(fit, workdir, args) as course:
      for step, batch in course:
        fit.state, sums = fit.step(fit.state, batch, course.key)
        course.log(step, sums)
        if course.due(step):
          course.save(step, validate)
      results = course.end(test, system)

  args: of the command line, with mode and checkpoint. In the modes 'eval' and 'predict' there are no steps: the state
  is that of the checkpoint. said: what to say first of a new run; quiet: says nothing and shows no progress.
  """

  def __init__(self, fit: Fit, workdir: Path, args: Any, said: Sequence[str] = (), quiet: bool = False):
    self.fit, self.workdir, self.args, self.said, self.quiet = fit, workdir, args, said, quiet or not hosts.leads()
    self.training, self.ending = args.mode == 'train', False

  def __enter__(self) -> 'Course':
    fit, c = self.fit, self.fit.c
    with contextlib.ExitStack() as opened:
      self.checkpoints = opened.enter_context(Checkpoints(self.workdir))
      best = self.args.checkpoint == 'best'
      fit.state, self.start, example = runs.resumed(self.checkpoints, fit.state, fresh=self.training, best=best)
      if self.training:
        steps = getattr(self.args, 'profile', '')
        self.profile = runs.Profile(steps, self.start, c.optim.steps, self.workdir / 'profile')
        rows = c.data.images * fit.rows  # a step
        shown: dict[str, Any] = {'batch': rows, 'quiet': self.quiet}
        self.logger = opened.enter_context(Logger(self.workdir, total=c.optim.steps, start=self.start, **shown))
        origin = [f'going on from step {self.start:,}'] if self.start else self.said
        if not self.quiet:
          said = [parameter_table(fit.state.params), *fit.launch.table(fit.state.params), device_line(), *origin]
          self.logger.say('\n'.join(said))
        self.running = opened.enter_context(contextlib.ExitStack())
        self.batches = self.running.enter_context(prefetch(self.batches_from(example), fit.put))
        if not hosts.several():  # there it is JAX that hears SIGTERM, and tells all
          self.signals = self.running.enter_context(cli.Signals())
        self.window = runs.Window(rows)
        self.running.callback(self.profile.close)
        self.key = fit.launch.key(c.seed + 1)
      self.opened = opened.pop_all()
    return self

  def __exit__(self, *error: Any) -> None:
    self.opened.__exit__(*error)

  def batches_from(self, example: int) -> Iterator[dict[str, np.ndarray]]:
    """The batches of training from that example on."""
    fit, c = self.fit, self.fit.c
    return train_batches(
      fit.source, fit.encode, images=c.data.images, seed=c.seed, start=example, shard=fit.launch.shard
    )

  def __iter__(self) -> Iterator[tuple[int, Any]]:
    """(step, batch) of every step that is left; a step is counted when it is done."""
    if self.training:
      fit = self.fit
      for step in range(self.start + 1, fit.c.optim.steps + 1):
        batch = next(self.batches)
        if step == self.start + 1:
          work = flops.count(fit.step, fit.state, batch, self.key)  # of a trace that the first step needs anyway
          self.window.least = work / flops.peak(fit.c.compute)
        self.profile.before(step)
        yield step, batch
      self.running.close()

  def log(self, step: int, sums: Metrics) -> None:
    """Shows progress, and writes the means of the last log.every steps."""
    c, fit = self.fit.c, self.fit
    self.profile.after(step, fit.state, self.logger.say)
    self.window.add(sums)
    self.logger.progress(step, lambda: fit.named(train.divide(self.window.sums)))
    if step % c.log.every == 0 or step == c.optim.steps:
      means = fit.named(self.window.close(self.batches.waited))
      self.logger.write(step, 'train', means | {'lr': fit.rate(step - 1)})

  def due(self, step: int) -> bool:
    """Whether it is time to evaluate and to save: at eval.every, at the end, and when the process is asked to end."""
    self.ending = hosts.asked_to_end(step) if hosts.several() else self.signals.term
    return step % self.fit.c.eval.every == 0 or step == self.fit.c.optim.steps or self.ending

  def save(self, step: int, validate: Callable[[], Scores]) -> None:
    """Evaluates and saves; the scores' 'accuracy', else the loss, says which checkpoint is best.

    Raises RunError where an update was not finite, and Preempted when the process was asked to end.
    """
    images, steps = self.fit.c.data.images, self.fit.c.optim.steps
    runs.stop_if_not_finite(self.fit.state, lambda at: next(self.batches_from(at * images)), self.workdir)
    with runs.aside(self.window, self.logger):
      with self.fit.at_home():
        scores = validate()
      self.logger.write(step, 'validation', scores)
      rank = {'accuracy': scores['accuracy'] if 'accuracy' in scores else -scores['loss']}
      self.checkpoints.save(step, self.fit.state, {'example': step * images}, rank)
    if self.ending:
      self.checkpoints.wait()
      raise cli.Preempted(f'saved step {step:,} of {steps:,} in {self.workdir}; the same command goes on from there')

  def end(self, test: Callable[[], Results], system: str) -> Results:
    """test(), logged with the system's name and the hash of the parameters; nothing in mode 'predict'."""
    if self.args.mode == 'predict':
      return {}
    self.fit.state = hosts.gathered(self.fit.state)
    results = test()
    if self.training:
      steps = self.fit.c.optim.steps
      for split, scores in results.items():
        self.logger.write(steps, split, scores)
      final = {'system': system, 'parameters_sha256': sha256(self.fit.state.params)}
      self.logger.write(steps, 'final', final)
    return results
