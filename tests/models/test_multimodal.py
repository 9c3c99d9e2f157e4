"""Every encoder of every modality in one frame: what is missing or masked is not read, whatever is fused with what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.models.modalities import KINDS, Encoder
from mmjax.models.multimodal import Multimodal, streams_of
from tests.variables import drawn

RNG = np.random.default_rng(0)
RAW = {
  'text': RNG.integers(1, 9, (3, 6)),
  'image': RNG.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8),
  'video': RNG.integers(0, 256, (3, 4, 16, 16, 3)).astype(np.uint8),
  'audio': RNG.normal(size=(3, 16, 8)).astype(np.float32),
  'series': RNG.normal(size=(3, 16, 2)).astype(np.float32),
}
WAVE = RNG.normal(size=(3, 320)).astype(np.float32) / 4
SIZES = {'width': 8, 'heads': 2, 'mlp': 12, 'layers': 1, 'vocab': 9, 'channels': (4, 8), 'patch': 8}
WHATS = [f'{modality} {kind}' for modality, kinds in KINDS.items() for kind in kinds]
BY_STEP = {'text', 'audio conv', 'audio wavenet', 'video conv3d', 'video lstm', 'video gru', 'series'}  # have masks
WHOLE = {'series patchtst'}


def raw(what):
  big = RNG.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
  return {'audio wavenet': WAVE, 'image resnet': big, 'image efficientnet': big}.get(what, RAW[what.split()[0]])


def encoded(what, x, mask):
  model = Encoder(what, **SIZES)
  variables = drawn(model, raw(what), mask, train=False)
  return model.apply(variables, x, mask, train=False)


@pytest.mark.parametrize('what', WHATS)
def test_an_encoder_gives_tokens_and_which_are_there(what):
  there = jnp.array([True, True, False])
  tokens, mask = encoded(what, raw(what), there)
  assert tokens.shape[0] == 3 and tokens.shape[2] == 8 and mask.shape == tokens.shape[:2]
  assert jnp.isfinite(tokens).all()
  least = {'image resnet': 0.01, 'audio wavenet': 0.004}.get(what, 0.05)  # noise is averaged by untrained convolutions
  assert jnp.abs(tokens[0] - tokens[1]).max() > least * jnp.abs(tokens).max()  # what was given is seen
  assert mask[:2].all() and not mask[2].any()


@pytest.mark.parametrize('what', [what for what in WHATS if {what, what.split()[0]} & BY_STEP and what not in WHOLE])
def test_padding_changes_no_token_that_is_there(what):
  x = raw(what)
  length = x.shape[1]
  mask = jnp.arange(length) < np.array([[length], [length // 2], [length // 2]])
  shouted = np.where(np.asarray(mask).reshape(*mask.shape, *[1] * (x.ndim - 2)), x, 3).astype(x.dtype)
  assert (shouted != x).any()
  first, here = encoded(what, x, mask)
  other, _ = encoded(what, shouted, mask)
  assert here.any(1).all() and not here[1:].all()
  np.testing.assert_allclose(np.where(here[..., None], first, 0), np.where(here[..., None], other, 0), atol=2e-5)


@pytest.mark.parametrize(('what', 'x', 'says'), [
  ('image grid', RAW['series'], r"encoder 'image grid': found float32 \[3, 16, 2\], expected numbers \[B,h,w,3\]"),
  ('video conv3d', RAW['image'], r'expected numbers \[B,T,h,w,3\]'),
  ('text gpt', RAW['series'], r'expected int \[B,L\]'),
  ('series gru', RAW['text'], r'found int64 .* expected numbers \[B,T,C\]'),
  ('audio wavenet', RAW['audio'], r'expected numbers \[B,S\]'),
  ('audio whisper', RAW['audio'][:, :15], 'found 15 frames, expected an even number'),
])  # fmt: skip
def test_what_is_of_another_modality_is_refused(what, x, says):
  with pytest.raises(UserError, match=says):
    Encoder(what, **SIZES).init(jax.random.key(0), x, jnp.ones(3, bool), train=False)


@pytest.mark.parametrize(('more', 'says'), [
  ({'vocab': 0}, 'found a vocabulary of 0 words'), ({'width': 7}, 'width 7'), ({'channels': ()}, r'channels \(\)'),
])  # fmt: skip
def test_sizes_that_make_no_encoder_are_refused(more, says):
  with pytest.raises(UserError, match=says):
    Encoder('text lstm', **(SIZES | more)).init(jax.random.key(0), RAW['text'], jnp.ones(3, bool), train=False)


def test_a_measurement_that_was_not_taken_is_not_read():
  seen = RNG.random((3, 16, 2)) < 0.6
  other = np.where(seen, RAW['series'], 7).astype(np.float32)
  for kind in ('gru', 'steps', 'patches', 'tcn'):
    (first, here), (again, _) = (encoded(f'series {kind}', x, seen) for x in (RAW['series'], other))
    np.testing.assert_allclose(np.where(here[..., None], first, 0), np.where(here[..., None], again, 0), atol=1e-5)


LINES = ('v: image grid', 's: series gru', 'a: audio conv')
INPUTS = {'v': RAW['image'], 's': RAW['series'], 'a': RAW['audio']}


def fused(schedule, inputs=INPUTS, masks=None, lines=LINES):
  model = Multimodal(lines, schedule, 4, **SIZES)
  return model.apply(drawn(model, INPUTS, train=False), inputs, masks, train=False)


@pytest.mark.parametrize('schedule', [
  '1*[v<v s<s a<a]', '1*[v<sa s<va a<vs]', '2*[v<vsa s<vsa a<vsa tied]', '1*[v<v s<s a<a] 1*[v<s s<a a<v]',
])  # fmt: skip
def test_a_modality_that_is_missing_is_read_by_nobody(schedule):
  there = {'s': jnp.array([True, False, True])}
  first = fused(schedule, masks=there)
  louder = INPUTS | {'s': INPUTS['s'] + np.array([0, 9, 0])[:, None, None].astype(np.float32)}
  other = fused(schedule, louder, there)
  assert jnp.isfinite(first['answers']).all()
  np.testing.assert_allclose(first['answers'], other['answers'], atol=1e-5)
  nowhere = {
    s: INPUTS[s].astype(np.float32) + np.array([0, np.nan, 0]).reshape(-1, *[1] * (INPUTS[s].ndim - 1)) for s in 'va'
  }
  gone = dict.fromkeys('va', there['s'])
  assert jnp.isfinite(fused(schedule, INPUTS | nowhere, gone)['answers']).all()
  assert not np.allclose(first['answers'][1], fused(schedule)['answers'][1], atol=1e-4)


def test_nothing_there_is_a_number_still_and_so_is_its_gradient():
  model = Multimodal(LINES, '1*[v<sa s<va a<vs]', 4, **SIZES)
  masks = dict.fromkeys(INPUTS, jnp.zeros(3, bool))
  variables = drawn(model, INPUTS, train=False)
  total = lambda v: model.apply(v, INPUTS, masks, train=False)['answers'].sum()
  gradients = jax.jit(jax.grad(total))(variables)
  assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_streams_that_the_schedule_has_not_are_left_alone():
  found = fused('1*[s<s]', {'s': INPUTS['s']})
  assert set(found) == {'s', 'answers'} and found['s'].shape == (3, 17, 8)


@pytest.mark.parametrize(('lines', 'says'), [
  (('v image grid',), "encoder 'v image grid': expected 'LETTER: MODALITY KIND'"),
  (('vv: image grid',), "expected 'LETTER: MODALITY KIND'"),
  (('v: image grid', 'v: image vit'), "stream 'v' stands twice"),
  (('v: images grid',), r"found 'images', expected one of .*did you mean 'image'"),
  (('v: image gird',), r"found 'gird', expected one of grid, .*did you mean 'grid'"),
  ((), 'encoders: found none'),
])  # fmt: skip
def test_lines_that_are_no_encoders_are_refused(lines, says):
  with pytest.raises(UserError, match=says):
    streams_of(lines)


def test_a_schedule_of_unknown_streams_and_inputs_that_lack_are_refused():
  with pytest.raises(UserError, match="'x'"):
    fused('1*[x<v]')
  with pytest.raises(UserError, match=r"stream 'a' \(audio conv\): found no input"):
    fused('1*[a<a]', {'v': INPUTS['v']})
