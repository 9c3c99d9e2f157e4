"""The schedule language: what it prints, what it refuses and where, and who can see the future."""

import pytest

from mmjax.errors import UserError
from mmjax.fusion import schedules
from mmjax.fusion.schedule import Group, Item, Schedule, Source, Sub, edge, parse, sees_future, skipping

NAMED = {name: text for name, text in vars(schedules).items() if name.isupper()}


@pytest.mark.parametrize('name', NAMED)
def test_named_schedule_prints_back_to_itself(name):
  assert str(parse(NAMED[name])) == NAMED[name]


def test_the_named_schedules_are_there():
  assert len(NAMED) >= 14
  assert {schedules.LXMERT, schedules.SINGLE_STREAM, schedules.METER, schedules.Q_FORMER} <= set(NAMED.values())


def test_parsed_by_hand():
  assert parse("2*[t<tv' v tied; v<t noffn 8x64] 1*[v]") == Schedule((
    Group(2, (
      Sub((Item('t', (Source('t'), Source('v', entry=True))), Item('v')), tied=True),
      Sub((Item('v', (Source('t'),)),), ffn=False, shape=(8, 64)),
    )),
    Group(1, (Sub((Item('v'),)),)),
  ))  # fmt: skip


@pytest.mark.parametrize('text, normal', [
  ('2*[t<t]', '2*[t<t]'),
  ('  2 * [ t < t ]  ', '2*[t<t]'),
  ('2*[t<t]3*[v<v]', '2*[t<t] 3*[v<v]'),
  ('2*[t<t\n  v<v ;\tt<v  noffn]\n', '2*[t<t v<v; t<v noffn]'),
  ('2*[t<v v<t noffn tied]', '2*[t<v v<t tied noffn]'),
  ('2*[t<v v<t 8x64 noffn tied]', '2*[t<v v<t tied noffn 8x64]'),
  ("2*[t<v' v]", "2*[t<v' v]"),
  ("02*[t<vv']", "2*[t<vv']"),
])  # fmt: skip
def test_whitespace_and_order_of_words_normalise(text, normal):
  assert str(parse(text)) == normal
  assert parse(normal) == parse(text)


def test_streams_and_edges():
  plan = parse("1*[t<t] 2*[v<at' tied; a] 1*[t<t v<v]")
  assert plan.streams == ('t', 'v', 'a')
  assert plan.edges == ('t<t', 'v<at', 'v<v')
  assert edge(plan.groups[1].subs[0].items[0]) == 'v<at'
  assert plan.groups[1].subs[0].streams == ('v', 'a', 't')


WRONG = [   # schedule of streams t and v, position from 1, what the line says was found
  ('', 1, 'the end'),
  ('   ', 1, 'the end'),
  ('t<t', 1, "'t<t'"),
  ('*[t<t]', 1, r"'\*'"),
  ('0*[t<t]', 1, '0 layers'),
  ('-1*[t<t]', 1, "'-'"),
  ('1.5*[t<t]', 1, "'1'"),
  ('2[t<t]', 1, "'2'"),
  ('2*(t<t)', 1, "'2'"),
  ('2*[]', 4, r"'\]'"),
  ('2*[t<t', 7, 'the end'),
  ('2 * [t < v tied', 16, 'the end'),
  ('2*[t<t]]', 8, r"'\]'"),
  ('2*[t<t;]', 8, r"'\]'"),
  ('2*[;t<t]', 4, "';'"),
  ('2*[t<t;;v<v]', 8, "';'"),
  ('2*[t<t]; 2*[v<v]', 8, "';'"),
  ('2*[t<t] v', 9, "'v'"),
  ('2*[t<t 3*[v<v]]', 8, r"'3\*\['"),
  ('2*[t<]', 5, "'<'"),
  ('2*[<t]', 4, "'<'"),
  ('2*[t<t<v]', 7, "'<'"),
  ("2*[t'<v]", 5, '"\'"'),
  ("2*[t<v'']", 8, '"\'"'),
  ('2*[t<tt]', 4, "'t<tt'"),
  ("2*[t<v'v']", 4, '"t<v\'v\'"'),
  ('2*[t<t v t<v]', 10, "a second item of stream 't'"),
  ('2*[t<t tied v<v]', 13, "'v<v'"),
  ('2*[tied]', 4, "'tied'"),
  ('2*[t<t ties]', 8, "'ties'"),
  ('2*[t<t tied tied]', 13, "a second 'tied'"),
  ('2*[t<t 2x4 4x2]', 12, 'a second head shape'),
  ('2*[t<t causal]', 8, "'causal'"),
  ('2*[v<v; t<t v noffn]', 9, "an item without '<' beside 'noffn'"),
  ('2*[t 4x8]', 4, 'head shape 4x8'),
  ('2*[t<t 0x8]', 4, 'head shape 0x8'),
  ('2*[t<t 8x]', 8, "'8'"),
  ('2*[T<v]', 4, "'T'"),
  ('2*[t<t, v<v]', 7, "','"),
  ('2*[t>v]', 5, "'>'"),
  ('2*[t<t] 2*[v<a]', 12, "stream 'a'"),
  ('2*[a]', 4, "stream 'a'"),
  ('2*[t<t\n;\u00e9]', 9, "'\u00e9'"),
]  # fmt: skip


@pytest.mark.parametrize('text, position, found', WRONG)
def test_wrong_schedule_says_where_and_what(text, position, found):
  with pytest.raises(UserError, match=rf'^schedule .*, position {position}: found {found}.*, expected ') as error:
    parse(text, 'tv')
  line = str(error.value)
  assert '\n' not in line
  assert repr(text) in line


def test_causal_points_to_the_edge_mask():
  with pytest.raises(UserError, match='edge mask'):
    parse('2*[t<t causal]')


def test_unknown_stream_lists_the_known_ones_and_any_is_fine_where_none_is_given():
  with pytest.raises(UserError, match=r"stream 'a', expected one of t, v$"):
    parse('1*[t<a]', 'tv')
  assert parse('1*[t<a]').streams == ('t', 'a')


SEES = [   # with the edge t<t causal
  ('3*[t<t]', False),
  ('3*[t<t noffn; t<v]', False),   # BLIP's decoder: v knows nothing of t
  ('3*[t<tv v<v tied]', False),   # GIT
  ('3*[t<tv v<tv tied]', True),   # v reads all of t, t reads v one layer on
  ('1*[t<tv v<tv tied]', False),   # ... and there is no layer on
  ('1*[t<v v<t]', False),   # both read the values from before
  ('2*[t<v v<t]', True),
  ('1*[v<t; t<v]', True),
  ("1*[v<t; t<v']", False),   # v as it entered, before it read t
  ("2*[v<t; t<v']", True),
  ("1*[v<t'; t<v]", True),   # t as it entered holds its future as well
  ('1*[t<v; v<t]', False),
  ('2*[t<v; v<t]', True),
  ('1*[v<t] 1*[t<t]', False),   # v knows, t never asks
  ('1*[v<t] 1*[t<tv]', True),
  ('1*[a<t; v<a; t<v]', True),   # two hops
  ('1*[v<a; a<t; t<v]', False),   # in the wrong order within one layer,
  ('2*[v<a; a<t; t<v]', True),   # in two layers
  ('1*[a<t v<a t<v]', False),   # one hop a layer: three layers
  ('2*[a<t v<a t<v]', False),
  ('3*[a<t v<a t<v]', True),
  ("2*[a<t; v<a'; t<v']", False),   # entry sources: one hop a layer too
  ("3*[a<t; v<a'; t<v']", True),
  ('2*[t; v<t]', False),
  ('4*[v<v; t<t]', False),
  (schedules.LXMERT, True),
  (schedules.BLIP, False),
  (schedules.LATE, False),
  (schedules.ALBEF, False),
  (schedules.METER, True),
  (schedules.Q_FORMER, True),
]  # fmt: skip


@pytest.mark.parametrize('text, leaks', SEES)
def test_sees_future_by_hand(text, leaks):
  assert sees_future(parse(text), 't') is leaks


def test_sees_future_of_another_stream():
  plan = parse('1*[t<v; v<tv]')
  assert sees_future(plan, 'v')
  assert not sees_future(plan, 't')


@pytest.mark.parametrize('text, gone, left', [
  ('2*[t<t noffn; t<v]', 'v', [('t<t',), ('t',)]),  # BLIP's text alone: its feed-forward stays
  ('2*[t<t noffn; t<v noffn; t]', 'v', [('t<t',), (), ('t',)]),  # what has nothing to do keeps its number
  ('1*[t<tv v<tv tied]', 'v', [('t<t',)]),
  ("1*[v<v'; t<tv']", 'v', [(), ('t<t',)]),
  ('1*[t<t v<v]', '', [('t<t', 'v<v')]),
])  # fmt: skip
def test_a_schedule_without_a_stream(text, gone, left):
  (group,) = skipping(parse(text), gone).groups
  assert [tuple(map(str, sub.items)) for sub in group.subs] == left
  assert [(sub.tied, sub.ffn) for sub in group.subs] == [(sub.tied, sub.ffn) for sub in parse(text).groups[0].subs]
