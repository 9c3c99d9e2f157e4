"""CLIP's checkpoints: HuggingFace's CLIPModel and its towers, and OpenAI's (ViT and ResNet)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from mmjax.convert.models import example
from mmjax.convert.names import Row, convolution, counters, dense, embed, fused, layers, norm, vector
from mmjax.convert.plan import (
  Arrays,
  Config,
  Plan,
  Shapes,
  activation,
  captured,
  cross_entropy,
  inside,
  learnt,
  number,
  numbered,
  position_ids,
)
from mmjax.errors import UserError
from mmjax.models.clip import CLIP, ImageTower, TextTower

CLASSES = (
  'CLIPModel',
  'CLIPTextModel',
  'CLIPTextModelWithProjection',
  'CLIPVisionModel',
  'CLIPVisionModelWithProjection',
)


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  """A class of HuggingFace's: the whole, or a tower with or without its projection."""
  whole = kind == 'CLIPModel'
  size = number(config, 'projection_dim', 512) if whole or kind.endswith('WithProjection') else 0
  parts: dict[str, Any] = {}
  channels = 3
  if 'Vision' not in kind:
    parts['text'] = _text(config['text_config'] if whole else config, size)
  if 'Text' not in kind:
    vision = config['vision_config'] if whole else config
    parts['image'], channels = _image(vision, size), number(vision, 'num_channels', 3)
  model = CLIP(parts['text'], parts['image']) if whole else next(iter(parts.values()))
  tables = {'text': lambda m: m.positions, 'image': lambda m: 1 + (m.image // m.patch) ** 2}
  names = {'text': 'text_model', 'image': 'vision_model'}
  buffers: dict[str, np.ndarray] = {}
  for part, module in parts.items():
    buffers |= position_ids(f'{names[part]}.embeddings.position_ids', tables[part](module))
  rows = [row.below(part if whole else '', '') for part, module in parts.items() for row in _tower(part, module)]
  rows += vector('log_scale', 'logit_scale') if whole else []
  if {'embeddings.token_embedding.weight', 'embeddings.class_embedding'} & set(shapes):  # a bare tower of late releases
    bare = lambda name: name.removeprefix('text_model.').removeprefix('vision_model.')
    rows = [replace(row, theirs=tuple(map(bare, row.theirs))) for row in rows]
    buffers = {bare(name): value for name, value in buffers.items()}
  return Plan(config, model, rows, example(model, channels), outputs, {}, buffers)


def _text(config: Config, out: int) -> TextTower:
  end = number(config, 'eos_token_id', 49407)
  return TextTower(
    vocab=number(config, 'vocab_size', 49408),
    positions=number(config, 'max_position_embeddings', 77),
    schedule=f'{number(config, "num_hidden_layers", 12)}*[t<t]',
    width=number(config, 'hidden_size', 512),
    heads=number(config, 'num_attention_heads', 8),
    mlp=number(config, 'intermediate_size', 2048),
    out=out,
    activation=activation(config, default='quick_gelu'),
    eps=number(config, 'layer_norm_eps', 1e-5),
    end=-1 if end == 2 else end,  # 2: configurations from before HuggingFace read the end token by its id
    attention_dropout=number(config, 'attention_dropout', 0.0),
  )


def _image(config: Config, out: int) -> ImageTower:
  return ImageTower(
    image=number(config, 'image_size', 224),
    patch=number(config, 'patch_size', 32),
    schedule=f'{number(config, "num_hidden_layers", 12)}*[v<v]',
    width=number(config, 'hidden_size', 768),
    heads=number(config, 'num_attention_heads', 12),
    mlp=number(config, 'intermediate_size', 3072),
    out=out,
    activation=activation(config, default='quick_gelu'),
    eps=number(config, 'layer_norm_eps', 1e-5),
    attention_dropout=number(config, 'attention_dropout', 0.0),
  )


def _tower(part: str, module: TextTower | ImageTower) -> list[Row]:
  """HuggingFace's names of a tower."""
  layer = [
    *norm('norm', 'layer_norm1'),
    *(r for ours, theirs in (('query', 'q'), ('key', 'k'), ('value', 'v'), ('out', 'out'))
      for r in dense(ours, f'self_attn.{theirs}_proj')),
    *norm('ffn_norm', 'layer_norm2'),
    *dense('ffn/expand', 'mlp.fc1'),
    *dense('ffn/project', 'mlp.fc2'),
  ]  # fmt: skip
  name, stream = ('text_model', 't') if part == 'text' else ('vision_model', 'v')
  rows = layers(layer, f'encoder/group0/sub0_{stream}', f'{name}.encoder.layers.{{n}}', module.schedule)
  if part == 'text':
    rows += embed('word', f'{name}.embeddings.token_embedding')
    rows += vector('position', f'{name}.embeddings.position_embedding.weight') + norm(
      'norm', f'{name}.final_layer_norm'
    )
  else:
    rows += vector('patches/token', f'{name}.embeddings.class_embedding')
    rows += vector('patches/position', f'{name}.embeddings.position_embedding.weight')
    rows += [Row('patches/project/kernel', (f'{name}.embeddings.patch_embedding.weight',), 'conv')]
    rows += norm('first_norm', f'{name}.pre_layrnorm') + norm('norm', f'{name}.post_layernorm')
  project = 'text_projection' if part == 'text' else 'visual_projection'
  return rows + ([Row('project/kernel', (f'{project}.weight',), 'dense')] if module.out else [])


def plan_openai(config: Config, shapes: Shapes, kind: str) -> Plan:
  """OpenAI's state_dict. Sizes are read off the tensors; heads are width / 64 where the config says nothing else."""
  text_of, image_of = config.get('clip', {}), config.get('visual', {})
  size = lambda name, axis=0: _size(shapes, name, axis)
  count = lambda below: numbered(shapes, below)
  width = size('ln_final.weight')
  text = TextTower(
    vocab=size('token_embedding.weight'),
    positions=size('positional_embedding'),
    schedule=f'{count("transformer.resblocks")}*[t<t]',
    width=width,
    heads=text_of.get('transformer_heads', width // 64),
    mlp=size('transformer.resblocks.0.mlp.c_fc.weight'),
    out=size('text_projection', 1),
  )
  if 'visual.proj' in shapes:
    width, patch = size('visual.conv1.weight'), size('visual.conv1.weight', 2)
    grid = round((size('visual.positional_embedding') - 1) ** 0.5)
    image = ImageTower(
      image=grid * patch,
      patch=patch,
      schedule=f'{count("visual.transformer.resblocks")}*[v<v]',
      width=width,
      heads=image_of.get('heads', width // 64),
      mlp=size('visual.transformer.resblocks.0.mlp.c_fc.weight'),
      out=size('visual.proj', 1),
    )
    vision = _vit(image)
  else:
    width = size('visual.conv3.weight')
    grid = round((size('visual.attnpool.positional_embedding') - 1) ** 0.5)
    image = ImageTower(
      image=32 * grid,
      width=width,
      heads=image_of.get('heads', 32 * width // 64),
      out=size('visual.attnpool.c_proj.weight'),
      blocks=tuple(count(f'visual.layer{n}') for n in range(1, 5)),
    )
    vision = _resnet(image)
  rows = [
    *embed('word', 'token_embedding'),
    *vector('position', 'positional_embedding'),
    *_blocks('encoder/group0/sub0_t', 'transformer.resblocks', text.schedule),
    *norm('norm', 'ln_final'),
    *vector('project/kernel', 'text_projection'),
  ]
  rows = [row.below('text', '') for row in rows] + [row.below('image', 'visual') for row in vision]
  model, rows = CLIP(text, image), rows + vector('log_scale', 'logit_scale') + counters(shapes)
  return Plan(config, model, rows, example(model, 3), outputs)


def _size(shapes: Shapes, name: str, axis: int) -> int:
  if name not in shapes or len(shapes[name]) <= axis:
    raise UserError(f'{name}: found {shapes.get(name, "nothing")}, expected a tensor that says a size')
  return shapes[name][axis]


def _blocks(ours: str, theirs: str, schedule: str) -> list[Row]:
  """OpenAI's transformer: query, key and value in one tensor."""
  layer = [
    *norm('norm', 'ln_1'),
    *fused('', 'attn.in_proj_weight', 'attn.in_proj_bias'),
    *dense('out', 'attn.out_proj'),
    *norm('ffn_norm', 'ln_2'),
    *dense('ffn/expand', 'mlp.c_fc'),
    *dense('ffn/project', 'mlp.c_proj'),
  ]  # fmt: skip
  return layers(layer, ours, f'{theirs}.{{n}}', schedule)


def _vit(tower: ImageTower) -> list[Row]:
  return [
    *vector('patches/token', 'class_embedding'),
    *vector('patches/position', 'positional_embedding'),
    Row('patches/project/kernel', ('conv1.weight',), 'conv'),
    *norm('first_norm', 'ln_pre'),
    *_blocks('encoder/group0/sub0_v', 'transformer.resblocks', tower.schedule),
    *norm('norm', 'ln_post'),
    *vector('project/kernel', 'proj'),
  ]


def _resnet(tower: ImageTower) -> list[Row]:
  rows = [row for n in (1, 2, 3) for row in convolution(f'stem{n}', f'conv{n}', f'stem_norm{n}', f'bn{n}')]
  for stage, blocks in enumerate(tower.blocks):
    for n in range(blocks):
      block = [row for k in (1, 2, 3) for row in convolution(f'conv{k}', f'conv{k}', f'norm{k}', f'bn{k}')]
      block += convolution('short', 'downsample.0', 'short_norm', 'downsample.1') if not n else []
      rows += [row.below(f'stage{stage}_{n}', f'layer{stage + 1}.{n}') for row in block]
  parts = {'query': 'q', 'key': 'k', 'value': 'v', 'project': 'c'}
  pool = [row for ours, theirs in parts.items() for row in dense(ours, f'{theirs}_proj')]
  pool += vector('position', 'positional_embedding')
  return [row.below('resnet', '') for row in rows] + [row.below('pool', 'attnpool') for row in pool]


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  """HuggingFace's outputs and OpenAI's; a tower alone returns its own."""
  openai = 'text' in given or 'image' in given
  image = given.get('image' if openai else 'pixel_values')
  image = None if image is None else image.transpose(0, 2, 3, 1)
  text = given.get('text' if openai else 'input_ids')
  mask = given['attention_mask'] > 0 if 'attention_mask' in given else None
  if not isinstance(plan.model, CLIP):
    called = (text, mask) if isinstance(plan.model, TextTower) else (image,)
    (last, read), maps, states = captured(plan, variables, *called)
    found = _inside(plan.model, maps, states) | {'last_hidden_state': last}
    return found | {'pooler_output': read, 'text_embeds': read, 'image_embeds': read}
  out, maps, states = captured(plan, variables, text, image, mask)
  found = {}
  for name, tower in (('text', 't'), ('image', 'v')):
    prefix = {'text': 'text_model_output', 'image': 'vision_model_output'}[name]
    inside = _inside(getattr(plan.model, name), maps.get(name, {}), states.get(name, {}))
    found |= {f'{prefix}.{key}': value for key, value in inside.items()}
    found |= {f'{prefix}.last_hidden_state': out[tower], f'{prefix}.pooler_output': out[f'{name}_features']}
    found |= {f'{name}_embeds': out[name], f'{name}_features': out[f'{name}_features']}
    found |= {f'get_{name}_features_unnormalised': out[f'{name}_features']}
  found |= {'logits_per_image': scores(out).T, 'logits_per_text': scores(out)}

  def loss(run):
    made, right = scores(run(text, image, mask)), np.arange(len(out['text']))
    return (cross_entropy(made, right) + cross_entropy(made.T, right)) / 2, {}

  return found | (learnt(plan, variables, loss) if len(out['text']) == len(out['image']) else {})


def scores(out: Arrays) -> jax.Array:
  """[B,N]: every text against every image."""
  return out['scale'] * out['text'] @ out['image'].T


def _inside(tower: TextTower | ImageTower, maps: Mapping, states: Mapping) -> Arrays:
  """Attention maps and states of a transformer tower."""
  if getattr(tower, 'blocks', ()):
    return {}
  return inside(maps, states, 't' if isinstance(tower, TextTower) else 'v')
