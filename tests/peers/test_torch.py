"""Schedules against PyTorch's own transformer layers with the same weights; without torch these tests fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.fusion.layers import FusionStack

D, H, F = 12, 3, 20
LIKE = {'layer_norm_eps': 1e-5, 'batch_first': True, 'dropout': 0.0}

pytestmark = pytest.mark.peers


@pytest.fixture(scope='module')
def torch():
  import torch

  return torch


def dense(tensor, bias):
  return {'kernel': tensor.detach().numpy().T, 'bias': bias.detach().numpy()}


def norm(layer):
  return {'scale': layer.weight.detach().numpy(), 'bias': layer.bias.detach().numpy()}


def attention(layer, mine, ours):
  """torch's fused in_proj is query, key and value one below the other. `ours`: owner of the query, of what is read."""
  weights, biases = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
  query, key, value = (dense(w, b) for w, b in zip(weights, biases, strict=True))
  reader = {'query': query, 'out': dense(layer.out_proj.weight, layer.out_proj.bias), 'norm': norm(mine)}
  source = {'key': key, 'value': value}
  return {ours[0]: reader | source} if ours[0] == ours[1] else {ours[0]: reader, ours[1]: source}


def feed_forward(layer, mine):
  return {
    'ffn': {
      'expand': dense(layer.linear1.weight, layer.linear1.bias),
      'project': dense(layer.linear2.weight, layer.linear2.bias),
    },
    'ffn_norm': norm(mine),
  }


def randomise(torch, layer):
  with torch.no_grad():
    for parameter in layer.parameters():
      parameter.normal_(0, 0.3).add_(1.0 if parameter.ndim == 1 else 0.0)
  return layer.eval()


def streams(rng, *shapes):
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def ours(schedule, order, params, x, mask):
  """float32, matmul precision 'highest'; params of a group's one layer."""
  stack = FusionStack(schedule, D, H, F, norm=order, eps=1e-5, activation='gelu', dropout=0.0, attention_dropout=0.0)
  params = {'group0': jax.tree.map(lambda a: jnp.asarray(a)[None], params)}
  with jax.default_matmul_precision('highest'):
    return stack.apply({'params': params}, x, mask, train=False)


def close(found, wanted):
  assert np.abs(found - wanted).max() / np.abs(wanted).max() <= 1e-5


@pytest.mark.parametrize('order', ['post', 'pre'])
def test_self_attention_is_the_encoder_layer(torch, order):
  layer = torch.nn.TransformerEncoderLayer(D, H, F, activation='gelu', norm_first=order == 'pre', **LIKE)
  randomise(torch, layer)
  (t,) = streams(np.random.default_rng(0), (2, 5, D))
  seen = np.array([[True] * 5, [True, True, True, False, False]])
  wanted = layer(torch.tensor(t), src_key_padding_mask=torch.tensor(~seen)).detach().numpy()
  owner = attention(layer.self_attn, layer.norm1, 'tt')['t'] | feed_forward(layer, layer.norm2)
  found = np.asarray(ours('1*[t<t]', order, {'sub0_t': owner}, {'t': t}, {'t': jnp.asarray(seen)})['t'])
  close(found[seen], wanted[seen])  # torch may leave padding at 0


def test_self_then_cross_attention_is_the_decoder_layer(torch):
  layer = randomise(torch, torch.nn.TransformerDecoderLayer(D, H, F, activation='gelu', **LIKE))
  t, v = streams(np.random.default_rng(1), (2, 5, D), (2, 4, D))
  seen = np.array([[True] * 4, [True, True, False, False]])
  wanted = layer(torch.tensor(t), torch.tensor(v), memory_key_padding_mask=torch.tensor(~seen)).detach().numpy()
  cross = attention(layer.multihead_attn, layer.norm2, 'tv')
  params = {
    'sub0_t': attention(layer.self_attn, layer.norm1, 'tt')['t'],
    'sub1_t': cross['t'] | feed_forward(layer, layer.norm3),
    'sub1_v': cross['v'],
  }
  found = ours('1*[t<t noffn; t<v]', 'post', params, {'t': t, 'v': v}, {'v': jnp.asarray(seen)})
  close(np.asarray(found['t']), wanted)
  np.testing.assert_array_equal(found['v'], v)
