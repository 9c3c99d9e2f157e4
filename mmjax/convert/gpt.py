"""GPT-2's checkpoints: HuggingFace's GPT2Model and GPT2LMHeadModel."""

from collections.abc import Mapping

import numpy as np

from mmjax.convert.models import example
from mmjax.convert.names import Row, below, embed, layers, norm
from mmjax.convert.plan import Arrays, Config, Plan, Shapes, activation, captured, cross_entropy, learnt, number
from mmjax.errors import UserError
from mmjax.fusion.layers import ENTRY
from mmjax.models.gpt import GPT

CLASSES = ('GPT2Model', 'GPT2LMHeadModel')
FIXED = {'scale_attn_weights': True, 'scale_attn_by_inverse_layer_idx': False, 'add_cross_attention': False}


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  """The tensors of either class may stand below 'transformer.' or not, as the first releases' do not."""
  for key, value in FIXED.items():
    if config.get(key, value) != value:
      raise UserError(f'config.json: {key} {config[key]!r}, expected {value!r}')
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
  triangle = np.tri(model.positions, dtype=bool)[None, None]
  buffers = {}  # of older releases
  for name in shapes:
    if name.endswith('.attn.bias'):
      buffers[name] = triangle
    elif name.endswith('.attn.masked_bias'):
      buffers[name] = np.array(-1e4)
  return Plan(config, model, rows(model, prefix), example(model), outputs, tied, buffers)


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
    *(Row(f'{part}/{ours}', (f'attn.c_attn.{theirs}',), part=(i, 3))
      for i, part in enumerate(('query', 'key', 'value')) for ours, theirs in (('kernel', 'weight'), ('bias', 'bias'))),
    *dense('out', 'attn.c_proj'),
    *norm('ffn_norm', 'ln_2'),
    *dense('ffn/expand', 'mlp.c_fc'),
    *dense('ffn/project', 'mlp.c_proj'),
  ]  # fmt: skip


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  mask = given['attention_mask'] > 0 if 'attention_mask' in given else None
  called = (given['input_ids'], mask, given.get('position_ids'))
  out, maps, states = captured(plan, variables, *called)
  states = states['encoder']
  hidden = [states[ENTRY]['t'], *states['group0']['t'][:-1], out['t']]  # the last one is normed
  found = {f'attentions.{n}': m for n, m in enumerate(maps['encoder']['group0']['sub0/t<t'])}
  found |= {f'hidden_states.{n}': h for n, h in enumerate(hidden)}
  found |= {'last_hidden_state': out['t']} | ({'logits': out['words']} if 'words' in out else {})

  def loss(run):
    following = np.pad(given['labels'][:, 1:], ((0, 0), (0, 1)), constant_values=-100)
    return cross_entropy(run(*called)['words'], following), {}

  return found | (learnt(plan, variables, loss) if 'labels' in given else {})
