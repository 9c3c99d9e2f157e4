"""LXMERT's checkpoints: HuggingFace's and the authors' (pre-training, and the fine-tuned VQA, GQA and NLVR2)."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from mmjax.convert.models import example
from mmjax.convert.names import Row, attention, bert_embed, bert_layer, dense, feed_forward, layers, norm, word_scores
from mmjax.convert.plan import Arrays, Config, Plan, Shapes, activation, captured, fixed, learnt, number
from mmjax.models.lxmert import LXMERT
from mmjax.objectives import lxmert_pretraining

CLASSES = ('LxmertModel', 'LxmertForQuestionAnswering', 'LxmertForPreTraining')
TASKS = ('VQAModel', 'GQAModel', 'NLVR2Model')  # the authors'
AUTHORS = ('LXRTPretraining', *TASKS)
PARTS = {'object': 'obj', 'attribute': 'attr', 'feature': 'feat'}


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  """kind: a class of HuggingFace's (CLASSES) or of the authors' (AUTHORS), whose models of tasks have no config."""
  authors, tuned = kind in AUTHORS, kind in TASKS
  prefix = {'LxmertModel': '', 'LXRTPretraining': 'bert'} | dict.fromkeys(TASKS, 'lxrt_encoder.model.bert')
  at = prefix.get(kind, 'lxmert')
  pretrain = kind in ('LXRTPretraining', 'LxmertForPreTraining')
  if kind == 'LxmertForPreTraining':
    fixed(config, {'task_mask_lm': True, 'task_matched': True})
  regions = pretrain and (authors or number(config, 'task_obj_predict', True))
  size = lambda flag, key: number(config, key) if regions and (authors or number(config, flag, True)) else 0
  asked = authors or kind == 'LxmertForQuestionAnswering' or (pretrain and number(config, 'task_qa', True))
  told = shapes.get('logit_fc.3.bias', (None,))[0]  # the authors' models of tasks have no config of their own
  model = LXMERT(
    num_answers=number(config, 'num_answers' if authors else 'num_qa_labels', told) if asked else 0,
    images=shapes.get('logit_fc.0.weight', (0, 0))[1] // number(config, 'hidden_size') or 1,
    vocab=number(config, 'vocab_size'),
    positions=number(config, 'max_position_embeddings'),
    types=number(config, 'type_vocab_size'),
    schedule=f'{number(config, "l_layers")}*[t<t] {number(config, "r_layers")}*[v<v] '
    f'{number(config, "x_layers")}*[t<v v<t tied noffn; t<t v<v]',
    width=number(config, 'hidden_size'),
    heads=number(config, 'num_attention_heads'),
    mlp=number(config, 'intermediate_size'),
    activation=activation(config),
    dropout=number(config, 'hidden_dropout_prob', 0.1),
    attention_dropout=number(config, 'attention_probs_dropout_prob', 0.1),
    masking='add' if authors else 'replace',
    pretrain=pretrain,
    num_features=size('visual_feat_loss', 'visual_feat_dim'),
    num_objects=size('visual_obj_loss', 'obj_id_num' if authors else 'num_object_labels'),
    num_attributes=size('visual_attr_loss', 'attr_id_num' if authors else 'num_attr_labels'),
  )
  words = f'{at}.embeddings.word_embeddings.weight'
  tied = {'cls.predictions.decoder.weight': words} if pretrain else {}
  given = example(model, number(config, 'visual_feat_dim'))
  return Plan(config, model, rows(model, config, at, '' if tuned else 'answer_head'), given, outputs, tied)


def rows(model: LXMERT, config: Config, prefix: str, head: str) -> list[Row]:
  """The map for a model of these layer counts. prefix: such as 'lxmert' or ''; head: where the head of answers lies."""
  cross = [
    *attention('sub0_tied', 'visual_attention.att', 'visual_attention.output'),
    *(row for ours, theirs in (('sub1_t', 'lang'), ('sub1_v', 'visn')) for row in (
      *attention(ours, f'{theirs}_self_att.self', f'{theirs}_self_att.output'),
      *feed_forward(ours, f'{theirs}_inter.dense', f'{theirs}_output'),
    )),
  ]  # fmt: skip
  encoder = [
    *bert_embed('text'),
    *dense('regions/feature', 'encoder.visn_fc.visn_fc'),
    *norm('regions/feature_norm', 'encoder.visn_fc.visn_layer_norm'),
    *dense('regions/box', 'encoder.visn_fc.box_fc'),
    *norm('regions/box_norm', 'encoder.visn_fc.box_layer_norm'),
    *layers(bert_layer('sub0_t'), 'encoder/group0', 'encoder.layer.{n}', range(config['l_layers'])),
    *layers(bert_layer('sub0_v'), 'encoder/group1', 'encoder.r_layers.{n}', range(config['r_layers'])),
    *layers(cross, 'encoder/group2', 'encoder.x_layers.{n}', range(config['x_layers'])),
    *dense('pooler/project', 'pooler.dense'),
  ]
  heads = []
  if model.num_answers:
    score = (
      dense('answer/project', 'logit_fc.0') + norm('answer/norm', 'logit_fc.2') + dense('answer_score', 'logit_fc.3')
    )
    heads += [row.below('', head) for row in score]
  if model.pretrain:
    heads += word_scores() + dense('matched', 'cls.seq_relationship')
    sizes = {'feat': model.num_features, 'obj': model.num_objects, 'attr': model.num_attributes}
    if any(sizes.values()):
      heads += dense('masked_object/project', 'obj_predict_head.transform.dense')
      heads += norm('masked_object/norm', 'obj_predict_head.transform.LayerNorm')
    for ours, theirs in PARTS.items():
      heads += dense(f'{ours}_score', f'obj_predict_head.decoder_dict.{theirs}') if sizes[theirs] else []
  return [row.below('', prefix) for row in encoder] + heads


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  """HuggingFace's outputs, and the authors' (LXRTPretraining), whose own names for inputs differ in two places."""
  authors = 'pos' in given
  mask = given['attention_mask'] > 0 if 'attention_mask' in given else np.ones(given['input_ids'].shape, bool)
  seen = given['visual_attention_mask'] > 0 if 'visual_attention_mask' in given else None
  boxes = given['pos'] if authors else given['visual_pos']
  called = (given['input_ids'], mask, given['visual_feats'], boxes)
  run = lambda variables, seen: captured(plan, variables, *called, seen, given.get('token_type_ids'))
  out, maps, states = run(variables, seen)
  maps, states = maps['encoder'], states['encoder']
  found = {'language_output': out['t'], 'vision_output': out['v'], 'pooled_output': out['pooled']}
  for name, edge in {
    'language': 'group0/sub0/t<t',
    'vision': 'group1/sub0/v<v',
    'cross_encoder': 'group2/sub0/t<v',
  }.items():
    group, _, edge = edge.partition('/')
    found |= {f'{name}_attentions.{n}': m for n, m in enumerate(maps[group][edge] if group in maps else [])}
  for name, stream, own in (('language', 't', 'group0'), ('vision', 'v', 'group1')):
    layers = jnp.concatenate([states[own][stream], states['group2'][stream]])
    found |= {f'{name}_hidden_states.{n}': h for n, h in enumerate(layers)}
  names = {'answers': 'question_answering_score', 'words': 'prediction_logits', 'matched': 'cross_relationship_score',
           'features': 'visual_head.feat', 'objects': 'visual_head.obj', 'attributes': 'visual_head.attr'}  # fmt: skip
  found |= {theirs: out[ours] for ours, theirs in names.items() if ours in out}
  batch = _labels(given)

  def loss(run):
    out = run(*called, None if authors else seen, given.get('token_type_ids'))
    losses, _ = lxmert_pretraining(out, batch, region_weight=plan.config.get('visual_loss_normalizer', 1 / 0.15))
    parts = {name: weight * total / jnp.maximum(count, 1e-9) for name, (total, count, weight) in losses.items()}
    sums = {'ans': ('answers',), 'labels': ('words',), 'matched_label': ('matched',),
            'obj_labels': ('objects', 'attributes', 'features')}  # fmt: skip
    alone = {f'loss_only_{k}': sum(parts[p] for p in v if p in parts) for k, v in sums.items() if set(v) & set(parts)}
    order = ('words', 'matched', 'objects', 'attributes', 'features', 'answers')
    return sum(parts.values()), alone | {'losses': jnp.stack([parts[name] for name in order if name in parts])[None]}

  if batch:
    found |= learnt(plan, variables, loss)
  if authors:
    plain, _, _ = run(variables, None)
    found |= {
      f'{part}{name}': which[key]
      for part, which in (('', plain), ('masked_', out))
      for name, key in (('lang', 't'), ('visn', 'v'), ('pooled', 'pooled'))
    }
    found |= {
      'lm_scores': plain['words'],
      'matched_scores': plain['matched'],
      'answer_score': plain['answers'],
      'obj_head.obj': plain['objects'],
      'obj_head.attr': plain['attributes'],
      'obj_head.feat': plain['features'],
    }
  return found


def _labels(given: Arrays) -> Arrays:
  """The peer's labels as a batch of `lxmert_pretraining`, which ignores -1 (HuggingFace: -100); {} where none is given.

  What is not given is ignored.
  """
  text, regions = given['input_ids'].shape, given['visual_feats'].shape
  asked = {
    'word_label': given.get('masked_lm_labels'),
    'matched': given.get('matched_label'),
    'answer': given.get('ans'),
  }
  if 'labels' in given:  # LxmertForQuestionAnswering calls its answers so, LxmertForPreTraining its words
    asked['answer' if given['labels'].ndim == 1 else 'word_label'] = given['labels']
  found = {name: np.where(label == -100, -1, label) for name, label in asked.items() if label is not None}
  for ours, theirs in PARTS.items():
    if f'obj_labels.{theirs}.0' in given:
      found |= {ours: given[f'obj_labels.{theirs}.0'], f'{ours}_weight': given[f'obj_labels.{theirs}.1']}
  if not found:
    return {}
  batch = {'word_label': np.full(text, -1), 'matched': np.full(text[:1], -1), 'answer': np.full(text[:1], -1)}
  for name, shape in (('object', regions[:2]), ('attribute', regions[:2]), ('feature', regions)):
    batch |= {name: np.zeros(shape, int if name != 'feature' else np.float32), f'{name}_weight': np.zeros(regions[:2])}
  return batch | found | {'weight': np.ones(text[0])}
