"""Whole runs of experiments, as small as can be: what they write, and that a resumed run is the same run."""

import contextlib
import functools
import io
import json
import shutil
import sys
import types

import pytest
from PIL import Image

from experiments import (
  asking,
  blip,
  clip,
  composed_search,
  dalle,
  frozen,
  mbt,
  records,
  sensors,
  sentiment,
  telling,
)
from experiments.reading import READING
from mmjax import cli
from mmjax.data import clips, posts, products, robot, scenes
from mmjax.data import records as patients
from mmjax.encoders import efficientnet
from tests.experiments.test_frozen import towers_in
from tests.experiments.test_runs import rows, without_clock

pytestmark = pytest.mark.slow

SMALL = {
  'clip': ['model.image.blocks=()', 'model.text.width=8', 'model.image.width=8', 'model.text.heads=2',
           'model.image.heads=2', 'model.out=8',
           "model.text.schedule='1*[t<t]'", "model.image.schedule='1*[v<v]'", 'bag.steps=2', 'bag.warmup=1'],
  'blip': ['model.text.width=8', 'model.image.width=8', 'model.text.heads=2', 'model.image.heads=2', 'model.out=8',
           "model.text.schedule='1*[t<t noffn; t<v]'", "model.image.schedule='1*[v<v]'", 'rerank=2', 'beams=2',
           'contrast.queue=64', 'captions.steps=2', 'captions.warmup=1'],
  'dalle': ['model.width=8', 'model.depth=1', 'model.heads=2', 'model.head_size=6', 'dvae.codes=8', 'dvae.width=8',
            'dvae.residuals=0', 'clip.width=8', 'clip.layers=1', 'sample.texts=2', 'sample.candidates=2'],
  'composed_search': ['model.width=8', 'model.heads=2', 'model.mlp=8', 'model.out=8', 'model.channels=(4,8)',
                      "systems=('1*[v<tv]',)"],
  'sentiment': ['model.width=8', 'model.heads=2', 'model.mlp=8', 'channels=(4,8)',
                "systems=('words','1*[t<tv v<tv tied]')"],
  'mbt': ['model.width=8', 'model.heads=2', 'model.mlp=8'],
  'sensors': ['model.width=8', 'model.heads=2', 'model.mlp=8', 'model.channels=(4,8)'],
  'records': ['model.width=8', 'model.heads=2', 'model.mlp=8', 'model.channels=(4,8)'],
}  # fmt: skip
MODULES = {'clip': clip, 'blip': blip, 'dalle': dalle, 'composed_search': composed_search, 'sentiment': sentiment,
           'mbt': mbt, 'sensors': sensors, 'records': records}  # fmt: skip


def call(name, workdir, *more):
  module, out, err = MODULES[name], io.StringIO(), io.StringIO()
  keys = [f'--config.{key}' if '(' in key else f'--config.{key}'.replace("'", '') for key in SMALL[name]]
  argv = [name, f'--workdir={workdir}', f'--config=configs/{name}.py:tiny', *keys,
          '--config.data.images=8', '--config.optim.steps=4', '--config.eval.every=2', '--config.optim.warmup=1',
          '--config.log.every=1', *more]  # fmt: skip
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    patch.setattr(sys, 'argv', argv)
    for kind in (scenes.Scenes, products.Products, posts.Posts, clips.Clips, robot.Robot, patients.Records):
      patch.setattr(kind, 'SPLITS', {split: (24, seed) for split, (_, seed) in kind.SPLITS.items()})
    with pytest.raises(SystemExit) as end:
      cli.main(module.run, config=module.CONFIG, modes=module.MODES, flags=module.FLAGS)
  return types.SimpleNamespace(code=end.value.code or 0, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """name -> (workdir, what was said) of a finished run, each made once."""

  @functools.cache
  def run(name):
    workdir = tmp_path_factory.mktemp(name) / 'run'
    done = call(name, workdir)
    assert done.code == 0, done.err
    return workdir, done

  return run


SAID = {
  'clip': ('bag of words', 'chance', 'of new concepts', 'of new categories', 'the most frequent category'),
  'blip': ('CIDEr', 'ROUGE-L', 'BLEU-1', 'caption of the nearest', 'read again', 'chance', 'deletion', 'random order'),
  'dalle': ('by the classifier', 'the best of 2 by CLIP', 'real pictures', 'chance', 'held out', 'PSNR'),
  'composed_search': ('attention, 1*[v<tv]', 'chance', 'products held out', 'attributes'),
  'sentiment': ('words alone', '1*[t<tv v<tv tied]', 'the best that picture', 'they disagree'),
  'mbt': ('sound alone', 'bottlenecks', 'without video', 'the most frequent answer'),
  'sensors': ('camera alone', 'merged', 'without odometry', 'the best by range alone'),
  'records': ('picture alone', 'merged', 'without note', 'the best by measurements alone'),
}
STAGES = {'clip': ['bag_of_words'], 'blip': ['captions'], 'dalle': ['dvae', 'classifier', 'clip'],
          'composed_search': [], 'sentiment': ['words'], 'mbt': ['sound_alone'], 'sensors': ['camera_alone'],
          'records': ['picture_alone']}  # fmt: skip


@pytest.mark.parametrize('name', MODULES)
def test_a_run_says_what_it_made(finished, name):
  workdir, done = finished(name)
  assert f'report: {workdir / "report.html"}' in done.out.splitlines()
  assert (workdir / 'report.html').stat().st_size > 20_000
  made = json.loads((workdir / telling.TABLES).read_text())
  tables = made['tables']
  assert made['experiment'] == name and any(
    'value' in cell for row in tables[0]['rows'] for cell in row.values() if isinstance(cell, dict)
  )
  for words in SAID[name]:
    assert words in done.out
  for folder in (workdir, *(workdir / stage for stage in STAGES[name])):
    assert rows(folder)[-1]['split'] == 'final'
  losses = [row['loss'] for row in rows(workdir) if row['split'] == 'train']
  assert len(losses) == 4 and all(0 < loss < 100 for loss in losses)


def test_a_resumed_run_is_the_same_run(finished, tmp_path):
  """BLIP, which keeps more than parameters from step to step."""
  workdir, _ = finished('blip')
  again = tmp_path / 'again'
  shutil.copytree(workdir, again)
  shutil.rmtree(again / 'checkpoints' / '4')
  done = call('blip', again)
  assert done.code == 0 and 'going on from step 2' in done.err
  assert without_clock(rows(again)) == without_clock(rows(workdir))


def test_clip_writes_a_page_to_search_in(finished):
  workdir, done = finished('clip')
  assert f'a page to search in: {workdir / "search.html"}' in done.out.splitlines()
  assert (workdir / 'search.html').stat().st_size > 1_000_000


@pytest.mark.parametrize('name', ['clip', 'blip'])
def test_what_was_trained_can_be_asked(finished, name, tmp_path):
  workdir, done = finished(name)
  assert done.out.splitlines()[-1] == f'for experiments.ask: --weights={workdir / "model"}'
  reading = json.loads((workdir / 'model' / READING).read_text())
  assert (reading['side'], reading['length']) == (32, {'clip': 20, 'blip': 14}[name])
  picture = tmp_path / 'a.png'
  Image.new('RGB', (40, 30), 'red').save(picture)
  answer = asking.Asked(workdir / 'model', picture).answer(labels=['red heart', 'flag'])
  assert {label for label, _ in answer.said} == {'red heart', 'flag'}
  assert {found.shape for found in answer.maps.values()} == {(4, 4)}


def test_what_writes_captions_can_be_asked(finished, tmp_path):
  workdir, done = finished('blip')
  assert f'for experiments.ask: --weights={workdir / "captioner"} writes captions' in done.out.splitlines()
  picture = tmp_path / 'a.png'
  Image.new('RGB', (40, 30), 'red').save(picture)
  asked = asking.Asked(workdir / 'captioner', picture)
  answer = asked.answer()
  ((text, likely),) = answer.said
  assert likely is None and set(text.split()) <= set(asked.tokenizer.get_vocab())
  assert {found.shape for found in answer.maps.values()} == {(4, 4)}


@pytest.mark.parametrize('name', MODULES)
def test_a_finished_run_is_tested_again(finished, name):
  """`--mode=eval` tells what the run told, and trains nothing."""
  workdir, done = finished(name)
  before = (workdir / 'metrics.jsonl').read_bytes()
  again = call(name, workdir, '--mode=eval')
  assert again.code == 0, again.err
  table = lambda said: [line for line in said.out.splitlines() if line.startswith('│')]
  assert table(again) == table(done) and table(done)
  assert (workdir / 'metrics.jsonl').read_bytes() == before


def test_the_resnet_of_the_default_is_trained(tmp_path):
  blocks = ('--config.model.image.blocks=(1,1,1,1)', '--config.model.image.width=8')
  done = call('clip', tmp_path / 'run', *blocks)
  assert done.code == 0, done.err
  model = json.loads((tmp_path / 'run' / 'model' / 'config.json').read_text())
  assert (
    model['arguments']['image']['arguments']['blocks'] == [1, 1, 1, 1] and (tmp_path / 'run' / 'search.html').is_file()
  )


def test_a_clip_of_frozen_towers(tmp_path, monkeypatch):
  """On towers that know nothing: what is learnt on their features is asked as a whole."""
  towers_in(tmp_path)
  monkeypatch.setattr(frozen, 'cache', lambda name: tmp_path / name)
  monkeypatch.setattr(efficientnet, 'SIDE', 32)
  parts = (f'--config.frozen.{part}={tmp_path / folder}' for part, folder in (('text', 'bert'), ('image', 'network')))
  done = call('clip', tmp_path / 'run', *parts, '--config.frozen.side=32')
  assert done.code == 0, done.err
  assert 'a page to search in' not in done.out and not (tmp_path / 'run' / 'search.html').exists()
  picture = tmp_path / 'a.png'
  Image.new('RGB', (40, 30), 'red').save(picture)
  asked = asking.Asked(tmp_path / 'run' / 'model', picture)
  assert asked.reading.side == 32 and len(asked.answer(labels=['heart', 'cat']).said) == 2


@pytest.mark.parametrize('name, key, words', [
  ('clip', 'data.name=wit', "data.name: found 'wit', expected one of"),
  ('blip', 'contrast.queue=60', 'queue: found 60, expected a multiple of the batch, 8 pairs'),
  ('clip', 'model.image.patch=5', 'expected a multiple of the patch size 5'),
  ('dalle', 'model.attention=("ful",)', "attention: found 'ful'"),
  ('composed_search', 'systems=("sum","sums")', "how: found 'sums', expected one of"),
  ('composed_search', 'systems=("sum","sum")', 'systems: found'),
  ('dalle', 'sample.temperature=0.0', 'sample.temperature: found 0.0, expected more than 0'),
  ('dalle', 'sample.top_p=0.0', 'sample.top_p: found 0.0, expected more than 0'),
  ('dalle', 'dvae.lowest=-1.0', 'dvae.lowest: found -1.0, expected more than 0'),
  ('dalle', 'dvae.residuals=-1', 'dvae.residuals: found -1, expected at least 0'),
  ('dalle', 'model.attention=()', 'attention: found (), expected one or more of'),
  ('clip', 'augment.shift=33', 'augment.shift: found 33, expected at most 32'),
  ('clip', 'model.image.blocks=(1,1)', 'blocks: found (1, 1), expected a number for each of the 4 stages'),
  ('clip', 'frozen.image=network', '--config.frozen.image without --config.frozen.text: expected both'),
  ('clip', 'data.name=nowhere.npz', 'nowhere.npz'),
  ('composed_search', 'model.channels=(0,4)', 'model.channels: found (0, 4), expected at least 1'),
  ('sentiment', 'systems=("1*[t<t]","1*[t<t ]")', "whose folder is '1_t_t' for both"),
  ('sentiment', 'data.name=post', "did you mean 'posts'?"),
  ('sentiment', 'systems=("words","1*[t<x]")', "found ['t', 'x'], expected t and v"),
  ('mbt', 'systems=("both: bottleneck",)', "found 'bottleneck', expected one of sound, "),
  ('mbt', 'model.image=48', 'expected multiples of 8 and 32'),
  ('mbt', 'model.fusion=5', 'fusion: found 5, expected a layer, 0 to 2'),
  ('sensors', 'systems=("all: 1*[v<x]",)', "'x'"),
  ('sensors', 'systems=("all 1*[v<r]",)', "expected 'NAME: WHAT'"),
  ('sensors', 'systems=("all: 1*[v<r] | 2",)', "found '2', expected a share"),
  ('sensors', 'encoders=("v: image grid","r: series tnc")', "did you mean 'tcn'?"),
  ('sensors', 'encoders=("v: image grid",)', "'r'"),
  ('records', 'data.name=record', "did you mean 'records'?"),
])  # fmt: skip
def test_a_mistake_is_one_line(tmp_path, name, key, words):
  done = call(name, tmp_path / 'run', f'--config.{key}')
  lines = [line for line in done.err.splitlines() if line.startswith('error')]
  assert done.code == 2 and len(lines) == 1 and words in lines[0]
