"""A checkpoint's folder in and out: the same bytes come back, and what is wrong with one is one line."""

import json
import shutil
import struct
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest

from mmjax.convert.load import export, import_, load, read, save
from mmjax.convert.names import flatten
from mmjax.convert.tensors import Tensors, write_tensors
from mmjax.errors import UserError
from mmjax.models.bert import BERT
from mmjax.models.meter import METER
from mmjax.models.vit import ViT
from tests.convert.cases import FOLDER

ROUND = ['bert_pretraining', 'vit_classifier', 'lxmert_pretraining', 'lxmert_airsplay', 'visualbert_nlvr',
         'visualbert_orig_pretraining', 'vilbert_pretraining', 'uniter_pretraining', 'volta_lxmert', 'volta_uniter',
         'volta_vlbert', 'clip_model', 'openai_clip_vit', 'openai_clip_resnet', 'blip_vqa', 'blip_orig_caption',
         'dalle_dvae', 'flava_codebook_dalle_encoder', 'dallepytorch_plain', 'dallepytorch_rotary',
         'imagegpt_causal', 'ast_classifier', 'videomae_pretraining', 'vivit_model', 'timesformer_model',
         'patchtst_model', 'mult_masked', 'mult_identity_proj']  # fmt: skip


def arrays(folder):
  return {name: np.array(a) for name, a in Tensors([folder / 'model.safetensors']).items()}


def write(folder, tensors, name='model.safetensors'):
  write_tensors(folder / name, {key: (a.dtype, a.shape) for key, a in tensors.items()}, tensors.values())


def copy(case, folder, **config):
  """A case's model in a new folder, its config changed (None: without that key)."""
  folder.mkdir()
  shutil.copy(FOLDER / case / 'model.safetensors', folder)
  found = json.loads((FOLDER / case / 'config.json').read_text()) | config
  (folder / 'config.json').write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
  return folder


def same(a, b):
  assert list(a) == list(b)
  for name in a:
    assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape), name
    assert a[name].tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize('case', ROUND)
def test_what_comes_in_goes_out_byte_for_byte(tmp_path, case):
  import_(FOLDER / case, tmp_path / 'ours')
  assert export(tmp_path / 'ours', tmp_path / 'theirs') == len(arrays(FOLDER / case))
  same(arrays(tmp_path / 'theirs'), arrays(FOLDER / case))
  config = [json.loads((folder / 'config.json').read_text()) for folder in (tmp_path / 'theirs', FOLDER / case)]
  assert config[0] == config[1]


@pytest.mark.parametrize(
  'case',
  [
    'lxmert_qa',
    'volta_vlbert',
    'openai_clip_resnet',
    'clip_model',
    'vit_model',
    'blip_vqa',
    'dalle_dvae',
    'dallepytorch_rotary',
  ],
)
def test_our_own_format_is_read_by_the_same_load(tmp_path, case):
  model, variables = load(FOLDER / case)
  save(model, variables, tmp_path / 'ours')
  again, back = load(tmp_path / 'ours')
  assert again == model
  same(flatten(back), {name: np.asarray(a) for name, a in flatten(variables).items()})


@pytest.mark.parametrize('dtype', ['float16', ml_dtypes.bfloat16, 'float64'])
def test_other_precisions_become_float32_and_come_back(tmp_path, dtype):
  folder = copy('bert_model', tmp_path / 'half')
  write(folder, {name: a.astype(dtype) for name, a in arrays(folder).items()})
  import_(folder, tmp_path / 'ours')
  _, variables = load(tmp_path / 'ours')
  assert {a.dtype for a in jax.tree.leaves(variables)} == {np.dtype('float32')}
  export(tmp_path / 'ours', tmp_path / 'theirs')
  same(arrays(tmp_path / 'theirs'), arrays(folder))


def test_older_files_buffers_and_second_names_are_known(tmp_path):
  folder = copy('bert_pretraining', tmp_path / 'old')
  tensors = arrays(folder)
  tensors |= {
    'bert.embeddings.position_ids': np.arange(20)[None],
    'cls.predictions.decoder.weight': tensors['bert.embeddings.word_embeddings.weight'],
    'cls.predictions.decoder.bias': tensors['cls.predictions.bias'],
  }
  write(folder, tensors)
  import_(folder, tmp_path / 'ours')
  export(tmp_path / 'ours', tmp_path / 'theirs')
  same(arrays(tmp_path / 'theirs'), tensors)
  tensors['cls.predictions.decoder.bias'] = tensors['cls.predictions.bias'] + 1
  write(folder, tensors)
  with pytest.raises(UserError, match=r'cls\.predictions\.decoder\.bias differs from cls\.predictions\.bias'):
    load(folder)


def test_a_tensor_under_its_second_name_alone_is_found(tmp_path):
  folder = copy('bert_pretraining', tmp_path / 'other')
  tensors = arrays(folder)
  tensors['cls.predictions.decoder.weight'] = tensors.pop('bert.embeddings.word_embeddings.weight')
  write(folder, tensors)
  _, variables = load(folder)
  words = variables['params']['text']['word']['embedding']
  np.testing.assert_array_equal(words, tensors['cls.predictions.decoder.weight'])


def test_a_prefix_of_data_parallel_is_dropped(tmp_path):
  folder = copy('lxmert_airsplay', tmp_path / 'parallel')
  write(folder, {f'module.{name}': a for name, a in arrays(folder).items()})
  _, variables = load(folder)
  same(flatten(variables), flatten(load(FOLDER / 'lxmert_airsplay')[1]))


def shards(folder, index=None):
  """Splits the file in two; index: a change of the weight map."""
  tensors = arrays(folder)
  (folder / 'model.safetensors').unlink()
  where = {}
  for n, names in enumerate((list(tensors)[::2], list(tensors)[1::2])):
    write(folder, {name: tensors[name] for name in names}, f'part{n}.safetensors')
    where |= dict.fromkeys(names, f'part{n}.safetensors')
  (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': where | (index or {})}))
  return folder


def test_shards_are_one_checkpoint(tmp_path):
  folder = shards(copy('bert_model', tmp_path / 'parts'))
  same(flatten(load(folder)[1]), flatten(load(FOLDER / 'bert_model')[1]))


@pytest.mark.parametrize('index, line', [
  ({'pooler.dense.bias': '../part0.safetensors'}, "found file '../part0.safetensors', expected the name of a file"),
  ({'pooler.dense.bias': '/etc/passwd'}, "found file '/etc/passwd', expected the name of a file in the same folder"),
  ({'pooler.dense.bias': 'part9.safetensors'}, "found file 'part9.safetensors'"),
  ({'more': 'part0.safetensors'}, 'more not in both the index and its files'),
])  # fmt: skip
def test_an_index_that_does_not_hold_is_refused(tmp_path, index, line):
  folder = shards(copy('bert_model', tmp_path / 'parts'), index)
  with pytest.raises(UserError, match=line.replace('.', r'\.')):
    load(folder)


def raw(folder, header, data=b''):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  (folder / 'model.safetensors').write_bytes(struct.pack('<Q', len(text)) + text + data)


F32 = {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}
ONE = json.dumps(F32)
TWICE = f'{{"a": {ONE}, "a": {ONE}}}'.encode()
BROKEN = {
  'truncated': lambda f: (f / 'model.safetensors').write_bytes(
    (FOLDER / 'bert_model/model.safetensors').read_bytes()[:-9]
  ),
  'no file at all': lambda f: (f / 'model.safetensors').write_bytes(b''),
  'five bytes': lambda f: (f / 'model.safetensors').write_bytes(b'hello'),
  'oversized header': lambda f: (f / 'model.safetensors').write_bytes(struct.pack('<Q', 2**62) + b'{}'),
  'no JSON': lambda f: raw(f, b'{"a": '),
  'a list': lambda f: raw(f, b'[1, 2, 3]'),
  'key twice': lambda f: raw(f, TWICE, b'1234'),
  'unknown dtype': lambda f: raw(f, {'a': F32 | {'dtype': 'Q7'}}, b'1234'),
  'negative shape': lambda f: raw(f, {'a': F32 | {'shape': [-1]}}, b'1234'),
  'no offsets': lambda f: raw(f, {'a': F32 | {'data_offsets': []}}, b'1234'),
  'endless shape': lambda f: raw(f, b'{"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 4]}}', b'1234'),
  'nothing of very much': lambda f: raw(f, {'a': F32 | {'shape': [0, 2**70], 'data_offsets': [0, 0]}}),
  'shape a text': lambda f: raw(f, {'a': F32 | {'shape': '1'}}, b'1234'),
  'an entry of more': lambda f: raw(f, {'a': F32 | {'more': 1}}, b'1234'),
  'overlap': lambda f: raw(f, {'a': F32, 'b': F32}, b'1234'),
  'hole': lambda f: raw(f, {'a': F32 | {'data_offsets': [4, 8]}}, b'12345678'),
  'overlong': lambda f: raw(f, {'a': F32}, b'12345'),
  'no tensors': lambda f: raw(f, {}),
  'no folder': lambda f: shutil.rmtree(f),
  'no config': lambda f: (f / 'config.json').unlink(),
  'config no JSON': lambda f: (f / 'config.json').write_text('{'),
  'config too deep': lambda f: (f / 'config.json').write_text('{"a": ' * 100_000),
  'config of a long number': lambda f: (f / 'config.json').write_text('{"a": ' + '9' * 5000 + '}'),
  'config twice': lambda f: (f / 'config.json').write_text('{"a": 1, "a": 2}'),
}


@pytest.mark.parametrize('what', BROKEN)
def test_a_broken_folder_is_one_line_and_nothing_is_written(tmp_path, what):
  folder = copy('bert_model', tmp_path / 'broken')
  BROKEN[what](folder)
  with pytest.raises(UserError) as error:
    import_(folder, tmp_path / 'out')
  assert str(error.value).count(str(folder)) == 1
  assert '\n' not in str(error.value)
  assert [path.name for path in tmp_path.iterdir() if path != folder] == []


def changed(folder, name, value):
  tensors = arrays(folder)
  tensors[name] = value(tensors[name])
  write(folder, tensors)


@pytest.mark.parametrize('change, line', [
  (lambda a: a.T.copy()[:-1], 'found shape'),
  (lambda a: a.astype(np.int32), 'found dtype int32, expected a float'),
  (lambda a: a * np.nan, 'holds NaN or infinity'),
  (lambda a: np.where(a > 0, np.inf, a).astype(np.float32), 'holds NaN or infinity'),
])  # fmt: skip
def test_a_tensor_that_does_not_fit_is_named(tmp_path, change, line):
  folder = copy('bert_model', tmp_path / 'wrong')
  changed(folder, 'encoder.layer.1.intermediate.dense.weight', change)
  with pytest.raises(UserError, match=f'1 tensors .*: encoder.layer.1.intermediate.dense.weight: {line}'):
    import_(folder, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('config, line', [
  ({'architectures': ['LxmertModel']}, "config.json: no 'l_layers'"),
  ({'architectures': ['ViTModel']}, 'tensors do not fit the model'),
  ({'architectures': ['BertModell']}, "found class 'BertModell', expected one of .*did you mean 'BertModel'"),
  ({'architectures': []}, r'found class \[\], expected one of'),
  ({'architectures': [['BertModel']]}, 'found class'),
  ({'hidden_size': '32'}, 'describe no BertModel'),
  ({'hidden_size': 0}, 'describe no BertModel'),
  ({'num_attention_heads': 0}, 'describe no BertModel'),
  ({'layer_norm_eps': 'small'}, 'describe no BertModel'),
  ({'is_decoder': True}, 'is_decoder True, expected False'),
  ({'hidden_act': 'swish'}, "hidden_act 'swish', expected one of"),
  ({'num_hidden_layers': 4}, '16 tensors do not fit the model: encoder.layer.3'),
  ({'hidden_size': 16}, 'found shape'),
])  # fmt: skip
def test_a_config_of_another_model_is_said(tmp_path, config, line):
  folder = copy('bert_model', tmp_path / 'other', **config)
  with pytest.raises(UserError, match=line):
    load(folder)


def test_our_own_format_is_held_to_its_model(tmp_path):
  save(*load(FOLDER / 'vit_model'), tmp_path / 'ours')
  config = json.loads((tmp_path / 'ours/config.json').read_text())
  for change, line in (
    ({'model': 'ViTT'}, "found model 'ViTT', .*did you mean 'ViT'"),
    ({'arguments': config['arguments'] | {'patches': 3}}, "unknown argument 'patches' of ViT; did you mean 'patch'"),
    ({'arguments': config['arguments'] | {'width': 48}}, 'found shape'),
    ({'arguments': config['arguments'] | {'pooler': False}}, 'pooler/project/bias: left over'),
  ):
    (tmp_path / 'ours/config.json').write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=line):
      load(tmp_path / 'ours')


def test_a_folder_with_something_in_it_is_not_written_over(tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out/mine').write_text('')
  with pytest.raises(UserError, match='is there already, expected a new or an empty folder'):
    import_(FOLDER / 'vit_model', tmp_path / 'out')
  with pytest.raises(UserError, match='expected a folder that "import" has made'):
    export(FOLDER / 'vit_model', tmp_path / 'else')


def convert(*args):
  done = subprocess.run(
    [sys.executable, '-m', 'mmjax.convert', *map(str, args)], capture_output=True, text=True, check=False
  )
  return done.returncode, done.stdout, done.stderr


def test_the_command_line(tmp_path):
  code, out, _ = convert('info', FOLDER / 'lxmert_airsplay')
  assert code == 0
  assert 'params/encoder/group2/sub0_tied/query/kernel' in out
  assert 'cls.predictions.decoder.weight: a second name of bert.embeddings.word_embeddings.weight' in out
  code, out, err = convert('import', FOLDER / 'lxmert_airsplay', '--out', tmp_path / 'ours')
  assert (code, err) == (0, '') and f'written to {tmp_path / "ours"}' in out
  code, out, _ = convert('export', tmp_path / 'ours', '--out', tmp_path / 'theirs')
  assert code == 0
  same(arrays(tmp_path / 'theirs'), arrays(FOLDER / 'lxmert_airsplay'))


@pytest.mark.parametrize('args, line', [
  (['import', 'nowhere', '--out', 'x'], 'error: nowhere: no such file or folder'),
  (['import', 'nowhere'], 'error: the following arguments are required: --out; --help shows what can be asked for'),
  (['inform', 'x'], "error: argument COMMAND: invalid choice: 'inform'"),
  ([], 'error: the following arguments are required: COMMAND'),
])  # fmt: skip
def test_a_wrong_command_line_is_one_line(args, line):
  code, out, err = convert(*args)
  assert (code, out) == (2, '') and err.startswith(line) and err.count('\n') == 1


def test_read_gives_the_plan_without_converting():
  plan, tensors = read(FOLDER / 'bert_model')
  assert type(plan.model).__name__ == 'BERT' and 'embeddings.word_embeddings.weight' in tensors


@pytest.mark.parametrize('case', ['bert_model', 'bert_pretraining', 'vit_model', 'vit_classifier', 'lxmert_model',
                                  'lxmert_qa', 'lxmert_pretraining', 'visualbert_model', 'visualbert_pretraining',
                                  'clip_model', 'blip_captioning', 'blip_vqa', 'blip_retrieval', 'imagegpt_causal',
                                  'flava_codebook_dalle_encoder'])  # fmt: skip
def test_a_class_is_told_by_the_tensors_too(tmp_path, case):
  known, _ = read(FOLDER / case)
  told, _ = read(copy(case, tmp_path / 'bare', architectures=None))
  assert told.model == known.model and told.rows == known.rows


def test_tensors_of_several_classes_need_the_config(tmp_path):
  with pytest.raises(UserError, match='names no class'):
    load(copy('visualbert_vqa', tmp_path / 'bare', architectures=None))  # as VisualBertForVisualReasoning


def test_a_tuned_model_is_handed_back(tmp_path):
  import_(FOLDER / 'lxmert_qa', tmp_path / 'ours')
  model, variables = load(tmp_path / 'ours')
  tuned = jax.tree.map(lambda a: a + 1, variables)
  save(model, tuned, tmp_path / 'tuned', like=tmp_path / 'ours')
  export(tmp_path / 'tuned', tmp_path / 'theirs')
  before, after = arrays(FOLDER / 'lxmert_qa'), arrays(tmp_path / 'theirs')
  assert set(after) == set(before)
  for name in before:
    np.testing.assert_allclose(after[name], before[name] + 1, rtol=1e-6)
  with pytest.raises(UserError, match='expected a folder that "import" has made of this LXMERT'):
    save(model.clone(num_answers=5), tuned, tmp_path / 'other', like=tmp_path / 'ours')
  save(model, tuned, tmp_path / 'alone')
  with pytest.raises(UserError, match='expected a folder that "import" has made'):
    export(tmp_path / 'alone', tmp_path / 'again')


def test_a_damaged_source_is_said(tmp_path):
  import_(FOLDER / 'bert_model', tmp_path / 'ours')
  file = tmp_path / 'ours/config.json'
  whole = json.loads(file.read_text())
  name = next(iter(whole['source']['tensors']))
  less = {k: v for k, v in whole['source']['tensors'].items() if k != name}
  for source in ('text', {'config': {}}, whole['source'] | {'tensors': less},
                 whole['source'] | {'tensors': less | {name: [[1], 'I32']}}):  # fmt: skip
    file.write_text(json.dumps(whole | {'source': source}))
    with pytest.raises(UserError, match=str(tmp_path / 'ours')):
      export(tmp_path / 'ours', tmp_path / 'theirs')
  assert not (tmp_path / 'theirs').exists()


def test_names_of_the_first_releases_come_back_too(tmp_path):
  early = lambda name: name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')
  folder = copy('bert_pretraining', tmp_path / 'early', architectures=['BertForMaskedLM'])
  write(folder, {early(name): a for name, a in arrays(folder).items()})
  _, known = load(FOLDER / 'bert_pretraining')
  import_(folder, tmp_path / 'ours')
  _, found = load(tmp_path / 'ours')
  jax.tree.map(np.testing.assert_array_equal, found, known)
  export(tmp_path / 'ours', tmp_path / 'theirs')
  same(arrays(tmp_path / 'theirs'), arrays(folder))


def test_a_model_that_could_not_be_read_again_is_not_written(tmp_path):
  with pytest.raises(UserError, match='METER: expected one of'):
    save(METER(BERT(), ViT()), {'params': {}}, tmp_path / 'out')
  assert list(tmp_path.iterdir()) == []


def test_info_counts_and_says_what_does_not_fit(tmp_path):
  info = [sys.executable, '-m', 'mmjax.convert', 'info']
  told = subprocess.run([*info, str(FOLDER / 'lxmert_qa')], capture_output=True, text=True, check=True)
  assert told.stdout.splitlines()[-1].endswith('tensors mapped, 0 second names, 0 ignored, 0 missing, 0 left over')
  folder = copy('bert_model', tmp_path / 'less')
  tensors = arrays(folder)
  tensors['surplus'] = tensors.pop('pooler.dense.bias')
  write(folder, tensors)
  done = subprocess.run([*info, str(folder)], capture_output=True, text=True, check=False)
  assert done.returncode == 2 and 'pooler.dense.bias: missing; surplus: left over' in done.stderr
