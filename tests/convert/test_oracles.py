"""Parity with the published code, case by case: float32, matmul precision 'highest', weights and outputs stored."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mmjax.convert.check import errors
from mmjax.convert.tensors import Tensors, write_tensors
from tests.convert.cases import CASES, FOLDER, compared

# one case a family stays in the default run, the smallest that has a loss and gradients
DEFAULT = {'bert_pretraining_eps', 'vit_classifier_eps', 'lxmert_qa', 'visualbert_vqa', 'vilbert_pretraining_eps',
           'uniter_vqa', 'volta_vlbert', 'clip_model_eps', 'openai_clip_resnet', 'blip_orig_itm', 'imagegpt_causal',
           'flava_codebook_dalle_encoder', 'dallepytorch_plain',
           'ast_classifier', 'videomae_pretraining', 'vivit_model',
           'timesformer_model', 'patchtst_model', 'mult_nomask_lonly'}  # fmt: skip


def held(case):
  found = compared(case)
  for name, (error, most) in found.items():
    print(f'{case} {name} {error} (at most {most:.0e})')
  assert set(found) == set(json.loads((FOLDER / case / 'case.json').read_text())['outputs'])
  assert {name: error for name, (error, most) in found.items() if error is None or not error <= most} == {}


@pytest.mark.parametrize('case', sorted(DEFAULT))
def test_a_case_of_each_family(case):
  held(case)


@pytest.mark.oracles
@pytest.mark.parametrize('case', sorted(set(CASES) - DEFAULT))
def test_every_output_of_the_peer(case):
  held(case)


def check(folder, *more):
  done = subprocess.run(
    [sys.executable, '-m', 'mmjax.convert', 'check', str(folder), *more], capture_output=True, text=True, check=False
  )
  return done.returncode, done.stdout, done.stderr


def test_an_output_that_differs_by_a_thousandth_fails(tmp_path):
  case = tmp_path / 'vit_model'
  shutil.copytree(FOLDER / 'vit_model', case)
  stored = {name: np.array(a) for name, a in Tensors([case / 'outputs.safetensors']).items()}
  stored['pooler_output'] += 1e-3 * np.abs(stored['pooler_output']).max()
  stored['invented'] = np.ones(3, np.float32)
  write_tensors(case / 'outputs.safetensors', {k: (a.dtype, a.shape) for k, a in stored.items()}, stored.values())
  code, out, err = check(case, '--dump', str(tmp_path / 'dump.safetensors'))
  assert (code, err) == (1, 'error: vit_model: 2 of 8 outputs differ or are not supported\n')
  lines = {line.split()[0]: line for line in out.splitlines()}
  assert 'FAILED' in lines['pooler_output'] and 'FAILED' not in lines['last_hidden_state']
  assert 'unsupported' in lines['invented']
  dumped = Tensors([tmp_path / 'dump.safetensors'])
  np.testing.assert_allclose(dumped['last_hidden_state'], stored['last_hidden_state'], atol=1e-4)
  (case / 'outputs.safetensors').unlink()
  code, out, _ = check(case)
  assert code == 0 and 'no outputs.safetensors' in out


@pytest.mark.parametrize('stored, ours, error', [
  ([1.0, -2.0], [1.0, -2.1], 0.05),
  ([1.0, -3e38], [1.1, -3.4e38], 0.1),  # a masked score has no value
  ([1.0, -np.inf], [1.0, -3.4e38], 0.0),
  ([1.0, -3e38], [1.0, 5.0], np.inf),
  ([1.0, np.nan], [1.0, np.nan], np.inf),
  ([1.0, 2.0], [1.0, np.nan], np.inf),
  ([np.inf, np.inf], [np.inf, np.inf], np.inf),  # nothing is left to compare
  ([1.0], [1.0, 2.0], None),
])  # fmt: skip
def test_an_error_by_hand(stored, ours, error):
  found = errors({'a': np.array(ours, np.float32)}, {'a': np.array(stored, np.float32)})
  assert found == {'a': error if error is None else pytest.approx(error, rel=1e-6)}
