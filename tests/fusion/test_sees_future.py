"""sees_future against what a stack does: does a changed late token move an earlier output?"""

import random

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.fusion.schedule import Group, Item, Schedule, Source, Sub, parse, sees_future
from mmjax.layers.attention import causal
from tests.fusion.streams import stack, start, streams


def random_schedule(rng):
  """Up to two groups of streams t, v and a, every item of which reads one or two streams."""

  def item(reader):
    sources = rng.sample('tva', rng.choice((1, 1, 2)))
    return Item(reader, tuple(Source(s, s != reader and rng.random() < 0.4) for s in sources))

  def sub():
    items = tuple(item(s) for s in rng.sample('tva', rng.choice((1, 2, 2, 3))))
    return Sub(items, tied=rng.random() < 0.3, ffn=rng.random() < 0.2)

  groups = [Group(rng.choice((1, 1, 2, 3)), tuple(sub() for _ in range(rng.choice((1, 1, 2))))) for _ in range(2)]
  return Schedule(tuple(groups[: rng.choice((1, 1, 2))]))


def leaks(text):
  """Runs two rows that differ in the last token of t only."""
  module = stack(text, width=4, heads=1, mlp=4, init_std=0.5)
  one = jax.random.normal(jax.random.key(1), (3, 1, 4, 4))
  x = dict(zip('tva', jnp.concatenate([one, one], 1), strict=True))
  x['t'] = x['t'].at[1, -1].set(jnp.array([1.0, -2, 3, -1]))
  y, _ = module.init_with_output(jax.random.key(0), x, edge_mask={'t<t': causal(x['t'].shape[1])}, train=False)
  return not np.array_equal(y['t'][0, :-1], y['t'][1, :-1])


def interesting(plan):
  """Another stream reads t and t reads another stream, in whatever order; short enough to run by the dozen."""
  items = [item for group in plan.groups for sub in group.subs * group.repeats for item in sub.items]
  others = lambda item: {source.stream for source in item.sources} - {item.reader}
  met = any('t' in others(i) for i in items) and any(i.reader == 't' and others(i) for i in items)
  return met and len(items) <= 10


DRAWN = [plan for plan in map(random_schedule, map(random.Random, range(2000))) if interesting(plan)]
SAID = {str(plan): sees_future(plan, 't') for plan in DRAWN}
SCHEDULES = [text for verdict in (True, False) for text in [t for t in SAID if SAID[t] is verdict][:40]]


def test_what_it_says_is_what_happens():
  found = {text: leaks(text) for text in SCHEDULES}
  assert {text: SAID[text] for text in SCHEDULES if SAID[text] != found[text]} == {}


def test_both_verdicts_meet_every_kind_of_schedule():
  for verdict in (True, False):
    plans = [parse(text) for text in SCHEDULES if SAID[text] is verdict]
    assert len(plans) == 40
    assert any("'" in str(plan) for plan in plans)
    assert any(len(plan.groups) == 2 for plan in plans)
    assert any(group.repeats > 1 for plan in plans for group in plan.groups)


def test_the_change_is_seen_where_it_may_be():
  module = stack('1*[t<t]', width=4, heads=1, mlp=4, init_std=0.5)
  x = streams('t', width=4)
  variables = start(module, x)
  masks = {'t<t': causal(x['t'].shape[1])}
  y, z = (
    module.apply(variables, {'t': t}, edge_mask=masks, train=False)['t'] for t in (x['t'], x['t'].at[:, 2].add(1))
  )
  np.testing.assert_array_equal(y[:, :2], z[:, :2])
  assert (np.abs(y - z).max(-1)[:, 2:] > 1e-4).all()
