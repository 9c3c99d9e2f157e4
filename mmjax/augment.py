"""What is drawn anew of an example at each step, on the device: of an image, its text, a sound or a series.

N pairs, h x w pixels, L words, T frames or steps, M bins of a spectrogram, C channels.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mmjax.objectives import Batch


def pairs(batch: Batch, key: jax.Array, *, shift: int, tint: float, keep: float) -> Batch:
  """A pair as it is seen once: 'image' [N,h,w,3] of 0..255, 'text' and 'part' int [N,L] (`data.encode.pairs`)."""
  place, colour, words = jax.random.split(key, 3)
  image = tinted(colour, shifted(place, batch['image'].astype(jnp.float32), shift), tint)
  return {**batch, 'image': image, 'text': thinned(words, batch['text'], batch['part'], keep)}


def shifted(key: jax.Array, image: jax.Array, most: int) -> jax.Array:
  """image [N,h,w,3], each moved by up to `most` pixels either way; its edges are repeated."""
  count, *size = image.shape
  wide = jnp.pad(image, ((0, 0), (most, most), (most, most), (0, 0)), mode='edge')
  start = jax.random.randint(key, (count, 2), 0, 2 * most + 1)
  return jax.vmap(lambda one, at: jax.lax.dynamic_slice(one, (*at, 0), size))(wide, start)


def tinted(key: jax.Array, image: jax.Array, most: float) -> jax.Array:
  """image [N,h,w,3] of 0..255, each colour of it scaled by 1 - most to 1 + most."""
  gain = 1 + most * jax.random.uniform(key, (len(image), 1, 1, 3), minval=-1)
  return jnp.clip(image * gain, 0, 255)


def thinned(key: jax.Array, text: jax.Array, part: jax.Array, keep: float) -> jax.Array:
  """text [N,L] int of which each part (1 ... in `part` [N,L]) is kept with probability `keep`, the rest closed up.

  A text of which nothing would be left stays whole. 0 fills up.
  """
  kept = jnp.take_along_axis(jax.random.bernoulli(key, keep, text.shape), part, 1)  # fewer parts than words
  kept = jnp.where((kept & (part > 0)).any(1, keepdims=True), kept, True) | (part == 0)
  return closed(text, kept)


def closed(text: jax.Array, kept: jax.Array) -> jax.Array:
  """The words of text [N,L] that are kept, bool [N,L], without gaps. 0 fills up."""
  order = jnp.argsort(~kept, axis=1, stable=True)
  left = jnp.arange(text.shape[1]) < kept.sum(1, keepdims=True)
  return jnp.where(left, jnp.take_along_axis(text, order, 1), 0)


def missing(key: jax.Array, batch: Batch, streams: Sequence[str], rate: float) -> Batch:
  """A batch in which each of some modalities is hidden from each example with probability `rate`, never all it has.

  Of a stream s, batch['s_mask'] bool [N] or [N,·] says what of it is there.
  """
  masks = {f'{s}_mask': batch[f'{s}_mask'] for s in streams}
  there = jnp.stack([mask.reshape(len(mask), -1).any(1) for mask in masks.values()], 1)
  kept = jax.random.bernoulli(key, 1 - rate, there.shape)
  kept |= ~(kept & there).any(1, keepdims=True)
  hidden = {name: mask & kept[:, n].reshape(-1, *[1] * (mask.ndim - 1)) for n, (name, mask) in enumerate(masks.items())}
  return {**batch, **hidden}


def series(batch: Batch, key: jax.Array, *, jitter: float, scale: float, warp: float, crop: float) -> Batch:
  """A series as it is seen once: 'series' [N,T,C] and 'seen' bool, likewise; a series ends with its last step seen.

  crop: up to that share of it is left out, at its start and end together, and what is left stretched to its length;
  warp (below 1): by that share its pace differs at most, slower here and faster there; scale and jitter: deviations
  of the gain of each channel and of what is added to each value (Um et al. 2017, arXiv:1706.00527, section 3).
  """
  cut, pace, gain, noise = jax.random.split(key, 4)
  at = paced(cut, pace, batch['seen'].any(-1), warp, crop)
  before = jnp.floor(at).astype(int)
  after = jnp.minimum(before + 1, at.shape[1] - 1)
  take = lambda x, place: jnp.take_along_axis(x, place[..., None], 1)
  near = jnp.where((at - before < 0.5), before, after)
  seen = take(batch['seen'], near)
  both = take(batch['seen'], before) & take(batch['seen'], after)  # between a value and none there is none
  part = jnp.where(both, (at - before)[..., None], (near != before)[..., None])
  x = take(batch['series'], before) * (1 - part) + take(batch['series'], after) * part
  x = x * (1 + scale * jax.random.normal(gain, (len(x), 1, x.shape[2]))) + jitter * jax.random.normal(noise, x.shape)
  return {**batch, 'series': jnp.where(seen, x, 0), 'seen': seen}


def paced(cut: jax.Array, pace: jax.Array, there: jax.Array, warp: float, crop: float) -> jax.Array:
  """Which step, also between two, is read at each of there, bool [N,T]: float [N,T]; what is behind the end stays.

  The first and last step are read at the ends, or, with crop, a later and an earlier one.
  """
  count, steps = there.shape
  last = jnp.where(there, jnp.arange(steps), 0).max(1, keepdims=True)
  share = jnp.arange(steps) / jnp.maximum(last, 1)
  bend = warp * jax.random.uniform(pace, (count, 2), minval=-1) / 2
  waves = jnp.sin(jnp.pi * share[..., None] * jnp.arange(1, 3)) / (jnp.pi * jnp.arange(1, 3))
  moved = share + (bend[:, None] * waves).sum(-1)
  left, right = jnp.split(crop * jax.random.uniform(cut, (count, 2)) / 2, 2, 1)
  return jnp.where(share <= 1, (left + (1 - left - right) * moved) * last, jnp.arange(steps))


def stretched(key: jax.Array, sound: jax.Array, frames: jax.Array, most: float) -> tuple[jax.Array, jax.Array]:
  """Spectrograms [N,T,M], each as many times as slow as 1 - most to 1 + most, and how many `frames` [N] each has then.

  Its pitch stays. One that would not fit is as slow as can be; frames between two are drawn by a line.
  """
  most_frames = sound.shape[1]
  factor = 1 + most * jax.random.uniform(key, frames.shape, minval=-1)
  new = jnp.clip(jnp.round(frames * factor), 1, most_frames).astype(jnp.int32)
  at = jnp.arange(most_frames) * ((frames - 1) / jnp.maximum(new - 1, 1))[:, None]
  low = jnp.clip(at.astype(int), 0, most_frames - 1)
  part = (at - low)[..., None]
  take = lambda index: jnp.take_along_axis(sound, jnp.minimum(index, frames[:, None] - 1)[..., None], 1)
  there = jnp.arange(most_frames) < new[:, None]
  return jnp.where(there[..., None], (1 - part) * take(low) + part * take(low + 1), 0), new


def hidden(key: jax.Array, sound: jax.Array, frames: jax.Array, longest: float, widest: int, count: int) -> jax.Array:
  """SpecAugment (Park et al. 2019, arXiv:1904.08779): `count` stretches of time and of bins of [N,T,M] become 0.

  A stretch of time is up to `longest` of its sound's frames [N], one of bins up to `widest`.
  """
  for n in range(count):
    for axis, size, most in ((1, frames, longest * frames), (2, jnp.full_like(frames, sound.shape[2]), widest)):
      where, wide = jax.random.uniform(jax.random.fold_in(key, 2 * n + axis), (2, len(frames)))
      wide = jnp.floor(wide * (most + 1))
      start = jnp.floor(where * (size - wide + 1))
      at = jnp.arange(sound.shape[axis])
      off = (at >= start[:, None]) & (at < (start + wide)[:, None])
      sound = jnp.where(off[:, :, None] if axis == 1 else off[:, None], 0, sound)
  return sound


def joined(key: jax.Array, batch: Batch, share: float, between: int) -> Batch:
  """That share of pairs, each followed by another one of the batch: 'sound' [N,T,M] with 'frames' [N], 'text' [N,L].

  A text has ids from its start to its end, then 0; `between` takes the place of the first's end and the second's start.
  Two that do not fit, by frames or by words, stay as they are.
  """
  sound, frames, text = (batch[name] for name in ('sound', 'frames', 'text'))
  rows, words = len(frames), (text > 0).sum(1)
  chosen, which = jax.random.split(key)
  other = (jnp.arange(rows) + jax.random.randint(which, (), 1, max(rows, 2))) % rows
  fits = (frames + frames[other] <= sound.shape[1]) & (words + words[other] - 1 <= text.shape[1])
  join = fits & jax.random.bernoulli(chosen, share, (rows,))

  def behind(first, second, count):  # the second begins where `count` of the first end
    at = jnp.arange(first.shape[1]) - count[:, None]
    later = jax.vmap(lambda row, where: row[where])(second, jnp.clip(at, 0, first.shape[1] - 1))
    return jnp.where((at < 0).reshape(at.shape + (1,) * (first.ndim - 2)), first, later)

  ends = jnp.arange(text.shape[1]) == words[:, None] - 1
  second = jnp.pad(text[other][:, 1:], ((0, 0), (0, 1)))
  return {
    **batch,
    'sound': jnp.where(join[:, None, None], behind(sound, sound[other], frames), sound),
    'frames': frames + jnp.where(join, frames[other], 0),
    'text': jnp.where(join[:, None], behind(jnp.where(ends, between, text), second, words), text),
  }
