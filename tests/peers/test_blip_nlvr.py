"""BLIP of NLVR2, of which no package has a class, against the authors' equations written out in torch: other sizes,
weights and masks for each seed.
"""

import json

import numpy as np
import pytest

from mmjax.convert.check import compute
from mmjax.convert.tensors import write_tensors

pytestmark = pytest.mark.peers

WIDTH, HEADS, MLP, VOCAB, LENGTH = 24, 3, 40, 30, 6
PATCH, SIDE, DEPTH = 4, 8, 2


def shapes(layers, averages):
  """The state_dict of BLIP_NLVR: name -> shape."""
  found = {
    'visual_encoder.cls_token': (1, 1, WIDTH),
    'visual_encoder.pos_embed': (1, 1 + (SIDE // PATCH) ** 2, WIDTH),
    'visual_encoder.patch_embed.proj.weight': (WIDTH, 3, PATCH, PATCH),
    'visual_encoder.patch_embed.proj.bias': (WIDTH,),
    'text_encoder.embeddings.word_embeddings.weight': (VOCAB, WIDTH),
    'text_encoder.embeddings.position_embeddings.weight': (LENGTH + 2, WIDTH),
  }

  def dense(name, into, out):
    found.update({f'{name}.weight': (out, into), f'{name}.bias': (out,)})

  def norm(name):
    found.update({f'{name}.weight': (WIDTH,), f'{name}.bias': (WIDTH,)})

  norm('visual_encoder.norm')
  norm('text_encoder.embeddings.LayerNorm')
  for n in range(DEPTH):
    at = f'visual_encoder.blocks.{n}'
    norm(f'{at}.norm1')
    norm(f'{at}.norm2')
    dense(f'{at}.attn.qkv', WIDTH, 3 * WIDTH)
    dense(f'{at}.attn.proj', WIDTH, WIDTH)
    dense(f'{at}.mlp.fc1', WIDTH, MLP)
    dense(f'{at}.mlp.fc2', MLP, WIDTH)
  for n in range(layers):
    at = f'text_encoder.encoder.layer.{n}'
    for part in ('attention.self', 'crossattention.self0', 'crossattention.self1'):
      for name in ('query', 'key', 'value'):
        dense(f'{at}.{part}.{name}', WIDTH, WIDTH)
    for name in ('attention.output.dense', 'crossattention.output.dense0', 'crossattention.output.dense1'):
      dense(f'{at}.{name}', WIDTH, WIDTH)
    if n >= averages:
      dense(f'{at}.crossattention.output.merge_layer', 2 * WIDTH, WIDTH)
    for name in ('attention.output', 'crossattention.output', 'output'):
      norm(f'{at}.{name}.LayerNorm')
    dense(f'{at}.intermediate.dense', WIDTH, MLP)
    dense(f'{at}.output.dense', MLP, WIDTH)
  dense('cls_head.0', WIDTH, WIDTH)
  dense('cls_head.2', WIDTH, 2)
  return found


def theirs(w, layers, averages, image, ids, mask, targets):
  """(prediction, loss): the forward pass of BLIP_NLVR, from its tensors w."""
  import torch
  from torch.nn import functional as F

  dense = lambda name, x: F.linear(x, w[f'{name}.weight'], w[f'{name}.bias'])
  norm = lambda name, x, eps: F.layer_norm(x, (WIDTH,), w[f'{name}.weight'], w[f'{name}.bias'], eps)
  heads = lambda x: x.unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2)

  def attention(q, k, v, added=0.0):
    q, k, v = heads(q), heads(k), heads(v)
    weights = (q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5 + added).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)

  proj = 'visual_encoder.patch_embed.proj'
  x = F.conv2d(image, w[f'{proj}.weight'], w[f'{proj}.bias'], stride=PATCH).flatten(2).transpose(1, 2)
  x = torch.cat([w['visual_encoder.cls_token'].expand(len(x), 1, WIDTH), x], 1) + w['visual_encoder.pos_embed']
  for n in range(DEPTH):
    at = f'visual_encoder.blocks.{n}'
    x = x + dense(f'{at}.attn.proj', attention(*dense(f'{at}.attn.qkv', norm(f'{at}.norm1', x, 1e-6)).chunk(3, -1)))
    x = x + dense(f'{at}.mlp.fc2', F.gelu(dense(f'{at}.mlp.fc1', norm(f'{at}.norm2', x, 1e-6))))
  both = norm('visual_encoder.norm', x, 1e-6).split(len(ids))

  table = 'text_encoder.embeddings'
  h = w[f'{table}.word_embeddings.weight'][ids] + w[f'{table}.position_embeddings.weight'][: ids.shape[1]]
  h = norm(f'{table}.LayerNorm', h, 1e-12)
  hidden = (1.0 - mask.float())[:, None, None] * -10000.0
  for n in range(layers):
    at = f'text_encoder.encoder.layer.{n}'
    parts = (dense(f'{at}.attention.self.{name}', h) for name in ('query', 'key', 'value'))
    y = dense(f'{at}.attention.output.dense', attention(*parts, hidden))
    h = norm(f'{at}.attention.output.LayerNorm', y + h, 1e-12)
    brought = []
    for i, seen in enumerate(both):
      name = f'{at}.crossattention.self{i}'
      y = attention(dense(f'{name}.query', h), dense(f'{name}.key', seen), dense(f'{name}.value', seen))
      brought.append(dense(f'{at}.crossattention.output.dense{i}', y))
    if n >= averages:
      y = dense(f'{at}.crossattention.output.merge_layer', torch.cat(brought, -1))
    else:
      y = (brought[0] + brought[1]) / 2
    h = norm(f'{at}.crossattention.output.LayerNorm', y + h, 1e-12)
    y = dense(f'{at}.output.dense', F.gelu(dense(f'{at}.intermediate.dense', h)))
    h = norm(f'{at}.output.LayerNorm', y + h, 1e-12)
  prediction = dense('cls_head.2', F.relu(dense('cls_head.0', h[:, 0])))
  return prediction, F.cross_entropy(prediction, targets)


@pytest.mark.parametrize(('seed', 'layers', 'averages'), [(0, 3, 2), (1, 2, 0)])
def test_two_images_are_read_as_by_the_authors(tmp_path, seed, layers, averages):
  import torch

  rng = np.random.default_rng(seed)
  arrays = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes(layers, averages).items()}
  write_tensors(
    tmp_path / 'model.safetensors', {name: (a.dtype, a.shape) for name, a in arrays.items()}, arrays.values()
  )
  (tmp_path / 'config.json').write_text(
    json.dumps({'vision': {'num_heads': HEADS}, 'text': {'num_attention_heads': HEADS}})
  )
  batch = 3
  image = rng.normal(size=(2 * batch, 3, SIDE, SIDE)).astype(np.float32)
  ids, targets = rng.integers(0, VOCAB, (batch, LENGTH)), rng.integers(0, 2, batch)
  mask = (np.arange(LENGTH) < rng.integers(1, LENGTH + 1, (batch, 1))).astype(np.int64)

  w = {name: torch.tensor(a, requires_grad=True) for name, a in arrays.items()}
  given = (torch.tensor(a) for a in (image, ids, mask, targets))
  prediction, loss = theirs(w, layers, averages, *given)
  loss.backward()

  inputs = {'image': image, 'input_ids': ids, 'attention_mask': mask, 'targets': targets}
  write_tensors(
    tmp_path / 'inputs.safetensors', {name: (a.dtype, a.shape) for name, a in inputs.items()}, inputs.values()
  )
  found = compute(tmp_path)
  np.testing.assert_allclose(found['prediction'], prediction.detach().numpy(), atol=1e-5)
  np.testing.assert_allclose(found['loss'], float(loss.detach()), atol=1e-5)
  for name, tensor in w.items():
    gradient = tensor.grad.numpy()
    np.testing.assert_allclose(
      found[f'grad::{name}'], gradient, atol=1e-5 * max(1, np.abs(gradient).max()), err_msg=name
    )
