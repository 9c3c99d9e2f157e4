"""The page to search in: its own text tower says what the trained one says."""

import jax
import numpy as np
import pytest

from experiments.searching import layers
from mmjax.layers.blocks import ACTIVATIONS, unit
from mmjax.models.clip import TextTower
from mmjax.report import search
from tests.report import browser
from tests.variables import drawn

WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'apple', 'blue', 'car', 'red', 'sky', '<b>evil</b>']
LENGTH, COUNT = 6, 30


@pytest.fixture(scope='module')
def tower():
  return TextTower(len(WORDS), LENGTH, '2*[t<t]', width=8, heads=2, mlp=16, out=4, end=3, scan=False)


def made(tower, folder, **changes):
  """(the page, the vectors of the texts, by JAX) of random pictures and a random tower."""
  ids = np.array([[2, 8, 5, 3, 0, 0], [2, 9, 3, 0, 0, 0], [2, 5, 6, 7, 8, 3]])  # red apple; sky; apple blue car red
  variables = drawn(tower, ids, ids > 0, train=False)
  params = jax.tree.map(lambda a: np.asarray(a, np.float16).astype(np.float32), variables['params'])
  vectors = unit(tower.apply({'params': params}, ids, ids > 0, train=False)[1])
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (COUNT, 4, 4, 3), dtype=np.uint8)
  pictures = np.asarray(unit(rng.normal(size=(COUNT, 4))), np.float16)
  arguments = {
    'title': 'search <b>', 'note': 'a note', 'first': 'red apple', 'words': WORDS, 'images': images,
    'names': [f'picture {n} <i>' for n in range(COUNT)], 'vectors': pictures, 'learnt': 20,
    'tower': {'word': params['word']['embedding'], 'position': params['position'], 'norm': params['norm'],
              'layers': layers(params['encoder'], tower.schedule, False), 'project': params['project']},
    'how': {'length': LENGTH, 'width': 8, 'heads': 2, 'eps': tower.eps, 'activation': tower.activation},
  }  # fmt: skip
  search.write(folder / 'search.html', **arguments | changes)
  return folder / 'search.html', np.asarray(vectors) @ pictures.astype(np.float32).T


def test_nothing_of_the_data_is_markup(tower, tmp_path):
  text = made(tower, tmp_path)[0].read_text()
  assert '<i>' not in text and 'evil</b>' not in text and 'search &lt;b&gt;' in text


@pytest.mark.browser
@pytest.mark.parametrize('activation', ACTIVATIONS)
def test_what_is_typed_finds_what_the_model_finds(tower, tmp_path, activation):
  file, scores = made(tower.clone(activation=activation), tmp_path)
  with browser.launch() as page:
    page.open(file)
    assert [url for url in page.requests if url.startswith('http')] == []
    shown = "[...document.querySelectorAll('#found li')].map(e => [...e.querySelectorAll('p')].map(p => p.textContent))"
    says = "document.getElementById('says').textContent"

    def typed(text):
      page.run(
        f"""(() => {{ const query = document.getElementById('query'); query.value = '{text}';
        query.dispatchEvent(new Event('input')) }})()"""
      )
      return page.run(shown)

    for text, row in (('red apple', 0), ('Purple? sky', 1), ('apple blue car red sky sky', 2)):
      found, order = typed(text), np.argsort(-scores[row])[:24]
      assert [name for name, _ in found] == [f'picture {n} <i>' for n in order]
      np.testing.assert_allclose([float(number.split()[0]) for _, number in found], scores[row][order], atol=0.006)
      assert ['held out' in number for _, number in found] == [n >= 20 for n in order]
    assert page.run(says) == 'Only the first 4 words are read. '
    page.run("document.getElementById('only').click()")
    assert len(page.run(shown)) == 10
    assert typed('purple') == [] and page.run(says) == 'Never read in training, left out: purple. '
    assert typed(' ') == [] and page.run(says) == 'Type what to look for.'
    assert page.errors == []
