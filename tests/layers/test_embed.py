"""Embedding tables: rows, the sum of three tables, and the rows that receive no gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.layers.embed import Embed, TextEmbed

IDS = jnp.array([[3, 1, 0], [2, 2, 0]])
TYPES = jnp.array([[0, 1, 1], [0, 0, 1]])


@pytest.fixture(scope='module')
def text():
  module = TextEmbed(vocab=6, positions=4, types=2, width=5, dropout=0.5, init_std=1.0)
  return module, module.init(jax.random.key(0), IDS, TYPES, train=False)


def norm(x, scale=1.0, bias=0.0, eps=1e-12):
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * scale + bias


def test_embed_takes_rows_and_scores_against_them():
  module = Embed(4, 3)
  table = jnp.arange(12.0).reshape(4, 3)
  variables = {'params': {'embedding': table}}
  np.testing.assert_array_equal(module.apply(variables, jnp.array([[2, 0]])), [[[6, 7, 8], [0, 1, 2]]])
  x = jnp.array([[1.0, 0, 2]])
  np.testing.assert_array_equal(module.apply(variables, x, method='attend'), x @ table.T)


def test_sum_of_three_tables_normed_by_hand(text):
  module, variables = text
  p = jax.tree.map(np.asarray, variables['params'])
  word, position, kind = (p[name]['embedding'] for name in ('word', 'position', 'type'))
  expected = np.stack(
    [
      [word[i] + position[n] + kind[t] for n, (i, t) in enumerate(zip(*row, strict=True))]
      for row in zip(IDS, TYPES, strict=True)
    ]
  )
  np.testing.assert_allclose(module.apply(variables, IDS, TYPES, train=False), norm(expected), atol=1e-5)


def test_missing_types_are_zeros(text):
  module, variables = text
  np.testing.assert_array_equal(
    module.apply(variables, IDS, train=False), module.apply(variables, IDS, jnp.zeros_like(IDS), train=False)
  )


def test_a_token_knows_nothing_of_the_others(text):
  module, variables = text
  x = module.apply(variables, IDS, TYPES, train=False)
  y = module.apply(variables, IDS.at[:, 2].set(5), TYPES, train=False)
  np.testing.assert_array_equal(x[:, :2], y[:, :2])
  assert np.abs(x[:, 2] - y[:, 2]).max() > 0.1


@pytest.mark.parametrize('paddings', [(0, -1, -1), (0, 0, 0), (-1, -1, -1)])
def test_padding_rows_receive_no_gradient(paddings):
  module = TextEmbed(6, 4, 2, 5, 1e-12, 0.0, *paddings, init_std=1.0)
  variables = module.init(jax.random.key(0), IDS, TYPES, train=False)
  weight = jax.random.normal(jax.random.key(1), (2, 3, 5))
  grads = jax.grad(lambda p: (module.apply({'params': p}, IDS, TYPES, train=False) * weight).sum())(variables['params'])
  moved = {name: np.abs(grads[name]['embedding']).max(-1) > 0 for name in ('word', 'position', 'type')}
  used = {'word': [1, 1, 1, 1, 0, 0], 'position': [1, 1, 1, 0], 'type': [1, 1]}
  for (name, rows), padding in zip(used.items(), paddings, strict=True):
    expected = [bool(used) and n != padding for n, used in enumerate(rows)]
    np.testing.assert_array_equal(moved[name], expected, err_msg=name)


def test_padding_changes_no_value():
  table = jnp.arange(12.0).reshape(4, 3)
  rows = [Embed(4, 3, padding).apply({'params': {'embedding': table}}, IDS % 4) for padding in (-1, 0, 2)]
  np.testing.assert_array_equal(rows[0], rows[1])
  np.testing.assert_array_equal(rows[0], rows[2])


def test_dropout_in_train_only(text):
  module, variables = text
  calm = module.apply(variables, IDS, train=False)
  wild = module.apply(variables, IDS, train=True, rngs={'dropout': jax.random.key(1)})
  np.testing.assert_array_equal(calm, module.apply(variables, IDS, train=False))
  np.testing.assert_allclose(wild, np.where(wild == 0, 0, 2 * calm), atol=1e-6)
  assert 0 < (np.asarray(wild) == 0).mean() < 1


def test_text_longer_than_the_positions_is_refused(text):
  module, variables = text
  with pytest.raises(UserError, match='text of 5 tokens: expected at most 4'):
    jax.eval_shape(lambda: module.apply(variables, jnp.zeros((1, 5), int), train=False))


def test_tables_start_with_the_standard_deviation_asked_for():
  module = TextEmbed(400, 400, 400, 20, init_std=0.02)
  params = module.init(jax.random.key(0), IDS, train=False)['params']
  for name in ('word', 'position', 'type'):
    assert params[name]['embedding'].std() == pytest.approx(0.02, rel=0.05)
