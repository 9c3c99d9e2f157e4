"""MulT's checkpoints: the state_dict() of the authors' MULTModel, with its constructor's arguments as config.json."""

from collections.abc import Mapping

import jax.numpy as jnp

from mmjax.convert.names import Row, dense, fused, layers, norm, unused
from mmjax.convert.plan import Arrays, Config, Plan, Shapes, captured, learnt, number
from mmjax.models.mult import MEMORY_LAYERS, MulT

CLASS = 'MULTModel'
LETTERS = {'t': 'l', 'a': 'a', 'f': 'v'}  # here -> there: language, audio, vision


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  only = {'t': number(config, 'lonly', True), 'a': number(config, 'aonly', True), 'f': number(config, 'vonly', True)}
  out = shapes.get('out_layer.weight', (number(config, 'output_dim', 1), 0))
  features = {s: number(config, f'orig_d_{there}') for s, there in LETTERS.items()}
  model = MulT(
    num_answers=out[0],
    targets=''.join(s for s in LETTERS if only[s]),
    width=number(config, 'd', 30),
    heads=number(config, 'num_heads', 5),
    layers=number(config, 'layers', 5),
    causal=number(config, 'attn_mask', True),
    attention_dropout=number(config, 'attn_dropout', 0.1),
    relu_dropout=number(config, 'relu_dropout', 0.1),
    dropout=number(config, 'res_dropout', 0.1),
    embed_dropout=number(config, 'embed_dropout', 0.25),
    out_dropout=number(config, 'out_dropout', 0.0),
  )
  found = rows(model, features)
  known = {name for row in found for name in row.theirs}
  example = ({s: jnp.zeros((1, 2, features[s])) for s in LETTERS},)
  kept = unused(*(name for name in shapes if name not in known and _kept(name)))
  return Plan(config, model, [*found, *kept], example, outputs)


def _kept(name: str) -> bool:
  """Whether no output may need a tensor: versions, memories of what is no target, the projection that is left out."""
  return name.startswith('trans_') or name in ('proj_l.weight', 'proj_a.weight', 'proj_v.weight')


def rows(model: MulT, features: Mapping[str, int]) -> list[Row]:
  found: list[Row] = []
  for s, there in LETTERS.items():
    if features[s] != model.width:
      found.append(Row(f'project_{s}/kernel', (f'proj_{there}.weight',), 'conv1'))
  for s in model.targets:
    for other in (o for o in LETTERS if o != s):
      name = f'trans_{LETTERS[s]}_with_{LETTERS[other]}'
      found += net(f'{s}_reads_{other}', name, 'sub0_tied', model.layers)
    found += net(f'{s}_memory', f'trans_{LETTERS[s]}_mem', 'sub0_x', max(model.layers, MEMORY_LAYERS))
  return [*found, *dense('head0', 'proj1'), *dense('head1', 'proj2'), *dense('answer_score', 'out_layer')]


def net(ours: str, theirs: str, owner: str, count: int) -> list[Row]:
  """One stack."""
  layer = [
    *fused('', 'self_attn.in_proj_weight', 'self_attn.in_proj_bias'),
    *dense('out', 'self_attn.out_proj'),
    *norm('norm', 'layer_norms.0'),
    *dense('ffn/expand', 'fc1'),
    *dense('ffn/project', 'fc2'),
    *norm('ffn_norm', 'layer_norms.1'),
  ]
  every = [*layers(layer, f'encoder/group0/{owner}', 'layers.{n}', range(count)), *norm('norm', 'layer_norm')]
  return [row.below(ours, theirs) for row in every]


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  sequences = {s: given[f'x_{there}'] for s, there in LETTERS.items()}
  out, _, _ = captured(plan, variables, sequences)
  found: Arrays = {'output': out['answers'], 'last_hs': out['last']}
  for s in plan.model.targets:
    found[f'net.trans_{LETTERS[s]}_mem'] = out[s].swapaxes(0, 1)
    for other in (o for o in LETTERS if o != s):
      found[f'net.trans_{LETTERS[s]}_with_{LETTERS[other]}'] = out[f'{s}<{other}'].swapaxes(0, 1)

  def loss(run):  # of the stored cases
    made = run(sequences)
    return (made['answers'] ** 2).mean() + made['last'].mean(), {}

  return found | learnt(plan, variables, loss)
