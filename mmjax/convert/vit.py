"""ViT's checkpoints: HuggingFace's ViTModel and ViTForImageClassification."""

from collections.abc import Mapping
from typing import Any

from mmjax.convert.models import example
from mmjax.convert.names import Row, dense, layers, norm
from mmjax.convert.plan import Arrays, Config, Plan, Shapes, activation, captured, cross_entropy, inside, learnt, number
from mmjax.models.vit import ViT

CLASSES = ('ViTModel', 'ViTForImageClassification')


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  prefix = '' if kind == 'ViTModel' else 'vit'
  model = ViT(
    num_answers=shapes.get('classifier.weight', (number(config, 'num_labels', 2),))[0] if prefix else 0,
    image=number(config, 'image_size', 224),
    patch=number(config, 'patch_size', 16),
    schedule=schedule(config, 'v'),
    eps=number(config, 'layer_norm_eps', 1e-12),
    activation=activation(config),
    **sizes(config),
    pooler=not prefix and 'pooler.dense.weight' in shapes,
  )
  return Plan(config, model, rows(model, prefix), example(model, number(config, 'num_channels', 3)), outputs)


def schedule(config: Config, stream: str) -> str:
  return f'{number(config, "num_hidden_layers")}*[{stream}<{stream}]'


def sizes(config: Config) -> dict:
  """What ViT and all that descend from it are made with."""
  return {
    'width': number(config, 'hidden_size'),
    'heads': number(config, 'num_attention_heads'),
    'mlp': number(config, 'intermediate_size'),
    'dropout': number(config, 'hidden_dropout_prob', 0.0),
    'attention_dropout': number(config, 'attention_probs_dropout_prob', 0.0),
  }


def block() -> list[Row]:
  """A layer: norm, attention, norm, feed-forward."""
  return [
    *norm('norm', 'layernorm_before'),
    *(r for part in ('query', 'key', 'value') for r in dense(part, f'attention.attention.{part}')),
    *dense('out', 'attention.output.dense'),
    *norm('ffn_norm', 'layernorm_after'),
    *dense('ffn/expand', 'intermediate.dense'),
    *dense('ffn/project', 'output.dense'),
  ]


def rows(model: ViT, prefix: str) -> list[Row]:
  """prefix: 'vit' or ''."""
  encoder = [
    Row('patches/token', ('embeddings.cls_token',), 'token'),
    Row('patches/position', ('embeddings.position_embeddings',), 'batched'),
    Row('patches/project/kernel', ('embeddings.patch_embeddings.projection.weight',), 'conv'),
    Row('patches/project/bias', ('embeddings.patch_embeddings.projection.bias',)),
    *layers(block(), 'encoder/group0/sub0_v', 'encoder.layer.{n}', model.schedule),
    *norm('norm', 'layernorm'),
    *(dense('pooler/project', 'pooler.dense') if model.pooler else []),
  ]
  return [row.below('', prefix) for row in encoder] + (dense('answer_score', 'classifier') if model.num_answers else [])


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  return of_one_stream(plan, variables, given, given['pixel_values'].transpose(0, 2, 3, 1), 'v')


def of_one_stream(plan: Plan, variables: Mapping, given: Arrays, x: Any, stream: str) -> Arrays:
  """The peer's outputs of a model that is called with x alone, with or without a classifier."""
  out, maps, states = captured(plan, variables, x)
  found = inside(maps, states, stream)
  names = {stream: 'last_hidden_state', 'pooled': 'pooler_output', 'answers': 'logits'}
  found |= {names[name]: value for name, value in out.items()}

  def loss(run):
    return cross_entropy(run(x)['answers'], given['labels']), {}

  return found | (learnt(plan, variables, loss) if 'labels' in given else {})
