"""BLIP's checkpoints: HuggingFace's classes for captions, questions and retrieval, and the authors' (captions, ITM and
NLVR2)."""

from collections.abc import Mapping
from functools import partial

import jax.numpy as jnp
import numpy as np

from mmjax import generate
from mmjax.convert.models import example
from mmjax.convert.names import (
  Row,
  attention,
  bert_embed,
  bert_layer,
  dense,
  feed_forward,
  fused,
  layers,
  norm,
  vector,
  word_scores,
)
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
  margin,
  number,
  numbered,
  position_ids,
  wanted,
)
from mmjax.models.blip import BLIP, Text, writer
from mmjax.models.blip_nlvr import BLIPNLVR
from mmjax.models.vit import ViT
from mmjax.objectives import smoothed

CLASSES = ('BlipForConditionalGeneration', 'BlipForQuestionAnswering', 'BlipForImageTextRetrieval')
SMOOTHING = 0.1  # of the labels of words, in the authors' code; HuggingFace's config has its own


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  """HuggingFace's. Its defaults (eps of the ViT 1e-5, 8 heads of text) are not the authors' (1e-6, 12)."""
  vision, words = config['vision_config'], config['text_config']
  image = ViT(
    image=number(vision, 'image_size', 384),
    patch=number(vision, 'patch_size', 16),
    schedule=f'{number(vision, "num_hidden_layers", 12)}*[v<v]',
    width=number(vision, 'hidden_size', 768),
    heads=number(vision, 'num_attention_heads', 12),
    mlp=number(vision, 'intermediate_size', 3072),
    eps=number(vision, 'layer_norm_eps', 1e-5),
    activation=activation(vision),
    attention_dropout=number(vision, 'attention_dropout', 0.0),
  )
  text = Text(
    vocab=number(words, 'vocab_size', 30524),
    positions=number(words, 'max_position_embeddings', 512),
    schedule=f'{number(words, "num_hidden_layers", 12)}*[t<t noffn; t<v]',
    width=number(words, 'hidden_size', 768),
    heads=number(words, 'num_attention_heads', 8),
    mlp=number(words, 'intermediate_size', 3072),
    eps=number(words, 'layer_norm_eps', 1e-12),
    activation=activation(words),
    dropout=number(words, 'hidden_dropout_prob', 0.0),
    attention_dropout=number(words, 'attention_probs_dropout_prob', 0.0),
  )
  return _plan(config, image, text, shapes, number(vision, 'num_channels', 3), 'vision_model')


def plan_authors(config: Config, shapes: Shapes, kind: str) -> Plan:
  """The authors' BLIP_Decoder and BLIP_ITM. Sizes are the tensors' where the config says nothing."""
  words = config.get('text', {})
  image, channels = _vit(config, shapes)
  prefix = 'text_decoder.bert' if 'text_decoder.cls.predictions.bias' in shapes else 'text_encoder'
  vocab, size = shapes[f'{prefix}.embeddings.word_embeddings.weight']
  text = Text(
    vocab=vocab,
    positions=shapes[f'{prefix}.embeddings.position_embeddings.weight'][0],
    schedule=f'{numbered(shapes, f"{prefix}.encoder.layer")}*[t<t noffn; t<v]',
    width=size,
    heads=words.get('num_attention_heads', size // 64),
    mlp=shapes[f'{prefix}.encoder.layer.0.intermediate.dense.weight'][0],
    own_scores=prefix != 'text_encoder',
  )
  return _plan(config, image, text, shapes, channels, 'visual_encoder')


def _vit(config: Config, shapes: Shapes) -> tuple[ViT, int]:
  """The authors' ViT, and the channels that it reads."""
  width, channels, patch, _ = shapes['visual_encoder.patch_embed.proj.weight']
  grid = round((shapes['visual_encoder.pos_embed'][1] - 1) ** 0.5)
  image = ViT(
    image=grid * patch,
    patch=patch,
    schedule=f'{numbered(shapes, "visual_encoder.blocks")}*[v<v]',
    width=width,
    heads=config.get('vision', {}).get('num_heads', width // 64),
    mlp=shapes['visual_encoder.blocks.0.mlp.fc1.weight'][0],
    eps=1e-6,
  )
  return image, channels


def plan_nlvr(config: Config, shapes: Shapes, kind: str) -> Plan:
  """The authors' BLIP_NLVR."""
  image, channels = _vit(config, shapes)
  vocab, width = shapes['text_encoder.embeddings.word_embeddings.weight']
  layer = 'text_encoder.encoder.layer'
  count = numbered(shapes, layer)
  model = BLIPNLVR(
    image,
    vocab=vocab,
    positions=shapes['text_encoder.embeddings.position_embeddings.weight'][0],
    layers=count,
    averages=sum(f'{layer}.{n}.crossattention.output.merge_layer.weight' not in shapes for n in range(count)),
    width=width,
    heads=config.get('text', {}).get('num_attention_heads', width // 64),
    mlp=shapes[f'{layer}.0.intermediate.dense.weight'][0],
  )
  buffers = position_ids('text_encoder.embeddings.position_ids', model.positions)
  return Plan(config, model, _nlvr(model), example(model, channels), outputs_nlvr, {}, buffers)


def _nlvr(model: BLIPNLVR) -> list[Row]:
  found = [row.below('image', 'visual_encoder') for row in _image(model.image, theirs=False)]
  found += [row.below('', 'text_encoder') for row in bert_embed('text') if '/type/' not in row.ours]
  for n in range(model.layers):
    layer = bert_layer('text') + norm('image_norm', 'crossattention.output.LayerNorm')
    for i in (0, 1):
      parts = {part: f'self{i}.{part}' for part in ('query', 'key', 'value')} | {'out': f'output.dense{i}'}
      layer += [row for ours, own in parts.items() for row in dense(f'image{i}/{ours}', f'crossattention.{own}')]
    layer += dense('merge', 'crossattention.output.merge_layer') if n >= model.averages else []
    found += [row.below(f'layer{n}', f'text_encoder.encoder.layer.{n}') for row in layer]
  return found + dense('answer/project', 'cls_head.0') + dense('answer_score', 'cls_head.2')


def outputs_nlvr(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  """The authors' prediction. As there, the batch's first images come before its second ones."""
  image = given['image'].transpose(0, 2, 3, 1)
  image = image.reshape(2, -1, *image.shape[1:]).swapaxes(0, 1)
  called = (image, given['input_ids'], given['attention_mask'] > 0)
  out = plan.model.apply(variables, *called, train=False)
  found = {'prediction': out['answers'], 'last_hidden_state': out['t']}

  def loss(run):
    return cross_entropy(run(*called)['answers'], given['targets']), {}

  return found | (learnt(plan, variables, loss) if 'targets' in given else {})


def _plan(config: Config, image: ViT, text: Text, shapes: Shapes, channels: int, vision: str) -> Plan:
  encoder = text.clone(own_scores=False) if 'text_encoder.embeddings.LayerNorm.weight' in shapes else None
  decoder = text.clone(writes=True) if 'text_decoder.cls.predictions.bias' in shapes else None
  model = BLIP(image, encoder, decoder, shapes.get('text_proj.weight', (0,))[0], vision == 'vision_model')
  tied: dict[str, str] = {}
  buffers: dict[str, np.ndarray] = {}
  if encoder:
    buffers |= position_ids('text_encoder.embeddings.position_ids', text.positions)
  if decoder:
    buffers |= position_ids('text_decoder.bert.embeddings.position_ids', text.positions)
    scores = 'text_decoder.cls.predictions'
    tied = {f'{scores}.decoder.bias': f'{scores}.bias'}
    if not text.own_scores:
      tied |= {f'{scores}.decoder.weight': 'text_decoder.bert.embeddings.word_embeddings.weight'}
  return Plan(config, model, rows(model, vision), example(model, channels), outputs, tied, buffers)


def rows(model: BLIP, vision: str) -> list[Row]:
  """vision: 'vision_model' (HuggingFace's names of the ViT) or 'visual_encoder' (the authors')."""
  found = [row.below('image', vision) for row in _image(model.image, theirs=vision == 'vision_model')]
  if model.encoder:
    found += [row.below('encoder', 'text_encoder') for row in _text(model.encoder)]
  if model.decoder:
    found += [row.below('decoder', 'text_decoder') for row in _text(model.decoder)]
  if model.out:
    found += dense('image_project', 'vision_proj') + dense('text_project', 'text_proj') + dense('match', 'itm_head')
  return found


def _image(image: ViT, theirs: bool) -> list[Row]:
  names = {
    'token': 'embeddings.class_embedding', 'position': 'embeddings.position_embedding',
    'project': 'embeddings.patch_embedding', 'layer': 'encoder.layers.{n}',
    'norm': 'layer_norm1', 'qkv': 'self_attn.qkv',
    'out': 'self_attn.projection', 'ffn_norm': 'layer_norm2', 'last': 'post_layernorm',
  } if theirs else {
    'token': 'cls_token', 'position': 'pos_embed', 'project': 'patch_embed.proj', 'layer': 'blocks.{n}',
    'norm': 'norm1', 'qkv': 'attn.qkv', 'out': 'attn.proj', 'ffn_norm': 'norm2', 'last': 'norm',
  }  # fmt: skip
  layer = [
    *norm('norm', names['norm']),
    *fused('', f'{names["qkv"]}.weight', f'{names["qkv"]}.bias'),
    *dense('out', names['out']),
    *norm('ffn_norm', names['ffn_norm']),
    *dense('ffn/expand', 'mlp.fc1'),
    *dense('ffn/project', 'mlp.fc2'),
  ]
  return [
    Row('patches/token', (names['token'],), 'token'),
    Row('patches/position', (names['position'],), 'batched'),
    Row('patches/project/kernel', (f'{names["project"]}.weight',), 'conv'),
    Row('patches/project/bias', (f'{names["project"]}.bias',)),
    *layers(layer, 'encoder/group0/sub0_v', names['layer'], image.schedule),
    *norm('norm', names['last']),
  ]


def _text(text: Text) -> list[Row]:
  """Self-attention is the first sub-layer; cross-attention, whose keys and values are the image's, and feed-forward
  are the second."""
  layer = [
    *attention('sub0_t', 'attention.self', 'attention.output'),
    *attention('sub1_t', 'crossattention.self', 'crossattention.output', source='sub1_v'),
    *feed_forward('sub1_t', 'intermediate.dense', 'output'),
  ]
  found = [row for row in bert_embed('text') if '/type/' not in row.ours]
  found += layers(layer, 'encoder/group0', 'encoder.layer.{n}', text.schedule)
  if not text.writes:
    return found
  found = [row.below('', 'bert') for row in found]
  if not text.own_scores:
    return found + word_scores()
  scores = [row for row in word_scores() if row.ours != 'word_bias']
  return [
    *scores,
    *found,
    Row('word_score/kernel', ('cls.predictions.decoder.weight',), 'dense'),
    *vector('word_score/bias', 'cls.predictions.bias'),
  ]


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  """HuggingFace's outputs, and the authors' (their inputs name the image 'image')."""
  model = plan.model
  pixels = given['image'] if 'image' in given else given['pixel_values']
  image = pixels.transpose(0, 2, 3, 1)
  text, mask = given['input_ids'], given['attention_mask'] > 0
  answer = (given['decoder_input_ids'], given['decoder_attention_mask'] > 0) if 'decoder_input_ids' in given else ()
  called = (image, text, mask, *answer)
  out, maps, states = captured(plan, variables, *called)
  found = inside(maps['image'], states['image'], 'v') | {'image_embeds': out['v'], 'last_hidden_state': out['v']}
  if model.out:
    return _matched(plan, variables, called, out, found)
  if model.encoder:
    found |= _answers(plan, variables, out, given)
  else:
    found |= _decoder(out, maps['decoder'], states['decoder'], 'image' in given)
    found |= _written(plan, variables, out, given)

  def loss(run):
    following = given['labels'][:, 1:]
    smoothing = SMOOTHING if 'image' in given else number(plan.config['text_config'], 'label_smoothing', 0.0)
    losses = smoothed(run(*called)['words'][:, :-1], following, smoothing)
    return losses.sum() / (following >= 0).sum(), {}

  if 'labels' in given:
    found |= learnt(plan, variables, loss)
    found |= {'text.loss': found['loss']}
  return found


def _matched(plan: Plan, variables: Mapping, called: tuple, out: Arrays, seen: Arrays) -> Arrays:
  """Retrieval: cosines and matching, and the gradients of a loss of no paper, the authors' cases'."""
  itc, rows = out['image'] @ out['text'].T, np.arange(len(out['text']))
  found = seen | {'itm_score': out['matched'], 'question_embeds': out['t']}
  found = found | {f'{head}.{name}': value for name, value in found.items() for head in ('itm', 'itc')}
  found |= {'itc.itm_score': itc, 'itc.question_embeds': out['alone']}
  found |= {'itm': out['matched'], 'itc': itc, 'multimodal_last': out['t'], 'text_last': out['alone']}

  def loss(run):
    made = run(*called)
    return cross_entropy(made['matched'], 1 - rows % 2) + cross_entropy(made['image'] @ made['text'].T, rows), {}

  return found | learnt(plan, variables, loss)


def _answers(plan: Plan, variables: Mapping, out: Arrays, given: Arrays) -> Arrays:
  """What the peer writes: from the first word of its answers to the end token."""
  length = wanted(plan, 'answer_greedy_sequences', 1, 8)
  if not length:
    return {}
  words = plan.config['text_config']
  first = jnp.full((len(out['t']), 1), words['bos_token_id'])
  step = writer(plan.model, variables, out['t'], None, length)
  ends = {'end': words['sep_token_id'], 'pad': words['pad_token_id']}
  return {'answer_greedy_sequences': generate.greedy(step, first, length=length, **ends)}


def _decoder(out: Arrays, maps: Mapping, states: Mapping, authors: bool) -> Arrays:
  """The decoder's states and attention maps. The authors' states are named without 'text.'."""
  text = inside(maps, states, 't')
  found = {f'text.{name}': value for name, value in text.items()}
  found |= {'logits': out['words'], 'text.logits': out['words']}
  found |= {f'text.cross_attentions.{n}': m for n, m in enumerate(maps['encoder']['group0']['sub1/t<v'])}
  return found | ({name: h for name, h in text.items() if name.startswith('hidden')} if authors else {})


def _written(plan: Plan, variables: Mapping, out: Arrays, given: Arrays) -> Arrays:
  """What the peer writes: after the first words of the text, less the last of them, and freely; likeliest and beams."""
  prompts = wanted(plan, 'greedy_prompt_ids', 1, 4)
  if not prompts or 'image' in given:
    return {}
  words = plan.config['text_config']
  ends = {'end': words['sep_token_id'], 'pad': words['pad_token_id']}
  prompt = given['input_ids'][:, :prompts]
  begun = jnp.asarray(prompt[:, :-1]).at[:, 0].set(words['bos_token_id'])
  found: Arrays = {'greedy_prompt_ids': prompt}
  for name, first, write in (
    ('greedy_sequences', begun, generate.greedy),
    ('greedy_nopromt_sequences', begun[:, :1], generate.greedy),
    ('beam3_sequences', begun, partial(generate.beam, beams=3)),
  ):
    if length := wanted(plan, name, 1, first.shape[1] + 8):
      found[name] = write(writer(plan.model, variables, out['v'], None, length), first, length=length, **ends)
  text = found['greedy_sequences']
  every = plan.model.apply(variables, text, text >= 0, out['v'], train=False, method='write')
  scores = every[:, begun.shape[1] - 1 : -1]
  return found | {'greedy_step_scores': scores, 'greedy_min_top2_margin': margin(scores)}
