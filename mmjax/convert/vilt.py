"""ViLT's checkpoints: HuggingFace's ViltModel and the classes for masked words, VQA, image pairs and retrieval."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmjax.convert.models import example
from mmjax.convert.names import Row, below, bert_embed, dense, layers, norm, vector
from mmjax.convert.plan import (
  Arrays,
  Config,
  Plan,
  Shapes,
  activation,
  captured,
  cross_entropy,
  fixed,
  learnt,
  number,
  position_ids,
)
from mmjax.convert.vit import block
from mmjax.fusion.layers import ENTRY
from mmjax.models.vilt import ViLT, by_patch

CLASSES = (
  'ViltModel',
  'ViltForMaskedLM',
  'ViltForQuestionAnswering',
  'ViltForImagesAndTextClassification',
  'ViltForImageAndTextRetrieval',
)


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  prefix = '' if kind == 'ViltModel' else 'vilt'
  fixed(config, {'qkv_bias': True})
  width = number(config, 'hidden_size')
  pad = config.get('pad_token_id')
  model = ViLT(
    num_answers=shapes.get('classifier.3.weight', (number(config, 'num_labels', 2),))[0] if kind in CLASSES[2:4] else 0,
    vocab=number(config, 'vocab_size'),
    positions=number(config, 'max_position_embeddings'),
    types=number(config, 'type_vocab_size'),
    modalities=number(config, 'modality_type_vocab_size', 2),
    images=number(config, 'num_images') if kind == 'ViltForImagesAndTextClassification' else 1,
    image=number(config, 'image_size', 384),
    patch=number(config, 'patch_size', 32),
    schedule=f'{number(config, "num_hidden_layers")}*[t<tv v<tv tied]',
    width=width,
    heads=number(config, 'num_attention_heads'),
    mlp=number(config, 'intermediate_size'),
    eps=number(config, 'layer_norm_eps', 1e-12),
    activation=activation(config),
    dropout=number(config, 'hidden_dropout_prob', 0.0),
    attention_dropout=number(config, 'attention_probs_dropout_prob', 0.0),
    word_padding=-1 if pad is None else pad,
    pooler=bool(prefix) or 'pooler.dense.weight' in shapes,
    words=kind == 'ViltForMaskedLM',
    retrieval=kind == 'ViltForImageAndTextRetrieval',
    classifier=shapes.get('classifier.0.weight', (2 * width,))[0],
  )
  tied = (
    {'mlm_score.decoder.weight': below(prefix, 'embeddings.text_embeddings.word_embeddings.weight')}
    if model.words
    else {}
  )
  tied |= {'mlm_score.bias': 'mlm_score.decoder.bias'} if model.words else {}  # older releases have it twice
  given = example(model, number(config, 'num_channels', 3))
  buffers = position_ids(below(prefix, 'embeddings.text_embeddings.position_ids'), model.positions)
  return Plan(config, model, rows(model, prefix), given, outputs, tied, buffers)


def rows(model: ViLT, prefix: str) -> list[Row]:
  """prefix: 'vilt' or ''."""
  encoder = [
    *bert_embed('text', 'embeddings.text_embeddings'),
    Row('modality/embedding', ('embeddings.token_type_embeddings.weight',)),
    Row('patches/token', ('embeddings.cls_token',), 'token'),
    Row('patches/position', ('embeddings.position_embeddings',), 'batched'),
    Row('patches/project/kernel', ('embeddings.patch_embeddings.projection.weight',), 'conv'),
    Row('patches/project/bias', ('embeddings.patch_embeddings.projection.bias',)),
    *layers(block(), 'encoder/group0/sub0_tied', 'encoder.layer.{n}', model.schedule),
    *norm('norm', 'layernorm'),
    *(dense('pooler/project', 'pooler.dense') if model.pooler else []),
  ]
  heads = []
  if model.num_answers:
    heads += dense('answer', 'classifier.0') + norm('answer_norm', 'classifier.1')
    heads += dense('answer_score', 'classifier.3')
  if model.words:
    heads += dense('masked_word/project', 'mlm_score.transform.dense')
    heads += norm('masked_word/norm', 'mlm_score.transform.LayerNorm') + vector('word_bias', 'mlm_score.decoder.bias')
  if model.retrieval:
    heads += dense('alignment', 'rank_output')
  return [row.below('', prefix) for row in encoder] + heads


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  """HuggingFace's, which drop the patches that no image of the batch fills (in the order of the rows here)."""
  model, pixels = plan.model, given['pixel_values']
  paired = pixels.ndim == 5
  text = given['input_ids']
  mask = given['attention_mask'] > 0 if 'attention_mask' in given else np.ones(text.shape, bool)
  seen = given['pixel_mask'] > 0 if 'pixel_mask' in given else None
  called = (text, mask, np.moveaxis(pixels, -3, -1), seen, given.get('token_type_ids'))
  out, maps, states = captured(plan, variables, *called)
  maps, states = maps['encoder']['group0'], states['encoder']
  patches = out['v_mask'][:, 1:]
  # those that are filled come first; their greatest number is read off the inputs, as shapes must be known
  most = _most(model, seen, patches.shape, given['pixel_values'].shape[-2:])
  at = jnp.pad(1 + jnp.argsort(~patches, axis=1, stable=True)[:, :most], ((0, 0), (1, 0)))
  both = lambda x: jnp.concatenate([x['t'], jnp.take_along_axis(x['v'], at[..., None], 1)], 1)
  keys = jnp.concatenate([jnp.broadcast_to(jnp.arange(text.shape[1]), (len(at), text.shape[1])), text.shape[1] + at], 1)

  def attention(n: int) -> jax.Array:
    rows_ = jnp.concatenate([maps['sub0/t<tv'][n], maps['sub0/v<tv'][n]], 2)
    return jnp.take_along_axis(jnp.take_along_axis(rows_, keys[:, None, :, None], 2), keys[:, None, None], 3)

  hidden = [both(states[ENTRY]), *(both({s: x[n] for s, x in states['group0'].items() if s in 'tv'})
                                   for n in range(len(states['group0']['t'])))]  # fmt: skip
  found = {f'attentions.{n}': attention(n) for n in range(len(hidden) - 1)}
  found |= {f'hidden_states.{n}': h for n, h in enumerate(hidden)}
  if paired:  # a list over images, of lists over layers
    images = pixels.shape[1]
    each = [_most(model, None if seen is None else seen[:, i], patches.shape, pixels.shape[-2:]) for i in range(images)]
    cut = lambda name, a, n: a[:, :, :n, :n] if name.startswith('attentions') else a[:, :n]
    found = {
      '.'.join([*k.split('.')[:1], str(i), *k.split('.')[1:]]): cut(k, a[i::images], text.shape[1] + 1 + most)
      for k, a in found.items()
      for i, most in enumerate(each)
    }
  found['last_hidden_state'] = both(out)
  found |= {'pooler_output': out['pooled']} if 'pooled' in out else {}
  names = {'answers': 'logits', 'words': 'logits'}
  found |= {names[name]: out[name] for name in names if name in out}
  found |= {'logits': out['alignment'][:, None]} if 'alignment' in out else {}

  def loss(run):
    out, labels = run(*called), given['labels']
    if 'words' in out or not np.issubdtype(labels.dtype, np.floating):
      return cross_entropy(out['words' if 'words' in out else 'answers'], labels), {}
    return optax.sigmoid_binary_cross_entropy(out['answers'], labels).mean() * labels.shape[1], {}

  return found | (learnt(plan, variables, loss) if 'labels' in given else {})


def _most(model: ViLT, seen: Any, shape: tuple[int, ...], image: tuple[int, ...]) -> int:
  """The number of patches of the image that fills most."""
  if seen is None:
    return shape[1]
  small = by_patch(seen.reshape(-1, *seen.shape[-2:]), *(side // model.patch for side in image))
  return int((small[:, :, 0].sum(1) * small[:, 0].sum(1)).max())
