"""LXMERT's names: HuggingFace's (LxmertModel, LxmertForQuestionAnswering) and the authors' (LXRTPretraining)."""

from collections.abc import Mapping

from mmjax.convert.names import Row, attention, bert_layer, dense, embed, feed_forward, norm, vector
from mmjax.models.lxmert import LXMERT

# The word classifier's weight is the word table under a second name.
TIED = {'cls.predictions.decoder.weight': 'bert.embeddings.word_embeddings.weight'}


def from_huggingface(config: Mapping, num_answers: int = 0) -> LXMERT:
  """The model of a HuggingFace config.json. Its masked scores are replaced (finfo.min), so 'replace'."""
  dropout, attention_dropout = config['hidden_dropout_prob'], config['attention_probs_dropout_prob']
  return LXMERT(num_answers, **sizes(config), dropout=dropout, attention_dropout=attention_dropout)


def from_authors(config: Mapping) -> LXMERT:
  """The pre-training model of the authors' constructor arguments. It adds -10000 to masked scores."""
  objects, attributes = config['obj_id_num'], config['attr_id_num']
  return LXMERT(
    config['num_answers'],
    **sizes(config),
    masking='add',
    pretrain=True,
    num_objects=objects,
    num_attributes=attributes,
  )


def sizes(config: Mapping) -> dict:
  """The arguments whose names in the config both share."""
  return {
    'vocab': config['vocab_size'],
    'positions': config['max_position_embeddings'],
    'types': config['type_vocab_size'],
    'schedule': schedule(config),
    'width': config['hidden_size'],
    'heads': config['num_attention_heads'],
    'mlp': config['intermediate_size'],
    'num_features': config['visual_feat_dim'],
  }


def schedule(config: Mapping) -> str:
  layers = f'{config["l_layers"]}*[t<t] {config["r_layers"]}*[v<v]'
  return f'{layers} {config["x_layers"]}*[t<v v<t tied noffn; t<t v<v]'


def rows(model: LXMERT, config: Mapping, prefix: str) -> list[Row]:
  """The map for a model of these layer counts; `prefix` is 'lxmert', 'bert' or ''."""
  cross = [
    *attention('sub0_tied', 'visual_attention.att', 'visual_attention.output'),
    *(row for ours, theirs in (('sub1_t', 'lang'), ('sub1_v', 'visn')) for row in (
      *attention(ours, f'{theirs}_self_att.self', f'{theirs}_self_att.output'),
      *feed_forward(ours, f'{theirs}_inter.dense', f'{theirs}_output'),
    )),
  ]  # fmt: skip
  encoder = [
    *embed('text/word', 'embeddings.word_embeddings'),
    *embed('text/position', 'embeddings.position_embeddings'),
    *embed('text/type', 'embeddings.token_type_embeddings'),
    *norm('text/norm', 'embeddings.LayerNorm'),
    *dense('regions/feature', 'encoder.visn_fc.visn_fc'),
    *norm('regions/feature_norm', 'encoder.visn_fc.visn_layer_norm'),
    *dense('regions/box', 'encoder.visn_fc.box_fc'),
    *norm('regions/box_norm', 'encoder.visn_fc.box_layer_norm'),
    *(r.layers('encoder/group0', 'encoder.layer.{n}', config['l_layers']) for r in bert_layer('sub0_t')),
    *(r.layers('encoder/group1', 'encoder.r_layers.{n}', config['r_layers']) for r in bert_layer('sub0_v')),
    *(r.layers('encoder/group2', 'encoder.x_layers.{n}', config['x_layers']) for r in cross),
    *dense('pooler/project', 'pooler.dense'),
  ]
  heads = []
  if model.num_answers:
    heads += dense('answer/project', 'answer_head.logit_fc.0') + norm('answer/norm', 'answer_head.logit_fc.2')
    heads += dense('answer_score', 'answer_head.logit_fc.3')
  if model.pretrain:
    heads += dense('masked_word/project', 'cls.predictions.transform.dense')
    heads += norm('masked_word/norm', 'cls.predictions.transform.LayerNorm')
    heads += vector('word_bias', 'cls.predictions.bias') + dense('matched', 'cls.seq_relationship')
    heads += dense('masked_object/project', 'obj_predict_head.transform.dense')
    heads += norm('masked_object/norm', 'obj_predict_head.transform.LayerNorm')
    heads += dense('feature_score', 'obj_predict_head.decoder_dict.feat')
    heads += dense('object_score', 'obj_predict_head.decoder_dict.obj') if model.num_objects else []
    heads += dense('attribute_score', 'obj_predict_head.decoder_dict.attr') if model.num_attributes else []
  return [row.below('', prefix) for row in encoder] + heads
