"""Fine-tuning from a checkpoint: what is taken over, what begins anew, and what is refused."""

import json
import shutil

import jax
import numpy as np
import pytest

from mmjax.convert.finetune import begin
from mmjax.convert.load import import_, load
from mmjax.data import sort_of_clevr, tokens
from mmjax.errors import UserError
from tests.convert.cases import FOLDER
from tests.experiments.test_runs import call, rows

TWO = ('--config.optim.steps=2', '--config.eval.every=2')


@pytest.fixture(scope='module')
def published(tmp_path_factory):
  """A folder as LXMERT is published, with a vocabulary that knows the task's words."""
  folder = tmp_path_factory.mktemp('published') / 'lxmert'
  shutil.copytree(FOLDER / 'lxmert_qa', folder)
  size = json.loads((folder / 'config.json').read_text())['vocab_size']
  known = tokens.build((*sort_of_clevr.SENTENCES, *sort_of_clevr.ANSWERS)).get_vocab()
  words = [*tokens.SPECIAL, "'", 's', *sorted(set(known) - set(tokens.SPECIAL))]
  (folder / 'vocab.txt').write_text(''.join(f'{word}\n' for word in [*words, *map(str, range(100, 200))][:size]))
  return folder


@pytest.fixture(scope='module')
def tuned(published, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('tuned') / 'run'
  return workdir, call(workdir, *TWO, f'--pretrained={published}')


@pytest.mark.slow
def test_a_published_checkpoint_begins_a_run(tuned, published):
  workdir, done = tuned
  assert done.returncode == 0, done.stderr
  for line in (
    'encoder/answer_score',  # in the table of parameters
    'answer_score: 64 x 13 there, 64 x 10 here, begins anew',
    'regions/feature: 20 x 32 there, 367 x 32 here, begins anew',
    'geometry: not there, begins anew',
    'of the checkpoint, whatever the config says: schedule 3*[t<t] 1*[v<v] 2*[t<v v<t tied noffn; t<t v<v], width 32',
  ):
    assert line in done.stdout + done.stderr
  assert rows(workdir)[-1]['split'] == 'final'
  assert json.loads((workdir / 'config.json').read_text())['pretrained'] == str(published)


@pytest.mark.slow
def test_a_run_with_it_is_another_run_than_one_without(tuned):
  done = call(tuned[0], *TWO)
  assert done.returncode == 2 and 'pretrained' in done.stderr and done.stderr.count('\n') == 1


@pytest.mark.slow
def test_our_own_format_begins_a_run_too(published, tmp_path):
  import_(published, tmp_path / 'ours')
  assert (tmp_path / 'ours/vocab.txt').read_text() == (published / 'vocab.txt').read_text()
  done = call(tmp_path / 'run', *TWO, f'--pretrained={tmp_path / "ours"}')
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('folder, experiment, line', [
  ('lxmert', 'visualbert', 'found LXMERT, expected VisualBERT'),
  ('bare', 'lxmert', 'its model knows 61 words, the task here 39; expected a vocab.txt'),
  ('nowhere', 'lxmert', 'nowhere: no such file or folder'),
])  # fmt: skip
def test_what_cannot_begin_a_run_is_refused(folder, experiment, line, published, tmp_path):
  if folder == 'bare':
    shutil.copytree(FOLDER / 'lxmert_qa', published.parent / 'bare', dirs_exist_ok=True)
    size = json.loads((published / 'config.json').read_text())['vocab_size']
    line = line.replace('61', str(size))
  schedule = () if experiment == 'lxmert' else ('--config.model.schedule=1*[t<tv v<tv tied]',)
  done = call(tmp_path / 'run', *TWO, *schedule, f'--pretrained={published.parent / folder}', experiment=experiment)
  assert done.returncode == 2 and line in done.stderr and done.stderr.count('\n') == 1
  assert not (tmp_path / 'run').exists()


@pytest.fixture(scope='module')
def vit():
  return load(FOLDER / 'vit_model')


def test_what_is_there_is_taken_over_and_the_rest_is_listed(vit):
  _, variables = vit
  found, said = begin(variables, variables)
  assert said == [] and jax.tree.all(jax.tree.map(np.array_equal, found, variables))
  params = dict(variables['params'])
  norm = params.pop('norm')
  found, said = begin(variables, {'params': params})
  assert said == ['norm: not there, begins anew']
  assert begin({'params': params}, variables)[1] == ['left behind: norm']
  wrong = {'params': params | {'norm': {'scale': norm['scale'][:3], 'bias': norm['bias']}}}
  with pytest.raises(UserError, match=r'1 parameters do not fit: params/norm/scale: found \(3,\)'):
    begin(variables, wrong)


def test_positions_of_another_image_size_are_resized(vit):
  """A model with resized positions says of a larger image what the model that resizes them itself says."""
  model, variables = vit
  larger = model.clone(image=model.image + 2 * model.patch)
  image = np.random.default_rng(0).normal(size=(1, larger.image, larger.image, 3)).astype(np.float32)
  fresh = jax.eval_shape(lambda: larger.init(jax.random.key(0), image, train=False))
  begun, said = begin(fresh, variables)
  assert len(said) == 1 and 'resized' in said[0]
  out, own = (m.apply(v, image, train=False)['v'] for m, v in ((larger, begun), (model, variables)))
  np.testing.assert_allclose(out, own, atol=1e-5)
