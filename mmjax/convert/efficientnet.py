"""EfficientNet-Lite's checkpoints, by the names of the PyTorch code that took TensorFlow's weights over."""

from collections.abc import Mapping

from mmjax.convert.models import example
from mmjax.convert.names import Row, convolution, counters, dense
from mmjax.convert.plan import Arrays, Config, Plan, Shapes
from mmjax.encoders.efficientnet import LITE0, EfficientNetLite

CLASS = 'EfficientNetLite'
PARTS = {'expand': ('_expand_conv', '_bn0'), 'depth': ('_depthwise_conv', '_bn1'), 'project': ('_project_conv', '_bn2')}


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  answers = shapes.get('_fc.weight', (0,))[0]
  model = EfficientNetLite(LITE0, shapes['_conv_stem.weight'][0], shapes['_conv_head.weight'][0], answers)
  return Plan(config, model, rows(model) + counters(shapes), example(model, 3), outputs)


def rows(model: EfficientNetLite) -> list[Row]:
  found = convolution('stem', '_conv_stem', 'stem_norm', '_bn0')
  found += convolution('head', '_conv_head', 'head_norm', '_bn1')
  block = 0
  for stage, (repeats, *_, expand, _) in enumerate(model.stages):
    for n in range(repeats):
      for part, theirs in PARTS.items():
        if part != 'expand' or expand > 1:
          ours, (conv, norm) = f'stage{stage}_{n}/{part}', (f'_blocks.{block}.{own}' for own in theirs)
          found += convolution(ours, conv, f'{ours}_norm', norm)
      block += 1
  return found + (dense('answer_score', '_fc') if model.num_answers else [])


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  out = plan.model.apply(variables, given['pixel_values'].transpose(0, 2, 3, 1), train=False)
  return {'logits': out['answers']} if 'answers' in out else {'features': out['pooled']}
