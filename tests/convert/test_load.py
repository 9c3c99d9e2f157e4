"""A checkpoint's folder -> model and variables: what is written is what is read, and what is wrong is one line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from mmjax.convert.load import FAMILIES, load, read
from mmjax.convert.names import to_theirs
from mmjax.errors import UserError

COMMON = {'vocab_size': 11, 'hidden_size': 8, 'num_attention_heads': 2, 'intermediate_size': 12,
          'max_position_embeddings': 6, 'type_vocab_size': 2, 'hidden_dropout_prob': 0.2,
          'attention_probs_dropout_prob': 0.3}  # fmt: skip
LXMERT = COMMON | {'l_layers': 2, 'r_layers': 1, 'x_layers': 1, 'visual_feat_dim': 5, 'num_qa_labels': 7}
AUTHORS = {key: value for key, value in LXMERT.items() if 'prob' not in key} | {
  'num_answers': 7, 'obj_id_num': 3, 'attr_id_num': 2}  # fmt: skip
VISUALBERT = COMMON | {'num_hidden_layers': 2, 'layer_norm_eps': 1e-6, 'visual_embedding_dim': 5, 'pad_token_id': 1}
CONFIGS = {
  'LxmertModel': LXMERT,
  'LxmertForQuestionAnswering': LXMERT,
  'LXRTPretraining': AUTHORS,
  'VisualBertModel': VISUALBERT,
  'VisualBertForQuestionAnswering': VISUALBERT | {'id2label': {str(n): '' for n in range(9)}},
}
GIVEN = (jnp.array([[3, 5, 9, 2]]), jnp.ones((1, 4), bool), jnp.ones((1, 3, 5)), jnp.full((1, 3, 4), 0.5))


def write(folder, kind, **changed):
  """A folder of that class with random weights; returns (tensors, the parameters they come from)."""
  config = CONFIGS[kind] | ({} if kind == 'LXRTPretraining' else {'architectures': [kind]})
  folder.mkdir(exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))
  model, rows, _ = FAMILIES[kind](config)
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *GIVEN, train=False))['params']
  params = jax.tree.map(lambda a: rng.normal(0, 0.3, a.shape).astype(np.float32), shapes)
  tensors = to_theirs(rows, params)
  if kind == 'LXRTPretraining':
    tensors['cls.predictions.decoder.weight'] = tensors['bert.embeddings.word_embeddings.weight']
  tensors = {name: a for name, a in (tensors | changed).items() if a is not None}
  save_file(tensors, folder / 'model.safetensors')
  return tensors, params


@pytest.mark.parametrize('kind', CONFIGS)
def test_what_is_written_is_what_is_read(tmp_path, kind):
  tensors, params = write(tmp_path, kind)
  model, variables = load(tmp_path)
  flat, expected = (traverse_util.flatten_dict(p, sep='/') for p in (variables['params'], params))
  assert set(flat) == set(expected)
  for name, a in flat.items():
    np.testing.assert_array_equal(a, expected[name], err_msg=name)
  _, rows, features, _ = read(tmp_path)
  assert features == 5
  again = to_theirs(rows, variables['params'])
  assert set(tensors) - set(again) == ({'cls.predictions.decoder.weight'} if kind == 'LXRTPretraining' else set())
  assert jax.eval_shape(lambda: model.apply(variables, *GIVEN, train=False))['pooled'].shape == (1, 8)


def test_every_class_that_is_read_is_tested_here():
  assert set(FAMILIES) == set(CONFIGS)


def test_the_model_is_that_of_the_config(tmp_path):
  write(tmp_path, 'LxmertForQuestionAnswering')
  model, _ = load(tmp_path)
  assert model.schedule == '2*[t<t] 1*[v<v] 1*[t<v v<t tied noffn; t<t v<v]'
  assert (model.num_answers, model.vocab, model.positions, model.types) == (7, 11, 6, 2)
  assert (model.width, model.heads, model.mlp, model.eps) == (8, 2, 12, 1e-12)
  assert (model.dropout, model.attention_dropout, model.masking, model.pretrain) == (0.2, 0.3, 'replace', False)


def test_the_authors_model_adds_to_masked_scores_and_has_the_heads_of_pre_training(tmp_path):
  write(tmp_path, 'LXRTPretraining')
  model, _ = load(tmp_path)
  assert (model.masking, model.pretrain, model.num_answers) == ('add', True, 7)
  assert (model.num_features, model.num_objects, model.num_attributes) == (5, 3, 2)


def test_visualbert_is_that_of_the_config(tmp_path):
  write(tmp_path, 'VisualBertForQuestionAnswering')
  model, _ = load(tmp_path)
  assert (model.schedule, model.eps, model.word_padding, model.num_answers) == ('2*[t<tv v<tv tied]', 1e-6, 1, 9)
  assert (model.dropout, model.attention_dropout) == (0.2, 0.3)


@pytest.mark.parametrize('name', ['config.json', 'model.safetensors'])
def test_a_folder_without_a_file_says_which(tmp_path, name):
  write(tmp_path, 'LxmertModel')
  (tmp_path / name).unlink()
  with pytest.raises(UserError, match=f'no {name}, expected a folder with config.json and model.safetensors'):
    load(tmp_path)


def test_an_unknown_class_names_the_nearest(tmp_path):
  write(tmp_path, 'LxmertModel')
  (tmp_path / 'config.json').write_text(json.dumps(LXMERT | {'architectures': ['VisualBertForQuestionAnswerin']}))
  with pytest.raises(UserError, match=r"found class 'VisualBertForQuestionAnswerin'.*did you mean 'VisualBertForQ"):
    load(tmp_path)


def test_one_table_under_two_names_must_be_one(tmp_path):
  write(tmp_path, 'LXRTPretraining', **{'cls.predictions.decoder.weight': np.zeros((11, 8), np.float32)})
  with pytest.raises(UserError, match=r'cls.predictions.decoder.weight differs from bert.embeddings.word_embeddings'):
    load(tmp_path)


def test_all_that_does_not_fit_is_listed_at_once(tmp_path):
  write(tmp_path, 'VisualBertModel', **{
    'pooler.dense.bias': None,
    'pooler.dense.weight': np.zeros((8, 9), np.float32),
    'embeddings.position_ids': np.arange(6)[None],
    'encoder.layer.2.output.dense.bias': np.zeros(8, np.float32),
  })  # fmt: skip
  with pytest.raises(UserError) as error:
    load(tmp_path)
  assert set(str(error.value).partition('model: ')[2].split('; ')) == {
    'pooler.dense.bias: missing',
    'embeddings.position_ids: left over',
    'encoder.layer.2.output.dense.bias: left over',
    'pooler.dense.weight: found shape (8, 9), expected (8, 8)',
  }
