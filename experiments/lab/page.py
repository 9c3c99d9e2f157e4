"""ablation.html: tables, drawings of the fusions, curves, costs, and what each reads of one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from experiments.lab import result as result_of
from experiments.lab.cells import SHOWN, Cell
from experiments.lab.result import WHOLE, Result
from mmjax import report
from mmjax.metrics import comparison
from mmjax.report import charts, diagram

LANES = {'t': 'words', 'p': 'p', 'q': 'q', 'v': 'regions'}  # from top to bottom
ENLARGED = 4  # a pixel of a picture, in the page
COSTS = {  # key of a cell -> (title, axis, its unit)
  'flops': ('Accuracy against FLOPs', 'GFLOPs of a training step', 1e9),
  'parameters': ('Accuracy against parameters', 'thousands of parameters', 1e3),
  'step_ms': ('Accuracy against time', 'ms a training step', 1.0),
}


def write(result: Result, grid: Sequence[Cell], workdir: Path, config: Mapping, command: str) -> Path:
  """Writes the page, and returns where."""
  overall = result.against(WHOLE)
  best = max(result.right, key=lambda name: result.share(result.right[name]).mean())
  better = [name for name, mine in overall.items() if mine.get('verdict') == 'better']
  seeds = max(len(cells) for cells in result.cells.values())
  summary = [
    ('fusions', str(len(result.cells))),
    ('seeds', str(seeds)),
    ('highest mean', f'{100 * result.share(result.right[best]).mean():.1f} %'),
    ('reached by', f'{best}, as the mean of its seeds; this alone says nothing of a difference'),
    ('shown to be better than the reference', '; '.join(better) or 'none'),
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
  drawn = lambda schedule: diagram.draw(schedule, LANES) if schedule else ''
  items = [{'title': name, 'svg': drawn(fusions[name].schedule), 'note': fusions[name].line} for name in result.cells]
  note = 'From left to right: what happens in a layer, and how many such layers there are. p and q: bottlenecks.'
  return {'title': 'What reads what', 'note': note, 'signs': diagram.legend(), 'items': items}


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
  low = min(map(np.min, scores.values()))
  at = np.linspace(np.floor(50 * low) / 50, 1, 101)
  shares = {name: comparison.profile(runs, at) for name, runs in scores.items()}
  note = 'How many of the seeds reach an accuracy: a performance profile (arXiv:2108.13264, section 4.2).'
  return {'title': 'All seeds, not their mean alone', 'note': note} | charts.profiles(shares, at, known(result))


def against_costs(result: Result) -> list[dict]:
  """Accuracy against what it costs."""
  found = result.against(WHOLE)
  items = []
  for key, (title, along, unit) in COSTS.items():
    points = {}
    for name, cells in result.cells.items():
      values = [cell[key] for cell in cells if cell[key]]
      mean = float(result.share(result.right[name]).mean())
      low, high = found[name]['interval'] if name in found else (mean, mean)
      if values:
        points[name] = (float(np.median(values)) / unit, mean, low, high)
    if points:
      items.append(charts.costs(points, result.reference, (title, along)))
  drawing = {'title': 'What it costs', 'note': 'Means of the seeds, with their 95 % intervals.', 'items': items}
  return [drawing] if items else []


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
