"""Objectives: what is learnt, as sums and counts. `train.train_step` alone divides.

An objective is a function (out, batch, axis=None) -> (losses, metrics):
  losses  {name: (sum, count, weight)}; minimised is the total of weight * sum / count, where sum and count run over all
          devices and micro-batches. A count depends on the batch only. `axis` names the mapped axis, None for none.
  metrics {name: (sum, count)}, divided likewise; numbers or vectors.

B rows, L text, R regions, F features, V vocabulary, A answers, T question types, E size of a shared space.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mmjax.layers.axes import ROWS
from mmjax.layers.ring import against_all
from mmjax.models.dvae import uniformity

Batch = Mapping[str, Any]  # of arrays, or of such mappings
Losses = dict[str, tuple[jax.Array, jax.Array, float]]
Metrics = dict[str, tuple[jax.Array, jax.Array]]

LARGEST_SCALE = 100.0  # of a contrast: Radford et al. 2021, section 2.5

cross_entropy = optax.softmax_cross_entropy_with_integer_labels


def answer_metrics(scores: jax.Array, batch: Batch) -> Metrics:
  """Accuracy of scores [B,A] against batch['answer'] [B] int, one for each of T types: (right [T], asked [T]).

  batch['question_type'] [B,T] bool says which type each row is of; batch['weight'] [B] float leaves rows out (0).
  """
  asked = batch['question_type'] * batch['weight'][:, None]
  right = scores.argmax(-1) == batch['answer']
  return {'accuracy': ((asked * right[:, None]).sum(0), asked.sum(0))}


def answers(out: Batch, batch: Batch, axis: str | None = None) -> tuple[Losses, Metrics]:
  """One right answer each: softmax cross-entropy. out['answers'] [B,A], batch['answer'] [B] int, 'weight' [B]."""
  loss = cross_entropy(out['answers'], batch['answer']) * batch['weight']
  return {'answer': (loss.sum(), batch['weight'].sum(), 1.0)}, answer_metrics(out['answers'], batch)


def absolute_error(out: Batch, batch: Batch, axis: str | None = None) -> tuple[Losses, Metrics]:
  """A number told: the distance from it. out['answers'] [B,1], batch['target'] [B] float, 'weight' [B]."""
  loss = jnp.abs(out['answers'][:, 0] - batch['target']) * batch['weight']
  return {'error': (loss.sum(), batch['weight'].sum(), 1.0)}, {}


def soft_answers(out: Batch, batch: Batch, axis: str | None = None) -> tuple[Losses, Metrics]:
  """VQA's soft labels: binary cross-entropy summed over answers (LXMERT's code: its mean, times the number of answers).

  batch['answer_scores'] [B,A] float in 0..1, or, where that is absent, 1 for batch['answer'] and 0 for all else.
  """
  scores = out['answers']
  labels = batch['answer_scores'] if 'answer_scores' in batch else jax.nn.one_hot(batch['answer'], scores.shape[-1])
  loss = optax.sigmoid_binary_cross_entropy(scores, labels).sum(-1) * batch['weight']
  return {'answer': (loss.sum(), batch['weight'].sum(), 1.0)}, answer_metrics(scores, batch)


def answer_distribution(out: Batch, batch: Batch, axis: str | None = None) -> tuple[Losses, Metrics]:
  """VisualBERT's loss for VQA: the divergence KL(labels || softmax(scores)), labels as in `soft_answers`.

  As in the authors' code, labels are not made to sum to 1.
  """
  scores = out['answers']
  labels = batch['answer_scores'] if 'answer_scores' in batch else jax.nn.one_hot(batch['answer'], scores.shape[-1])
  loss = optax.losses.kl_divergence(jax.nn.log_softmax(scores), labels) * batch['weight']
  return {'answer': (loss.sum(), batch['weight'].sum(), 1.0)}, answer_metrics(scores, batch)


def lxmert_pretraining(
  out: Batch, batch: Batch, axis: str | None = None, region_weight: float = 1 / 0.15
) -> tuple[Losses, Metrics]:
  """LXMERT's pre-training losses (Tan and Bansal 2019, section 3.1), all with weight 1 but those of regions.

  batch: 'word_label' [B,L] int, 'matched' [B] int (1 = text and image belong together) and 'answer' [B] int, each -1
  where there is nothing to learn; 'feature' [B,R,F] float and 'feature_weight' [B,R] (1 = masked);
  'object' [B,R] int and 'object_weight' [B,R], likewise 'attribute', where the model has these outputs; 'weight' [B].
  As in the authors' code, object and attribute losses are weighted by the detector's confidence and run over all
  regions, masked or not; the mean of a region loss is over all regions.
  """
  row = batch['weight']

  def ignoring(scores, label):
    valid = (label >= 0) * row.reshape(-1, *[1] * (label.ndim - 1))
    loss = cross_entropy(scores, jnp.maximum(label, 0)) * valid
    right = ((scores.argmax(-1) == label) * valid).sum()
    return (loss.sum(), valid.sum(), 1.0), (right, valid.sum())

  def regions(loss, weight):
    return ((loss * weight * row[:, None]).sum(), row.sum() * weight.shape[1], region_weight)

  losses, metrics = {}, {}
  for name, label in (('words', 'word_label'), ('matched', 'matched'), ('answers', 'answer')):
    if name in out:
      losses[name], metrics[f'accuracy/{name}'] = ignoring(out[name], batch[label])
  for name, label in (('objects', 'object'), ('attributes', 'attribute')):
    if name in out:
      losses[name] = regions(cross_entropy(out[name], batch[label]), batch[f'{label}_weight'])
      weight = (batch[f'{label}_weight'] > 0) * row[:, None]
      metrics[f'accuracy/{name}'] = (((out[name].argmax(-1) == batch[label]) * weight).sum(), weight.sum())
  if 'features' in out:
    smooth_l1 = optax.huber_loss(out['features'], batch['feature']).mean(-1)
    losses['features'] = regions(smooth_l1, batch['feature_weight'])
  return losses, metrics


def smoothed(scores: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
  """Cross-entropy of scores [..., V] against labels [...] int, each of which gives `smoothing` away to all V evenly.

  0 where a label is negative. [...].
  """
  wanted = optax.smooth_labels(jax.nn.one_hot(labels, scores.shape[-1]), smoothing)
  return optax.softmax_cross_entropy(scores, wanted) * (labels >= 0)


def captions(out: Batch, batch: Batch, axis: str | None = None, smoothing: float = 0.1) -> tuple[Losses, Metrics]:
  """BLIP's language modelling loss (Li et al. 2022, section 3.2): the word that follows each, a mean over words.

  out['words'] [B,L,V]; batch['text'] [B,L] int, of which the first word is given, 'text_mask' [B,L] bool, 'weight' [B].
  smoothing: of the labels, 0.1 as in the authors' code.
  """
  scores, following = out['words'][:, :-1], batch['text'][:, 1:]
  there = batch['text_mask'][:, 1:] * batch['weight'][:, None]
  right = ((scores.argmax(-1) == following) * there).sum()
  loss = (smoothed(scores, following, smoothing) * there).sum()
  return {'words': (loss, there.sum(), 1.0)}, {'accuracy/words': (right, there.sum())}


def contrastive(out: Batch, batch: Batch, axis: str | None = None) -> tuple[Losses, Metrics]:
  """CLIP's loss (Radford et al. 2021, figure 3): of all pairs of the global batch, text b belongs to image b alone.

  out: 'text' and 'image' [B,E] of unit length, 'scale' a number, of which more than LARGEST_SCALE is not used.
  batch['weight'] [B]: 0 for a row that only fills up, which is no rival either. The mean of both directions; metrics:
  how often the right one is first. No device holds the scores of more than its own rows with those of one other.
  """
  row, scale = batch['weight'], jnp.minimum(out['scale'], LARGEST_SCALE)
  losses, metrics = jnp.zeros(len(row)), {}
  for name, other in (('text', 'image'), ('image', 'text')):
    scaled = scale * out[name]
    every, first = against_all(scaled, out[other], row > 0, ROWS, axis=axis)
    losses += jnp.where(row > 0, every - (scaled * out[other]).sum(-1), 0) / 2
    metrics[f'accuracy/{name} to {other}'] = ((first * row).sum(), row.sum())
  return {'contrast': ((losses * row).sum(), row.sum(), 1.0)}, metrics


def blip(out: Batch, batch: Batch, axis: str | None = None) -> tuple[Losses, Metrics]:
  """BLIP's three losses (section 3.2), of equal weight, on what `models.blip_pretraining` gives.

  batch['caption'] [B,L] int, 0 for padding, and 'weight' [B]. Contrast: the mean of both ways, against soft labels.
  """
  row = batch['weight']
  contrast, metrics = jnp.zeros(len(row)), {}
  for one, other in (('image', 'text'), ('text', 'image')):
    scores = out[f'{one}_scores']
    contrast += optax.softmax_cross_entropy(scores, out[f'{one}_labels']) / 2
    metrics[f'accuracy/{one} to {other}'] = (((scores.argmax(-1) == out['own']) * row).sum(), row.sum())
  label, thrice = jnp.repeat(jnp.array([1, 0, 0]), len(row)), jnp.tile(row, 3)
  matching = cross_entropy(out['matched'], label) * thrice
  metrics['accuracy/matched'] = (((out['matched'].argmax(-1) == label) * thrice).sum(), thrice.sum())
  words, said = captions(out, {'text': batch['caption'], 'text_mask': batch['caption'] > 0, 'weight': row})
  losses = {'contrast': ((contrast * row).sum(), row.sum(), 1.0), 'matched': (matching.sum(), thrice.sum(), 1.0)}
  return losses | words, metrics | said


def dvae(out: Batch, batch: Batch, axis: str | None = None, uniform: float = 0.0) -> tuple[Losses, Metrics]:
  """What DALL-E's autoencoder is trained by, as in DALLE-pytorch: squared error, and how unevenly codes are used.

  out: 'image' and 'target' [B,h,w,3], 'logits' [B,y,x,K] of the codes; batch['weight'] [B].

  Differs from the paper: there pixels have a logit-Laplace likelihood (appendix A.3).
  """
  row = batch['weight']
  pixels = ((out['image'] - out['target']) ** 2).mean((1, 2, 3))
  losses = {'pixels': ((pixels * row).sum(), row.sum(), 1.0)}
  if uniform:
    losses['uniform'] = ((uniformity(out['logits']) * row).sum(), row.sum(), uniform)
  return losses, {}


def dalle(out: Batch, batch: Batch, axis: str | None = None, image_weight: float = 7.0) -> tuple[Losses, Metrics]:
  """The loss of words and codes, one after the other (Ramesh et al. 2021, section 2.2: 1/8 and 7/8).

  out: 'logits' [B,T,V] and 'next' [B,T] int, what follows each position, of which the first L are the words of
  batch['text'] [B,L]; 'weight' [B].
  """
  words = batch['text'].shape[1]
  loss = cross_entropy(out['logits'], out['next']) * batch['weight'][:, None]
  rows, share = batch['weight'].sum(), 1 / (1 + image_weight)
  codes = loss.shape[1] - words
  losses = {
    'words': (loss[:, :words].sum(), rows * words, share),
    'codes': (loss[:, words:].sum(), rows * codes, image_weight * share),
  }
  right = (out['logits'].argmax(-1) == out['next'])[:, words:] * batch['weight'][:, None]
  return losses, {'accuracy/codes': (right.sum(), rows * codes)}


def words_of_image(out: Batch, batch: Batch, axis: str | None = None, special: int = 5) -> tuple[Losses, Metrics]:
  """Which words stand in an image's text, in whatever order: the bag-of-words baseline of CLIP's figure 2.

  out['bag'] [B,V]: logits; batch['text'] [B,L] int, of which ids below `special` are no words; 'weight' [B]. Softmax
  against the text's words, each of equal share (Joulin et al. 2016, arXiv:1511.02251, equation 3).
  """
  text = batch['text']
  word = (text >= special) * batch['weight'][:, None]
  share = word / jnp.maximum(word.sum(1, keepdims=True), 1)
  loss = -jnp.take_along_axis(jax.nn.log_softmax(out['bag']), text, 1) * share
  return {'bag': (loss.sum(), batch['weight'].sum(), 1.0)}, {}


def detection(out: Batch, batch: Batch) -> tuple[Losses, Metrics]:
  """What teaches `encoders.image.Detector`: whether a cell holds an object's centre, and the corners of its box.

  out: 'objectness' [N,y,x], 'cell_boxes' [N,y,x,4], 'boxes' [N,R,4]; batch: 'boxes' [N,O,4] of O objects, 'weight'
  [N,K] of the image's questions, all 0 for an image that only fills up. Boxes are x1 y1 x2 y2 in 0..1.
  Losses: binary cross-entropy of all cells, and the distance of corners (L1, in cells) where an object is, both a mean
  over objects. Metric: the share of objects that one of the R regions overlaps by more than half (IoU).
  """
  real, truth = batch['weight'].max(-1, keepdims=True), batch['boxes']
  size = jnp.array(out['objectness'].shape[:0:-1])  # columns, rows
  cell = ((truth[..., :2] + truth[..., 2:]) / 2 * size).astype(int)
  x, y = jnp.moveaxis(jnp.clip(cell, 0, size - 1), -1, 0)
  image = jnp.arange(len(truth))[:, None]
  holds = jnp.zeros_like(out['objectness']).at[image, y, x].set(1)
  cells = optax.sigmoid_binary_cross_entropy(out['objectness'], holds).sum((1, 2))
  corners = jnp.abs((out['cell_boxes'][image, y, x] - truth) * jnp.tile(size, 2)).mean(-1)
  objects = (real * jnp.ones(truth.shape[:2])).sum()
  found = seen(out, batch)
  losses = {
    'objectness': ((cells * real[:, 0]).sum(), objects, 1.0),
    'corners': ((corners * real).sum(), objects, 1.0),
  }
  return losses, {'objects found': ((found * real).sum(), objects)}


def seen(out: Batch, batch: Batch) -> jax.Array:
  """Whether one of the R regions overlaps an object by more than half (IoU), as in `detection`: bool [N,O]."""
  return (overlap(out['boxes'], batch['boxes']) > 0.5).any(1)


def overlap(a: jax.Array, b: jax.Array) -> jax.Array:
  """Intersection over union of boxes [N,R,4] and [N,O,4], x1 y1 x2 y2: [N,R,O] in 0..1."""
  a, b = a[:, :, None], b[:, None]
  area = lambda box: jnp.prod(jnp.maximum(box[..., 2:] - box[..., :2], 0), -1)
  both = area(jnp.concatenate([jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])], -1))
  return both / jnp.maximum(area(a) + area(b) - both, 1e-12)
