"""DALLE-pytorch's checkpoints of DALL-E: the transformer, and the dVAE in the same file."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from mmjax.convert import dvae
from mmjax.convert.models import example
from mmjax.convert.names import Row, dense, embed, fused, layers, norm, unused, vector
from mmjax.convert.plan import Arrays, Config, Plan, Shapes, cross_entropy, learnt, number, wanted
from mmjax.models.dalle import DALLE


def plan(config: Config, shapes: Shapes, kind: str) -> Plan:
  vae = dvae.built(number(config, 'vae'))
  model = DALLE(
    vocab=number(config, 'num_text_tokens'),
    words=number(config, 'text_seq_len'),
    codes=vae.codes,
    side=number(number(config, 'vae'), 'image_size') // 2**vae.layers,
    width=number(config, 'dim'),
    depth=number(config, 'depth'),
    heads=number(config, 'heads', 8),
    head_size=number(config, 'dim_head', 64),
    attention=tuple(config.get('attn_types') or ('full',)),
    rotary=number(config, 'rotary_emb', True),
    shift=number(config, 'shift_tokens', True),
    vae=vae,
  )
  found = rows(model)
  found += unused('transformer.pos_emb') if 'transformer.pos_emb' in shapes else []  # made anew: rotary_angles
  return Plan(config, model, found, example(model), outputs)


def rows(model: DALLE) -> list[Row]:
  """Each wrapper of theirs (scale, norm, cache, shift) adds an 'fn' to a name."""
  inside = 'fn.fn.fn.fn' if model.shift else 'fn.fn'
  found = [*embed('word', 'text_emb'), *embed('code', 'image_emb'), *norm('norm', 'to_logits.0')]
  found += dense('score', 'to_logits.1')
  if not model.rotary:
    found += vector('place', 'text_pos_emb.weight')
    found += [Row('row', ('image_pos_emb.weights.0',), 'down'), Row('column', ('image_pos_emb.weights.1',), 'across')]
  layer: list[Row] = []
  for part, below in (('attention', '0'), ('ffn', '1')):
    layer += [Row(f'{part}_scale', (f'{below}.scale',), 'token'), *norm(f'{part}_norm', f'{below}.fn.norm')]
  layer += fused('attention', f'0.{inside}.fn.to_qkv.weight') + dense('attention/out', f'0.{inside}.fn.to_out.0')
  layer += dense('ffn/expand', f'1.{inside}.net.0') + dense('ffn/project', f'1.{inside}.net.3')
  found += layers(layer, 'layers', 'transformer.layers.layers.{n}', range(model.depth))
  return found + ([row.below('vae', 'vae') for row in dvae.rows(model.vae)] if model.vae else [])


def outputs(plan: Plan, variables: Mapping, given: Arrays) -> Arrays:
  """Scores of the whole, of the text with 7 codes, and of the text alone; the weighted loss (section 2.2)."""
  model, text, codes = plan.model, jnp.asarray(given['text']), jnp.asarray(given['image_codes'])
  scores = lambda codes: model.apply(variables, text, codes, train=False)['logits']
  few = wanted(plan, 'logits_partial', 1, 1 + model.words + 7) - 1 - model.words
  found = {'logits': scores(codes), 'logits_text_only': scores(codes[:, :0])}
  found |= {'logits_partial': scores(codes[:, :few])} if few > 0 else {}

  def loss(run):
    made, ids = run(text, codes)['logits'], model.together(text, codes)[:, 1:]
    weight = number(plan.config, 'loss_img_weight', 7)
    of_text, of_image = (
      cross_entropy(made[:, part], ids[:, part]) for part in (np.s_[: model.words], np.s_[model.words :])
    )
    return (of_text + weight * of_image) / (weight + 1), {}

  return found | learnt(plan, variables, loss)
