"""A trained CLIP or BLIP with one picture before it: what it says, and where in the picture that comes from.

Q texts, L words, P patches (the first a learnt token).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.reading import reading_of, tokenizer_of
from mmjax import generate
from mmjax.convert.load import load
from mmjax.data import images, tokens
from mmjax.errors import UserError
from mmjax.fusion import maps, relevance
from mmjax.fusion.layers import MAPS
from mmjax.models.blip import writer
from mmjax.models.lit import PictureTower
from mmjax.workdir import replacing


@dataclasses.dataclass(frozen=True)
class Answer:
  """What was said, most likely first, with its probability (None: not one of several); and maps [y,x] of what the first
  of it comes from: raw attention of the last layer and relevance, or, of convolutions, Grad-CAM; none of a grid of one
  cell."""

  said: Sequence[tuple[str, float | None]]
  maps: Mapping[str, np.ndarray]


Chain = list[tuple[str, str, dict[str, int], tuple[str, str]]]  # of a stack: place of its maps, schedule, lengths, edge


class Asked:
  """A model and a picture. Raises UserError for a folder of another model and for a file that is no picture."""

  def __init__(self, folder: Path, image: Path):
    picture = images.read(image, '--image')
    self.model, self.variables = load(folder)
    self.kind = type(self.model).__name__
    if self.kind not in ('CLIP', 'BLIP'):
      raise UserError(f'--weights={folder}: found {self.kind}, expected CLIP or BLIP')
    self.reading, self.tokenizer = reading_of(folder, self.model), tokenizer_of(folder)
    self.shown = images.resized(picture, self.reading.side, crop=self.kind == 'CLIP')  # BLIP's are squeezed
    self.unread: list[str] = []  # words of texts that its vocabulary lacks, which were left out
    mean, std = (np.asarray(value, np.float32) for value in (self.reading.mean, self.reading.std))
    self.image = jnp.asarray((self.shown / np.float32(255) - mean) / std)[None]

  def ids(self, texts: Sequence[str], first: int = -1) -> tuple[jax.Array, jax.Array]:
    """Texts -> ids [Q,L], and which are words, bool [Q,L]. Raises UserError for one that is too long or empty."""
    encoded = self.tokenizer.encode_batch(list(texts))
    found = [tokens.known(self.tokenizer, encoding.ids) for encoding in encoded]
    frame = len(self.tokenizer.encode('').ids)
    for text, encoding, ids in zip(texts, encoded, found):
      if not text.strip():
        raise UserError(f'found {text!r}, expected a text with a word in it')
      if len(ids) == frame:
        raise UserError(f'{text!r}: this {self.kind} never read a word of it; expected one that it learnt')
      if len(ids) < len(encoding.ids):
        self.unread += [text[a:b] for i, (a, b) in zip(encoding.ids, encoding.offsets) if i not in ids]
      if len(ids) > self.reading.length:
        short = text if len(text) < 40 else f'{text[:37]}...'
        raise UserError(f'{short!r}: found {len(ids):,} tokens, expected at most {self.reading.length}')
    width = max(map(len, found))
    filled = np.array([[*row, *[0] * (width - len(row))] for row in found])
    if first >= 0:
      filled[:, 0] = first
    return jnp.asarray(filled), jnp.asarray(np.arange(width) < np.array(list(map(len, found)))[:, None])

  def answer(self, question: str = '', labels: Sequence[str] = ()) -> Answer:
    """By what the model is for. Raises UserError where a question or labels are missing, or lead to nothing."""
    model: Any = self.model
    if question and labels:
      raise UserError('--question and --labels: found both, expected one of them')
    chooses = self.kind == 'CLIP' or bool(model.encoder and model.out)
    if labels and chooses:
      return self.choose(labels)
    if labels:
      raise UserError('--labels: this BLIP writes, it does not choose; expected none, or a BLIP of retrieval')
    if self.kind == 'CLIP' or not model.decoder:
      raise UserError(f'--labels is missing: this {self.kind} chooses among labels, as --labels=cat,coffee')
    answers = bool(model.encoder) and not model.out
    if answers != bool(question):
      raise UserError(
        '--question is missing: this BLIP answers questions' if answers else '--question: this BLIP writes captions'
      )
    return self.write(question)

  def choose(self, labels: Sequence[str]) -> Answer:
    """Which label it is: CLIP by cosine, BLIP by how likely each matches. Probabilities are among these labels."""
    if len(labels) < 2:
      raise UserError(f'--labels: found {labels[0]!r} alone, expected two or more to choose among')
    texts = [self.reading.prompt.format(label) for label in labels]
    ids, mask = self.ids(texts, -1 if self.kind == 'CLIP' else self.reading.first[0])
    read: dict[bytes, str] = {}
    for label, row in zip(labels, np.asarray(ids)):
      other = read.setdefault(row.tobytes(), label)
      if other is not label:
        raise UserError(f'--labels: found {other!r} and {label!r}, which are read alike; expected each once')
    if self.kind == 'CLIP':

      def scores(m, image):
        out = m(ids, image, mask, train=False)
        return out['scale'] * out['text'] @ out['image'][0]

      chain: Chain = [] if self._convolves() else [self._image_stack()[1]]
    else:
      patches, image = self._image_stack()

      def scores(m, image):
        seen = jnp.repeat(m.image(image, train=False)['v'], len(ids), 0)
        return jax.nn.log_softmax(m.read(ids, mask, seen, train=False)['matched'])[:, 1]

      lengths = {'t': ids.shape[1], 'v': patches}
      chain = [('encoder/encoder', self.model.encoder.schedule, lengths, ('t', 'v')), image]
    found = np.asarray(self._apply(scores)[0])
    order = np.argsort(-found, kind='stable')
    likely = np.asarray(jax.nn.softmax(found))
    said = [(labels[n], float(likely[n])) for n in order]
    best = int(order[0])
    first = lambda out: jax.nn.log_softmax(out)[best][None]
    return Answer(said, self._maps(scores, first, chain, row=0 if self.kind == 'CLIP' else best))

  def write(self, question: str) -> Answer:
    """A caption, or the answer to a question, by beam search."""
    model: Any = self.model
    patches, image = self._image_stack()
    if question:
      asked, asked_mask = self.ids([question], self.reading.first[0])

    def sees(m, image):
      seen = m.image(image, train=False)['v']
      return m.read(asked, asked_mask, seen, train=False)['t'] if question else seen

    seen, _ = self._apply(sees)
    rows = min(self.reading.length, model.decoder.positions)
    step = writer(model, self.variables, seen, None, rows)
    first = self.reading.first[1] if self.reading.first[1] >= 0 else int(self.tokenizer.encode('').ids[0])
    how: dict[str, Any] = {'beams': 3, 'length': rows, 'end': self.reading.end}
    ids = jax.jit(lambda: generate.beam(step, jnp.full((1, 1), first), **how))()
    ended = np.flatnonzero(np.asarray(ids[0]) == self.reading.end)
    words = np.asarray(ids[0])[1 : ended[0] if len(ended) else None]
    text = self.tokenizer.decode(words.tolist(), skip_special_tokens=True) or ' '.join(
      tokens.words(self.tokenizer, words)
    )
    given = jnp.asarray([[first, *words.tolist()]])

    def scores(m, image):
      return jax.nn.log_softmax(m.write(given, given >= 0, sees(m, image), train=False))

    number = lambda out: jnp.take_along_axis(out[:, :-1], given[:, 1:, None], 2).sum((1, 2))
    reads = {'t': given.shape[1], 'v': seen.shape[1]}
    chain: Chain = [('decoder/encoder', model.decoder.schedule, reads, ('t', 'v'))]
    if question:
      chain.append(('encoder/encoder', model.encoder.schedule, {'t': asked.shape[1], 'v': patches}, ('t', 'v')))
    return Answer([(text, None)], self._maps(scores, number, [*chain, image], row=0))

  def _apply(self, method: Callable, more: Mapping | None = None) -> tuple[Any, Mapping]:
    given = {**self.variables, **(more or {})}
    return self.model.apply(given, self.image, method=method, mutable=[MAPS])

  def _convolves(self) -> bool:
    return isinstance(self.model.image, PictureTower) or bool(getattr(self.model.image, 'blocks', ()))

  def _image_stack(self) -> tuple[int, tuple]:
    tower: Any = self.model.image
    patches = 1 + (tower.image // tower.patch) ** 2
    return patches, ('image/encoder', tower.schedule, {'v': patches}, ('v', 'v'))

  def _maps(self, method: Callable, number: Callable, chain: Chain, row: int) -> dict[str, np.ndarray]:
    """Those of an `Answer`; row: of the texts. An empty chain: of convolutions."""
    call = jax.jit(lambda: relevance.maps_and_gradients(functools.partial(self._apply, method), number))
    _, found, gradients = call()
    if not chain:
      cam = relevance.grad_cam(found['image']['grid'], gradients['image']['grid'])[0]
      return {'Grad-CAM, last grid': np.asarray(cam)} if cam.size > 1 else {}
    both = traced(found, gradients, chain)
    side = round(both[0].shape[1] ** 0.5)
    square = (np.asarray(part[row if len(part) > 1 else 0]).reshape(side, side) for part in both)
    return dict(zip(('attention, last layer', 'relevance, all layers'), square, strict=True))


def traced(found: Mapping, gradients: Mapping, chain: Chain) -> tuple[jax.Array, jax.Array]:
  """(attention of the last layer that reads the picture, relevance of all layers), each [B,P] without the learnt token.

  chain: from where the output is read off, the first token (of what a decoder writes: all), back to the picture.
  """
  inside = lambda tree, path: functools.reduce(lambda part, name: part[name], path.split('/'), tree)
  token = lambda path, rows: rows.mean(1) if path.startswith('decoder') else rows[:, 0]
  vector = None
  for path, schedule, lengths, edge in chain:
    rows = relevance.chained(inside(found, path), inside(gradients, path), schedule, lengths)[edge]
    if vector is None:
      vector = token(path, rows)
    else:  # equation 10, whose last factor is what the stack that was read had mixed
      mixed = relevance.normed(rows) if edge[0] == edge[1] else rows
      vector = jnp.einsum('bk,bkp->bp', *_alike(vector, mixed))
  path, schedule, lengths, edge = chain[-2] if len(chain) > 1 else chain[-1]
  last = list(maps.read(inside(found, path), schedule, lengths, *edge).values())[-1].mean(1)
  seen = last.mean(1) if len(chain) > 2 else token(path, last)
  return jnp.asarray(seen)[:, 1:], jnp.asarray(vector)[:, 1:]


def _alike(vector: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
  """As many rows of both: one picture may have many texts."""
  count = max(len(vector), len(rows))
  return jnp.broadcast_to(vector, (count, *vector.shape[1:])), jnp.broadcast_to(rows, (count, *rows.shape[1:]))


def draw(file: Path, asked: Asked, answer: Answer, title: str) -> None:
  """Writes the picture, and its maps laid over it, as a PNG in one move."""
  shown = [('as the model sees it', None), *answer.maps.items()]
  figure = Figure(figsize=(3.6 * len(shown), 4.2), layout='constrained')
  FigureCanvasAgg(figure)
  figure.suptitle(title, fontsize=12)
  for n, (name, found) in enumerate(shown, 1):
    axes = figure.add_subplot(1, len(shown), n)
    axes.set_title(name, fontsize=10)
    axes.axis('off')
    side = asked.shown.shape[0]
    if found is None:
      axes.imshow(asked.shown, extent=(0, side, side, 0), interpolation='bicubic')
      continue
    place: dict[str, Any] = {'extent': (0, side, side, 0), 'interpolation': 'bicubic'}
    axes.imshow(asked.shown.mean(-1), cmap='gray', vmin=0, vmax=255, **place)
    low, high = float(found.min()), float(found.max())
    even = (found - low) / (high - low) if high > low else np.zeros_like(found)
    axes.imshow(
      even, cmap='inferno', alpha=0.15 + 0.55 * even, extent=(0, side, side, 0), interpolation='bicubic', vmin=0, vmax=1
    )
  with replacing(file) as out:
    figure.savefig(out, format='png', dpi=120)
