"""CTranslate2's files: one that is written here is read and comes back, and each kind of damage is one line."""

import json
import struct

import jax
import numpy as np
import pytest

from mmjax.convert import ctranslate2
from mmjax.convert.load import export, import_, load, read
from mmjax.convert.names import to_theirs
from mmjax.convert.tensors import Tensors
from mmjax.convert.whisper import rows_engine
from mmjax.errors import UserError
from mmjax.models.whisper import SoundEncoder, TextDecoder, Whisper
from tests.variables import drawn

SIZES = {'width': 8, 'heads': 2, 'mlp': 12, 'key_bias': True}
MODEL = Whisper(SoundEncoder(12, 5, '2*[a<a]', **SIZES), TextDecoder(20, 9, -1, '3*[t<t noffn; t<a]', **SIZES))
SOUND, TEXT = np.random.default_rng(0).normal(size=(1, 12, 5)).astype(np.float32), np.array([[1, 2, 3]])
NUMBERS = {'decoder/pre_norm': 1, 'decoder/activation': 3, 'encoder/num_heads': 2, 'decoder/num_heads': 2}


def text(name):
  return struct.pack('<H', len(name) + 1) + name.encode() + b'\0'


def entry(name, a, size=None):
  code = next(code for code, dtype in ctranslate2.DTYPES.items() if a.dtype == dtype)
  head = text(name) + struct.pack(f'<B{a.ndim}IBI', a.ndim, *a.shape, code, a.nbytes if size is None else size)
  return head + a.tobytes()


def written(tensors, numbers=NUMBERS, version=6, kind='WhisperSpec', more=b''):
  """A file's bytes: tensors by name, numbers of rank 0, and the alias that Whisper's have."""
  entries = [entry(name.replace('.', '/'), np.asarray(a)) for name, a in tensors.items()]
  entries += [entry(name, np.array(n, np.int16)) for name, n in numbers.items()]
  alias = struct.pack('<I', 1) + text('decoder/projection/weight') + text('decoder/embeddings/weight')
  begin = struct.pack('<I', version) + text(kind) + struct.pack('<II', 3, len(entries))
  return begin + b''.join(entries) + alias + more


@pytest.fixture(scope='module')
def variables():
  return jax.tree.map(lambda a: np.asarray(a, np.float16), drawn(MODEL, SOUND, TEXT, train=False))


@pytest.fixture(scope='module')
def tensors(variables):
  return to_theirs(rows_engine(MODEL), variables)


@pytest.fixture
def folder(tmp_path, tensors):
  (tmp_path / 'model.bin').write_bytes(written(tensors))
  (tmp_path / 'config.json').write_text('{"suppress_ids": [1]}')
  (tmp_path / 'tokenizer.json').write_text('{}')
  return tmp_path


def test_a_file_is_read_into_the_model_that_it_was_made_of(folder, variables):
  model, found = load(folder)
  assert model == MODEL
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.float32(b)), found, dict(variables))


def test_it_can_be_imported_and_goes_back_by_its_names(folder, tensors):
  import_(folder, folder / 'ours')
  assert json.loads((folder / 'ours' / 'config.json').read_text())['source']['config']['suppress_ids'] == [1]
  assert export(folder / 'ours', folder / 'theirs') == len(tensors) + 1
  back = Tensors([folder / 'theirs' / 'model.safetensors'])
  assert set(back) == {*tensors, 'decoder.projection.weight'}
  for name, a in tensors.items():
    assert back[name].dtype == np.float16
    np.testing.assert_array_equal(back[name], a)
  assert load(folder / 'theirs')[0] == MODEL


def test_every_cut_is_refused_in_one_line(folder, tensors):
  whole = written(tensors)
  for length in [*range(20, 400, 17), *range(len(whole) // 2, len(whole), len(whole) // 20), len(whole) - 1]:
    (folder / 'model.bin').write_bytes(whole[:length])
    with pytest.raises(UserError, match=r'damaged at byte [\d,]+: ') as error:
      load(folder)
    assert '\n' not in str(error.value) and str(folder / 'model.bin') in str(error.value)


BIG = np.zeros(3, np.float32)


@pytest.mark.parametrize('make, said', [
  (lambda t: written(t, version=5), 'CTranslate2 format 5, expected 6'),
  (lambda t: written(t, kind='TransformerSpec'), "found class 'TransformerSpec', expected one of"),
  (lambda t: written(t, more=b'abc'), '3 bytes behind its end'),
  (lambda t: written(t, NUMBERS | {'decoder/pre_norm': 0}), 'decoder.pre_norm 0: expected 1'),
  (lambda t: written(t, NUMBERS | {'decoder/activation': 9}), 'decoder.activation 9: expected one of'),
  (lambda t: written(t, NUMBERS | {'decoder/num_heads': 3}), 'heads: found 3 for width 8'),
  (lambda t: written({**t, 'a': BIG}), '1 tensors do not fit the model: a: left over'),
  (lambda t: written({**t, 'encoder.conv1.bias': np.zeros(8, np.int8)}), 'found dtype int8, expected a float'),
  (lambda t: written({**t, 'encoder.conv1.bias': np.full(8, np.nan, np.float32)}), 'holds NaN or infinity'),
  (lambda t: written({k: a for k, a in t.items() if k != 'encoder.conv2.bias'}), 'encoder.conv2.bias: missing'),
  (lambda t: written({}), 'alias decoder.projection.weight of decoder.embeddings.weight, expected a new name'),
  (lambda t: written({'decoder.embeddings.weight': BIG}), 'describe no WhisperSpec'),
  (lambda t: written(t).replace(text('encoder/conv1/bias'), text('encoder/conv2/bias'), 1), 'encoder.conv2.bias twice'),
  (lambda t: written(t).replace(b'encoder/conv1/bias\0', b'encoder/conv1/bias\1', 1), 'expected a text that ends'),
  (lambda t: written(t).replace(text('encoder/conv1/bias') + b'\1\10', text('encoder/conv1/bias') + b'\1\11', 1),
   r'encoder.conv1.bias float16\[9\] in 16 bytes, expected 18'),
  (lambda t: written(t).replace(text('encoder/conv1/bias') + b'\1\10\0\0\0\4', text('encoder/conv1/bias') +
   b'\1\10\0\0\0\11', 1), 'encoder.conv1.bias of kind 9, expected one of'),
])  # fmt: skip
def test_what_is_wrong_is_one_line(folder, tensors, make, said):
  (folder / 'model.bin').write_bytes(make(tensors))
  with pytest.raises(UserError, match=said) as error:
    load(folder)
  assert '\n' not in str(error.value)


def test_another_bin_is_still_a_pickle(folder):
  (folder / 'model.bin').write_bytes(b'\x80\x02}q\x00.')
  with pytest.raises(UserError, match='a pickle, which can run any program'):
    read(folder)
  assert ctranslate2.found(folder / 'model.bin') is None and ctranslate2.found(folder / 'nowhere') is None
