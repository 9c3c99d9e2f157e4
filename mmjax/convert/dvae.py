"""Checkpoints of discrete autoencoders: OpenAI's halves, HuggingFace's encoder (FLAVA), DALLE-pytorch's."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from mmjax.convert.models import example
from mmjax.convert.names import Row, vector
from mmjax.convert.plan import Arrays, Config, Plan, Shapes, learnt, margin, number
from mmjax.models.dvae import DVAE, Decoder, Encoder, ReleasedDVAE, map_pixels, uniformity

CLASSES = ('FlavaImageCodebook',)
channels_first = lambda x: rearrange(x, 'B y x C -> B C y x')
channels_last = lambda x: rearrange(x, 'B C y x -> B y x C')


def conv(ours: str, theirs: str, layout: str = 'conv', weight: str = 'weight', bias: str = 'bias') -> list[Row]:
  return [Row(f'{ours}/kernel', (f'{theirs}.{weight}',), layout), Row(f'{ours}/bias', (f'{theirs}.{bias}',))]


# --- OpenAI's, and HuggingFace's port of the encoder -----------------------------------------------------------------


def plan_released(config: Config, shapes: Shapes, kind: str) -> Plan:
  """Both halves under 'encoder.' and 'decoder.', or one of them; sizes are the tensors'."""
  weight = 'weight' if kind in CLASSES else 'w'
  if f'encoder.blocks.input.{weight}' in shapes:
    halves: dict[str, Any] = {part: _half(shapes, f'{part}.', weight) for part in ('encoder', 'decoder')}
    model = ReleasedDVAE(**halves)
    rows = [row.below(part, part) for part, half in halves.items() for row in _rows(half, weight)]
    return Plan(config, model, rows, example(model, 3), outputs_released)
  half = _half(shapes, '', weight)
  channels = shapes[f'blocks.input.{weight}'][1]
  return Plan(config, half, _rows(half, weight), example(half, channels), outputs_released)


def _half(shapes: Shapes, prefix: str, weight: str) -> Encoder | Decoder:
  blocks = [name.split('.') for name in shapes if name.startswith(f'{prefix}blocks.group_')]
  at = prefix.count('.') + 1
  groups = len({parts[at] for parts in blocks})
  repeats = len({part for parts in blocks for part in parts if part.startswith('block_')})
  first, _, side, _ = shapes[f'{prefix}blocks.input.{weight}']
  out, width = shapes[f'{prefix}blocks.output.conv.{weight}'][:2]
  if side == 1:
    return Decoder(first=first, width=width, blocks=repeats, groups=groups)
  return Encoder(codes=out, width=first, blocks=repeats, groups=groups)


def _rows(half: Encoder | Decoder, weight: str) -> list[Row]:
  bias, (inside, path) = ('bias', ('group.', 'path.')) if weight == 'weight' else ('b', ('', ''))
  made = lambda ours, theirs: conv(ours, theirs, weight=weight, bias=bias)
  rows = made('input', 'blocks.input') + made('output', 'blocks.output.conv')
  encodes = isinstance(half, Encoder)
  before = half.width if isinstance(half, Encoder) else half.first
  for group in range(half.groups):
    width = 2 ** (group if encodes else half.groups - 1 - group) * half.width
    for n in range(half.blocks):
      ours, theirs = f'group{group}_{n}', f'blocks.group_{group + 1}.{inside}block_{n + 1}'
      rows += made(f'{ours}/same', f'{theirs}.id_path') if before != width else []
      rows += [row for k in range(4) for row in made(f'{ours}/conv{k}', f'{theirs}.res_path.{path}conv_{k + 1}')]
      before = width
  return rows


def outputs_released(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  """Of the encoder alone (FLAVA's inputs are mapped already), of the decoder alone, or of both."""
  model = plan.model
  if isinstance(model, Decoder):
    return {'x_stats': channels_first(model.apply(variables, channels_last(given['codes'])))}
  name = 'pixel_values' if 'pixel_values' in given else 'image_01'
  image = channels_last(given[name])
  if isinstance(model, Encoder):
    logits: Any = model.apply(variables, image if name == 'pixel_values' else map_pixels(image))
    return _codes(logits) | {'probs': channels_first(jax.nn.softmax(logits))}
  out = model.apply(variables, image)
  found = _codes(out['logits']) | {'mapped': map_pixels(given[name]), 'x_stats': channels_first(out['stats'])}
  found |= {'reconstruction': channels_first(out['image'])}
  found |= {'soft_x_stats': channels_first(model.apply(variables, image, method='soft'))}

  def loss(run):
    return (run(image) ** 2).mean(), {}

  return found | learnt(plan, variables, loss, method='soft')


def _codes(logits: jax.Array) -> Arrays:
  return {'z_logits': channels_first(logits), 'codes': logits.argmax(-1), 'code_top2_margin_min': margin(logits)}


# --- DALLE-pytorch's -------------------------------------------------------------------------------------------------


def built(config: Config) -> DVAE:
  return DVAE(
    codes=number(config, 'num_tokens'),
    entry=number(config, 'codebook_dim'),
    layers=number(config, 'num_layers'),
    residuals=number(config, 'num_resnet_blocks'),
    width=number(config, 'hidden_dim'),
  )


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  model = built(config)
  return Plan(config, model, rows(model), example(model, 3), outputs)


def rows(model: DVAE) -> list[Row]:
  residual = lambda ours, theirs: [row for n in range(3) for row in conv(f'{ours}/conv{n}', f'{theirs}.net.{2 * n}')]
  layers, blocks = model.layers, model.residuals
  found = vector('codebook', 'codebook.weight')
  found += [row for n in range(layers) for row in conv(f'down_{n}', f'encoder.{n}.0')]
  found += [row for n in range(blocks) for row in residual(f'inner_{n}', f'encoder.{layers + n}')]
  found += conv('score', f'encoder.{layers + blocks}')
  found += conv('widen', 'decoder.0') if blocks else []
  found += [row for n in range(blocks) for row in residual(f'outer_{n}', f'decoder.{1 + n}')]
  first = 1 + blocks if blocks else 0
  found += [row for n in range(layers) for row in conv(f'up_{n}', f'decoder.{first + n}.0', 'deconv')]
  return found + conv('pixels', f'decoder.{first + layers}')


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  """Without Gumbel noise, and the loss of its training (the squared error or, smooth_l1_loss, Huber's)."""
  model, image = plan.model, channels_last(given['image'])
  temperature = number(plan.config, 'temperature', 0.9)
  out = model.apply(variables, image, None, temperature)
  codes = out['logits'].argmax(-1)
  found = _codes(out['logits'])

  def loss(run):
    made = run(image, None, temperature)
    off = made['image'] - (image - 0.5) / 0.5
    far = jnp.abs(off)
    smooth = jnp.where(far < 1, 0.5 * off**2, far - 0.5)
    error = (smooth if number(plan.config, 'smooth_l1_loss', False) else off**2).mean()
    return error + uniformity(made['logits']).sum() * number(plan.config, 'kl_div_loss_weight', 0.0), {}

  return learnt(plan, variables, loss) | {
    'logits': found['z_logits'],
    'codes': rearrange(codes, 'B y x -> B (y x)'),
    'margin': found['code_top2_margin_min'],
    'reconstruction_nonoise': channels_first(out['image']),
    'decoded_from_codes': channels_first(model.apply(variables, codes, method='decode')),
  }
