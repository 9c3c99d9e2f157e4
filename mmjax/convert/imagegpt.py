"""ImageGPT's checkpoints: HuggingFace's ImageGPTForCausalImageModeling."""

from collections.abc import Mapping

import numpy as np

from mmjax.convert.gpt import FIXED, layer, masks
from mmjax.convert.models import example
from mmjax.convert.names import Row, embed, layers, vector
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
)
from mmjax.models.imagegpt import ImageGPT

CLASSES = ('ImageGPTForCausalImageModeling',)


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  fixed(config, FIXED)
  width = number(config, 'n_embd')
  model = ImageGPT(
    colours=number(config, 'vocab_size') - 1,
    positions=number(config, 'n_positions'),
    schedule=f'{number(config, "n_layer")}*[v<v]',
    width=width,
    heads=number(config, 'n_head'),
    mlp=config.get('n_inner') or 4 * width,
    eps=number(config, 'layer_norm_epsilon', 1e-5),
    activation=activation(config, 'activation_function', 'quick_gelu'),
    dropout=number(config, 'resid_pdrop', 0.1),
    attention_dropout=number(config, 'attn_pdrop', 0.1),
  )
  return Plan(config, model, rows(model), example(model), outputs, {}, masks(shapes, model.positions))


def rows(model: ImageGPT) -> list[Row]:
  inside = [row for row in layer() if not row.ours.endswith('norm/bias')]
  found = [
    *embed('colour', 'wte'),
    *embed('position', 'wpe'),
    *layers(inside, 'encoder/group0/sub0_v', 'h.{n}', model.schedule),
    *vector('norm/scale', 'ln_f.weight'),
  ]
  return [*(row.below('', 'transformer') for row in found), Row('score/kernel', ('lm_head.weight',), 'dense')]


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  mask = given['attention_mask'] > 0 if 'attention_mask' in given else None
  called = (given['input_ids'], mask)
  out, maps, states = captured(plan, variables, *called)
  found = inside(maps, states, 'v', last=out['v']) | {'logits': out['colours']}  # the last state is normed

  def loss(run):
    following = np.pad(given['labels'][:, 1:], ((0, 0), (0, 1)), constant_values=-100)
    return cross_entropy(run(*called)['colours'], following), {}

  return found | (learnt(plan, variables, loss) if 'labels' in given else {})
