import pytest
import tensorflow_datasets as tfds

from mmjax.data.easy_vqa import EasyVqa
from mmjax.data.sort_of_clevr import SPLITS, SortOfClevr
from tests.conftest import SCRATCH

FEW = {'train': 300, 'validation': 40, 'test200': 20, 'test2000': 40}  # pictures


@pytest.fixture(scope='package', autouse=True)
def few_pictures():
  """Data sets of a few pictures: what is learnt is no matter here. Processes of their own find them prepared."""
  folder = str(SCRATCH / 'few')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('TFDS_DATA_DIR', folder)
    patch.setattr(tfds.core.constants, 'DATA_DIR', folder)
    patch.setattr(SortOfClevr, 'SPLITS', {name: (FEW[name], seed) for name, (_, seed) in SPLITS.items()})
    every = EasyVqa._generate_examples
    patch.setattr(EasyVqa, '_generate_examples', lambda self, *given: every(self, *given[:2], given[2][:40]))
    yield
