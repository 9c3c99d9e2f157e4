"""LSTM, GRU and a TCN's block against PyTorch's with the same weights; without torch these tests fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.layers.dilated import TcnBlock
from mmjax.layers.recurrent import Recurrent
from tests.peers.test_torch import close

pytestmark = pytest.mark.peers
RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 7, 5)).astype(np.float32)
LENGTHS = [7, 4, 1]
MASK = np.arange(7) < np.array(LENGTHS)[:, None]


@pytest.fixture(scope='module')
def torch():
  import torch

  return torch


def cell(layer, kind, end):
  """torch keeps the gates one below the other: i f g o of an LSTM, r z n of a GRU, each with two biases."""
  numbers = {name: getattr(layer, f'{name}_{end}').detach().numpy() for name in (
    'weight_ih', 'weight_hh', 'bias_ih', 'bias_hh')}  # fmt: skip
  gates = 'ifgo' if kind == 'lstm' else 'rzn'
  parts = {name: dict(zip(gates, np.split(value, len(gates)))) for name, value in numbers.items()}
  found = {}
  for gate in gates:
    both = parts['bias_ih'][gate] + parts['bias_hh'][gate]
    found[f'i{gate}'] = {'kernel': parts['weight_ih'][gate].T}
    found[f'h{gate}'] = {'kernel': parts['weight_hh'][gate].T}
    if gate == 'n':  # what the state says is reset with its bias
      found['in']['bias'], found['hn']['bias'] = parts['bias_ih'][gate], parts['bias_hh'][gate]
    else:
      found[f'{"h" if kind == "lstm" else "i"}{gate}']['bias'] = both
  return {'cell': found}


@pytest.mark.parametrize('kind', ['lstm', 'gru'])
@pytest.mark.parametrize('both_ways', [False, True])
def test_recurrence_of_packed_series(torch, kind, both_ways):
  layer = getattr(torch.nn, kind.upper())(5, 4, num_layers=2, bidirectional=both_ways, batch_first=True)
  with torch.no_grad():
    for parameter in layer.parameters():
      parameter.normal_(0, 0.5)
  packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(X), LENGTHS, batch_first=True)
  wanted = torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)[0].detach().numpy()
  params = {f'forward{n}': cell(layer, kind, f'l{n}') for n in range(2)}
  if both_ways:
    params |= {f'backward{n}': cell(layer, kind, f'l{n}_reverse') for n in range(2)}
  with jax.default_matmul_precision('highest'):
    found = Recurrent(kind, 4, 2, both_ways).apply({'params': jax.tree.map(jnp.asarray, params)}, X, MASK, train=False)
  close(np.asarray(found)[MASK], wanted[MASK])


def test_a_tcn_block(torch):
  """The authors' block: padded on both sides, what stands over at the end cut off."""
  convs = [torch.nn.Conv1d(size, 4, 3, padding=4, dilation=2) for size in (5, 4)]
  project = torch.nn.Conv1d(5, 4, 1)
  normed = [torch.nn.utils.parametrizations.weight_norm(conv) for conv in convs]
  x = torch.tensor(X).transpose(1, 2)
  y = x
  for conv in normed:
    y = torch.relu(conv(y)[..., :-4])
  wanted = torch.relu(y + project(x)).detach().numpy().swapaxes(1, 2)
  numpy = lambda tensor: jnp.asarray(tensor.detach().numpy())
  params = {'project': {'kernel': numpy(project.weight)[..., 0].T, 'bias': numpy(project.bias)}}
  for n, conv in enumerate(normed):
    length, direction = (getattr(conv.parametrizations.weight, f'original{i}') for i in range(2))
    params[f'conv{n}'] = {'kernel': numpy(direction).transpose(2, 1, 0), 'bias': numpy(conv.bias)}
    params[f'norm{n}'] = {f'conv{n}/kernel/scale': numpy(length).ravel()}
  with jax.default_matmul_precision('highest'):
    found = TcnBlock(4, 3, 2).apply({'params': params}, X, np.ones((3, 7), bool), train=False)
  close(np.asarray(found), wanted)
