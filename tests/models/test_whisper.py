"""Whisper: what each word may depend on, what is kept from word to word, its sizes, and inputs that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import generate
from mmjax.convert.models import example, variables_of
from mmjax.convert.names import count
from mmjax.encoders.audio import FrameEmbed, sinusoids
from mmjax.errors import UserError
from mmjax.models import whisper
from mmjax.models.whisper import SoundEncoder, TextDecoder, Whisper
from tests.variables import drawn

SIZES = {'width': 8, 'heads': 2, 'mlp': 12}
MODEL = Whisper(SoundEncoder(12, 5, '2*[a<a]', **SIZES), TextDecoder(20, 9, schedule='2*[t<t noffn; t<a]', **SIZES))
SOUND = np.random.default_rng(0).normal(size=(2, 12, 5)).astype(np.float32)
TEXT = np.array([[1, 2, 3, 4], [1, 5, 6, 7]])


@pytest.fixture(scope='module')
def variables():
  return drawn(MODEL, SOUND, TEXT, train=False)


@pytest.fixture(scope='module')
def run(variables):
  return jax.jit(lambda sound, text, mask=None: MODEL.apply(variables, sound, text, mask, train=False))


def test_shapes(run):
  found = run(SOUND, TEXT)
  assert {name: a.shape for name, a in found.items()} == {'a': (2, 6, 8), 't': (2, 4, 8), 'words': (2, 4, 20)}


def test_a_word_reads_no_later_one(run):
  other = TEXT.copy()
  other[:, 2:] += 9
  first, changed = run(SOUND, TEXT)['words'], run(SOUND, other)['words']
  np.testing.assert_allclose(first[:, :2], changed[:, :2], atol=1e-5)
  assert abs(first[:, 2:] - changed[:, 2:]).max() > 1e-2


def test_padding_cannot_be_seen_and_rows_do_not_meet(run):
  mask = np.array([[True] * 4, [True, True, True, False]])
  shouted = np.where(mask, TEXT, 19)
  np.testing.assert_allclose(
    run(SOUND, TEXT, mask)['words'][1, :3], run(SOUND, shouted, mask)['words'][1, :3], atol=1e-5
  )
  sound = SOUND * np.array([1, 3], np.float32)[:, None, None]
  np.testing.assert_allclose(run(sound, TEXT)['words'][0], run(SOUND, TEXT)['words'][0], atol=1e-5)
  assert abs(run(sound, TEXT)['words'][1] - run(SOUND, TEXT)['words'][1]).max() > 1e-2


def test_each_word_reads_the_sound(run):
  moved = SOUND.copy()
  moved[:, -1] += 1
  assert (abs(run(moved, TEXT)['words'] - run(SOUND, TEXT)['words']).max((0, 2)) > 1e-3).all()


def test_what_was_kept_writes_as_the_whole(variables):
  heard = MODEL.apply(variables, SOUND, train=False, method='listen')
  found = generate.greedy(whisper.writer(MODEL, variables, heard, 9), jnp.array([[1, 2], [1, 5]]), length=9)
  ids = np.array([[1, 2], [1, 5]])
  while ids.shape[1] < 9:
    words = MODEL.apply(variables, ids, heard, train=False, method='write')
    ids = np.concatenate([ids, np.asarray(words)[:, -1:].argmax(-1)], 1)
  np.testing.assert_array_equal(found, ids)


def test_two_layers_by_hand(variables):
  """The writing half, written out: the sound's last norm is the only one that it passes."""
  p = jax.tree.map(np.asarray, variables['params'])
  heard = np.asarray(MODEL.apply(variables, SOUND, train=False, method='listen'))

  def norm(x, w):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w['scale'] + w['bias']

  dense = lambda x, w: x @ w['kernel'] + w.get('bias', 0)

  def attend(x, source, reader, owner, causal):
    q, k, v = dense(x, reader['query']), dense(source, owner['key']), dense(source, owner['value'])
    out = []
    for head in (slice(0, 4), slice(4, 8)):
      scores = np.einsum('bqc,bkc->bqk', q[..., head], k[..., head]) / 2
      if causal:
        scores = np.where(np.tri(4, dtype=bool), scores, -np.inf)
      weights = np.exp(scores - scores.max(-1, keepdims=True))
      out.append(weights / weights.sum(-1, keepdims=True) @ v[..., head])
    return dense(np.concatenate(out, -1), reader['out'])

  x = p['text']['word']['embedding'][TEXT] + p['text']['position']['embedding'][:4]
  for n in range(2):
    layer = jax.tree.map(lambda a, n=n: a[n], p['text']['encoder']['group0'])
    own, cross, sound = layer['sub0_t'], layer['sub1_t'], layer['sub1_a']
    assert 'bias' not in own['key'] and set(sound) == {'key', 'value'}
    normed = norm(x, own['norm'])
    x = x + attend(normed, normed, own, own, True)
    x = x + attend(norm(x, cross['norm']), heard, cross, sound, False)
    hidden = jax.nn.gelu(dense(norm(x, cross['ffn_norm']), cross['ffn']['expand']), approximate=False)
    x = x + dense(np.asarray(hidden), cross['ffn']['project'])
  wanted = norm(x, p['text']['norm']) @ p['text']['word']['embedding'].T
  np.testing.assert_allclose(MODEL.apply(variables, SOUND, TEXT, train=False)['words'], wanted, atol=1e-4)


def test_two_convolutions_by_hand():
  embed = FrameEmbed(4, 6, 3)
  variables = drawn(embed, SOUND[:, :6, :3])
  p, x = jax.tree.map(np.asarray, variables['params']), SOUND[:, :6, :3]
  for name, stride in (('conv0', 1), ('conv1', 2)):
    around = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    rows = [sum(around[:, t + i] @ p[name]['kernel'][i] for i in range(3)) for t in range(0, 6, stride)]
    x = np.asarray(jax.nn.gelu(np.stack(rows, 1) + p[name]['bias'], approximate=False))
  np.testing.assert_allclose(embed.apply(variables, SOUND[:, :6, :3]), x + p['position'], atol=1e-5)


def test_positions_of_sound_are_sinusoids_and_are_not_trained():
  table = sinusoids(7, 6)
  for n, f in ((0, 1), (3, 1), (5, 0.01), (6, 0.0001)):
    column = {1: 0, 0.01: 1, 0.0001: 2}[f]
    assert table[n, column] == pytest.approx(np.sin(n * f), abs=1e-6)
    assert table[n, 3 + column] == pytest.approx(np.cos(n * f), abs=1e-6)
  embed = FrameEmbed(6, 14, 3)
  sound = SOUND[:1, :, :3].repeat(2, 1)[:, :14]
  variables = embed.init(jax.random.key(0), sound)
  np.testing.assert_array_equal(variables['params']['position'], table)
  gradient = jax.grad(lambda v: embed.apply(v, sound).sum())(variables)
  assert not gradient['params']['position'].any() and gradient['params']['conv0']['kernel'].any()


@pytest.mark.parametrize(
  'name, millions', [('tiny', 39), ('base', 74), ('small', 244), ('medium', 769), ('large', 1550)]
)
def test_sizes_are_those_of_table_1(name, millions):
  model = whisper.sized(name)
  assert count(variables_of(model, example(model))) / 1e6 == pytest.approx(millions, rel=0.035)


@pytest.mark.parametrize('call, said', [
  (lambda: MODEL.init(jax.random.key(0), SOUND[:, :10], TEXT, train=False), r'\(10, 5\): expected 12 frames of 5 bins'),
  (lambda: MODEL.init(jax.random.key(0), SOUND, TEXT.repeat(3, 1), train=False), 'of 12 tokens: expected at most 9'),
  (lambda: MODEL.clone(text=MODEL.text.clone(schedule='1*[t<t; a<t; t<a]')).init(
    jax.random.key(0), SOUND, TEXT, train=False), 'would learn of those behind it'),
  (lambda: whisper.sized('tny'), "found size 'tny', expected one of .* did you mean 'tiny'"),
  (lambda: sinusoids(3, 5), 'width 5: expected an even one'),
])  # fmt: skip
def test_what_is_wrong_is_one_line(call, said):
  with pytest.raises(UserError, match=said) as error:
    call()
  assert '\n' not in str(error.value)
