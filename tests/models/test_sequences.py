"""Models of sound, video and series: what each position may depend on, and inputs that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.encoders.series import patches, scaled
from mmjax.encoders.video import pixels_to_predict
from mmjax.errors import UserError
from mmjax.models.ast import AST
from mmjax.models.mult import MulT
from mmjax.models.patchtst import PatchTST
from mmjax.models.timesformer import TimeSformer
from mmjax.models.videomae import VideoMAE, split
from mmjax.models.vivit import ViViT
from tests.variables import drawn

RNG = np.random.default_rng(0)
SIZES = {'width': 8, 'heads': 2, 'mlp': 12}
VIDEO = RNG.normal(size=(2, 4, 8, 8, 3)).astype(np.float32)
SEQUENCES = {s: RNG.normal(size=(3, t, f)).astype(np.float32) for s, t, f in (('t', 5, 7), ('a', 9, 4), ('f', 6, 3))}


def mult(masks=None, sequences=SEQUENCES, **more):
  model = MulT(2, width=6, heads=2, layers=2, **more)
  variables = drawn(model, SEQUENCES, train=False)
  return model.apply(variables, sequences, masks, train=False)


def test_a_padded_step_of_mult_is_not_read():
  masks = {s: jnp.arange(x.shape[1])[None] < np.array([[x.shape[1]], [3], [2]]) for s, x in SEQUENCES.items()}
  shouted = {s: np.where(masks[s][..., None], x, 50.0).astype(np.float32) for s, x in SEQUENCES.items()}
  for causal in (True, False):
    first, other = mult(masks, causal=causal), mult(masks, shouted, causal=causal)
    np.testing.assert_allclose(first['answers'], other['answers'], rtol=1e-4, atol=1e-4)


def test_a_modality_that_is_missing_leaves_numbers():
  masks = {s: jnp.ones(x.shape[:2], bool) & (s != 'a') for s, x in SEQUENCES.items()}
  found = mult(masks)
  assert jnp.isfinite(found['answers']).all()
  without = mult(masks, SEQUENCES | {'a': SEQUENCES['a'] * 0 + 9})
  np.testing.assert_allclose(found['t<f'], without['t<f'], atol=1e-6)


def test_a_causal_step_of_mult_reads_no_later_one():
  changed = SEQUENCES | {'a': SEQUENCES['a'].copy()}
  changed['a'][:, -1] += 5  # step 8 of 9: only steps q of text with q + 4 >= 8 may read it
  first, other = mult(), mult(sequences=changed)
  same = np.isclose(first['t<a'], other['t<a'], atol=1e-6).all((0, 2))
  assert same.tolist() == [True] * 4 + [False]


def test_targets_and_quirks_that_are_none_are_refused():
  for given in ({'targets': 'tx'}, {'targets': ''}, {'quirks': ('no such',)}):
    with pytest.raises(UserError, match='expected some of'):
      mult(**given)


def test_a_step_that_begins_with_zero_has_no_position():
  still = SEQUENCES | {'t': np.zeros_like(SEQUENCES['t'])}
  assert np.allclose(mult(sequences=still)['t<a'][:, 1:3], mult(sequences=still)['t<a'][:, :2], atol=1e-5) is False
  kept = mult(sequences=still, quirks=('no projection',), causal=False)['t<a']
  lost = mult(sequences=still, causal=False)['t<a']
  assert np.allclose(lost[:, 0], lost[:, 1], atol=1e-5) and not np.allclose(kept[:, 0], kept[:, 1], atol=1e-3)


def test_hidden_tubelets_are_not_read():
  model = VideoMAE(image=8, frames=4, tubelet=(2, 4, 4), schedule='2*[f<f]', decoder='1*[f<f]', decoder_width=6,
                   decoder_heads=2, decoder_mlp=8, **SIZES)  # fmt: skip
  masked = np.zeros((2, 8), bool)
  masked[:, [1, 4, 6]] = True
  shown, hidden = split(masked, 3)
  assert hidden.tolist() == [[1, 4, 6]] * 2 and shown[0].tolist() == [0, 2, 3, 5, 7]
  variables = drawn(model, VIDEO, shown, hidden, train=False)
  first = model.apply(variables, VIDEO, shown, hidden, train=False)
  assert first['f'].shape == (2, 5, 8) and first['pixels'].shape == (2, 3, 2 * 4 * 4 * 3)
  changed = VIDEO.copy()
  changed[:, :2, :4, 4:] += 3  # tubelet 1
  np.testing.assert_allclose(model.apply(variables, changed, shown, hidden, train=False)['pixels'], first['pixels'])


def test_what_is_to_be_painted_is_normed_by_tubelet():
  wanted = pixels_to_predict(jnp.asarray(VIDEO), (2, 4, 4), normed=True).reshape(2, 8, 32, 3)
  np.testing.assert_allclose(wanted.mean(2), 0, atol=1e-5)
  np.testing.assert_allclose(jnp.std(wanted, 2, ddof=1), 1, atol=1e-4)
  plain = pixels_to_predict(jnp.asarray(VIDEO), (2, 4, 4), normed=False)
  assert plain[0, 0, :3].tolist() == VIDEO[0, 0, 0, 0].tolist()


@pytest.mark.parametrize('model, given', [
  (AST(num_answers=3, frames=20, bins=12, patch=4, strides=(3, 3), schedule='1*[a<a]', **SIZES), (2, 20, 12)),
  (ViViT(num_answers=3, image=8, frames=4, tubelet=(2, 4, 4), schedule='1*[f<f]', **SIZES), (2, 4, 8, 8, 3)),
  (VideoMAE(num_answers=3, image=8, frames=4, tubelet=(2, 4, 4), schedule='1*[f<f]', **SIZES), (2, 4, 8, 8, 3)),
  (TimeSformer(num_answers=3, image=8, frames=4, patch=4, layers=1, **SIZES), (2, 4, 8, 8, 3)),
  (PatchTST(num_answers=3, channels=2, context=12, patch=4, stride=4, layers=1, **SIZES), (2, 12, 2)),
], ids=lambda given: type(given).__name__)  # fmt: skip
def test_answers_differ_where_inputs_do_and_sizes_are_checked(model, given):
  x = RNG.normal(size=given).astype(np.float32)
  variables = drawn(model, x, train=False)
  answers = jax.jit(lambda x: model.apply(variables, x, train=False)['answers'])
  assert answers(x).shape == (2, 3) and not np.allclose(answers(x), answers(x[::-1].copy()), atol=1e-4)
  with pytest.raises(UserError, match='expected'):
    model.apply(variables, x[:, :-1], train=False)


def test_series_by_hand():
  series = jnp.array([[[1.0], [3.0], [100.0], [5.0]]])
  seen = jnp.array([[[True], [True], [False], [True]]])
  found, location, scale = scaled(series, seen, 'std')
  assert float(location[0, 0, 0]) == 3 and float(scale[0, 0, 0]) == pytest.approx((8 / 3 + 1e-5) ** 0.5)
  np.testing.assert_allclose(found[0, :, 0] * scale[0, 0, 0] + 3, series[0, :, 0], rtol=1e-5)
  assert float(scaled(series, seen, 'mean')[2][0, 0, 0]) == 3
  assert patches(jnp.arange(7.0)[None, :, None], 3, 2)[0, 0].tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
  assert patches(jnp.arange(8.0)[None, :, None], 3, 2)[0, 0, 0].tolist() == [
    1,
    2,
    3,
  ]  # what is over stands at the start
  with pytest.raises(UserError, match='shorter than a patch'):
    patches(jnp.zeros((1, 2, 1)), 3, 1)
  with pytest.raises(UserError, match='scaling'):
    scaled(series, seen, 'max')


def test_what_was_not_measured_moves_no_scale():
  model = PatchTST(channels=1, context=8, patch=2, stride=2, layers=1, **SIZES)
  series = RNG.normal(size=(1, 8, 1)).astype(np.float32)
  seen = np.ones((1, 8, 1), bool)
  seen[:, 3] = False
  variables = drawn(model, series, train=False)
  scale = lambda x: model.apply(variables, x, seen, train=False)['scale']
  other = series.copy()
  other[:, 3] = 99
  np.testing.assert_allclose(scale(series), scale(other))
