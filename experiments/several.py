"""Several modalities as a task: each alone and all together, with some missing, and what that gives. Classification.

An example of an in-memory split has its modalities under letters, the streams: 'a', 'f' ..., each with 'a_mask' bool
[·], what of it is there, and 'answer', 'weight' 1, and 'question_type' bool [1]. N examples, A answers.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn

from experiments import pairs, telling, training
from mmjax import augment, objectives, train
from mmjax.errors import UserError

Arrays = dict[str, np.ndarray]
ALL = 'all there'
TESTED = 250  # examples at a time
SHOWN = 12  # test examples in a report


@dataclasses.dataclass(frozen=True)
class Task:
  """splits: name -> examples; 'test' is what is reported. streams: letter -> its name; labels: names of the answers.

  best: what -> {column of `table`: the highest accuracy that can be reached}, where that is known. ready: makes what a
  model is called with of a batch's streams, on the device.
  """

  splits: Mapping[str, Sequence[Mapping[str, np.ndarray]]]
  streams: Mapping[str, str]
  labels: Sequence[str]
  best: Mapping[str, Mapping[str, float]]
  ready: Callable[[dict], dict] = lambda streams: streams

  @functools.cached_property
  def test(self) -> Arrays:
    return pairs.stacked(self.splits['test'])

  @property
  def first(self) -> Arrays:
    """One example, as a batch."""
    return pairs.stacked(self.splits['train'][:1])


@dataclasses.dataclass(frozen=True)
class System:
  """A model by its name; streams: letters of those that it reads; missing: how often one of these is hidden from it in
  training; folder: below the workdir."""

  name: str
  model: nn.Module
  streams: tuple[str, ...]
  missing: float
  folder: str


def example(streams: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray], answer: int) -> Arrays:
  """An example as a task has it; a stream without a mask is there."""
  masked = {f'{s}_mask': np.asarray(masks.get(s, True)) for s in streams}
  rest = {'answer': np.array(answer, np.int32), 'weight': np.ones((), np.float32), 'question_type': np.ones(1, bool)}
  return {**streams, **masked, **rest}


def limits(parts: Sequence[str], best: Callable[..., float]) -> dict[str, dict[str, float]]:
  """`Task.best` of parts that are named as the streams are; best(parts ...) is what they can reach."""
  alone = {f'the best by {part} alone': {ALL: best(part)} for part in parts}
  without = {f'without {part}': best(*(p for p in parts if p != part)) for part in parts}
  return alone | {'the best that can be reached': {ALL: best(*parts)} | without}


def systems(lines: Sequence[str], build: Callable[[str], tuple[nn.Module, Sequence[str]]]) -> list[System]:
  """Lines 'NAME: WHAT' or 'NAME: WHAT | SHARE' -> systems; build(WHAT) is the model and the streams that it reads,
  SHARE how often a modality is hidden from it in training.

  Raises UserError for a line that is none, a share that is none, and a name that stands twice.
  """
  parts = []
  for line in lines:
    name, colon, rest = (part.strip() for part in line.partition(':'))
    what, _, share = (part.strip() for part in rest.partition('|'))
    if not colon or not name or not what:
      raise UserError(f"--config.systems: found {line!r}, expected 'NAME: WHAT' or 'NAME: WHAT | SHARE'")
    try:
      missing = float(share or 0)
    except ValueError:
      missing = -1
    if not 0 <= missing < 1:
      raise UserError(f'--config.systems: {line!r}: found {share!r}, expected a share, 0 to below 1')
    parts.append((name, *build(what), missing))
  below = training.folders([name for name, *_ in parts])
  return [System(name, model, tuple(streams), missing, below[name]) for name, model, streams, missing in parts]


def given(task: Task, batch: Mapping, hidden: str = '') -> tuple[dict, dict]:
  """(inputs, masks) of a batch, as a model is called with; hidden: letters of streams that are not there."""
  gone = lambda s, mask: mask & (s not in hidden)
  return task.ready({s: batch[s] for s in task.streams}), {s: gone(s, batch[f'{s}_mask']) for s in task.streams}


def recipe(system: System, task: Task, objective: train.Objective = objectives.answers) -> train.Recipe:
  rate = system.missing
  drawn = (lambda batch, key: augment.missing(key, batch, system.streams, rate)) if rate else None
  return train.recipe(system.model, objective, functools.partial(given, task), drawn=drawn)


def likely(system: System, variables: Mapping, task: Task, hidden: str = '') -> np.ndarray:
  """How likely each answer is to a trained system, of the whole test: [M,A]."""
  call = lambda part: training.likely(system.model, variables, *given(task, part, hidden))
  return pairs.in_parts(call, task.test, min(TESTED, len(task.test['answer'])))


def measure(system: System, variables: Mapping, task: Task) -> dict[str, Any]:
  """'likely' [M,A], and accuracies with 95 % intervals: ALL, and of a system that reads several also without each."""
  right = lambda found: pairs.share(found.argmax(1) == task.test['answer'])
  whole = likely(system, variables, task)
  hidden = system.streams if len(system.streams) > 1 else ()
  without = {f'without {task.streams[s]}': right(likely(system, variables, task, s)) for s in hidden}
  return {'likely': whole, ALL: right(whole)} | without


def values(found: Mapping[str, Any]) -> dict[str, float]:
  """Accuracies of `measure` without intervals, for the log."""
  return {'accuracy' if name == ALL else name: value[0] for name, value in found.items() if name != 'likely'}


def table(task: Task, systems: Sequence[System], found: Mapping[str, Mapping], notes: Sequence[str]) -> dict:
  """Accuracies in percent, with what chance and the best of each modality alone can reach."""
  columns = [ALL, *(f'without {name}' for name in task.streams.values())]
  rows: list[dict] = [
    {'system': system.name}
    | {name: pairs.shown('', *value) for name, value in found[system.name].items() if name in columns}
    | ({'ours': True} if system is systems[-1] else {})
    for system in systems
  ]
  rows += [
    {'system': name} | {k: pairs.shown('', value) for k, value in best.items()} for name, best in task.best.items()
  ]
  share = np.bincount(task.test['answer'], minlength=len(task.labels)).max() / len(task.test['answer'])
  rows.append({'system': 'the most frequent answer', ALL: pairs.shown('', float(share))})
  title = f'Accuracy in percent, {len(task.test["answer"]):,} test examples'
  brackets = "In brackets: 95 % intervals of this one run over test examples, by Wilson's formula."
  return {'title': title, 'columns': ['system', *columns], 'rows': rows, 'notes': [brackets, *notes]}


def gallery(task: Task, likely: np.ndarray, show: Callable[[int], Sequence[Mapping]], count: int) -> dict:
  """Test examples with what was answered; show(n) -> tiles of example n, the first of which stands in front."""
  rows = []
  for n in np.linspace(0, len(likely) - 1, count).astype(int):
    label, right = int(likely[n].argmax()), int(task.test['answer'][n])
    answer = {'text': task.labels[label], 'right': label == right, 'score': f'{100 * likely[n, label]:.0f} %'}
    asked = [] if label == right else [{'text': f'right: {task.labels[right]}'}]
    first, *rest = show(int(n))
    rows.append({'query': first, 'found': [*rest, answer, *asked]})
  return {'title': 'Examples', 'note': 'What was answered, and how sure the system was.', 'rows': rows}


def end(course: training.Course, system: System, task: Task) -> dict[str, Any]:
  """`measure` of a system at the end of its course, which logs it."""
  found = measure(system, course.fit.state.variables, task)
  course.end(lambda: {'test': values(found)}, system.name)
  return found


def finish(
  c: Any,
  workdir: Path,
  task: Task,
  systems: Sequence[System],
  found: Mapping[str, Mapping],
  show: Callable[[int], Sequence[Mapping]],
  *,
  title: str,
  made: str,
  params: Any,
  began: float,
) -> None:
  """The table, the report, and in it test examples with what the last system answers. made: where data are from."""
  last = systems[-1]
  telling.finish(
    c,
    workdir,
    title=title,
    summary=[
      (ALL, f'{100 * found[last.name][ALL][0]:.1f} %'),
      ('shown', f'{last.name}; the others are in the table'),
      ('data', made),
    ],
    tables=[table(task, systems, found, ['What is missing is masked, and read by nobody.', f'Data: {made}.'])],
    galleries=[gallery(task, found[last.name]['likely'], show, SHOWN)],
    params=params,
    began=began,
  )
