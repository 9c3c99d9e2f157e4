"""The ResNet's convolutions: as a matrix product they are what they were."""

import jax
import numpy as np
import pytest

from mmjax.encoders import resnet


@pytest.mark.parametrize('side, size', [(1, 3), (2, 3), (4, 3), (5, 3), (6, 1), (2, 1)])
def test_a_product_in_place_of_a_convolution_is_the_convolution(side, size):
  keys = jax.random.split(jax.random.key(0), 2)
  x, kernel = jax.random.normal(keys[0], (3, side, side + 1, 5)), jax.random.normal(keys[1], (size, size, 5, 4))
  pad, layout = ((size // 2, size // 2),) * 2, ('NHWC', 'HWIO', 'NHWC')
  plain = jax.lax.conv_general_dilated(x, kernel, (1, 1), pad, dimension_numbers=layout, precision='highest')
  names = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, layout)
  ours = resnet.convolved(x, kernel, (1, 1), pad, (1, 1), (1, 1), names, 1, 'highest')
  np.testing.assert_allclose(ours, plain, atol=2e-5)
