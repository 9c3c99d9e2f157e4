"""VisualBERT's checkpoints: HuggingFace's classes and the authors' TrainVisualBERTObjective."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmjax.convert.models import example
from mmjax.convert.names import Row, below, bert_embed, bert_layer, dense, embed, layers, unused, word_scores
from mmjax.convert.plan import (
  Arrays,
  Config,
  Plan,
  Shapes,
  activation,
  captured,
  cross_entropy,
  learnt,
  number,
  position_ids,
)
from mmjax.fusion.layers import ENTRY
from mmjax.models.visualbert import VisualBERT

# class -> (answers by which output, pre-training heads, grounding head)
CLASSES = {
  'VisualBertModel': (None, False, False),
  'VisualBertForPreTraining': (None, True, False),
  'VisualBertForQuestionAnswering': ('last', False, False),
  'VisualBertForVisualReasoning': ('pooled', False, False),
  'VisualBertForMultipleChoice': ('pooled', False, False),
  'VisualBertForRegionToPhraseAlignment': (None, True, True),
}
AUTHORS = {
  'pretraining': (None, True, False),
  'vqa': ('last', False, False),
  'vqa_advanced': (None, True, False),
  'nlvr': ('pooled', False, False),
  'multichoice': ('pooled', False, False),
  'flickr': (None, True, True),
}
INPUTS = {  # the authors' names -> HuggingFace's
  'input_mask': 'attention_mask',
  'visual_embeddings': 'visual_embeds',
  'image_mask': 'visual_attention_mask',
  'visual_embeddings_type': 'visual_token_type_ids',
  'flickr_position': 'region_to_phrase_position',
  'is_random_next': 'sentence_image_labels',
  'masked_lm_labels': 'labels',
  'label': 'labels',
}


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  """kind: a class of HuggingFace's, or 'TrainVisualBERTObjective' for the authors'."""
  authors = kind == 'TrainVisualBERTObjective'
  head = number(config, 'training_head_type') if authors else kind
  answer_from, pretrain, grounding = (AUTHORS if authors else CLASSES)[head]
  scores = 'classifier' if authors else 'cls'
  prefix = 'bert' if authors else '' if kind == 'VisualBertModel' else 'visual_bert'
  model = VisualBERT(
    num_answers=shapes.get(f'{scores}.weight', (number(config, 'num_labels', 2),))[0] if answer_from else 0,
    vocab=number(config, 'vocab_size'),
    positions=number(config, 'max_position_embeddings'),
    types=number(config, 'type_vocab_size'),
    schedule=f'{number(config, "num_hidden_layers")}*[t<tv v<tv tied]',
    width=number(config, 'hidden_size'),
    heads=number(config, 'num_attention_heads'),
    mlp=number(config, 'intermediate_size'),
    eps=number(config, 'layer_norm_eps', 1e-12),
    activation=activation(config),
    dropout=number(config, 'hidden_dropout_prob', 0.1),
    attention_dropout=number(config, 'attention_probs_dropout_prob', 0.1),
    masking='add' if authors else 'replace',
    word_padding=0 if authors else number(config, 'pad_token_id', 1),
    answer_from=answer_from or 'last',
    pretrain=pretrain,
    grounding=grounding,
  )
  tied = {'cls.predictions.decoder.weight': below(prefix, 'embeddings.word_embeddings.weight'),
          'cls.predictions.decoder.bias': 'cls.predictions.bias'} if pretrain else {}  # fmt: skip
  buffers = position_ids(below(prefix, 'embeddings.position_ids'), model.positions)
  given = example(model, number(config, 'visual_embedding_dim'))
  return Plan(config, model, rows(model, prefix, scores, authors), given, outputs, tied, buffers)


def rows(model: VisualBERT, prefix: str, scores: str, authors: bool) -> list[Row]:
  """prefix: 'visual_bert', 'bert' or ''; scores: the name of the answers' layer."""
  project, suffix = ('projection', '_visual') if authors else ('visual_projection', '')
  table = lambda name: f'embeddings.{name}_embeddings_visual' if suffix else f'embeddings.visual_{name}_embeddings'
  encoder = [
    *bert_embed('embed'),
    *dense('embed/region', f'embeddings.{project}'),
    *embed('embed/region_type', table('token_type')),
    *embed('embed/region_position', table('position')),
    *layers(bert_layer('sub0_tied'), 'encoder/group0', 'encoder.layer.{n}', model.schedule),
    *dense('pooler/project', 'pooler.dense'),
  ]  # fmt: skip
  heads = dense('answer_score', scores) if model.num_answers else []
  if model.pretrain:
    heads += word_scores() + dense('matched', 'cls.seq_relationship')
  if model.grounding:
    name = 'flickr_attention' if authors else 'attention'
    heads += dense('grounding/query', f'{name}.query') + dense('grounding/key', f'{name}.key')
    heads += unused(f'{name}.value.weight', f'{name}.value.bias')
  return [row.below('', prefix) for row in encoder] + heads


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  """The outputs of either code: which of the two called is seen from the names of the inputs."""
  model, authors = plan.model, 'visual_embeddings' in given
  given = {INPUTS.get(name, name) if authors else name: value for name, value in given.items()}
  lead = given['input_ids'].shape[:-1]  # [B], or [B, choices]
  flat = {
    name: a.reshape(-1, *a.shape[len(lead) :]) if a.shape[: len(lead)] == lead else a for name, a in given.items()
  }
  text = flat['input_ids']
  mask = flat['attention_mask'] > 0 if 'attention_mask' in flat else np.ones(text.shape, bool)
  seen = flat['visual_attention_mask'] > 0 if 'visual_attention_mask' in flat else None
  regions = flat['visual_embeds']
  types = flat.get('visual_token_type_ids')
  if types is None and authors:
    types = np.zeros(regions.shape[:2], int)  # HuggingFace: ones
  called = (text, mask, regions, None, seen, flat.get('image_text_alignment'), flat.get('token_type_ids'), types)
  at = flat.get('position_ids')
  out, maps, states = captured(plan, variables, *called, at)
  entry, maps, states = states['encoder'][ENTRY], maps['encoder']['group0'], states['encoder']['group0']
  found = {
    f'attentions.{n}': jnp.concatenate([t, v], 2)
    for n, (t, v) in enumerate(zip(maps['sub0/t<tv'], maps['sub0/v<tv'], strict=True))
  }
  hidden = [jnp.concatenate([t, v], 1) for t, v in zip(states['t'], states['v'], strict=True)]
  found |= {f'sequence_output.{n}': h for n, h in enumerate(hidden)}
  hidden = [jnp.concatenate([entry['t'], entry['v']], 1), *hidden]
  found |= {f'hidden_states.{n}': h for n, h in enumerate(hidden)}
  found |= {'last_hidden_state': hidden[-1], 'pooler_output': out['pooled'], 'pooled_output': out['pooled']}
  found |= _scores(model, out, flat, lead, authors)
  if 'labels' in given:
    loss = lambda run: _losses(_scores(model, run(*called, at), flat, lead, authors), given)
    found |= learnt(plan, variables, loss)
  return found


def _scores(model: VisualBERT, out: Arrays, given: Arrays, lead: tuple, authors: bool) -> Arrays:
  """The scores of the heads, under the peers' names."""
  found = {}
  if 'answers' in out:
    logits = out['answers']
    if model.num_answers == 1:
      logits = logits.reshape(lead) if len(lead) == 2 else logits.reshape(given['labels'].shape[0], -1)
    elif model.answer_from == 'last' and 'labels' in given and not authors:
      logits = jax.nn.log_softmax(logits)  # as HuggingFace returns them where labels are given
    found['logits'] = logits
  if 'words' in out:
    found |= {'prediction_logits': out['words'], 'logits': out['words']}
    found |= {'seq_relationship_logits': out['matched'], 'seq_relationship_score': out['matched']}
  if 'grounding' in out:
    at = jnp.maximum(given['region_to_phrase_position'], 0)
    found['logits'] = jnp.take_along_axis(out['grounding'], at[..., None], 1)
  return found


def _losses(found: Arrays, given: Arrays) -> tuple[jax.Array, Arrays]:
  """(the peer's loss, its parts)."""
  labels = given['labels']
  if 'seq_relationship_logits' in found and 'region_to_phrase_position' not in given:
    scores = found['prediction_logits'][:, : labels.shape[1]]  # the authors label the words only, HuggingFace both
    parts = {'masked_lm_loss': cross_entropy(scores, labels)}
    if 'sentence_image_labels' in given:
      parts['next_sentence_loss'] = cross_entropy(found['seq_relationship_logits'], given['sentence_image_labels'])
    return jnp.asarray(sum(parts.values())), parts
  logits = found['logits']
  if np.issubdtype(labels.dtype, np.floating):
    return optax.losses.kl_divergence(jax.nn.log_softmax(logits), labels).sum() / len(labels), {}
  return cross_entropy(logits, labels), {}
