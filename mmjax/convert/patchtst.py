"""PatchTST's checkpoints: HuggingFace's PatchTSTModel and PatchTSTForClassification."""

from collections.abc import Mapping

import jax.numpy as jnp

from mmjax.convert.names import Row, counters, dense, layers, norm
from mmjax.convert.plan import Arrays, Config, Plan, Shapes, activation, captured, cross_entropy, fixed, learnt, number
from mmjax.models.patchtst import PatchTST

CLASSES = ('PatchTSTModel', 'PatchTSTForClassification')


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  fixed(config, {'bias': True, 'do_mask_input': None})
  scaling = number(config, 'scaling', 'std')
  model = PatchTST(
    num_answers=0 if kind == 'PatchTSTModel' else number(config, 'num_targets', 1),
    channels=number(config, 'num_input_channels', 1),
    context=number(config, 'context_length', 32),
    patch=number(config, 'patch_length', 1),
    stride=number(config, 'patch_stride', 1),
    layers=number(config, 'num_hidden_layers', 3),
    width=number(config, 'd_model', 128),
    heads=number(config, 'num_attention_heads', 4),
    mlp=number(config, 'ffn_dim', 512),
    eps=number(config, 'norm_eps', 1e-5),
    activation=activation(config, 'activation_function'),
    dropout=number(config, 'ff_dropout', 0.0),
    attention_dropout=number(config, 'attention_dropout', 0.0),
    norms=number(config, 'norm_type', 'batchnorm'),
    pre_norm=number(config, 'pre_norm', True),
    channel_attention=number(config, 'channel_attention', False),
    share_embedding=number(config, 'share_embedding', True),
    token=config.get('use_cls_token', False),
    scaling={True: 'mean', None: 'none', False: 'none'}.get(scaling, scaling),
  )
  example = (jnp.zeros((1, model.context, model.channels)),)
  return Plan(config, model, rows(model, shapes, '' if kind == 'PatchTSTModel' else 'model'), example, outputs)


def rows(model: PatchTST, shapes: Shapes, prefix: str) -> list[Row]:
  embedder = 'encoder.embedder.input_embedding'
  every = [f'{embedder}.{n}' for n in range(model.channels)]
  embed = [
    Row('kernel', tuple(f'{name}.weight' for name in every), 'dense', stacked=True),
    Row('bias', tuple(f'{name}.bias' for name in every), stacked=True),
  ]
  found = [
    *(dense('embed', embedder) if model.share_embedding else embed),
    Row('position', ('encoder.positional_encoder.position_enc',)),
    *([Row('token', ('encoder.positional_encoder.cls_token',), 'token4')] if model.token else []),
    *layers(block(model), 'layers', 'encoder.layers.{n}', range(model.layers)),
  ]
  head = dense('answer_score', 'head.linear') if model.num_answers else []
  return [*(row.below('', prefix) for row in found), *head, *counters(shapes)]


def block(model: PatchTST) -> list[Row]:
  parts = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'out'}
  found = [r for part, there in parts.items() for r in dense(f'owner/{part}', f'self_attn.{there}_proj')]
  for n in (1, 2, 3) if model.channel_attention else (1, 3):
    theirs = f'norm_sublayer{n}' + ('.batchnorm' if model.norms == 'batchnorm' else '')
    found += norm(f'norm{n}', theirs)
    if model.norms == 'batchnorm':
      found += [Row(f'norm{n}/{a}', (f'{theirs}.running_{a}',), collection='batch_stats') for a in ('mean', 'var')]
  return [*found, *dense('owner/ffn/expand', 'ff.0'), *dense('owner/ffn/project', 'ff.3')]


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  called = (given['past_values'], given['past_observed_mask'] > 0 if 'past_observed_mask' in given else None)
  out, maps, states = captured(plan, variables, *called)
  hidden = [states['entry'], *states['layers']['s']][: plan.model.layers]  # what each layer is given
  found: Arrays = {f'hidden_states.{n}': h for n, h in enumerate(hidden)}
  found |= {f'attentions.{n}': m for n, m in enumerate(maps['layers']['in_time'])}
  if 'answers' in out:
    found |= {'prediction_logits': out['answers']}
  else:
    found |= {
      'last_hidden_state': out['s'],
      'loc': out['location'],
      'scale': out['scale'],
      'patch_input': out['patches'],
    }

  def loss(run):
    return cross_entropy(run(*called)['answers'], given['target_values']), {}

  return found | (learnt(plan, variables, loss) if 'target_values' in given else {})
