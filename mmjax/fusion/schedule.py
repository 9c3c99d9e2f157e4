"""The schedule language: which stream reads which, in what order, is one string. Pure Python, no JAX.

  schedule = group { group } ;            N "*[...]": N layers, each with its own weights
  group    = N "*[" sub { ";" sub } "]" ; the sub-layers of a layer run one after the other
  sub      = item { item } { word } ;     the items of a sub-layer all read the values from before it
  item     = stream [ "<" source { source } ] ;    without "<": feed-forward only
  source   = stream [ "'" ] ;             v' is v as it entered the bracket
  word     = "tied" | "noffn" | H "x" C ; HxC: heads x head size of this attention
  stream   = "a".."z" ;                   t text, v image or regions, f video frames, a audio, s series

LXMERT is `9*[t<t] 5*[v<v] 5*[t<v v<t tied noffn; t<t v<v]`; fusion/schedules.py has the others.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import NoReturn

from mmjax.errors import UserError

_TOKEN = re.compile(
  r"(?P<item>[a-z](?![a-z])(?:\s*<\s*(?:[a-z]'?)+)?)|(?P<shape>\d+x\d+)|(?P<open>\d+\s*\*\s*\[)|(?P<mark>[;\]])|(?P<word>[a-z]+)"
)
MOST_LAYERS, WIDEST = 1000, 65_536  # beyond any model: a slip of the keyboard
_AFTER_ITEM = "an item as 'v<t', 'tied', 'noffn', HxC, ';' or ']'"


@dataclass(frozen=True)
class Source:
  stream: str
  entry: bool = False  # v': the value with which the stream entered the bracket

  def __str__(self):
    return self.stream + "'" * self.entry


@dataclass(frozen=True)
class Item:
  reader: str
  sources: tuple[Source, ...] = ()

  def __str__(self):
    return self.reader + '<' * bool(self.sources) + ''.join(map(str, self.sources))


@dataclass(frozen=True)
class Sub:
  items: tuple[Item, ...]
  tied: bool = False
  ffn: bool = True
  shape: tuple[int, int] | None = None  # (heads, head size)

  def __str__(self):
    words = (
      ['tied'] * self.tied + ['noffn'] * (not self.ffn) + ([f'{self.shape[0]}x{self.shape[1]}'] if self.shape else [])
    )
    return ' '.join([*map(str, self.items), *words])

  @property
  def streams(self) -> tuple[str, ...]:
    """The streams that it touches, in order of appearance."""
    return tuple(dict.fromkeys(s for i in self.items for s in (i.reader, *(source.stream for source in i.sources))))


@dataclass(frozen=True)
class Group:
  repeats: int
  subs: tuple[Sub, ...]

  def __str__(self):
    return f'{self.repeats}*[{"; ".join(map(str, self.subs))}]'

  @property
  def streams(self) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s for sub in self.subs for s in sub.streams))


@dataclass(frozen=True)
class Schedule:
  """A parsed schedule; str() prints it back in the one normal form, which parses to the same."""

  groups: tuple[Group, ...]

  def __str__(self):
    return ' '.join(map(str, self.groups))

  @property
  def streams(self) -> tuple[str, ...]:
    return tuple(dict.fromkeys(s for group in self.groups for s in group.streams))

  @property
  def edges(self) -> tuple[str, ...]:
    """Every attention, as 'reader<sources' without quotes: the names under which masks and maps are found."""
    return tuple(dict.fromkeys(edge(i) for g in self.groups for sub in g.subs for i in sub.items if i.sources))


def edge(item: Item) -> str:
  """The name of an item's attention: 't<tv'."""
  return f'{item.reader}<{"".join(source.stream for source in item.sources)}'


@cache
def parse(text: str, streams: str = '') -> Schedule:
  """Reads a schedule. `streams` names those that exist, where that is known ('tv').

  Raises UserError with the position (from 1), what was found there and what was expected.
  """
  return _Parser(text, streams).schedule()


class _Parser:
  """Recursive descent over tokens (kind, text, position from 0)."""

  def __init__(self, text: str, streams: str):
    self.text, self.streams = text, streams
    self.tokens: list[tuple[str, str, int]] = []
    at = 0
    while at < len(text.rstrip()):
      at += len(text[at:]) - len(text[at:].lstrip())
      match = _TOKEN.match(text, at)
      if match:
        self.tokens.append((str(match.lastgroup), re.sub(r'\s', '', match[0]), at))
      else:  # kept: the parser knows better than the scanner what should stand here
        self.tokens.append(('stray', text[at], at))
      at = match.end() if match else at + 1
    self.tokens.append(('end', 'the end', len(text.rstrip())))

  def fail(self, at: int, found: str, expected: str) -> NoReturn:
    raise UserError(f'schedule {self.text!r}, position {at + 1}: found {found}, expected {expected}')

  def take(self, kinds: tuple[str, ...], expected: str) -> tuple[str, str, int]:
    kind, text, at = self.tokens[0]
    if kind not in kinds:
      self.fail(at, text if kind == 'end' else repr(text), expected)
    return self.tokens.pop(0)

  def schedule(self) -> Schedule:
    groups = [self.group()]
    while self.tokens[0][0] != 'end':
      groups.append(self.group())
    return Schedule(tuple(groups))

  def group(self) -> Group:
    _, text, at = self.take(('open',), "a group as '5*[t<t]'")
    repeats = int(text.removesuffix('*['))
    if not 1 <= repeats <= MOST_LAYERS:
      self.fail(at, f'{repeats} layers', f'1 to {MOST_LAYERS:,}')
    subs = [self.sub()]
    while self.take(('mark',), _AFTER_ITEM)[1] == ';':
      subs.append(self.sub())
    return Group(repeats, tuple(subs))

  def sub(self) -> Sub:
    start, items = self.tokens[0][2], [self.item()]
    while self.tokens[0][0] == 'item':
      at = self.tokens[0][2]
      items.append(self.item())
      if items[-1].reader in [item.reader for item in items[:-1]]:
        self.fail(at, f'a second item of stream {items[-1].reader!r}', "one item a stream between ';' and ';'")
    words, shape = set(), None
    while self.tokens[0][0] in ('word', 'shape'):
      kind, word, at = self.tokens.pop(0)
      if word in words or (kind == 'shape' and shape):
        self.fail(at, 'a second head shape' if kind == 'shape' else f'a second {word!r}', 'each word once')
      if kind == 'shape':
        shape = (int(word.split('x')[0]), int(word.split('x')[1]))
      elif word == 'causal':
        self.fail(at, "'causal'", "'tied', 'noffn' or HxC; causality is an edge mask, which the model sets")
      elif word not in ('tied', 'noffn'):
        self.fail(at, repr(word), _AFTER_ITEM)
      words.add(word)
    if 'noffn' in words and not all(item.sources for item in items):
      self.fail(start, "an item without '<' beside 'noffn', which does nothing", "an item as 't<v'")
    if shape and not (min(shape) >= 1 and shape[0] * shape[1] <= WIDEST and any(item.sources for item in items)):
      self.fail(start, f'head shape {shape[0]}x{shape[1]}', f"1x1 to {WIDEST:,} in all, and an item with '<'")
    return Sub(tuple(items), 'tied' in words, 'noffn' not in words, shape)

  def item(self) -> Item:
    _, text, at = self.take(('item',), "an item as 't<v' (stream t reads v) or 't' (feed-forward only)")
    reader, _, read = text.partition('<')
    sources = tuple(Source(s[0], s.endswith("'")) for s in re.findall("[a-z]'?", read))
    for stream in (reader, *(source.stream for source in sources)):
      if self.streams and stream not in self.streams:
        self.fail(at, f'stream {stream!r}', f'one of {", ".join(self.streams)}')
    if len(set(sources)) < len(sources):
      self.fail(at, f'{text!r}', 'each source once')
    return Item(reader, sources)


def skipping(schedule: Schedule, streams: str) -> Schedule:
  """What is left of a schedule where these streams are not there: nothing reads them, and they read nothing.

  A reader that has lost all its sources keeps its feed-forward. Sub-layers keep their number, so that each finds the
  weights it has in the whole: one may be left with nothing to do.
  """

  def item(found: Item, ffn: bool) -> tuple[Item, ...]:
    left = tuple(source for source in found.sources if source.stream not in streams)
    there = found.reader not in streams and (left or ffn)
    return (Item(found.reader, left),) if there else ()

  sub = lambda found: replace(found, items=tuple(i for each in found.items for i in item(each, found.ffn)))
  return Schedule(tuple(Group(group.repeats, tuple(map(sub, group.subs))) for group in schedule.groups))


def sees_future(schedule: Schedule, stream: str) -> bool:
  """Whether a position of `stream` can learn of a later one although the edge stream<stream is causal.

  It can where another stream reads `stream` (whole, as only stream<stream is masked), directly or by way of others, and
  `stream` reads that one afterwards. A model that sets a causal mask asks this first and refuses such a schedule.
  """
  knowing: set[str] = set()  # streams that hold the whole of `stream`
  for group in schedule.groups:
    for _ in range(min(group.repeats, len(schedule.streams) + 1)):  # each repeat may carry it one stream further
      entry = set(knowing)
      for sub in group.subs:
        before = set(knowing)
        for item in sub.items:
          held = [source.stream for source in item.sources if source.stream in (entry if source.entry else before)]
          if item.reader == stream and held:
            return True
          if item.reader != stream and (held or stream in [source.stream for source in item.sources]):
            knowing.add(item.reader)
  return False


def reaches(schedule: Schedule, source: str, reader: str) -> bool:
  """Whether anything of stream `source` can be in `reader` at the end, read directly or by way of others."""
  holding = {source}
  for group in schedule.groups:
    for _ in range(min(group.repeats, len(schedule.streams) + 1)):  # each repeat may carry it one stream further
      entry = set(holding)
      for sub in group.subs:
        before = set(holding)
        holding |= {
          item.reader for item in sub.items for s in item.sources if s.stream in (entry if s.entry else before)
        }
  return reader in holding
