"""VOLTA's checkpoints: the authors' BertForVLPreTraining, whose config lists the attention of every sub-layer."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np
import optax

from mmjax.convert import vilbert
from mmjax.convert.models import example
from mmjax.convert.names import Row, dense, embed, layers, norm
from mmjax.convert.plan import Arrays, Config, Plan, Shapes, activation, captured, cross_entropy, learnt, number
from mmjax.errors import UserError
from mmjax.fusion.layers import ENTRY
from mmjax.models.volta import VOLTA

IMAGE_LOSS = '0'  # of the config's visual_target_weights: the divergence from the detector's classes


@dataclass(frozen=True)
class Step:
  """One of our sub-layers: the text of it, and the numbers of their sub-layers that it holds (-1: none)."""

  text: str
  attention: int
  feed_forward: int
  tied: bool
  reads: Mapping[str, str]  # stream -> the streams it reads, '' where it has a feed-forward only


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  sizes = lambda name: {'t': number(config, name), 'v': number(config, f'v_{name}')}
  width = sizes('hidden_size')
  groups = grouped(steps(config))
  embedding = number(config, 'image_embeddings')
  model = VOLTA(
    embedding=embedding,
    vocab=number(config, 'vocab_size'),
    positions=number(config, 'max_position_embeddings'),
    types=number(config, 'type_vocab_size'),
    schedule=' '.join(f'{len(group)}*[{"; ".join(step.text for step in group[0])}]' for group in groups),
    width=width['t'] if len(set(width.values())) == 1 else width,
    heads=sizes('num_attention_heads'),
    mlp=sizes('intermediate_size'),
    pooled=number(config, 'pooler_size'),
    fusion=number(config, 'fusion_method'),
    coordinates=config.get('v_coordinate_embeddings_dim') or 0,
    eps=number(config, 'layer_norm_eps', 1e-12),
    activation=activation(config),
    dropout=number(config, 'hidden_dropout_prob', 0.1),
    attention_dropout=number(config, 'attention_probs_dropout_prob', 0.1),
    masking='add',
    word_padding=number(config, 'pad_token_id', 0),
    pretrain=True,
    num_objects=shapes.get(f'cls.imagePredictions.decoder_dict.{IMAGE_LOSS}.weight', (1601,))[0],
    object_norm=number(config, 'image_head_ln', True),
  )
  given = example(model, number(config, 'v_feature_size'), number(config, 'num_locs'))
  tied = {'cls.predictions.decoder.weight': 'bert.embeddings.word_embeddings.weight'}
  if embedding == 'uniter':
    tied['bert.embeddings.image_token_type_embeddings.weight'] = 'bert.embeddings.token_type_embeddings.weight'
  encoder, shared = _layers(groups)
  return Plan(config, model, rows(embedding, encoder, model.object_norm), given, outputs, tied | shared)


def steps(config: Config) -> list[Step]:
  """The config's sub-layers in order, each attention joined with the feed-forward after it where the two fit."""
  of = lambda name: set(number(config, f'{name}_sublayers'))
  edges = {'t': {'t': of('tt_attn'), 'v': of('tv_attn')}, 'v': {'t': of('vt_attn'), 'v': of('vv_attn')}}
  ffn, shared = {'t': of('t_ff'), 'v': of('v_ff')}, of('shared')
  last = max((n for s in 'tv' for kind in (*edges[s].values(), ffn[s]) for n in kind), default=-1)
  found: list[Step] = []
  for n in range(last + 1):
    reads = {s: ''.join(source for source in 'tv' if n in edges[s][source]) for s in 'tv'}
    readers, fed = [s for s in 'tv' if reads[s]], [s for s in 'tv' if n in ffn[s]]
    if bool(readers) == bool(fed):
      raise UserError(
        f'config.json: sub-layer {n} is found {len(readers)} times as attention, {len(fed)} as feed-forward'
      )
    tied = n in shared and len(readers or fed) == 2
    word = ' tied' * tied
    before = found[-1] if found else None
    if readers:
      text = ' '.join(f'{s}<{reads[s]}' for s in readers) + word + _shape(config, n, readers)
      found.append(Step(f'{text} noffn', n, -1, tied, {s: reads[s] for s in readers}))
    elif before and before.feed_forward < 0 and list(before.reads) == fed and before.tied == tied:
      found[-1] = Step(before.text.removesuffix(' noffn'), before.attention, n, tied, before.reads)
    else:
      found.append(Step(' '.join(fed) + word, -1, n, tied, dict.fromkeys(fed, '')))
  return found


def _shape(config: Config, n: int, readers: list[str]) -> str:
  """' HxC' where this attention has another head shape than its streams have elsewhere."""
  shapes, own = set(), set()
  for s in readers:
    v = 'v_' * (s == 'v')
    heads, size = number(config, f'{v}num_attention_heads'), number(config, f'{v}hidden_size')
    own.add((heads, size // heads))
    heads = config.get(f'sublayer2{v}num_attention_heads', {}).get(str(n), heads)
    size = config.get(f'sublayer2{v}attn_hidden_size', {}).get(str(n), size)
    shapes.add((heads, size // heads))
    if str(n + 1) in config.get(f'sublayer2{v}intermediate_size', {}):
      raise UserError(f'config.json: sublayer2{v}intermediate_size sets sub-layer {n + 1}, expected one size a stream')
  if shapes == own:
    return ''
  if len(shapes) > 1:
    raise UserError(f'config.json: sub-layer {n} has head shapes {sorted(shapes)}, expected one for both streams')
  heads, size = shapes.pop()
  return f' {heads}x{size}'


def grouped(steps: list[Step]) -> list[list[list[Step]]]:
  """Groups of equal layers, a layer one or more steps: at each place the block that repeats furthest, else one step."""
  groups, at = [], 0
  same = lambda a, b: [s.text for s in a] == [s.text for s in b]
  while at < len(steps):
    best = (1, 1)  # (steps a block, repeats)
    for size in range(1, (len(steps) - at) // 2 + 1):
      block, repeats = steps[at : at + size], 1
      while same(block, steps[at + repeats * size : at + (repeats + 1) * size]):
        repeats += 1
      if repeats > 1 and size * repeats > best[0] * best[1]:
        best = (size, repeats)
    size, repeats = best
    groups.append([steps[at + n * size : at + (n + 1) * size] for n in range(repeats)])
    at += size * repeats
  return groups


def _layers(groups: list[list[list[Step]]]) -> tuple[list[Row], dict[str, str]]:
  """(the rows of the encoder, the second names of shared tensors)."""
  rows, shared = [], {}
  for g, group in enumerate(groups):
    for n, step in enumerate(group[0]):
      same = [layer[n] for layer in group]
      attention, fed = [s.attention for s in same], [s.feed_forward for s in same]
      sources = set(''.join(step.reads.values())) | set(step.reads)
      for s in sorted(sources) if not step.tied else ['tied']:
        owner, v = f'sub{n}_{s}', 'v_' * (s == 'v')
        reads = s == 'tied' or bool(step.reads.get(s))
        read = s == 'tied' or any(s in r for r in step.reads.values())
        if step.attention >= 0:
          own = [r for part, used in (('query', reads), ('key', read), ('value', read)) if used
                 for r in dense(f'{owner}/{part}', f'attention_self.{v}{part}')]  # fmt: skip
          if reads:
            own += dense(f'{owner}/out', f'attention_output.{v}dense')
            own += norm(f'{owner}/norm', f'attention_output.{v}LayerNorm')
          rows += layers(own, f'encoder/group{g}', 'bert.encoder.layer.{n}', attention)
        if step.feed_forward >= 0 and (s == 'tied' or s in step.reads):
          own = dense(f'{owner}/ffn/expand', f'intermediate.{v}dense') + dense(
            f'{owner}/ffn/project', f'output.{v}dense'
          )
          own += norm(f'{owner}/ffn_norm', f'output.{v}LayerNorm')
          rows += layers(own, f'encoder/group{g}', 'bert.encoder.layer.{n}', fed)
  for row in rows:
    if '_tied/' in row.ours:
      for name in row.theirs:
        head, last, kind = name.rsplit('.', 2)
        shared[f'{head}.v_{last}.{kind}'] = name
  return rows, shared


def rows(embedding: str, encoder: list[Row], object_norm: bool) -> list[Row]:
  word = 'embed' if embedding in ('visualbert', 'vl-bert') else 'text'
  text = [
    *embed(f'{word}/word', 'embeddings.word_embeddings'),
    *embed(f'{word}/position', 'embeddings.position_embeddings'),
    *embed(f'{word}/type', 'embeddings.token_type_embeddings'),
    *norm(f'{word}/norm', 'embeddings.LayerNorm'),
  ]
  image = {
    'lxmert': [
      *dense('regions/feature', 'v_embeddings.image_embeddings'),
      *norm('regions/feature_norm', 'v_embeddings.ImgLayerNorm'),
      *dense('regions/box', 'v_embeddings.image_location_embeddings'),
      *norm('regions/box_norm', 'v_embeddings.LocLayerNorm'),
    ],
    'vilbert': [
      *dense('regions/feature', 'v_embeddings.image_embeddings'),
      *dense('regions/box', 'v_embeddings.image_location_embeddings'),
      *norm('regions/norm', 'v_embeddings.LayerNorm'),
    ],
    'uniter': [
      *dense('regions/feature', 'embeddings.image_embeddings'),
      *norm('regions/feature_norm', 'embeddings.image_layer_norm'),
      *dense('regions/box', 'embeddings.image_location_embeddings'),
      *norm('regions/box_norm', 'embeddings.image_location_layer_norm'),
      *norm('regions/norm', 'embeddings.v_LayerNorm'),
    ],
    'visualbert': [
      *dense('embed/region', 'embeddings.projection'),
      *embed('embed/region_type', 'embeddings.token_type_embeddings_visual'),
      *embed('embed/region_position', 'embeddings.position_embeddings_visual'),
    ],
    'vl-bert': [
      *dense('embed/look', 'embeddings.obj_downsample.1'),
      *embed('embed/object', 'embeddings.object_linguistic_embeddings'),
      *embed('embed/end', 'embeddings.end_embedding'),
      Row('embed/masked', ('embeddings.object_mask_visual_embedding.weight',), 'row'),
      *norm('embed/word_norm', 'embeddings.visual_ln_text'),
      *norm('embed/object_norm', 'embeddings.visual_ln_object'),
    ],
  }
  if embedding not in image:
    raise UserError(f'config.json: image_embeddings {embedding!r}, expected one of {tuple(image)}')
  pools = dense('pooler_t/project', 't_pooler.dense') + dense('pooler_v/project', 'v_pooler.dense')
  heads = vilbert.heads(f'cls.imagePredictions.decoder_dict.{IMAGE_LOSS}')
  heads = [row for row in heads if object_norm or not row.ours.startswith('masked_object/norm')]
  return [row.below('', 'bert') for row in (*text, *image[embedding], *pools)] + encoder + heads


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  called = (
    given['input_ids'],
    given['attention_mask'] > 0,
    given['image_feat'],
    given['image_loc'],
    given['image_attention_mask'] > 0,
    given.get('token_type_ids'),
  )
  out, maps, states = captured(plan, variables, *called)
  maps, states = maps['encoder'], states['encoder']
  found = {'pooled_t': out['pooled_t'], 'pooled_v': out['pooled_v'], 'pooled_output': out['pooled'],
           'prediction_scores_t': out['words'], f'prediction_scores_v.{IMAGE_LOSS}': out['objects'],
           'seq_relationship_score': out['matched']}  # fmt: skip
  length = {'t': called[0].shape[1], 'v': called[2].shape[1]}
  now = dict(states[ENTRY])
  found |= {f'layers_{s}.0': now[s] for s in 'tv'}
  for g, group in enumerate(grouped(steps(plan.config))):
    for r, layer in enumerate(group):
      for n, step in enumerate(layer):
        after = states[f'group{g}']
        for number_, half in ((step.attention, '/attention'), (step.feed_forward, '')):
          if number_ < 0:
            continue
          half = half if step.feed_forward >= 0 and step.attention >= 0 else ''
          now |= {s: after[f'sub{n}/{s}{half}'][r] for s in step.reads}
          found |= {f'layers_{s}.{number_ + 1}': now[s] for s in 'tv'}
        for s, sources in step.reads.items():
          at = 0
          for source in sources:
            part = maps[f'group{g}'][f'sub{n}/{s}<{sources}'][r][..., at : at + length[source]]
            found[f'attn_{s}.{step.attention}.{"intra" if s == source else "inter"}_attn'] = part
            at += length[source]

  def loss(run):
    out = run(*called)
    masked = given['image_label'] == 1
    whole = 1 if plan.config.get('add_global_imgfeat') else 0  # that region is left out
    first = plan.config.get('add_global_imgfeat') == 'first'
    ours = out['objects'][:, whole:] if first else out['objects'][:, : out['objects'].shape[1] - whole]
    image = optax.losses.kl_divergence(jax.nn.log_softmax(ours), given['image_cls'])
    parts = {
      'masked_lm_loss': cross_entropy(out['words'], given['masked_lm_labels']),
      'img_loss': (image * masked).sum() / np.maximum(masked.sum(), 1),
      'next_sentence_loss': cross_entropy(out['matched'], given['next_sentence_label']),
    }
    return sum(parts.values()), {name: part[None] for name, part in parts.items()}

  return found | (learnt(plan, variables, loss) if 'masked_lm_labels' in given else {})
