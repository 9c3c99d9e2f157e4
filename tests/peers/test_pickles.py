"""Pickles as torch itself writes them, in its own layout and in the one before it; without torch these tests fail."""

import numpy as np
import pytest

from mmjax.convert.pickles import open_pickle


def tensors():
  import torch

  torch.manual_seed(0)
  base = torch.randn(6, 8)
  layer = torch.nn.Linear(3, 5)
  return {
    'whole': base,
    'transposed': base.T,
    'part': base[2:5, ::2],  # an offset and strides into the same storage
    'row': base[3],
    'expanded': torch.randn(1, 4).expand(3, 4),  # a stride of 0
    'half': torch.randn(3, 2).half(),
    'bfloat16': torch.randn(3, 2).bfloat16(),
    'double': torch.randn(2, 2, dtype=torch.float64),
    'integers': torch.arange(7),
    'flags': torch.tensor([True, False]),
    'one': torch.tensor(3.5),
    'none': torch.zeros(0, 4),
    'parameter': layer.weight,
    **{f'layer.{name}': value for name, value in layer.state_dict().items()},
  }


def close(found, wanted):
  assert found.keys() == wanted.keys()
  for name, tensor in wanted.items():
    tensor = tensor.detach()
    assert found[name].shape == tuple(tensor.shape), name
    assert str(found[name].dtype) == str(tensor.dtype).removeprefix('torch.'), name
    np.testing.assert_array_equal(np.asarray(found[name], np.float64), tensor.double().numpy(), err_msg=name)


@pytest.mark.peers
@pytest.mark.parametrize('new', [True, False], ids=['zip', 'legacy'])
def test_every_kind_of_tensor_is_read(tmp_path, new):
  import torch

  wanted = tensors()
  torch.save(wanted, tmp_path / 'model.pt', _use_new_zipfile_serialization=new)
  close(open_pickle(tmp_path / 'model.pt'), wanted)


@pytest.mark.peers
@pytest.mark.parametrize('new', [True, False], ids=['zip', 'legacy'])
def test_a_state_dict_is_read(tmp_path, new):
  import torch

  model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Embedding(4, 2))
  torch.save(model.state_dict(), tmp_path / 'model.bin', _use_new_zipfile_serialization=new)
  close(open_pickle(tmp_path / 'model.bin'), dict(model.state_dict()))
