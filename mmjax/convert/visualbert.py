"""VisualBERT's names in HuggingFace's checkpoints (VisualBertModel, VisualBertForQuestionAnswering)."""

from collections.abc import Mapping

from mmjax.convert.names import Row, bert_layer, dense, embed, norm
from mmjax.models.visualbert import VisualBERT


def from_huggingface(config: Mapping, num_answers: int = 0) -> VisualBERT:
  """The model of a HuggingFace config.json."""
  return VisualBERT(
    num_answers,
    config['vocab_size'],
    config['max_position_embeddings'],
    config['type_vocab_size'],
    f'{config["num_hidden_layers"]}*[t<tv v<tv tied]',
    config['hidden_size'],
    config['num_attention_heads'],
    config['intermediate_size'],
    config['layer_norm_eps'],
    config['hidden_dropout_prob'],
    config['attention_probs_dropout_prob'],
    word_padding=config['pad_token_id'],
  )


def rows(model: VisualBERT, config: Mapping, prefix: str) -> list[Row]:
  """The map for a model of this depth; `prefix` is 'visual_bert' or ''."""
  encoder = [
    *embed('embed/word', 'embeddings.word_embeddings'),
    *embed('embed/position', 'embeddings.position_embeddings'),
    *embed('embed/type', 'embeddings.token_type_embeddings'),
    *norm('embed/norm', 'embeddings.LayerNorm'),
    *dense('embed/region', 'embeddings.visual_projection'),
    *embed('embed/region_type', 'embeddings.visual_token_type_embeddings'),
    *embed('embed/region_position', 'embeddings.visual_position_embeddings'),
    *(r.layers('encoder/group0', 'encoder.layer.{n}', config['num_hidden_layers']) for r in bert_layer('sub0_tied')),
    *dense('pooler/project', 'pooler.dense'),
  ]
  return [row.below('', prefix) for row in encoder] + (dense('answer_score', 'cls') if model.num_answers else [])
