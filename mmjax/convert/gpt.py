"""GPT-2's checkpoints: HuggingFace's GPT2Model and GPT2LMHeadModel."""

from collections.abc import Mapping

import numpy as np

from mmjax.convert.models import example
from mmjax.convert.names import Row, below, embed, fused, layers, norm
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
from mmjax.models.gpt import GPT

CLASSES = ('GPT2Model', 'GPT2LMHeadModel')
FIXED = {'scale_attn_weights': True, 'scale_attn_by_inverse_layer_idx': False, 'add_cross_attention': False}


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  """The tensors of either class may stand below 'transformer.' or not, as the first releases' do not."""
  fixed(config, FIXED)
  prefix = 'transformer' if 'transformer.wte.weight' in shapes else ''
  width = number(config, 'n_embd')
  model = GPT(
    vocab=number(config, 'vocab_size'),
    positions=number(config, 'n_positions'),
    schedule=f'{number(config, "n_layer")}*[t<t]',
    width=width,
    heads=number(config, 'n_head'),
    mlp=config.get('n_inner') or 4 * width,
    eps=number(config, 'layer_norm_epsilon', 1e-5),
    activation=activation(config, 'activation_function', 'gelu_new'),
    dropout=number(config, 'resid_pdrop', 0.1),
    attention_dropout=number(config, 'attn_pdrop', 0.1),
    words=kind == 'GPT2LMHeadModel',
  )
  tied = {'lm_head.weight': below(prefix, 'wte.weight')} if model.words else {}
  return Plan(config, model, rows(model, prefix), example(model), outputs, tied, masks(shapes, model.positions))


def masks(shapes: Shapes, positions: int) -> dict[str, np.ndarray]:
  """The buffers of older releases: the causal mask of each layer, and the score of what it hides."""
  buffers = {name: np.tri(positions, dtype=bool)[None, None] for name in shapes if name.endswith('.attn.bias')}
  return buffers | {name: np.array(-1e4) for name in shapes if name.endswith('.attn.masked_bias')}


def rows(model: GPT, prefix: str) -> list[Row]:
  """prefix: 'transformer' or ''."""
  found = [
    *embed('word', 'wte'),
    *embed('position', 'wpe'),
    *layers(layer(), 'encoder/group0/sub0_t', 'h.{n}', model.schedule),
    *norm('norm', 'ln_f'),
  ]
  return [row.below('', prefix) for row in found]


def layer() -> list[Row]:
  """A layer. Their projections are stored as ours: [in, out]."""
  dense = lambda ours, theirs: [Row(f'{ours}/kernel', (f'{theirs}.weight',)), Row(f'{ours}/bias', (f'{theirs}.bias',))]
  return [
    *norm('norm', 'ln_1'),
    *fused('', 'attn.c_attn.weight', 'attn.c_attn.bias', 'same'),
    *dense('out', 'attn.c_proj'),
    *norm('ffn_norm', 'ln_2'),
    *dense('ffn/expand', 'mlp.c_fc'),
    *dense('ffn/project', 'mlp.c_proj'),
  ]


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  mask = given['attention_mask'] > 0 if 'attention_mask' in given else None
  called = (given['input_ids'], mask, given.get('position_ids'))
  out, maps, states = captured(plan, variables, *called)
  found = inside(maps, states, 't', last=out['t'])  # normed
  found |= {'last_hidden_state': out['t']} | ({'logits': out['words']} if 'words' in out else {})

  def loss(run):
    following = np.pad(given['labels'][:, 1:], ((0, 0), (0, 1)), constant_values=-100)
    return cross_entropy(run(*called)['words'], following), {}

  return found | (learnt(plan, variables, loss) if 'labels' in given else {})
