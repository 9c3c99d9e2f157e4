import pytest

from mmjax.data import easy_vqa, pipeline, sort_of_clevr


class Tiny(sort_of_clevr.SortOfClevr):
  SPLITS = {'train': (40, 1), 'validation': (10, 2)}


@pytest.fixture(scope='session')
def tiny():
  return Tiny


@pytest.fixture(scope='session')
def tiny_dir(tmp_path_factory):
  path = str(tmp_path_factory.mktemp('tiny'))
  pipeline.load(Tiny, 'train', path)
  return path


@pytest.fixture(scope='session')
def easy_dir(tmp_path_factory):
  path = str(tmp_path_factory.mktemp('easy'))
  pipeline.load(easy_vqa.EasyVqa, 'test', path)
  return path
