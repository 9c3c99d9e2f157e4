"""A picture of one's own: what is said of it, where it comes from, and every way to ask wrongly."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from experiments import ask, asking
from experiments.reading import READING, TOKENIZER, Reading, keep_model, reading_of
from mmjax import cli
from mmjax.data import images, tokens
from mmjax.encoders.efficientnet import EfficientNetLite
from mmjax.models.bert import BERT
from mmjax.models.blip import BLIP, Text
from mmjax.models.clip import CLIP, ImageTower, TextTower
from mmjax.models.lit import PictureTower, SentenceTower
from mmjax.models.vit import ViT
from tests.variables import drawn

pytestmark = pytest.mark.slow

WORDS = tokens.build(['a big red cat on the blue car'])
VOCAB, LENGTH, SIDE = WORDS.get_vocab_size(), 8, 16
SMALL = {'width': 8, 'heads': 2, 'mlp': 16, 'scan': False}


def blip(**parts):
  text = lambda **more: Text(
    VOCAB + 2, LENGTH, '1*[t<t noffn; t<v]', dropout=0.0, attention_dropout=0.0, **SMALL, **more
  )
  made = {'encoder': text(), 'decoder': text(writes=True)}
  image = ViT(image=SIDE, patch=4, schedule='2*[v<v]', **SMALL)
  return BLIP(image, out=parts.get('out', 4), **{name: made[name] for name in parts['of']})


def clip(**image):
  tower = ImageTower(SIDE, 4, '2*[v<v]', out=4, **SMALL)
  return CLIP(TextTower(VOCAB, LENGTH, '1*[t<t]', out=4, end=3, **SMALL), tower.clone(**image))


BOTH = ['attention, last layer', 'relevance, all layers']
MODELS = {
  'clip': clip(),
  'one cell': clip(blocks=(1, 1, 1, 1), image=32, width=8, heads=2),
  'resnet': clip(blocks=(1, 1, 1, 1), image=64, width=8, heads=2),
  'locked': CLIP(
    SentenceTower(BERT(VOCAB, LENGTH, schedule='1*[t<t]', pooler=False, **SMALL), 4),
    PictureTower(EfficientNetLite(((1, 3, 2, 1, 8), (1, 3, 8, 2, 8)), 4, 8), 64, 4),
  ),
  'captions': blip(of=['decoder'], out=0),
  'all': blip(of=['encoder', 'decoder']),
  'vqa': blip(of=['encoder', 'decoder'], out=0),
}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """A folder of each model, with words and reading, and a picture."""
  root = tmp_path_factory.mktemp('asked')
  pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
  Image.fromarray(pixels).save(root / 'a.png')
  reads = np.ones((1, LENGTH), int), np.ones((1, LENGTH), bool)
  for name, model in MODELS.items():
    side = model.image.image
    image = np.zeros((1, side, side, 3), np.float32)
    given = (reads[0], image) if isinstance(model, CLIP) else (image, *reads, *reads)
    reading = Reading(side, length=LENGTH, first=(VOCAB, VOCAB + 1))
    keep_model(root / name, model, drawn(model, *given, train=False), WORDS, reading)
  return root


def call(folder, *argv):
  out = []
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, 'argv', ['ask', f'--image={folder / "a.png"}', *argv])
    patch.setattr('builtins.print', lambda *text, **where: out.append(' '.join(map(str, text))))
    code = cli.exit_code(ask.run)
  return code, out


@pytest.mark.parametrize('name', ['clip', 'all'])
def test_labels_are_ranked_and_a_map_is_written(folders, name, tmp_path):
  code, out = call(
    folders, f'--weights={folders / name}', '--labels=red cat,blue car,a', f'--out={tmp_path / "map.png"}'
  )
  assert code == 0 and out[-1] == f'heat map: {tmp_path / "map.png"}'
  shares = [float(line.split()[0]) for line in out[:-1]]
  assert sum(shares) == pytest.approx(100, abs=0.1) and shares == sorted(shares, reverse=True)
  assert np.asarray(Image.open(tmp_path / 'map.png')).shape[1] > 1000
  assert {line.split('%')[1].strip() for line in out[:-1]} == {'red cat', 'blue car', 'a'}


@pytest.mark.parametrize('name, question', [('captions', ''), ('all', ''), ('vqa', 'a big cat ?')])
def test_a_blip_writes(folders, name, question):
  asked = asking.Asked(folders / name, folders / 'a.png')
  answer = asked.answer(question)
  ((text, likely),) = answer.said
  assert likely is None and set(text.split()) <= set(WORDS.get_vocab())
  assert list(answer.maps) == BOTH
  for found in answer.maps.values():
    assert found.shape == (4, 4) and np.isfinite(found).all() and (found >= 0).all()


def test_the_map_is_that_of_the_answer(folders):
  """Of a CLIP: another label first, another map; the attention stays, as the image tower reads no text."""
  asked = asking.Asked(folders / 'clip', folders / 'a.png')
  one, other = asked.choose(['red cat', 'blue car']), asked.choose(['the', 'on the'])
  np.testing.assert_array_equal(one.maps[BOTH[0]], other.maps[BOTH[0]])
  assert not np.allclose(one.maps[BOTH[1]], other.maps[BOTH[1]])


def test_a_grid_of_one_cell_has_no_map_and_says_so(folders, tmp_path):
  code, out = call(folders, f'--weights={folders / "one cell"}', '--labels=cat,car', f'--out={tmp_path / "map.png"}')
  assert code == 0 and 'its network sees it as one cell' in out[-1] and (tmp_path / 'map.png').is_file()


@pytest.mark.parametrize('name', ['resnet', 'locked'])
def test_convolutions_are_shown_by_grad_cam(folders, name):
  asked = asking.Asked(folders / name, folders / 'a.png')
  answer = asked.choose(['red cat', 'blue car'])
  ((called, found),) = answer.maps.items()
  assert called == 'Grad-CAM, last grid' and found.shape == (2, 2) and (found >= 0).all() and found.max() > 0


def test_the_map_lies_beside_the_picture(folders):
  assert call(folders, f'--weights={folders / "clip"}', '--labels=cat,car')[0] == 0
  assert (folders / 'a.png.ask.png').is_file()


@pytest.mark.parametrize(
  'name, argv, words',
  [
    ('clip', ['--labels=cat,car,cat'], "--labels: found 'cat' and 'cat', which are read alike; expected each once"),
    ('all', ['--labels=cat,car,Cat?'], "--labels: found 'cat' and 'Cat?', which are read alike"),
    ('clip', ['--labels=cat'], "--labels: found 'cat' alone, expected two or more"),
    ('clip', ['--labels=cat,zebra'], "'zebra': this CLIP never read a word of it"),
    ('vqa', ['--question=zebra?'], "'zebra?': this BLIP never read a word of it"),
    ('vqa', ['--question=a cat', '--labels=cat,car'], '--question and --labels: found both'),
    ('clip', ['--labels=cat,car', '--out=/nowhere/a.png'], '--out=/nowhere/a.png: found no folder /nowhere'),
    ('clip', ['--labels=cat,,car'], '--labels: found an empty one'),
    ('clip', [], '--labels is missing: this CLIP chooses among labels'),
    ('clip', [f'--labels=cat,{"cat " * 10_000}'], 'found 10,002 tokens, expected at most 8'),
    ('vqa', [f'--question={"cat " * 10_000}'], 'found 10,002 tokens, expected at most 8'),
    ('vqa', ['--question= '], '--question: found no word in it'),
    ('vqa', [], '--question is missing: this BLIP answers questions'),
    ('vqa', ['--labels=cat,car'], '--labels: this BLIP writes, it does not choose'),
    ('captions', ['--question=a cat'], '--question: this BLIP writes captions'),
    ('nowhere', ['--labels=a,b'], 'nowhere: no such file or folder'),
    ('clip', ['--labls=a,b'], '--labls'),
  ],
)
def test_a_wrong_question_is_one_line(folders, name, argv, words):
  code, out = call(folders, f'--weights={folders / name}', *argv)
  assert code == 2 and len(out) == 1 and words in out[0] and out[0].count('\n') == 0


def test_words_that_were_never_learnt_are_left_out_and_named(folders, tmp_path):
  argv = [f'--weights={folders / "clip"}', f'--out={tmp_path / "map.png"}']
  code, out = call(folders, *argv, '--labels=striped cat,car')
  assert code == 0 and 'never read in training, left out: striped' in out
  plain = call(folders, *argv, '--labels=cat,car')[1]
  share = lambda lines: {line.split()[-1]: line.split()[0] for line in lines if '%' in line}
  assert share(out) == share(plain)


def test_clip_crops_and_blip_squeezes(folders):
  pixels = np.asarray(Image.open(folders / 'a.png'))
  for name, crop in (('clip', True), ('all', False)):
    np.testing.assert_array_equal(
      asking.Asked(folders / name, folders / 'a.png').shown, images.resized(pixels, SIDE, crop)
    )


@pytest.mark.parametrize('key, value', [
  ('side', 0), ('side', '16'), ('mean', 0.5), ('std', [1, 1, 0]), ('first', 3), ('length', None), ('prompt', 'a'),
  ('other', 1),
])  # fmt: skip
def test_a_damaged_reading_is_one_line(folders, tmp_path, key, value):
  shutil.copytree(folders / 'clip', tmp_path / 'clip')
  file = tmp_path / 'clip' / READING
  file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
  code, out = call(folders, f'--weights={tmp_path / "clip"}', '--labels=cat,car')
  assert code == 2 and len(out) == 1 and f'{file}: damaged' in out[0] and key in out[0]


def test_a_model_of_another_kind_is_said(folders, tmp_path):
  model = BERT(vocab=9, positions=4, schedule='1*[t<t]', **SMALL)
  ids = np.ones((1, 4), int)
  keep_model(tmp_path / 'bert', model, drawn(model, ids, train=False), WORDS, Reading(16))
  code, out = call(folders, f'--weights={tmp_path / "bert"}', '--labels=a,b')
  assert (code, out) == (2, [f'error: --weights={tmp_path / "bert"}: found BERT, expected CLIP or BLIP'])


@pytest.mark.parametrize('file, words', [
  (TOKENIZER, 'expected tokenizer.json or vocab.txt'), ('model.safetensors', 'holds no checkpoint'),
])  # fmt: skip
def test_a_folder_that_lacks_a_file_is_said(folders, tmp_path, file, words):
  for kept in (folders / 'clip').iterdir():
    if kept.name != file:
      (tmp_path / kept.name).write_bytes(kept.read_bytes())
  code, out = call(folders, f'--weights={tmp_path}', '--labels=a,b')
  assert code == 2 and len(out) == 1 and words in out[0]


def test_no_picture_is_said(folders, tmp_path):
  (folders / 'b.png').write_bytes(b'no picture')
  code, out = call(folders, f'--weights={folders / "clip"}', '--labels=a,b', f'--image={folders / "b.png"}')
  assert (code, out) == (2, [f'error: --image {folders / "b.png"}: no image that can be read'])


def test_a_kept_model_takes_the_place_of_the_one_before(folders):
  before = sorted(path.name for path in folders.iterdir())
  asked = asking.Asked(folders / 'clip', folders / 'a.png')
  keep_model(folders / 'clip', asked.model, asked.variables, WORDS, asked.reading)
  assert sorted(path.name for path in folders.iterdir()) == before
  assert reading_of(folders / 'clip', asked.model) == asked.reading
