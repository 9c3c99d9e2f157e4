"""ablation.html: tables, drawings of the fusions, curves, costs, and what each reads of one picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from experiments.lab import result as result_of
from experiments.lab.cells import SHOWN, Cell
from experiments.lab.result import WHOLE, Result
from mmjax import report
from mmjax.report import charts, diagram

LANES = {'t': 'words', 'p': 'p', 'q': 'q', 'v': 'regions'}  # from top to bottom
AVERAGED = 'pq'  # after each layer that has them (models/fused.py)
ENLARGED = 4  # a pixel of a picture, in the page
ABOVE = 0.03  # of the best majority answer: what reaches no more has seen one modality alone
COSTS: Mapping[str, tuple[str, Callable[[Result, str], float | None]]] = {  # title -> (axis, a fusion's place there)
  'Accuracy against FLOPs': ('GFLOPs of a training step', lambda result, name: result.cells[name][0]['flops'] / 1e9),
  'Accuracy against parameters': (
    'thousands of parameters that are read',
    lambda result, name: (result.cells[name][0]['moved'] or result.cells[name][0]['parameters']) / 1e3,
  ),
  'Accuracy against time': ('ms a training step', lambda result, name: result.times.get(name)),
}


def write(result: Result, grid: Sequence[Cell], workdir: Path, config: Mapping, command: str) -> Path:
  """Writes the page, and returns where."""
  overall = result.against(WHOLE)
  best = max(result.whole or result.right, key=lambda name: result.share(result.right[name]).mean())
  better = [name for name, mine in overall.items() if mine.get('verdict') == 'better']
  compared = any('verdict' in mine for mine in overall.values())
  seeds = max(len(cells) for cells in result.cells.values())
  summary = [
    ('fusions', str(len(result.cells))),
    ('seeds', str(seeds)),
    ('highest mean', f'{100 * result.share(result.right[best]).mean():.1f} %'),
    ('reached by', f'{best}, as the mean of its seeds; this alone says nothing of a difference'),
    ('shown to be better than the reference', '; '.join(better) or ('none' if compared else 'nothing is compared yet')),
    ('reference', f'{result.reference}, with which all others are compared'),
  ]
  file = workdir / 'ablation.html'
  report.write(
    file,
    title=f'Ways of fusing words and images: {result.task.name}',
    summary=summary,
    config=config,
    history=[],
    tables=result_of.tables(result),
    drawings=[schedules(grid, result), curves(result), profiles(result), *against_costs(result)],
    galleries=[gallery(result)] if result.attention else [],
    command=command,
  )
  return file


def schedules(grid: Sequence[Cell], result: Result) -> dict:
  """Each fusion as a drawing."""
  fusions = {cell.sized.fusion.name: cell.sized.fusion for cell in grid}
  drawn = lambda schedule: diagram.draw(schedule, LANES, AVERAGED) if schedule else ''
  items = [{'title': name, 'svg': drawn(fusions[name].schedule), 'note': fusions[name].line} for name in result.cells]
  note = 'From left to right: what happens in a layer, and how many such layers there are.'
  joined = any(fusion.schedule and set(AVERAGED) <= set(fusion.schedule.streams) for fusion in fusions.values())
  note += ' p and q: bottlenecks, by which alone words and regions know of each other.' if joined else ''
  return {'title': 'What reads what', 'note': note, 'signs': diagram.legend(joined), 'items': items}


def curves(result: Result) -> dict:
  """Validation accuracy along the steps."""

  def band(cells: Sequence[Mapping]) -> charts.Band:
    values = np.array([[accuracy for _, accuracy in cell['validation']] for cell in cells])
    steps = np.array([step for step, _ in cells[0]['validation']], float)
    return charts.Band(steps, values.min(0), values.mean(0), values.max(0))

  found = {name: band(cells) for name, cells in result.cells.items()}
  note = 'Accuracy on the validation split; the band goes from the lowest to the highest of the seeds.'
  return {'title': 'While it learns', 'note': note} | charts.beside(found, known(result), 'step')


def known(result: Result) -> str:
  """The reference, or where none of its cells is done the first that is."""
  return result.reference if result.reference in result.cells else next(iter(result.cells))


def profiles(result: Result) -> dict:
  scores = {name: result.share(right) for name, right in result.right.items()}
  note = (
    'How many of the seeds reach an accuracy: a performance profile (arXiv:2108.13264, section 4.2). Each panel has '
  )
  note += 'a scale of its own.'
  return {'title': 'All seeds, not their mean alone', 'note': note} | charts.profiles(scores, known(result))


def against_costs(result: Result) -> list[dict]:
  """Accuracy against what it costs, of what is above the floors; the rest would flatten all others."""
  found, means = (
    result.against(WHOLE),
    {name: float(result.share(right).mean()) for name, right in result.right.items()},
  )
  floor = max((row['scores'][WHOLE] for row in result.floors), default=0.0)
  below = [name for name, mean in means.items() if mean <= floor + ABOVE]
  shown = [name for name in means if name not in below]
  items = []
  for title, (along, cost) in COSTS.items():
    points = {}
    for name in shown:
      low, high = found[name]['interval'] if name in found else (means[name],) * 2
      at = cost(result, name)
      if at is not None:
        points[name] = (at, means[name], low, high)
    if points:
      items.append(charts.costs(points, result.reference, (title, along)))
  left = [f'{name} ({100 * means[name]:.1f} %)' for name in below]
  note = 'Means of the seeds, with their 95 % intervals.'
  note += f' At the majority answer, and not drawn: {"; ".join(left)}.' if left and items else ''
  return [{'title': 'What it costs', 'note': note, 'items': items}] if items else []


def gallery(result: Result) -> dict:
  """The regions of one picture by how much the words of one question read them, a fusion a tile."""
  example = result.task.splits[result.split][0]
  image, question = example['image'], example['question'][SHOWN].decode()
  answer = result.task.answers[example['answer'][SHOWN]]
  items = [{'image': enlarged(image), 'text': 'the picture'}]
  for name, found in result.attention.items():
    weights = found['attention'].astype(float).sum(0)
    right = bool(result.right[name][0][0, SHOWN] == 1)
    items.append({'image': shaded(image, found['boxes'], weights), 'text': name, 'right': right})
  rest = [name for name in result.cells if name not in result.attention]
  note = 'Framed the darker the more is read, mean of words, heads and layers, first seed. A tick: the answer is right.'
  note += f' No word reads a region directly: {"; ".join(rest)}.' if rest else ''
  return {'title': f'“{question}” ({answer})', 'note': note, 'rows': [{'query': {'text': question}, 'found': items}]}


def enlarged(image: np.ndarray) -> np.ndarray:
  return np.asarray(image).repeat(ENLARGED, 0).repeat(ENLARGED, 1)


def shaded(image: np.ndarray, boxes: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """image uint8 [h,w,3] enlarged, with frames around boxes [R,4] that are as dark as their weight [R]."""
  picture = Image.fromarray(enlarged(image))
  pen = ImageDraw.Draw(picture)
  height, width = np.asarray(picture).shape[:2]
  for box, weight in sorted(zip(boxes, weights / max(weights.max(), 1e-9), strict=True), key=lambda found: found[1]):
    x1, y1, x2, y2 = box * (width, height, width, height)
    colour = tuple(int(255 + weight * (c - 255)) for c in (156, 27, 181))
    pen.rectangle((x1 - 7, y1 - 7, x2 + 6, y2 + 6), outline=colour, width=6)
  return np.asarray(picture)
