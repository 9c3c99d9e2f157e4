"""Speech and text: the search by hand, and a whole run on tones in place of speech, laid out as the package is."""

import contextlib
import io
import json
import shutil
import sys
import types

import jax
import numpy as np
import pytest
import soundfile

from configs import speech_retrieval as configs
from experiments import speech_retrieval, spoken, telling
from mmjax import cli
from mmjax.data import prompts
from mmjax.errors import UserError
from tests.experiments.test_runs import rows, without_clock

SYLLABLES = ('ba', 'de', 'gi', 'lo', 'mu')
SMALL = ('model.width=8', 'model.heads=2', 'model.mlp=8', 'model.out=8', 'model.channels=(2,4)', 'data.bins=8',
         'model.text_schedule=1*[t<t]', 'model.sound_schedule=1*[a<a]', 'data.images=8', 'data.length=16',
         'data.seconds=0.8', 'optim.steps=4', 'eval.every=2', 'optim.warmup=1', 'log.every=1')  # fmt: skip


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """30 texts of syllables, each of which sounds as a tone of 0.12 s; a beep, one that is too long, one said twice."""
  place, rng = tmp_path_factory.mktemp('prompts'), np.random.default_rng(0)
  texts = {f'n{n}': ' '.join(rng.choice(SYLLABLES, rng.integers(1, 5))) for n in range(40)}
  texts |= {'twice': texts['n0'], 'long': ' '.join(SYLLABLES * 3), 'beep': '[a beep]'}
  for name, text in texts.items():
    at = np.arange(int(0.12 * prompts.RATE)) / prompts.RATE
    tones = [np.sin(2 * np.pi * 300 * (1 + SYLLABLES.index(s)) * at) for s in text.split() if s in SYLLABLES]
    soundfile.write(place / f'{name}.wav', 0.3 * np.concatenate([*tones, 0 * at]), prompts.RATE)
  (place / prompts.NAMES[1]).write_text('; tones\n' + ''.join(f'{name}: {text}.\n' for name, text in texts.items()))
  return place


def call(folder, workdir, *more):
  out, err = io.StringIO(), io.StringIO()
  argv = ['speech_retrieval', f'--workdir={workdir}', '--config=configs/speech_retrieval.py:tiny',
          *(f'--config.{key}' for key in SMALL), f'--config.data.dir={folder}', *more]  # fmt: skip
  module = speech_retrieval
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    patch.setattr(sys, 'argv', argv)
    with pytest.raises(SystemExit) as end:
      cli.main(module.run, config=module.CONFIG, modes=module.MODES, flags=module.FLAGS)
  return types.SimpleNamespace(code=end.value.code or 0, out=out.getvalue(), err=err.getvalue())


def config(folder, seconds=0.8):
  c = configs.get_config('tiny')
  c.data.dir, c.data.seconds, c.data.length, c.data.bins = str(folder), seconds, 16, 8
  return c


def test_what_is_prepared(folder):
  task = speech_retrieval.prepare(config(folder))
  train = task.splits['train']
  assert task.left_out == 1  # the long one
  assert train['sound'].shape[1:] == (1 + int(0.8 * 8000 - 200) // 80, 8)
  there = np.arange(train['sound'].shape[1]) < train['frames'][:, None]
  assert (train['sound'][~there] == 0).all() and abs(train['sound'][there].mean()) < 1e-3
  assert not {*train['said']} & {*task.splits['test']['said']}
  lengths = {said: len(said.split()) for said in train['said']}
  for said, frames in zip(train['said'], train['frames']):
    assert frames == 1 + (960 * (lengths[said] + 1) - 200) // 80
  text = train['text'][0]
  letters = [task.tokenizer.id_to_token(i) for i in text[text > 0]]
  assert ''.join(letters[1:-1]).replace('_', ' ') == train['said'][0]
  assert (letters[0], letters[-1]) == ('[CLS]', '[SEP]')


def test_a_clip_is_right_where_it_says_the_text():
  held = {'concept': np.array([0, 0, 1])}  # two clips say the first text
  table = np.array([[0.1, 0.9, 0.5], [0.0, 0.2, 0.1]])
  first, second = (spoken.measure(table, held)[way] for way in spoken.WAYS)
  assert (first['R@1'][0], first['median rank'][0]) == (0.5, 1.5)
  assert second['R@1'][0] == pytest.approx(2 / 3) and second['R@5'][0] == 1


def test_what_the_length_tells(folder):
  task = speech_retrieval.prepare(config(folder))
  found = speech_retrieval.by_length(task, task.splits['test'])
  held = task.splits['test']
  right = spoken.rights(held)
  assert found.shape == right.shape == (len({*held['said']}), len(held['said']))
  assert (found[right] > -4).all() and (found < -8).any()  # frames: tones are as long as their letters say


def test_the_letters_that_are_heard_by_hand():
  """Two tokens, blank or one letter a, evenly: -log of (aa, a_, _a) 3 of 4; and of a text that nothing can say."""
  out = {'letters': np.full((2, 2, 43), -30.0, np.float32), 'heard': np.ones((2, 2), bool)}
  out['letters'][..., [0, 20]] = 0
  text = np.array([[2, 20, 3, 0, 0], [2, 20, 20, 20, 3]])
  found = np.asarray(speech_retrieval.unlikely(out, text))
  assert found[0] == pytest.approx(-np.log(3 / 4), abs=1e-4)
  assert found[1] > speech_retrieval.IMPOSSIBLE


def test_padding_cannot_be_seen():
  c = configs.get_config('tiny')
  c.model.width, c.model.heads, c.model.mlp, c.model.out, c.model.channels = 8, 2, 8, 6, (2, 4)
  model = speech_retrieval.build(c, 43)
  rng = np.random.default_rng(0)
  text, sound = np.array([[2, 10, 11, 3, 0, 0]] * 2), rng.normal(size=(2, 20, 8)).astype(np.float32)
  frames = np.array([9, 20])
  variables = model.init(jax.random.key(0), text, sound, frames, train=False)
  out = model.apply(variables, text, sound, frames, train=False)
  sound[0, 9:] = 100  # shout from behind the mask
  again = model.apply(variables, text, sound, frames, train=False)
  assert out['heard'].sum(1).tolist() == [3, 5]
  for name in ('image', 'text'):
    np.testing.assert_allclose(again[name], out[name], atol=1e-5)
  np.testing.assert_allclose(again['letters'][0, :3], out['letters'][0, :3], atol=1e-5)


def test_impossible_letters_teach_nothing():
  out = {
    'letters': np.zeros((1, 2, 43), np.float32), 'heard': np.ones((1, 2), bool), 'scale': np.ones(()),
    'text': np.ones((1, 1)), 'image': np.ones((1, 1)),
  }  # fmt: skip
  batch = {'text': np.array([[2, 20, 20, 20, 3]]), 'weight': np.ones(1)}
  losses, _ = speech_retrieval.objective(0.5)(out, batch)
  assert float(losses['letters'][0]) == 0 and losses['letters'][2] == 0.5
  assert set(speech_retrieval.objective(0.0)(out, batch)[0]) == {'contrast'}


def test_a_picture_has_low_frequencies_at_the_bottom():
  sound = np.zeros((6, 4), np.float32)
  sound[:, 0] = 2
  found = spoken.picture(sound, 5)
  assert found.shape == (4 * spoken.TALL, spoken.WIDE, 3) and found.dtype == np.uint8
  assert found[-1, 0].mean() > found[0, 0].mean() and (found[0] == found[1]).all()
  assert (found[:, 200:] == round(255 * spoken.NOTHING)).all() and (found[:, 199] != found[:, 200]).any()


@pytest.mark.parametrize('key, words', [
  ('data.name=prompt', "did you mean 'prompts'?"),
  ('data.dir=/nowhere', 'apt-get install asterisk-core-sounds-en asterisk-core-sounds-en-wav'),
  ('data.seconds=0.05', 'expected more: no clip of train is so short'),
  ('data.seconds=0.0', 'data.seconds: found 0.0, expected more than 0'),
  ('data.broken=skipp', "broken: found 'skipp', expected one of"),
  ('data.bins=0', 'data.bins: found 0, expected at least 1'),
  ('augment.join=2.0', 'augment.join: found 2.0, expected at most 1'),
  ('augment.hide=-1', 'augment.hide: found -1, expected at least 0'),
  ('letters=-1.0', 'letters: found -1.0, expected at least 0'),
])  # fmt: skip
def test_a_mistake_is_one_line(folder, tmp_path, key, words):
  done = call(folder, tmp_path / 'run', f'--config.{key}')
  lines = [line for line in done.err.splitlines() if line.startswith('error')]
  assert done.code == 2 and len(lines) == 1 and words in lines[0]
  assert not (tmp_path / 'run').exists()


def test_a_broken_clip_is_named_and_refused_or_skipped(folder, tmp_path, capsys):
  shutil.copytree(folder, tmp_path / 'prompts')
  (tmp_path / 'prompts' / 'n3.wav').write_bytes(b'no sound')
  c = config(tmp_path / 'prompts')
  with pytest.raises(UserError, match=r'n3\.wav: no sound that can be read'):
    speech_retrieval.prepare(c)
  c.data.broken = 'skip'
  task = speech_retrieval.prepare(c)
  assert 'n3.wav' in capsys.readouterr().err and task.left_out == 2
  assert 'n3' not in [name for part in task.splits.values() for name in part['name']]


@pytest.mark.slow
def test_a_run_says_what_it_made_and_can_be_resumed_and_tested_again(folder, tmp_path):
  workdir = tmp_path / 'run'
  done = call(folder, workdir)
  assert done.code == 0, done.err
  assert f'report: {workdir / "report.html"}' in done.out.splitlines()
  for words in ('contrast', 'letters heard', 'length alone', 'chance', 'were recorded twice'):
    assert words in done.out
  page = (workdir / 'report.html').read_text()
  assert 'Speech to text' in page and page.count('data:image/png') > 8
  made = json.loads((workdir / telling.TABLES).read_text())
  assert made['experiment'] == 'speech_retrieval' and len(made['tables'][0]['rows']) == 8
  losses = [row['loss'] for row in rows(workdir) if row['split'] == 'train']
  assert len(losses) == 4 and all(0 < loss < 100 for loss in losses)
  table = lambda said: [line for line in said.out.splitlines() if line.startswith('│')]
  again = call(folder, workdir, '--mode=eval')
  assert again.code == 0 and table(again) == table(done)
  other = tmp_path / 'again'
  shutil.copytree(workdir, other)
  shutil.rmtree(other / 'checkpoints' / '4')
  resumed = call(folder, other)
  assert resumed.code == 0 and 'going on from step 2' in resumed.err
  assert without_clock(rows(other)) == without_clock(rows(workdir))


@pytest.mark.slow
def test_without_letters_there_is_the_contrast_alone(folder, tmp_path):
  done = call(folder, tmp_path / 'run', '--config.letters=0.0')
  assert done.code == 0, done.err
  assert 'letters heard' not in done.out and 'contrast' in done.out
