"""Layers whose attention edges are data: a schedule (fusion/schedule.py) says which stream reads which.

B batch, N repeats of a group, Q queries, K keys, D width, H heads, C head size.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from mmjax.errors import UserError, nearest
from mmjax.fusion.meeting import Streams, meet, meeting
from mmjax.fusion.owner import Owner, PerStream, head_shape, per_stream
from mmjax.fusion.schedule import Group, Item, Source, Sub, edge, parse, skipping
from mmjax.layers.attention import attend
from mmjax.layers.cache import CACHE, remembered
from mmjax.layers.packed import Packed, packed
from mmjax.layers.ways import layer_step

Memory = Mapping[str, tuple[int, jax.Array | int]]  # stream -> (rows that are kept of it, the row where a call's begin)

MAPS = 'attention'  # collection of attention maps: apply(..., mutable=[MAPS]) captures them
TOUCH = 'touch'  # what is added to them, of the same structure: for gradients by them, see fusion/relevance.py
STATES = (
  'states'  # collection of the streams after each layer, and of what each sub-layer's attention and feed-forward made
)
ENTRY = 'entry'  # ... and, under this name, before the first
STACKED = ('params', MAPS, STATES, CACHE, TOUCH)  # collections that have an axis for the repeats of a scanned layer


def watched(module: nn.Module, name: str, value: jax.Array) -> jax.Array:
  """A value that the caller can capture in MAPS, and move by what is given in TOUCH."""
  if module.is_initializing():
    return value
  value = module.perturb(name, value, TOUCH)
  module.sow(MAPS, name, value, reduce_fn=lambda _, new: new)
  return value


def keep(module: nn.Module, collection: str, name: str, value: Any) -> None:
  """Captures a value where the caller asked for its collection."""
  if not module.is_initializing():
    module.sow(collection, name, value, reduce_fn=lambda _, new: new)


def weighing(module: nn.Module, name: str, drop: nn.Dropout) -> Callable[[jax.Array], jax.Array] | None:
  """What attention weights go through: they are watched, then dropped. None where neither is done this time."""
  seen = any(module.is_mutable_collection(kind) for kind in (MAPS, TOUCH)) or module.has_variable(TOUCH, name)
  if seen or not (drop.deterministic or drop.rate == 0):
    return lambda weights: drop(watched(module, name, weights))
  return None


def read_itself(module: nn.Module, name: str, owner: Owner, x: jax.Array, drop: nn.Dropout) -> jax.Array:
  """What x [B,K,D] reads of itself by an owner's weights, its map watched under `name`; no norm, nothing added."""
  keys, values = owner.keys_values(x)
  mixed = attend(owner.split(owner.query(x)), keys, values, weigh=weighing(module, name, drop))
  return owner.out(rearrange(mixed, 'B Q H C -> B Q (H C)'))


class FusionLayer(nn.Module):
  """One layer of a group: its sub-layers in order, each reading the values from before it.

  Queries, output and norms belong to the reader; keys and values to the source, shared by all its readers in that
  sub-layer. 'tied' is one set of weights for all of them. One softmax runs over all sources of a reader.
  Post-norm: y = LN(x + drop(attention(x))), z = LN(y + drop(ffn(y))). Pre-norm: y = x + drop(attention(LN(x))),
  z = y + drop(ffn(LN(y))), queries and sources each by their owner's norm.
  """

  group: Group
  width: PerStream
  heads: PerStream
  mlp: PerStream
  norm: str = 'post'
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  mlp_dropout: float = 0.0
  masking: str = 'replace'
  init_std: float = 0.02
  norms: str = 'layer'
  key_bias: bool = True
  normed: str = ''

  @nn.compact
  def __call__(
    self,
    x: Streams,
    mask: Streams,
    edge_mask: Streams,
    bias: Streams,
    side: Mapping[str, Packed],
    memory: Memory | None,
    *,
    train: bool,
  ) -> Streams:
    rows = lambda stream, a: side[stream].unpack(a) if stream in side else a
    drop = nn.Dropout(self.dropout, deterministic=not train)
    drop_weights = nn.Dropout(self.attention_dropout, deterministic=not train)
    post = self.norm == 'post'
    entry = x
    for n, sub in enumerate(self.group.subs):
      if not sub.items:
        continue
      owner = self.owners(sub, f'sub{n}')
      sources = {s for item in sub.items for s in item.sources}
      seen = {
        s: (entry if s.entry else x)[s.stream] for s in sources | {Source(i.reader) for i in sub.items if i.sources}
      }
      if not post:
        own = lambda s, value, owner=owner: value if s.stream in self.normed else owner[s.stream].norm(value)
        seen = {s: own(s, value) for s, value in sorted(seen.items(), key=str)}
      read = {s: owner[s.stream].keys_values(seen[s]) for s in sorted(sources, key=str)}
      read = {s: (rows(s.stream, k), rows(s.stream, v)) for s, (k, v) in read.items()}
      if memory is not None:
        kept = lambda s, what, a, n=n: remembered(self, f'sub{n}/{s}/{what}', a, *memory[s.stream])
        read = {s: (kept(s, 'k', k), kept(s, 'v', v)) for s, (k, v) in read.items()}
      y = dict(x)
      for item in sub.items:
        mine = owner[item.reader]
        if item.sources:
          k, v = (jnp.concatenate(part, 1) for part in zip(*(read[s] for s in item.sources), strict=True))
          name = f'sub{n}/{edge(item)}'
          values = attend(
            rows(item.reader, mine.split(mine.query(seen[Source(item.reader)]))),
            k,
            v,
            _mask(item, [read[s][0] for s in item.sources], mask, edge_mask),
            bias=_bias(item, [read[s][0] for s in item.sources], bias),
            masking=self.masking,
            weigh=weighing(self, name, drop_weights),
          )
          values = rearrange(values, 'B Q H C -> B Q (H C)')
          values = side[item.reader].pack(values) if item.reader in side else values
          y[item.reader] = x[item.reader] + drop(mine.out(values))
          if post:
            y[item.reader] = mine.norm(y[item.reader])
        if sub.ffn:
          before = y[item.reader]
          if item.sources:
            keep(self, STATES, f'sub{n}/{item.reader}/attention', before)
          y[item.reader] = before + drop(mine.ffn(before if post else mine.ffn_norm(before), train=train))
          if post:
            y[item.reader] = mine.ffn_norm(y[item.reader])
        keep(self, STATES, f'sub{n}/{item.reader}', y[item.reader])
      x = y
    for stream in self.group.streams:
      keep(self, STATES, stream, x[stream])
    return x

  def owners(self, sub: Sub, name: str) -> dict[str, Owner]:
    """stream -> its weights in this sub-layer."""
    if sub.tied:
      self.check_tied(sub)
    shapes = self.head_shapes(sub)
    owner = lambda stream, called: Owner(
      per_stream(self.width, stream, 'width'),
      *shapes[stream],
      per_stream(self.mlp, stream, 'mlp'),
      self.eps,
      self.activation,
      self.mlp_dropout,
      self.init_std,
      self.norms,
      self.key_bias,
      name=f'{name}_{called}',
    )
    if not sub.tied:
      return {stream: owner(stream, stream) for stream in sub.streams}
    shared = owner(sub.items[0].reader, 'tied')
    return dict.fromkeys(sub.streams, shared)

  def check_tied(self, sub: Sub):
    """Raises UserError where one set of weights would have to have two sizes."""
    readers = [item.reader for item in sub.items]
    used = {'width': sub.streams, 'heads': () if sub.shape else readers, 'mlp': readers if sub.ffn else ()}
    for name, streams in used.items():
      found = {stream: per_stream(getattr(self, name), stream, name) for stream in streams}
      if len(set(found.values())) > 1:
        raise UserError(f"schedule '{sub}': tied streams of {name} {found}, expected one number")

  def head_shapes(self, sub: Sub) -> dict[str, tuple[int, int]]:
    """stream -> (heads, head size) of its projections: the reader's own, which its sources take over."""
    own = {item.reader: head_shape(self.width, self.heads, item.reader) for item in sub.items}
    shapes: dict[str, tuple[int, int]] = {}
    for item in sub.items:
      for stream in (item.reader, *(source.stream for source in item.sources)):
        wanted = sub.shape or own[item.reader]
        if item.sources and shapes.setdefault(stream, wanted) != wanted:
          raise UserError(
            f"schedule '{sub}': stream {stream!r} is read with head shapes {shapes[stream]} and {wanted}, "
            'expected one (a word HxC sets it for the sub-layer)'
          )
    return own | shapes


def _mask(item: Item, keys: list[jax.Array], mask: Streams, edge_mask: Streams) -> jax.Array | None:
  """What the reader may read of its sources' keys [B,K,H,C], side by side: bool [B|1,1|Q,K], or None where all."""
  parts = []
  for source in (s.stream for s in item.sources):
    own, along = mask.get(source), edge_mask.get(f'{item.reader}<{source}')
    parts.append([m for m in (None if own is None else own[:, None], along) if m is not None])
  if not any(parts):
    return None
  rows = max((m.shape[1] for part in parts for m in part), default=1)
  every = [jnp.ones((len(k), rows, k.shape[1]), bool) for k in keys]
  return jnp.concatenate(
    [one & part[0] & part[-1] if part else one for one, part in zip(every, parts, strict=True)], -1
  )


def _bias(item: Item, keys: list[jax.Array], bias: Streams) -> jax.Array | None:
  """What is added to the reader's scores, sources side by side: [B,H,Q,K], or None where nothing is."""
  found = [bias.get(f'{item.reader}<{s.stream}') for s in item.sources]
  given = [b for b in found if b is not None]
  if not given:
    return None
  zero = lambda k: jnp.zeros((*given[0].shape[:3], k.shape[1]))
  return jnp.concatenate([zero(k) if b is None else b for k, b in zip(keys, found, strict=True)], -1)


class FusionStack(nn.Module):
  """All groups of a schedule. {stream: [B,·,D]} -> the same streams, read by one another.

  width, heads, mlp: one number, or one per stream. mask {'t': bool [B,K]}, edge_mask {'t<t': bool [B|1,Q,K]} and
  bias {'v<v': float [B,H,Q,K]}; a missing name hides and adds nothing. A stream may have fewer rows than another (one
  image for N questions): it is repeated row by row where the two first meet, so that its own layers run once an image.
  row_of {'v': [B] int}: which row of it each row of the others meets, where that is not B / N in turn.
  places {'t': [P,T] int}: where a stream with a mask holds something (layers/packed.py): what goes by positions leaves
  out the rest, which comes back as zeros. None, there and here: as if not named.
  Each group is one nn.scan over its repeats, so that compile time does not grow with depth; parameters then have a
  leading axis of that length. scan=False gives each repeat its own module (see unrolled.py).
  memory {'t': (rows, at)}: keys and values are kept in the collection CACHE, those of this call from row `at` on, and
  masks are over all rows (0: as many as the first call gives). A stream that is read and gives nothing new has no rows:
  an encoded image is given and kept once.
  key_bias: whether keys have a bias, to which a softmax is blind.
  normed: streams that come normed, as an encoder's last norm gives them: pre-norm layers read them as they are.
  without: streams of the schedule that are not there this time (`schedule.skipping`); initialise with all of them.
  Raises UserError for a schedule that cannot be run with these streams, widths and heads.
  """

  schedule: str
  width: PerStream
  heads: PerStream
  mlp: PerStream
  norm: str = 'post'
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  mlp_dropout: float = 0.0
  masking: str = 'replace'
  init_std: float = 0.02
  norms: str = 'layer'
  key_bias: bool = True
  normed: str = ''
  scan: bool = True

  @nn.compact
  def __call__(
    self,
    x: Streams,
    mask: Streams | None = None,
    edge_mask: Streams | None = None,
    bias: Streams | None = None,
    memory: Memory | None = None,
    without: str = '',
    row_of: Mapping[str, jax.Array | None] | None = None,
    places: Mapping[str, jax.Array | None] | None = None,
    *,
    train: bool,
  ) -> Streams:
    if self.norm not in ('post', 'pre'):
      raise UserError(f"norm: found {self.norm!r}, expected 'post' or 'pre'")
    for name, a in ((mask or {}) | (edge_mask or {})).items():
      if a.dtype != bool:
        raise UserError(f'mask {name!r}: found dtype {a.dtype}, expected bool (True = may be read)')
    edges = {f'{reader}<{source}' for reader in x for source in x}
    for what, names, known in (('mask', mask, set(x)), ('edge_mask', edge_mask, edges), ('bias', bias, edges)):
      for name in set(names or ()) - known:
        raise UserError(f'{what}: found {name!r}, expected one of {", ".join(sorted(known))}{nearest(name, known)}')
    plan = skipping(parse(self.schedule, ''.join(x) + without), without)
    keep(self, STATES, ENTRY, dict(x))
    side = self.side_by_side(mask or {}, _named(places), memory)
    x = {s: side[s].pack(a) if s in side else a for s, a in x.items()}
    given: Any = (x, mask or {}, edge_mask or {}, bias or {})
    met: set[str] = set()
    for g, group in enumerate(plan.groups):
      x, *rest = given = meet(group, side, {s: at for s, at in _named(row_of).items() if s not in met}, *given)
      met |= meeting(group)
      layer = partial(
        FusionLayer,
        group,
        self.width,
        self.heads,
        self.mlp,
        self.norm,
        self.eps,
        self.activation,
        self.dropout,
        self.attention_dropout,
        self.mlp_dropout,
        self.masking,
        self.init_std,
        self.norms,
        self.key_bias,
        self.normed,
      )
      step = lambda module, x, rest=rest: module(x, *rest, side, memory, train=train)
      step = layer_step(step, self.scan)
      if self.scan:
        scanned = nn.scan(
          lambda module, x, _, step=step: (step(module, x), None),
          variable_axes=dict.fromkeys(STACKED, 0),
          split_rngs={'params': True, 'dropout': True},
          length=group.repeats,
        )
        x, _ = scanned(layer(name=f'group{g}'), x, None)
      else:
        for n in range(group.repeats):
          x = step(layer(name=f'group{g}_{n}'), x)
      given = (x, *rest)
    return {s: side[s].unpack(a) if s in side else a for s, a in given[0].items()}

  def side_by_side(self, mask: Streams, places: Mapping[str, jax.Array], memory: Memory | None) -> dict[str, Packed]:
    """The streams that are packed. Raises UserError for one without a mask, and where keys are kept."""
    if places and memory is not None:
      raise UserError('places: found memory too, expected one of the two: keys are kept by rows')
    for stream in places:
      if stream not in mask:
        raise UserError(f'places of {stream!r}: found no mask of it, expected one; nothing is left out otherwise')
    return {stream: packed(mask[stream], at) for stream, at in places.items()}


def _named(given: Mapping[str, jax.Array | None] | None) -> Streams:
  return {name: a for name, a in (given or {}).items() if a is not None}
