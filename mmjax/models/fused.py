"""One model family for every way of bringing words and regions together, so that nothing but the way differs.

After VOLTA (Bugliarello et al. 2021, arXiv:2011.15124), which put five models into one frame and found that, with equal
data, budget and seeds, little of what told them apart was left; and METER (Dou et al. 2022, arXiv:2111.02387), which
compares merged attention with co-attention. A fusion is one line:

  [raw |] SCHEDULE [| JOIN]

  raw       nothing is encoded by itself: words (a table) and regions (one linear map of feature and box) are one
            sequence under one norm. Without it, words are embedded as by BERT and regions as by LXMERT
  SCHEDULE  which stream reads which, in what order (fusion/schedule.py): t words, v regions. p and q are bottlenecks:
            learnt tokens, the same for both at first and after each layer set to their mean (MBT, Nagrani et al. 2021,
            arXiv:2107.00135, section 3.2 and eq. 8-9), as in `2*[t<tp p<tp tied; v<vq q<vq tied]`
  JOIN      what is answered from, `text` where it is not said:
    text      the first word, through a pooler
    image     the mean of the regions, likewise
    concat    both side by side
    product   their product, element by element (as ViLBERT's, arXiv:1908.02265, section 3.2)
    gated     a mixture, by a gate that reads both (GMU, Arevalo et al. 2017, arXiv:1702.01992, section 3.1)
    lowrank   a bilinear form of low rank (MLB, Kim et al. 2017, arXiv:1610.04325)
    decisions the mean of what either would answer alone

B questions, N images (B a multiple of N), L words, R regions, F features, D width, V vocabulary, A answers.

Differs from the papers: sizes are equal for all; the pooler is BERT's (tanh) for all, also before GMU's gate; decisions
are averaged as probabilities, where MBT averages logits; geometry=True adds a bias from where regions lie wherever
regions read regions.
"""

from dataclasses import dataclass, replace
from functools import cache

import jax
import jax.numpy as jnp
from flax import linen as nn

from mmjax.encoders.regions import BoxGeometry, RegionEmbed
from mmjax.errors import UserError, nearest
from mmjax.fusion.layers import FusionStack
from mmjax.fusion.schedule import Schedule, parse, reaches
from mmjax.layers.blocks import Pooler, Transform, made_of
from mmjax.layers.embed import Embed, TextEmbed

JOINS = {  # -> the streams that are read
  'text': 't', 'image': 'v', 'concat': 'tv', 'product': 'tv', 'gated': 'tv', 'lowrank': 'tv', 'decisions': 'tv',
}  # fmt: skip
RAW = 'raw'
STREAMS = 'tvpq'


@dataclass(frozen=True)
class Fusion:
  """A line, read. str() writes it in the one normal form."""

  raw: bool
  schedule: Schedule
  join: str

  def __str__(self):
    return ' | '.join([*[RAW] * self.raw, str(self.schedule), self.join])

  @property
  def streams(self) -> str:
    """'t', 'v', 'p', 'q': those that there are."""
    return ''.join(s for s in STREAMS if s in self.schedule.streams or s in JOINS[self.join])

  def sees(self, stream: str) -> bool:
    """Whether the answer can depend on 't' or 'v'. What bottlenecks exchange after a layer counts."""
    seen = self.schedule
    if 'p' in seen.streams:  # the mean of two bottlenecks: either holds what the other does
      both = parse('1*[p<q q<p noffn]').groups
      seen = Schedule(tuple(g for group in seen.groups for g in (replace(group, repeats=1), *both) * group.repeats))
    return any(reaches(seen, stream, read) for read in JOINS[self.join])


@cache
def parse_fusion(line: str) -> Fusion:
  """Reads a line. Raises UserError that names the part at fault."""
  parts = [part.strip() for part in line.split('|')]
  raw = len(parts) > 1 and parts[0] == RAW
  schedule, *rest = parts[raw:]
  join = rest[0] if rest else 'text'
  if len(rest) > 1:
    raise UserError(
      f"fusion {line!r}: found {len(rest)} parts behind the schedule, expected '[raw |] SCHEDULE [| JOIN]'"
    )
  if join not in JOINS:
    raise UserError(f'fusion {line!r}: found join {join!r}, expected one of {", ".join(JOINS)}{nearest(join, JOINS)}')
  plan = parse(schedule, STREAMS)
  if ('p' in plan.streams) != ('q' in plan.streams):
    raise UserError(f'fusion {line!r}: found one of the bottlenecks p and q, expected both or neither')
  return Fusion(raw, plan, join)


class Joined(nn.Module):
  """Streams -> logits [B,A], by one of JOINS. t [B,L,D] or None, v [B,R,D] or None, both as they are encoded."""

  how: str
  answers: int
  width: int
  eps: float
  init_std: float

  @nn.compact
  def __call__(self, t: jax.Array | None, v: jax.Array | None) -> jax.Array:
    dense = lambda size, name: nn.Dense(size, kernel_init=nn.initializers.normal(self.init_std), name=name)
    pool = lambda x, name: Pooler(self.width, self.init_std, name=name)(x)
    answer = lambda x, name='': dense(self.answers, f'{name}answer_score')(
      Transform(2 * self.width, self.eps, init_std=self.init_std, name=f'{name}answer')(x)
    )
    read = {}
    if t is not None and 't' in JOINS[self.how]:
      read['t'] = pool(t, 'pooler_t')
    if v is not None and 'v' in JOINS[self.how]:
      read['v'] = pool(v.mean(1, keepdims=True), 'pooler_v')
    if self.how in ('text', 'image'):
      return answer(*read.values())
    t, v = read['t'], read['v']
    if self.how == 'decisions':
      return jnp.log((nn.softmax(answer(t, 't_')) + nn.softmax(answer(v, 'v_'))) / 2)
    both = jnp.concatenate([t, v], -1)
    if self.how == 'concat':
      return answer(both)
    if self.how == 'product':
      return answer(t * v)
    if self.how == 'gated':
      gate = nn.sigmoid(dense(self.width, 'gate')(both))
      return answer(gate * t + (1 - gate) * v)
    low = jnp.tanh(dense(self.width, 'low_t')(t)) * jnp.tanh(dense(self.width, 'low_v')(v))
    return answer(dense(self.width, 'high')(low))


class Fused(nn.Module):
  """text [B,L] int (below vocab), text_mask [B,L] bool (True: can be read), regions [N,R,F] float, boxes [N,R,4] float
  (x1 y1 x2 y2 in 0..1).

  Returns 'answers' [B,A], logits, and the streams that the fusion has, 't' [B,L,D] and 'v' [N or B,R,D]. Raises
  UserError for a fusion that cannot be read.
  """

  fusion: str
  num_answers: int
  vocab: int
  positions: int
  width: int = 768
  heads: int = 12
  mlp: int = 3072
  bottlenecks: int = 4  # tokens of p, and of q; section 4.2 of MBT
  eps: float = 1e-12
  activation: str = 'gelu'
  dropout: float = 0.1
  attention_dropout: float = 0.1
  init_std: float = 0.02
  norm: str = 'post'
  geometry: bool = False
  scan: bool = True

  @property
  def schedule(self) -> str:
    return str(parse_fusion(self.fusion).schedule)

  @nn.compact
  def __call__(
    self, text: jax.Array, text_mask: jax.Array, regions: jax.Array, boxes: jax.Array, *, train: bool
  ) -> dict[str, jax.Array]:
    plan = parse_fusion(self.fusion)
    streams = plan.streams
    x = self.raw(text, regions, boxes, train) if plan.raw else self.embed(text, regions, boxes, train)
    x = {s: x[s] for s in 'tv' if s in streams}
    if 'p' in streams:
      token = self.param('bottleneck', nn.initializers.normal(self.init_std), (self.bottlenecks, self.width))
      x |= dict.fromkeys('pq', jnp.broadcast_to(token, (len(text), *token.shape)))
    bias = {}
    if self.geometry and 'v' in streams:
      bias['v<v'] = BoxGeometry(self.heads, name='geometry')(boxes)
    x = self.fuse(plan, x, {'t': text_mask} if 't' in streams else {}, bias, train)
    if self.norm == 'pre':
      x = {s: nn.LayerNorm(epsilon=self.eps, name=f'{s}_norm')(value) for s, value in x.items()}
    rows = lambda v: jnp.repeat(v, len(text) // len(v), 0)  # an image's regions, for each question
    join = Joined(plan.join, self.num_answers, self.width, self.eps, self.init_std, name='joined')
    answers = join(x.get('t'), rows(x['v']) if 'v' in x else None)
    return {s: x[s] for s in x if s in 'tv'} | {'answers': answers}

  def embed(self, text, regions, boxes, train) -> dict[str, jax.Array]:
    """Each by its own encoder; what is not asked for costs nothing, as it has no use."""
    words = made_of(TextEmbed, self, 'text', types=0)
    places = made_of(RegionEmbed, self, 'regions')
    streams = parse_fusion(self.fusion).streams
    x = {'t': words(text, train=train)} if 't' in streams else {}
    return x | ({'v': places(regions, boxes, train=train)} if 'v' in streams else {})

  def raw(self, text, regions, boxes, train) -> dict[str, jax.Array]:
    """One sequence of words and regions, told apart by a learnt vector each, under one norm."""
    embed = lambda size, name: Embed(size, self.width, init_std=self.init_std, name=name)
    kind = embed(2, 'modality')(jnp.arange(2))
    t = embed(self.vocab, 'word')(text) + embed(self.positions, 'position')(jnp.arange(text.shape[1])) + kind[0]
    dense = nn.Dense(self.width, kernel_init=nn.initializers.normal(self.init_std), name='region')
    v = dense(jnp.concatenate([regions, boxes], -1)) + kind[1]
    norm, drop = nn.LayerNorm(epsilon=self.eps, name='norm'), nn.Dropout(self.dropout, deterministic=not train)
    return {'t': drop(norm(t)), 'v': drop(norm(v))}

  def fuse(self, plan, x, mask, bias, train) -> dict[str, jax.Array]:
    """The schedule; with bottlenecks layer by layer, as their mean is taken after each."""
    if 'p' not in x:
      return made_of(FusionStack, self, 'encoder', schedule=self.schedule)(x, mask, bias=bias, train=train)
    layers = [replace(group, repeats=1) for group in plan.schedule.groups for _ in range(group.repeats)]
    for n, layer in enumerate(layers):
      stack = made_of(FusionStack, self, f'layer{n}', schedule=str(Schedule((layer,))), scan=False)
      at = {name: jnp.repeat(a, len(x['v']) // len(a), 0) for name, a in bias.items()}  # rows grow where streams meet
      x = stack(x, mask, bias=at, train=train)
      x |= dict.fromkeys('pq', (x['p'] + x['q']) / 2)
    return x
