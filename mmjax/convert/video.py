"""Checkpoints of video transformers: HuggingFace's VideoMAE, ViViT and TimeSformer."""

from collections.abc import Mapping

import jax.numpy as jnp

from mmjax.convert.models import example
from mmjax.convert.names import Row, dense, fused, layers, norm
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
  wanted,
)
from mmjax.convert.vit import block, of_one_stream, schedule, sizes
from mmjax.encoders.video import pixels_to_predict
from mmjax.models.timesformer import TimeSformer
from mmjax.models.videomae import MEAN, STD, VideoMAE, split
from mmjax.models.vivit import ViViT

VIDEO_MAE = ('VideoMAEModel', 'VideoMAEForPreTraining', 'VideoMAEForVideoClassification')
VIVIT = ('VivitModel', 'VivitForVideoClassification')
TIMESFORMER = ('TimesformerModel', 'TimesformerForVideoClassification')


def answers(config: Config, shapes: Shapes, kind: str) -> int:
  """The classes of a classifier, else 0."""
  if not kind.endswith('VideoClassification'):
    return 0
  return shapes.get('classifier.weight', (number(config, 'num_labels', 2),))[0]


def plan_videomae(config: Config, shapes: Shapes, kind: str) -> Plan:
  fixed(config, {'norm_pix_loss': True, 'qv_bias': True})
  paints = kind == 'VideoMAEForPreTraining'
  decoder = {
    'decoder': f'{number(config, "decoder_num_hidden_layers", 4)}*[f<f]',
    'decoder_width': number(config, 'decoder_hidden_size', 384),
    'decoder_heads': number(config, 'decoder_num_attention_heads', 6),
    'decoder_mlp': number(config, 'decoder_intermediate_size', 1536),
  }
  patch = number(config, 'patch_size', 16)
  model = VideoMAE(
    num_answers=answers(config, shapes, kind),
    frames=number(config, 'num_frames', 16),
    tubelet=(number(config, 'tubelet_size', 2), patch, patch),
    eps=number(config, 'layer_norm_eps', 1e-12),
    activation=activation(config),
    mean=number(config, 'use_mean_pooling', True),
    image=number(config, 'image_size', 224),
    schedule=schedule(config, 'f'),
    **sizes(config),
    **(decoder if paints else {}),
  )
  channels = number(config, 'num_channels', 3)
  return Plan(config, model, rows_videomae(model, '' if kind == 'VideoMAEModel' else 'videomae'),
              example(model, channels), outputs_videomae)  # fmt: skip


def block_videomae() -> list[Row]:
  """ViT's, but for the biases: of queries and values, none of keys."""
  plain = [row for row in block() if row.ours not in ('query/bias', 'key/bias', 'value/bias')]
  return [*plain, *(Row(f'{part}/bias', (f'attention.attention.{part[0]}_bias',)) for part in ('query', 'value'))]


def rows_videomae(model: VideoMAE, prefix: str) -> list[Row]:
  encoder = [
    *tubelets('embeddings.patch_embeddings.projection'),
    *layers(block_videomae(), 'encoder/group0/sub0_f', 'encoder.layer.{n}', model.schedule),
    *([] if model.mean else norm('norm', 'layernorm')),
  ]
  found = [row.below('', prefix) for row in encoder]
  if model.num_answers:
    found += [*(norm('answer_norm', 'fc_norm') if model.mean else []), *dense('answer_score', 'classifier')]
  if model.decoder:
    found += [
      Row('to_decoder/kernel', ('encoder_to_decoder.weight',), 'dense'),
      Row('hidden', ('mask_token',), 'token'),
      *layers(block_videomae(), 'painter/group0/sub0_f', 'decoder.decoder_layers.{n}', model.decoder),
      *norm('painter_norm', 'decoder.norm'),
      *dense('paint', 'decoder.head'),
    ]
  return found


def tubelets(theirs: str) -> list[Row]:
  return [Row('tubelets/kernel', (f'{theirs}.weight',), 'conv3'), Row('tubelets/bias', (f'{theirs}.bias',))]


def frames_last(given: Arrays):
  """[B,T,C,h,w] -> [B,T,h,w,C]."""
  return given['pixel_values'].transpose(0, 1, 3, 4, 2)


def outputs_videomae(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  video, model = frames_last(given), plan.model
  if not model.decoder:
    return of_one_stream(plan, variables, given, video, 'f')
  masked = given['bool_masked_pos'] > 0
  shown, hidden = split(masked, wanted(plan, 'logits', 1, masked.shape[1] // 2))
  out, maps, states = captured(plan, variables, video, shown, hidden)
  found = inside(maps, states, 'f') | {'logits': out['pixels']}
  whole = pixels_to_predict(video * jnp.array(STD) + jnp.array(MEAN), model.tubelet, normed=True)
  label = jnp.take_along_axis(whole, hidden[..., None], 1)

  def loss(run):
    return ((run(video, shown, hidden)['pixels'] - label) ** 2).mean(), {}

  return found | learnt(plan, variables, loss)


def plan_vivit(config: Config, shapes: Shapes, kind: str) -> Plan:
  bare = kind == 'VivitModel'
  model = ViViT(
    num_answers=answers(config, shapes, kind),
    frames=number(config, 'num_frames', 32),
    tubelet=tuple(number(config, 'tubelet_size', [2, 16, 16])),
    eps=number(config, 'layer_norm_eps', 1e-6),
    activation=activation(config, default='gelu_fast'),
    pooler=bare and 'pooler.dense.weight' in shapes,
    image=number(config, 'image_size', 224),
    schedule=schedule(config, 'f'),
    **sizes(config),
  )
  found = [
    Row('token', ('embeddings.cls_token',), 'token'),
    Row('position', ('embeddings.position_embeddings',), 'batched'),
    *tubelets('embeddings.patch_embeddings.projection'),
    *layers(block(), 'encoder/group0/sub0_f', 'encoder.layer.{n}', model.schedule),
    *norm('norm', 'layernorm'),
    *(dense('pooler/project', 'pooler.dense') if model.pooler else []),
  ]
  rows = [row.below('', '' if bare else 'vivit') for row in found]
  rows += dense('answer_score', 'classifier') if model.num_answers else []
  outputs = lambda plan, variables, given: of_one_stream(plan, variables, given, frames_last(given), 'f')
  return Plan(config, model, rows, example(model, number(config, 'num_channels', 3)), outputs)


def plan_timesformer(config: Config, shapes: Shapes, kind: str) -> Plan:
  fixed(config, {'attention_type': 'divided_space_time', 'qkv_bias': True})
  bare = kind == 'TimesformerModel'
  model = TimeSformer(
    num_answers=answers(config, shapes, kind),
    frames=number(config, 'num_frames', 8),
    patch=number(config, 'patch_size', 16),
    layers=number(config, 'num_hidden_layers'),
    eps=number(config, 'layer_norm_eps', 1e-6),
    activation=activation(config),
    image=number(config, 'image_size', 224),
    **sizes(config),
  )
  found = [
    Row('patches/token', ('embeddings.cls_token',), 'token'),
    Row('patches/position', ('embeddings.position_embeddings',), 'batched'),
    Row('patches/project/kernel', ('embeddings.patch_embeddings.projection.weight',), 'conv'),
    Row('patches/project/bias', ('embeddings.patch_embeddings.projection.bias',)),
    Row('time', ('embeddings.time_embeddings',), 'batched'),
    *layers(block_timesformer(), 'layers', 'encoder.layer.{n}', range(model.layers)),
    *norm('norm', 'layernorm'),
  ]
  rows = [row.below('', '' if bare else 'timesformer') for row in found]
  rows += dense('answer_score', 'classifier') if model.num_answers else []
  return Plan(config, model, rows, example(model, number(config, 'num_channels', 3)), outputs_timesformer)


def block_timesformer() -> list[Row]:
  rows = []
  for ours, theirs, normed in (('time', 'temporal_attention', 'temporal_layernorm'),
                               ('space', 'attention', 'layernorm_before')):  # fmt: skip
    rows += fused(ours, f'{theirs}.attention.qkv.weight', f'{theirs}.attention.qkv.bias')
    rows += [*dense(f'{ours}/out', f'{theirs}.output.dense'), *norm(f'{ours}/norm', normed)]
  return [
    *rows,
    *dense('time_project', 'temporal_dense'),
    *norm('space/ffn_norm', 'layernorm_after'),
    *dense('space/ffn/expand', 'intermediate.dense'),
    *dense('space/ffn/project', 'output.dense'),
  ]


def outputs_timesformer(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  video = frames_last(given)
  out, maps, states = captured(plan, variables, video)
  hidden = [states['entry'], *states['layers']['f']]
  found: Arrays = {f'hidden_states.{n}': h for n, h in enumerate(hidden)}
  found |= {f'attentions.{n}': m for n, m in enumerate(maps['layers']['in_space'])}
  found |= {'logits': out['answers']} if 'answers' in out else {'last_hidden_state': out['f']}

  def loss(run):
    return cross_entropy(run(video)['answers'], given['labels']), {}

  return found | (learnt(plan, variables, loss) if 'labels' in given else {})
