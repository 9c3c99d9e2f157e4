"""Decoding: by hand on a model that is a table, and with what BLIP and DALL-E keep from step to step."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax import generate
from mmjax.errors import UserError
from mmjax.models import blip, dalle
from mmjax.models.blip import BLIP, Text
from mmjax.models.dalle import DALLE
from mmjax.models.vit import ViT
from tests.variables import drawn

END, PAD, LENGTH = 3, 9, 6


def chain(table):
  """A model whose next token depends on the last one alone; it keeps how many it was given."""
  table = jnp.asarray(table, jnp.float32)

  def step(cache, ids, at):
    seen = jnp.zeros((len(ids), 1, 1, 1)) if cache is None else cache
    return table[ids], seen + ids.shape[1]

  return step


@pytest.fixture
def table():
  return np.random.default_rng(0).normal(0, 2, (5, 5))


def log_probability(table, ids):
  """Of everything behind the first, up to the end token."""
  scores = np.log(np.exp(table) / np.exp(table).sum(-1, keepdims=True))
  return sum(scores[a, b] for a, b in itertools.pairwise(ids))


def test_greedy_takes_the_likeliest_and_stops_each_row_by_itself():
  table = np.zeros((5, 5))
  for a, b in ((0, 1), (1, 2), (2, END), (4, 4), (END, 1)):
    table[a, b] = 5
  ids = generate.greedy(chain(table), jnp.array([[0], [4], [2]]), length=LENGTH, end=END, pad=PAD)
  assert ids.tolist() == [[0, 1, 2, END, PAD, PAD], [4, 4, 4, 4, 4, 4], [2, END, PAD, PAD, PAD, PAD]]
  two = generate.greedy(chain(table), jnp.array([[0, 1]]), length=4)
  assert two.tolist() == [[0, 1, 2, END]]


@pytest.mark.parametrize('penalty', [0.0, 1.0, 2.0])
def test_enough_beams_find_the_best_text(table, penalty):
  every = [
    (0, *head, *([END] if len(head) < 3 else []))
    for count in range(4)
    for head in itertools.product([0, 1, 2, 4], repeat=count)
  ]
  every += [(0, *head, END) for head in itertools.product([0, 1, 2, 4], repeat=2)]
  score = lambda ids: log_probability(table, ids) / (len(ids) - 1) ** penalty
  best = max((ids for ids in set(every) if len(ids) > 1), key=score)
  found = generate.beam(chain(table), jnp.array([[0]]), beams=64, length=4, penalty=penalty, end=END, pad=PAD)
  assert found[0].tolist() == [*best, *[PAD] * (4 - len(best))]


def test_one_beam_is_greedy_and_rows_do_not_meet(table):
  prompt = jnp.array([[0], [1], [4]])
  one = generate.beam(chain(table), prompt, beams=1, length=LENGTH, pad=PAD)
  np.testing.assert_array_equal(one, generate.greedy(chain(table), prompt, length=LENGTH, pad=PAD))
  three = generate.beam(chain(table), prompt, beams=3, length=LENGTH, end=END, pad=PAD)
  for n in range(3):
    alone = generate.beam(chain(table), prompt[n : n + 1], beams=3, length=LENGTH, end=END, pad=PAD)
    np.testing.assert_array_equal(three[n], alone[0])


def test_no_text_is_shorter_than_asked():
  table = np.zeros((5, 5))
  table[:, END] = 9
  found = generate.beam(chain(table), jnp.array([[0]]), beams=2, length=LENGTH, shortest=4, end=END, pad=PAD)
  assert found[0].tolist().index(END) == 4


def test_what_is_barred_is_not_written():
  table = np.array([[0, 3, 2, 1, 0]] * 5)
  write = lambda **which: generate.greedy(
    generate.barring(chain(table), **which), jnp.array([[0, 0]]), length=4
  ).tolist()[0][2:]
  assert write() == [1, 1]
  assert write(never=[1]) == [2, 2]
  assert write(first=[1]) == [2, 1]
  assert write(never=[1], first=[2, END]) == [0, 2]
  one = generate.beam(generate.barring(chain(table), [1], [2, END]), jnp.array([[0, 0]]), beams=1, length=4)
  assert one.tolist()[0][2:] == [0, 2]
  for wrong in ({'never': [5]}, {'first': [-1]}):
    with pytest.raises(UserError, match=r'found (5|-1) to (5|-1), expected 0 to 4'):
      write(**wrong)


def test_only_the_likeliest_are_drawn():
  logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
  kept = lambda **how: np.isfinite(generate.likeliest(logits, **how))[0].tolist()
  assert kept(top_k=2) == [True, True, False, False]
  assert kept(top_p=0.5) == [True, False, False, False]
  assert kept(top_p=0.51) == kept(top_p=0.8) == [True, True, False, False]
  assert kept(top_p=0.81) == [True, True, True, False]
  assert kept(top_k=3, top_p=0.84) == [True, True, False, False]  # of the 0.95 left, 0.526 and 0.842


def test_what_is_drawn_follows_the_probabilities_and_the_key():
  table = np.tile(np.log([0.6, 0.3, 0.05, 0.05]), (4, 1))
  draw = lambda key, **how: generate.sample(chain(table), jnp.zeros((2000, 1), int), key, length=2, **how)[:, 1]
  ids = draw(jax.random.key(0))
  np.testing.assert_allclose(np.bincount(ids, minlength=4) / 2000, [0.6, 0.3, 0.05, 0.05], atol=0.04)
  assert (ids == draw(jax.random.key(0))).all() and (ids != draw(jax.random.key(1))).any()
  cold = draw(jax.random.key(0), temperature=0.5)  # squares
  np.testing.assert_allclose(np.bincount(cold, minlength=4)[0] / 2000, 0.36 / (0.36 + 0.09 + 0.005), atol=0.04)
  assert set(draw(jax.random.key(0), top_k=2).tolist()) == {0, 1}


@pytest.mark.parametrize('how', [{'temperature': 0.0}, {'top_k': -1}, {'top_p': 0.0}, {'top_p': 1.5}])
def test_numbers_that_leave_nothing_are_refused(table, how):
  with pytest.raises(UserError, match='temperature'):
    generate.sample(chain(table), jnp.zeros((1, 1), int), jax.random.key(0), length=3, **how)


@pytest.mark.parametrize('prompt', [0, 3])
def test_a_prompt_leaves_room(table, prompt):
  with pytest.raises(UserError, match=f'prompt of {prompt} ids: expected 1 to 2'):
    generate.greedy(chain(table), jnp.zeros((1, prompt), int), length=3)
  with pytest.raises(UserError, match='beams'):
    generate.beam(chain(table), jnp.zeros((1, 1), int), length=3, beams=0)


# --- what a model keeps ----------------------------------------------------------------------------------------------

TEXT = Text(30, 12, '2*[t<t noffn; t<v]', width=8, heads=2, mlp=12, writes=True)


def anew(scores):
  """A step that keeps the ids alone and reads them all every time."""

  def step(cache, ids, at):
    known = jnp.zeros((len(ids), 12, 1, 1), int) if cache is None else cache
    known = jax.lax.dynamic_update_slice_in_dim(known, ids[..., None, None], at, 1)
    every = scores(known[..., 0, 0])
    return jax.lax.dynamic_slice_in_dim(every, at, ids.shape[1], 1), known

  return step


@pytest.mark.parametrize('beams', [0, 3])
def test_a_caption_from_what_was_kept_is_that_from_the_whole(beams):
  model = BLIP(ViT(image=8, patch=4, schedule='1*[v<v]', width=6, heads=2, mlp=8), None, TEXT, 0)
  image, prompt = jax.random.normal(jax.random.key(1), (3, 8, 8, 3)), jnp.array([[1, 2], [1, 4], [1, 7]])
  variables = drawn(model, image, prompt, prompt > 0, train=False)
  seen = model.apply(variables, image, prompt, prompt > 0, train=False)['v']

  def scores(ids):
    each = jnp.repeat(seen, len(ids) // 3, 0)
    return model.apply(variables, ids, jnp.ones(ids.shape, bool), each, train=False, method='write')

  how = {'length': 12, 'end': 3} | ({'beams': beams} if beams else {})
  write = generate.beam if beams else generate.greedy
  kept = jax.jit(lambda: write(blip.writer(model, variables, seen, None, 12), prompt, **how))()
  np.testing.assert_array_equal(kept, jax.jit(lambda: write(anew(scores), prompt, **how))())


@pytest.mark.parametrize('rotary, shift', [(True, True), (False, False)])
def test_a_picture_from_what_was_kept_is_that_from_the_whole(rotary, shift):
  kinds = ('full', 'axial_row', 'axial_col', 'conv_like')
  model = DALLE(11, 2, 7, 3, 12, 4, 2, 6, kinds, rotary, shift)
  text = jnp.array([[1, 2], [5, 0]])
  variables = drawn(model, text, jnp.zeros((2, 9), int), train=False)
  first = model.together(text, jnp.zeros((2, 0), int))
  scores = lambda ids: model.apply(variables, ids, train=False, method='scores')
  kept = jax.jit(lambda: generate.greedy(dalle.painter(model, variables), first, length=12))()
  np.testing.assert_array_equal(kept, jax.jit(lambda: generate.greedy(anew(scores), first, length=12))())
  assert (kept[:, 3:] >= 13).all()  # codes alone follow the text


def test_what_a_model_has_not_is_said():
  image, text = jnp.zeros((1, 8, 8, 3)), jnp.array([[1, 2]])
  captions = BLIP(ViT(image=8, patch=4, schedule='1*[v<v]', width=6, heads=2, mlp=8), None, TEXT, 0)
  variables = drawn(captions, image, text, text > 0, train=False)
  with pytest.raises(UserError, match='BLIP without encoder'):
    captions.apply(variables, text, text > 0, jnp.zeros((1, 4, 6)), train=False, method='read')
  with pytest.raises(UserError, match='would learn of those behind it'):
    captions.clone(decoder=TEXT.clone(schedule='1*[v<t; t<v]')).init(
      jax.random.key(0), image, text, text > 0, train=False
    )
  with pytest.raises(UserError, match='BLIP with out=0'):
    captions.apply(variables, jnp.zeros((1, 4, 6)), method='of_image')
  words = DALLE(11, 2, 7, 3, 12, 1, 2, 6)
  variables = drawn(words, text, jnp.zeros((1, 9), int), train=False)
  with pytest.raises(UserError, match='DALLE without its vae'):
    words.apply(variables, jnp.zeros((1, 9), int), method='paint')
