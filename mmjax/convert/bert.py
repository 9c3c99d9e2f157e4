"""BERT's checkpoints: HuggingFace's BertModel and BertForPreTraining.

BertForMaskedLM too, where both heads of pre-training are there, as in the published bert-base-uncased.
"""

from collections.abc import Mapping
from dataclasses import replace

from mmjax.convert.models import example
from mmjax.convert.names import Row, below, bert_embed, bert_layer, dense, layers, word_scores
from mmjax.convert.plan import (
  Arrays,
  Config,
  Plan,
  Shapes,
  activation,
  captured,
  cross_entropy,
  fixed,
  inside,
  learnt,
  number,
  position_ids,
)
from mmjax.errors import UserError
from mmjax.models.bert import BERT

CLASSES = ('BertModel', 'BertForPreTraining', 'BertForMaskedLM')
FIXED = {'is_decoder': False, 'add_cross_attention': False, 'position_embedding_type': 'absolute'}


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  fixed(config, FIXED)
  if kind == 'BertForMaskedLM' and 'cls.seq_relationship.weight' not in shapes:
    raise UserError('a BertForMaskedLM without cls.seq_relationship, expected both heads of pre-training')
  pretrain = kind != 'BertModel'
  prefix = 'bert' if pretrain else ''
  model = BERT(
    vocab=number(config, 'vocab_size'),
    positions=number(config, 'max_position_embeddings'),
    types=number(config, 'type_vocab_size'),
    schedule=f'{number(config, "num_hidden_layers")}*[t<t]',
    width=number(config, 'hidden_size'),
    heads=number(config, 'num_attention_heads'),
    mlp=number(config, 'intermediate_size'),
    eps=number(config, 'layer_norm_eps', 1e-12),
    activation=activation(config),
    dropout=number(config, 'hidden_dropout_prob', 0.1),
    attention_dropout=number(config, 'attention_probs_dropout_prob', 0.1),
    word_padding=number(config, 'pad_token_id', 0),
    pooler=pretrain or below(prefix, 'pooler.dense.weight') in shapes,  # BertModel can be without
    pretrain=pretrain,
  )
  tied = {'cls.predictions.decoder.weight': below(prefix, 'embeddings.word_embeddings.weight'),
          'cls.predictions.decoder.bias': 'cls.predictions.bias'} if pretrain else {}  # fmt: skip
  buffers = position_ids(below(prefix, 'embeddings.position_ids'), model.positions)
  found = rows(model, prefix)
  if any(name.endswith('LayerNorm.gamma') for name in shapes):  # as the first releases name norms
    found = [replace(row, theirs=tuple(map(_early, row.theirs))) for row in found]
  return Plan(config, model, found, example(model), outputs, tied, buffers)


def _early(name: str) -> str:
  return name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')


def rows(model: BERT, prefix: str) -> list[Row]:
  """prefix: 'bert' or ''."""
  encoder = [
    *bert_embed('text'),
    *layers(bert_layer('sub0_t'), 'encoder/group0', 'encoder.layer.{n}', model.schedule),
    *(dense('pooler/project', 'pooler.dense') if model.pooler else []),
  ]  # fmt: skip
  heads = []
  if model.pretrain:
    heads += word_scores() + dense('next', 'cls.seq_relationship')
  return [row.below('', prefix) for row in encoder] + heads


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  called = (
    given['input_ids'],
    given['attention_mask'] > 0 if 'attention_mask' in given else None,
    given.get('token_type_ids'),
    given.get('position_ids'),
  )
  out, maps, states = captured(plan, variables, *called)
  found = inside(maps, states, 't')
  names = {
    't': 'last_hidden_state',
    'pooled': 'pooler_output',
    'words': 'prediction_logits',
    'next': 'seq_relationship_logits',
  }
  found |= {names[name]: value for name, value in out.items()}

  def loss(run):
    out = run(*called)
    words = cross_entropy(out['words'], given['labels'])
    return words + cross_entropy(out['next'], given['next_sentence_label']), {}

  if 'labels' in given and 'next_sentence_label' in given:
    found |= learnt(plan, variables, loss)
  return found
