"""UNITER's checkpoints: the authors' UniterForPretraining and their models of tasks."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmjax.convert.models import example
from mmjax.convert.names import Row, bert_embed, bert_layer, dense, layers, norm, unused, vector, word_scores
from mmjax.convert.plan import Arrays, Config, Plan, Shapes, captured, learnt, number
from mmjax.fusion.layers import ENTRY
from mmjax.models.uniter import UNITER

CLASSES = {  # -> a tensor of its head
  'UniterForPretraining': 'feat_regress.bias',
  'UniterForVisualQuestionAnswering': 'vqa_output.3.weight',
  'UniterForNlvr2Paired': 'nlvr2_output.weight',
  'UniterForImageTextRetrieval': 'rank_output.weight',
  'UniterForReferringExpressionComprehension': 're_output.weight',
  'UniterForVisualCommonsenseReasoning': 'vcr_output.3.weight',
}


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  """kind: one of CLASSES."""
  size = lambda key, tensor: number(config, key, shapes.get(tensor, (None,))[0])
  pretrain = kind == 'UniterForPretraining'
  pairs = kind == 'UniterForNlvr2Paired'
  model = UNITER(
    num_answers=size('num_answer', 'vqa_output.3.bias') if kind == 'UniterForVisualQuestionAnswering' else 2 * pairs,
    images=1 + pairs,
    vocab=number(config, 'vocab_size'),
    positions=number(config, 'max_position_embeddings'),
    types=shapes.get('uniter.embeddings.token_type_embeddings.weight', (number(config, 'type_vocab_size'),))[0],
    schedule=f'{number(config, "num_hidden_layers")}*[t<tv v<tv tied]',
    width=number(config, 'hidden_size'),
    heads=number(config, 'num_attention_heads'),
    mlp=number(config, 'intermediate_size'),
    dropout=number(config, 'hidden_dropout_prob', 0.1),
    attention_dropout=number(config, 'attention_probs_dropout_prob', 0.1),
    masking='add',
    pretrain=pretrain,
    num_objects=size('img_label_dim', 'region_classifier.net.3.bias') if pretrain else 0,
    retrieval=kind == 'UniterForImageTextRetrieval',
    grounding=kind == 'UniterForReferringExpressionComprehension',
    choice=kind == 'UniterForVisualCommonsenseReasoning',
  )
  features = number(config, 'img_dim', shapes.get('uniter.img_embeddings.mask_embedding.weight', (2, 2048))[-1])
  tied = {'cls.predictions.decoder.weight': 'uniter.embeddings.word_embeddings.weight',
          'feat_regress.weight': 'uniter.img_embeddings.img_linear.weight'} if pretrain else {}  # fmt: skip
  return Plan(config, model, rows(model), example(model, features), outputs, tied)


def rows(model: UNITER) -> list[Row]:
  encoder = [
    *bert_embed('text'),
    *dense('regions/feature', 'img_embeddings.img_linear'),
    *norm('regions/feature_norm', 'img_embeddings.img_layer_norm'),
    *dense('regions/box', 'img_embeddings.pos_linear'),
    *norm('regions/box_norm', 'img_embeddings.pos_layer_norm'),
    *vector('regions/masked', 'img_embeddings.mask_embedding.weight'),
    *norm('regions/norm', 'img_embeddings.LayerNorm'),
    *layers(bert_layer('sub0_tied'), 'encoder/group0', 'encoder.layer.{n}', model.schedule),
    *dense('pooler/project', 'pooler.dense'),
  ]  # fmt: skip
  heads = []
  if model.images > 1:
    heads += dense('answer_score', 'nlvr2_output')
  elif model.num_answers:
    heads += dense('answer/project', 'vqa_output.0') + norm('answer/norm', 'vqa_output.2')
    heads += dense('answer_score', 'vqa_output.3')
  if model.pretrain:
    heads += word_scores() + dense('matched', 'itm_output')
    heads += dense('masked_feature/project', 'feat_regress.net.0') + norm('masked_feature/norm', 'feat_regress.net.2')
    heads += vector('feature_bias', 'feat_regress.bias')
    heads += dense('masked_object/project', 'region_classifier.net.0')
    heads += norm('masked_object/norm', 'region_classifier.net.2') + dense('object_score', 'region_classifier.net.3')
  if model.retrieval:
    heads += dense('alignment', 'rank_output') + unused('itm_output.weight', 'itm_output.bias')
  if model.grounding:
    heads += dense('grounding', 're_output')
  if model.choice:
    heads += dense('choice/project', 'vcr_output.0') + norm('choice/norm', 'vcr_output.2')
    heads += dense('choice_score', 'vcr_output.3')
  return [row.below('', 'uniter') for row in encoder] + heads


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  """The authors' outputs. They compact a text and its regions into one padded sequence by `gather_index`."""
  text, regions, boxes = given['input_ids'], given['img_feat'], given['img_pos_feat']
  gather, valid = given['gather_index'], given['attn_masks'] > 0
  mask = np.zeros((len(text), text.shape[1] + regions.shape[1]), bool)  # over words, then regions
  for row, at, there in zip(mask, gather, valid, strict=True):
    row[at[there]] = True
  text_mask, regions_mask = np.split(mask, [text.shape[1]], 1)
  compact = lambda x: jnp.take_along_axis(jnp.concatenate([x['t'], x['v']], 1), gather[..., None], 1)
  where = given.get('token_type_ids'), given.get('position_ids')

  seen = lambda regions, masked=None: (text, text_mask, regions, boxes, regions_mask, masked, *where)
  out, _, states = captured(plan, variables, *seen(regions))
  states = states['encoder']
  layers = [compact({s: states['group0'][s][n] for s in 'tv'}) for n in range(len(states['group0']['t']))]
  found = {f'all_layers.{n}': layer for n, layer in enumerate(layers)}
  found |= {'embedding_output': compact(states[ENTRY]), 'pooled': out['pooled']}
  hidden, every = np.zeros(text.shape, bool), np.ones(regions.shape[:2], bool)
  for name, stream, masks in (('text_only', 't', (text_mask, ~every)), ('image_only', 'v', (hidden, every))):
    alone, _, _ = captured(plan, variables, text, masks[0], regions, boxes, masks[1], None, *where)
    found[f'{name}_last'] = alone[stream]
  if 'answers' in out:
    found['answer_scores'] = out['answers']

  def loss(run):
    out = run(*seen(regions))
    if 'answers' in out:
      each = optax.sigmoid_binary_cross_entropy(out['answers'], given['targets'])
      return each.mean(), {'loss_none': each}
    hidden = run(*seen(given['img_feat_masked'], given['img_masks'] > 0))
    labels, chosen = given['txt_labels'], np.nonzero(given['img_mask_tgt'])
    at = np.nonzero(labels != -1)
    pick = lambda name: compact({'t': jnp.zeros((*text.shape, hidden[name].shape[-1])), 'v': hidden[name]})[chosen]
    entropy = optax.softmax_cross_entropy_with_integer_labels
    objects, targets = pick('objects'), given['label_targets']
    parts = {
      'mlm': (out['words'][at], entropy(out['words'][at], labels[at])),
      'itm': (out['matched'], entropy(out['matched'], given['targets'])),
      'mrfr': (pick('features'), (pick('features') - given['feat_targets']) ** 2),
      'mrc': (objects, entropy(objects, targets[:, 1:].argmax(1) + 1)),  # class 0 is the background
      'mrc-kl': (objects, jax.scipy.special.xlogy(targets, targets) - targets * jax.nn.log_softmax(objects)),
    }
    called = {'mlm': 'mlm_logits', 'itm': 'itm_scores'}
    scores = {called.get(name, f'{name}_pred'): score for name, (score, _) in parts.items()}
    losses = {f'{name}_loss': each for name, (_, each) in parts.items()}
    return sum(each.mean() for each in losses.values()), scores | losses

  return found | (learnt(plan, variables, loss) if 'targets' in given else {})
