"""AST's checkpoints: HuggingFace's ASTModel and ASTForAudioClassification."""

from collections.abc import Mapping

from mmjax.convert.models import example
from mmjax.convert.names import Row, dense, layers, norm
from mmjax.convert.plan import Arrays, Config, Plan, Shapes, activation, number
from mmjax.convert.vit import block, of_one_stream, schedule, sizes
from mmjax.models.ast import AST

CLASSES = ('ASTModel', 'ASTForAudioClassification')


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  prefix = '' if kind == 'ASTModel' else 'audio_spectrogram_transformer'
  model = AST(
    num_answers=shapes.get('classifier.dense.weight', (number(config, 'num_labels', 2),))[0] if prefix else 0,
    frames=number(config, 'max_length', 1024),
    bins=number(config, 'num_mel_bins', 128),
    patch=number(config, 'patch_size', 16),
    strides=(number(config, 'frequency_stride', 10), number(config, 'time_stride', 10)),
    schedule=schedule(config, 'a'),
    eps=number(config, 'layer_norm_eps', 1e-12),
    activation=activation(config),
    **sizes(config),
  )
  return Plan(config, model, rows(model, prefix), example(model), outputs)


def rows(model: AST, prefix: str) -> list[Row]:
  """prefix: 'audio_spectrogram_transformer' or ''."""
  encoder = [
    Row('patches/tokens', ('embeddings.cls_token', 'embeddings.distillation_token'), 'token', stacked=True),
    Row('patches/position', ('embeddings.position_embeddings',), 'batched'),
    Row('patches/project/kernel', ('embeddings.patch_embeddings.projection.weight',), 'conv'),
    Row('patches/project/bias', ('embeddings.patch_embeddings.projection.bias',)),
    *layers(block(), 'encoder/group0/sub0_a', 'encoder.layer.{n}', model.schedule),
    *norm('norm', 'layernorm'),
  ]
  head = [*norm('answer_norm', 'classifier.layernorm'), *dense('answer_score', 'classifier.dense')]
  return [row.below('', prefix) for row in encoder] + (head if model.num_answers else [])


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  return of_one_stream(plan, variables, given, given['input_values'], 'a')
