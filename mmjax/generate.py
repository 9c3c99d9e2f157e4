"""Decoding: a model that scores the next token, and what is written with it.

A model is a function `step(cache, ids [B,Q], at) -> (logits [B,Q,V], cache)`: it is given the ids at the positions from
`at` on, and what it returned before (None at first), and scores the token that follows each. What it keeps are arrays
whose fourth axis from the end is B, as in `layers.cache.CACHE`. All functions here can be jitted; they stop when every
row has ended.

B rows, P prompt, Q new ids, T ids in all, V vocabulary, K beams.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange

from mmjax.errors import UserError

Step = Callable[[Any, jax.Array, Any], tuple[jax.Array, Any]]
NEVER = -jnp.inf  # the score of a text that is none


def barring(step: Step, never: Sequence[int] = (), first: Sequence[int] = ()) -> Step:
  """A step that scores ids in `never` -inf, and those in `first` where the first id behind the prompt is chosen.

  Raises UserError for an id that is none of the vocabulary's.
  """

  def barred(cache: Any, ids: jax.Array, at: jax.Array | int) -> tuple[jax.Array, Any]:
    logits, kept = step(cache, ids, at)
    out = sorted({*never, *(first if cache is None else ())})
    if out and not 0 <= out[0] <= out[-1] < logits.shape[-1]:
      raise UserError(f'ids that may not be written: found {out[0]} to {out[-1]}, expected 0 to {logits.shape[-1] - 1}')
    return (logits.at[..., jnp.array(out)].set(NEVER) if out else logits), kept

  return barred


def greedy(step: Step, prompt: jax.Array, *, length: int, end: int = -1, pad: int = 0) -> jax.Array:
  """The likeliest token after each. prompt [B,P] int -> [B,length] int; `pad` follows `end` (-1: there is no end)."""
  return _written(step, prompt, lambda logits, at: logits.argmax(-1), length, end, pad)


def sample(
  step: Step,
  prompt: jax.Array,
  key: jax.Array,
  *,
  length: int,
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
  end: int = -1,
  pad: int = 0,
) -> jax.Array:
  """Tokens drawn by their probability; prompt and result as `greedy`. Position i is drawn with fold_in(key, i).

  temperature: above 0; logits are divided by it. top_k: only the k likeliest (0: all). top_p: only the likeliest that
  together have this probability (nucleus, Holtzman et al. 2020, arXiv:1904.09751), of 0..1.
  Raises UserError for numbers that leave nothing to draw from.
  """
  if temperature <= 0 or top_k < 0 or not 0 < top_p <= 1:
    raise UserError(
      f'temperature {temperature}, top_k {top_k}, top_p {top_p}: expected above 0, at least 0, above 0 to 1'
    )

  def choose(logits, at):
    return jax.random.categorical(jax.random.fold_in(key, at), likeliest(logits / temperature, top_k, top_p))

  return _written(step, prompt, choose, length, end, pad)


def likeliest(logits: jax.Array, top_k: int = 0, top_p: float = 1.0) -> jax.Array:
  """Logits [B,V] with -inf for all but the k likeliest, and then for those beyond the nucleus. Ties stay together."""
  if top_k:
    least = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  if top_p < 1:
    ordered = -jnp.sort(-logits, -1)
    share = jax.nn.softmax(ordered, -1)
    inside = share.cumsum(-1) - share < top_p  # what stands before a token leaves room for it
    least = jnp.where(inside, ordered, jnp.inf).min(-1, keepdims=True)
    logits = jnp.where(logits < least, -jnp.inf, logits)
  return logits


def _written(step: Step, prompt: jax.Array, choose: Callable, length: int, end: int, pad: int) -> jax.Array:
  """The loop: choose(logits [B,V], position) -> [B] until `length` or until every row has ended."""
  _check(prompt, length)
  rows, given = prompt.shape
  ids = jnp.full((rows, length), pad, prompt.dtype).at[:, :given].set(prompt)
  logits, cache = step(None, prompt, 0)

  def more(state):
    at, _, done, _, _ = state
    return (at < length) & ~done.all()

  def write(state):
    at, ids, done, logits, cache = state
    new = jnp.where(done, pad, choose(logits, at)).astype(ids.dtype)
    ids = jax.lax.dynamic_update_slice_in_dim(ids, new[:, None], at, 1)
    logits, cache = step(cache, new[:, None], at)
    return at + 1, ids, done | (new == end), logits[:, -1], cache

  start = (given, ids, jnp.zeros(rows, bool), logits[:, -1], cache)
  return jax.lax.while_loop(more, write, start)[1]


class Beams(NamedTuple):
  ids: jax.Array  # [B,K,T]
  score: jax.Array  # [B,K]: sums of log-probabilities; of ended ones divided by their length ** penalty

  def best(self, order: jax.Array) -> 'Beams':
    """Those at the given places [B,K] of each row."""
    return Beams(jnp.take_along_axis(self.ids, order[..., None], 1), jnp.take_along_axis(self.score, order, 1))


def beam(
  step: Step,
  prompt: jax.Array,
  *,
  beams: int,
  length: int,
  penalty: float = 1.0,
  shortest: int = 0,
  end: int = -1,
  pad: int = 0,
) -> jax.Array:
  """The best of K texts that grow side by side. prompt [B,P] int -> [B,length] int, padded as `greedy`'s.

  An ended text counts its log-probability divided by (ids written ** penalty). A row stops when no text that still
  grows would beat the worst of its K ended ones if it ended now. shortest: no text ends before this many ids in all.
  As HuggingFace's beam search with early_stopping=False.
  Raises UserError for no beams, and for a prompt that leaves no room.
  """
  _check(prompt, length)
  if beams < 1:
    raise UserError(f'beams: found {beams}, expected at least 1')
  rows, given = prompt.shape
  logits, cache = step(None, prompt, 0)
  vocab = logits.shape[-1]
  every = lambda a: jnp.repeat(a, beams, axis=a.ndim - 4)
  first = jnp.full((rows, beams, length), pad, prompt.dtype).at[:, :, :given].set(prompt[:, None])
  growing = Beams(first, jnp.tile(jnp.array([0.0] + [NEVER] * (beams - 1)), (rows, 1)))
  ended = Beams(first, jnp.full((rows, beams), NEVER))

  def more(state):
    at, growing, ended, _, _ = state
    hope = growing.score[:, 0] / (at - given).astype(float) ** penalty
    return (at < length) & ((at == given) | (hope > ended.score.min(-1)).any())

  def grow(state):
    at, growing, ended, logits, cache = state
    score = jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(rows, beams, vocab)
    if shortest and end >= 0:
      score = jnp.where((at < shortest) & (jnp.arange(vocab) == end), -jnp.inf, score)
    best, place = jax.lax.top_k((growing.score[..., None] + score).reshape(rows, -1), 2 * beams)
    new = (place % vocab).astype(prompt.dtype)
    ids = jnp.take_along_axis(growing.ids, (place // vocab)[..., None], 1)
    ids = jax.lax.dynamic_update_slice_in_dim(ids, new[..., None], at, 2)
    ends = (new == end) | (at == length - 1)
    # those that end now, of the K best, among those that had ended
    at_end = best / (at + 1 - given).astype(float) ** penalty
    at_end = jnp.where(ends & (jnp.arange(2 * beams) < beams), at_end, NEVER)
    known = Beams(jnp.concatenate([ended.ids, ids], 1), jnp.concatenate([ended.score, at_end], 1))
    ended = known.best(jax.lax.top_k(known.score, beams)[1])
    # those that go on, and where each came from
    order = jax.lax.top_k(jnp.where(ends, NEVER, best), beams)[1]
    growing = Beams(ids, best).best(order)
    parent = jnp.take_along_axis(place // vocab, order, 1) + beams * jnp.arange(rows)[:, None]
    cache = jax.tree.map(lambda a: jnp.take(a, parent.reshape(-1), axis=a.ndim - 4), cache)
    new = jnp.take_along_axis(new, order, 1)
    logits, cache = step(cache, rearrange(new, 'B K -> (B K) 1'), at)
    return at + 1, growing, ended, logits[:, -1], cache

  start = (given, growing, ended, jnp.repeat(logits[:, -1], beams, 0), jax.tree.map(every, cache))
  _, growing, ended, _, _ = jax.lax.while_loop(more, grow, start)
  return ended.ids[:, 0]


def _check(prompt: jax.Array, length: int) -> None:
  if not 0 < prompt.shape[1] < length:
    raise UserError(f'prompt of {prompt.shape[1]} ids: expected 1 to {length - 1}, as {length} are written in all')
