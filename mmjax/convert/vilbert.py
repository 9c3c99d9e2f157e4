"""ViLBERT's checkpoints: the authors' BertForMultiModalPreTraining (vilbert_beta)."""

from collections.abc import Mapping

import jax
import optax

from mmjax.convert.models import example
from mmjax.convert.names import Row, bert_embed, bert_layer, dense, feed_forward, layers, norm, unused, word_scores
from mmjax.convert.plan import Arrays, Config, Plan, Shapes, activation, captured, cross_entropy, learnt, number
from mmjax.errors import UserError
from mmjax.models.vilbert import ViLBERT

Step = tuple[str, int]  # ('t', 3): the text layer 3; ('v', 0); ('c', 1): the co-attention layer 1


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  heads = number(config, 'bi_num_attention_heads')
  shape = f'{heads}x{number(config, "bi_hidden_size") // heads}'
  groups = _groups(config)
  sizes = lambda t, v: {'t': number(config, t), 'v': number(config, v)}
  if number(config, 'fusion_method', 'mul') != 'mul':
    raise UserError(f"fusion_method: found {config['fusion_method']!r}, expected 'mul' (the pooled vectors' product)")
  model = ViLBERT(
    vocab=number(config, 'vocab_size'),
    positions=number(config, 'max_position_embeddings'),
    types=number(config, 'type_vocab_size'),
    schedule=' '.join(f'{len(group)}*[{_written(group[0], shape)}]' for group in groups),
    width=sizes('hidden_size', 'v_hidden_size'),
    heads=sizes('num_attention_heads', 'v_num_attention_heads'),
    mlp=sizes('intermediate_size', 'v_intermediate_size'),
    pooled=number(config, 'bi_hidden_size'),
    activation=activation(config),
    dropout=number(config, 'hidden_dropout_prob', 0.1),
    attention_dropout=number(config, 'attention_probs_dropout_prob', 0.1),
    masking='add',
    pretrain=True,
    num_objects=number(config, 'v_target_size'),
  )
  words = 'bert.embeddings.word_embeddings.weight'
  given = example(model, number(config, 'v_feature_size'), box=5)
  return Plan(config, model, rows(config, groups), given, outputs, {'cls.predictions.decoder.weight': words})


def _groups(config: Config) -> list[list[list[Step]]]:
  """The order of the authors' loop as groups of equal layers: a co-attention, then what follows it in either stream.

  Layers of either stream before the first co-attention are groups of their own.
  """
  meet = list(zip(number(config, 'v_biattention_id'), number(config, 't_biattention_id'), strict=True))
  ends = {'v': number(config, 'v_num_hidden_layers'), 't': number(config, 'num_hidden_layers')}
  first_v, first_t = meet[0] if meet else (ends['v'], ends['t'])
  groups = [[[(s, n)] for n in range(first)] for s, first in (('t', first_t), ('v', first_v)) if first]
  for n, (v, t) in enumerate(meet):
    end_v, end_t = meet[n + 1] if n + 1 < len(meet) else (ends['v'], ends['t'])
    layer = [('c', n), *(('v', k) for k in range(v, end_v)), *(('t', k) for k in range(t, end_t))]
    same = groups and [s for s, _ in groups[-1][0]] == [s for s, _ in layer]
    groups[-1].append(layer) if same else groups.append([layer])
  return groups


def _subs(layer: list[Step]) -> list[list[Step]]:
  """A layer's steps by sub-layer: the co-attention, then the next layer of each stream that has one."""
  streams = [[step for step in layer if step[0] == s] for s in 'cvt']
  subs = [streams[0]] if streams[0] else []
  for n in range(max(len(streams[1]), len(streams[2]))):
    subs.append([steps[n] for steps in streams[1:] if n < len(steps)])
  return subs


def _written(layer: list[Step], shape: str) -> str:
  names = {'c': f't<v v<t {shape}', 'v': 'v<v', 't': 't<t'}
  return '; '.join(' '.join(names[s] for s, _ in sub) for sub in _subs(layer))


def rows(config: Config, groups: list[list[list[Step]]]) -> list[Row]:
  encoder = []
  for g, group in enumerate(groups):
    subs = [_subs(layer) for layer in group]
    for n, sub in enumerate(subs[0]):
      for k, (kind, _) in enumerate(sub):
        at = [layer[n][k][1] for layer in subs]
        name, own = {'c': ('c_layer', _co_attention(f'sub{n}')), 't': ('layer', bert_layer(f'sub{n}_t')),
                     'v': ('v_layer', bert_layer(f'sub{n}_v'))}[kind]  # fmt: skip
        encoder += layers(own, f'group{g}', f'{name}.{{n}}', at)
  body = [
    *bert_embed('text'),
    *dense('regions/feature', 'v_embeddings.image_embeddings'),
    *dense('regions/box', 'v_embeddings.image_location_embeddings'),
    *norm('regions/norm', 'v_embeddings.LayerNorm'),
    *(row.below('encoder', 'encoder') for row in encoder),
    *dense('pooler_t/project', 't_pooler.dense'),
    *dense('pooler_v/project', 'v_pooler.dense'),
  ]
  meetings = range(len(number(config, 'v_biattention_id')))
  idle = [
    f'bert.encoder.c_layer.{n}.biOutput.q_dense{k}.{p}' for n in meetings for k in (1, 2) for p in ('weight', 'bias')
  ]
  return [row.below('', 'bert') for row in body] + heads('cls.imagePredictions.decoder') + unused(*idle)


def heads(decoder: str) -> list[Row]:
  """The pre-training heads; VOLTA, which grew out of this code, has them under the same names but for the decoder."""
  return [
    *word_scores(),
    *dense('masked_object/project', 'cls.imagePredictions.transform.dense'),
    *norm('masked_object/norm', 'cls.imagePredictions.transform.LayerNorm'),
    *dense('object_score', decoder),
    *dense('matched', 'cls.bi_seq_relationship'),
  ]


def _co_attention(sub: str) -> list[Row]:
  """1 is the image, 2 the text, throughout."""
  found = []
  for s, n, name in (('v', 1, 'v'), ('t', 2, 't')):
    owner = f'{sub}_{s}'
    for part in ('query', 'key', 'value'):
      found += dense(f'{owner}/{part}', f'biattention.{part}{n}')
    found += dense(f'{owner}/out', f'biOutput.dense{n}') + norm(f'{owner}/norm', f'biOutput.LayerNorm{n}')
    found += feed_forward(owner, f'{name}_intermediate.dense', f'{name}_output')
  return found


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  called = (
    given['input_ids'],
    given['attention_mask'] > 0,
    given['image_feat'],
    given['image_loc'],
    given['image_attention_mask'] > 0,
    given.get('token_type_ids'),
  )
  out, maps, _ = captured(plan, variables, *called)
  found = {'sequence_output_t': out['t'], 'sequence_output_v': out['v'], 'pooled_t': out['pooled_t'],
           'pooled_v': out['pooled_v'], 'prediction_scores_t': out['words'], 'prediction_scores_v': out['objects'],
           'seq_relationship_score': out['matched']}  # fmt: skip
  for g, group in enumerate(_groups(plan.config)):
    for r, layer in enumerate(group):
      for n, sub in enumerate(_subs(layer)):
        for kind, at in sub:
          read = lambda edge, g=g, r=r, n=n: maps['encoder'][f'group{g}'][f'sub{n}/{edge}'][r]
          if kind == 'c':
            found |= {f'attn_co.{at}.0': read('t<v'), f'attn_co.{at}.1': read('v<t')}
          else:
            found[f'attn_{kind}.{at}'] = read(f'{kind}<{kind}')

  def loss(run):
    out = run(*called)
    masked = given['image_label'] == 1
    theirs, ours = given['image_target'], out['objects'][:, 1:]  # the first region is the whole image
    if plan.config.get('predict_feature', False):
      image = (optax.l2_loss(ours, theirs) * 2 * masked[..., None]).sum() / (masked.sum() * theirs.shape[-1])
    else:
      image = (optax.losses.kl_divergence(jax.nn.log_softmax(ours), theirs) * masked).sum() / masked.sum()
    parts = {
      'masked_lm_loss': cross_entropy(out['words'], given['masked_lm_labels']),
      'masked_img_loss': image,
      'next_sentence_loss': cross_entropy(out['matched'], given['next_sentence_label']),
    }
    return sum(parts.values()), {name: part[None] for name, part in parts.items()}

  return found | (learnt(plan, variables, loss) if 'masked_lm_labels' in given else {})
