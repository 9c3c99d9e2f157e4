"""How BLIP is trained (Li et al. 2022, arXiv:2201.12086, section 3.2): contrast, matching and captions at once.

Contrast is ALBEF's (Li et al. 2021, arXiv:2107.07651, sections 3.2 and 3.4): beside the model goes one whose parameters
follow slowly. What it made of earlier batches waits in a queue as rivals, and what it takes to belong together softens
the labels. Matching gets hard negatives, drawn by the similarity that contrast found. The decoder shares all but its
self-attention with the encoder.

B pairs, h x w pixels, L words, Q queue, E size of the shared space, V vocabulary.

Differs from the paper: nothing. In the authors' code a device contrasts its part of a batch with that part and the
queue, here with the whole batch and the queue. Where it sees its part alone (pmap), negatives are drawn from that.
"""

from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from mmjax.errors import UserError
from mmjax.layers.axes import mapped
from mmjax.layers.blocks import cast, unit
from mmjax.models.blip import BLIP

TEMPERATURE = 0.07  # at first; kept in LIMITS
LIMITS = (0.001, 0.5)
OWN = 'sub0_t'  # of a layer: the self-attention, which encoder and decoder have each their own


@flax.struct.dataclass
class Pretraining:
  """BLIP with an encoder and a decoder, on its way. `queue` is a multiple of a batch over all devices.

  momentum: how slowly the second model follows; soft: the share of its opinion in the labels, which grows from 0 over
  the first `warmup` steps. first: the ids that begin a text that reads the image and one that is written.
  """

  model: BLIP = flax.struct.field(pytree_node=False)
  queue: int = 57_600
  momentum: float = 0.995
  soft: float = 0.4
  warmup: int = 1
  first: tuple[int, int] = (0, 0)
  compute: str = flax.struct.field(pytree_node=False, default='float32')  # of both models; what follows slowly does so

  def init(self, key: jax.Array, image: jax.Array, text: jax.Array) -> dict[str, Any]:
    """Variables: 'params' {'blip', 'temperature'}, and what is kept from step to step in 'momentum'."""
    if not (self.model.encoder and self.model.decoder and self.model.out):
      raise UserError('BLIP: expected encoder, decoder and out, which its training needs')
    weights, *queues = jax.random.split(key, 3)
    blip = untied(self.model.init(weights, image, text, text > 0, train=False)['params'])
    image_queue, text_queue = (unit(jax.random.normal(one, (self.queue, self.model.out))) for one in queues)
    kept = {'params': jax.tree.map(jnp.copy, blip), 'image': image_queue, 'text': text_queue}
    return {
      'params': {'blip': blip, 'temperature': jnp.array(TEMPERATURE, jnp.float32)},
      'momentum': kept | {'step': jnp.zeros((), jnp.int32)},
    }

  def forward(
    self, variables: Mapping, batch: Mapping, *, train: bool, key: jax.Array | None
  ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
    """batch: 'image' [B,h,w,3] float, 'text' and 'caption' [B,L] int, 0 for padding.

    Returns what `objectives.blip` reads: scores of each image for the texts of the batch and the queue 'image_scores'
    [B,B+Q] with 'image_labels' of sum 1, likewise 'text_scores' and 'text_labels'; 'own' [B]: which of them is a row's
    own; 'matched' [3B,2] of the B pairs and 2B negatives; 'words' [B,L,V]. And what is kept for the next step.
    """
    params, kept = variables['params'], variables['momentum']
    image, text, mask = batch['image'], batch['text'], batch['text'] > 0
    own, step = tied(params['blip']), kept['step']
    follow = lambda slow, fast: self.momentum * slow + (1 - self.momentum) * jax.lax.stop_gradient(fast)
    slow = jax.tree.map(follow, kept['params'], params['blip'])
    draw = lambda n: {} if key is None else {'dropout': jax.random.fold_in(key, n)}

    def apply(params, n, method, *given):
      params, given = cast((params, given), self.compute)
      return cast(self.model.apply({'params': params}, *given, method=method, rngs=draw(n)), jnp.float32)

    def vectors(params, n):
      seen = apply(params, n, lambda m, image: m.image(image, train=train)['v'], image)
      alone = apply(params, n + 1, lambda m, *text: m.alone(*text, train=train)['text'], text, mask)
      return seen, {'image': apply(params, n + 2, lambda m, seen: m.of_image(seen), seen), 'text': alone}

    seen, found = vectors(own, 0)
    _, slowly = jax.lax.stop_gradient(vectors(tied(slow), 3))
    temperature = jnp.clip(params['temperature'], *LIMITS)
    share = self.soft * jnp.minimum(1, step / self.warmup)
    axis = mapped()
    every = lambda x: jax.lax.all_gather(x, axis, tiled=True) if axis else x
    batched = {name: every(vector) for name, vector in slowly.items()}
    own_rows = jnp.arange(len(text)) + (jax.lax.axis_index(axis) * len(text) if axis else 0)
    out = {'own': own_rows}
    for one, other in (('image', 'text'), ('text', 'image')):
      rivals = jnp.concatenate([batched[other], kept[other]])
      opinion = jax.nn.softmax(slowly[one] @ rivals.T / temperature)
      out[f'{one}_scores'] = found[one] @ rivals.T / temperature
      labels = share * opinion + (1 - share) * jax.nn.one_hot(own_rows, len(rivals))
      out[f'{one}_labels'] = jax.lax.stop_gradient(labels)

    reads = text.at[:, 0].set(self.first[0])
    draws = jax.random.split(jax.random.key(0) if key is None else jax.random.fold_in(key, 6))
    other_image, other_text = (
      hard_negative(one, out[f'{name}_scores'][:, own_rows]) for one, name in zip(draws, ('text', 'image'))
    )
    rows = jnp.arange(len(text))
    which_text = jnp.concatenate([rows, rows, other_text])
    which_image = jnp.concatenate([rows, other_image, rows])
    read = lambda m, *given: m.read(*given, train=train)['matched']
    out['matched'] = apply(own, 7, read, reads[which_text], mask[which_text], seen[which_image])

    caption = batch['caption']
    write = lambda m, *given: m.write(*given, train=train)
    out['words'] = apply(own, 8, write, caption.at[:, 0].set(self.first[1]), caption > 0, seen)
    if not train:
      return out, {}
    return out, {
      'momentum': {'params': slow, 'step': step + 1}
      | {name: self.enqueued(kept[name], batched[name], step) for name in slowly}
    }

  def enqueued(self, queue: jax.Array, new: jax.Array, step: jax.Array) -> jax.Array:
    """The queue with the oldest vectors replaced. Raises UserError where a batch does not divide it."""
    if self.queue % len(new):
      raise UserError(f'queue: found {self.queue}, expected a multiple of the batch, {len(new)} pairs')
    return jax.lax.dynamic_update_slice_in_dim(queue, new, step * len(new) % self.queue, 0)

  def variables(self, params: Mapping) -> dict[str, Any]:
    """Those of the BLIP that was trained."""
    return {'params': tied(params['blip'])}


def hard_negative(key: jax.Array, scores: jax.Array) -> jax.Array:
  """For each row one of the others, drawn by its score (section 4.1 of ALBEF's code, `+ 1e-4`): scores [B,B] -> [B]."""
  weight = jax.nn.softmax(jax.lax.stop_gradient(scores)) + 1e-4
  return jax.random.categorical(key, jnp.where(jnp.eye(len(scores), dtype=bool), -jnp.inf, jnp.log(weight)))


def shared(path: tuple[str, ...]) -> bool:
  """Whether the decoder has a parameter from the encoder (section 3.2: all but self-attention)."""
  return OWN not in path


def untied(params: Mapping) -> dict[str, Any]:
  """Parameters of BLIP without those of the decoder that are the encoder's."""
  encoder, decoder = flatten_dict(params['encoder']), flatten_dict(params['decoder'])
  own = {path: value for path, value in decoder.items() if path not in encoder or not shared(path)}
  return {**params, 'decoder': unflatten_dict(own)}


def tied(params: Mapping) -> dict[str, Any]:
  """The inverse."""
  both = {path: value for path, value in flatten_dict(params['encoder']).items() if shared(path)}
  return {**params, 'decoder': unflatten_dict(both | flatten_dict(params['decoder']))}
