"""A sound of one's own: what is written of it, where its words are, and every way to ask wrongly."""

import itertools
import json
import re
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image
from tokenizers import Tokenizer, decoders, models

from experiments import transcribe, transcribing
from mmjax import cli
from mmjax.convert.load import save
from mmjax.models.bert import BERT
from mmjax.models.whisper import MULTILINGUAL, SoundEncoder, TextDecoder, Whisper
from tests.variables import drawn

RATE = 16_000
SIZES = {'width': 8, 'heads': 2, 'mlp': 12}
TOKENS = ('<|endoftext|>', '<|startoftranscript|>', '<|notimestamps|>', 'Ġred', 'Ġcar', 's', 'Ġ$9', '<|en|>',
          '<|transcribe|>')  # fmt: skip
MODEL = Whisper(SoundEncoder(100, 5, '2*[a<a]', **SIZES), TextDecoder(9, 12, schedule='2*[t<t noffn; t<a]', **SIZES))
BARRED = {'suppress_tokens': [1, 2, 7, 8], 'begin_suppress_tokens': [0]}
NOISE = np.random.default_rng(0).normal(0, 0.1, 5 * RATE).astype(np.float32)


def keep(folder, model, *given, tokens=TOKENS, said=BARRED):
  """A folder as `import` makes it."""
  save(model, drawn(model, *given, train=False), folder)
  words = Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}, 's'))
  words.decoder = decoders.ByteLevel()
  words.save(str(folder / 'tokenizer.json'))
  (folder / 'generation_config.json').write_text(json.dumps(said))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sounds')
  given = np.zeros((1, 100, 5), np.float32), np.array([[1, 2]])
  keep(folder / 'model', MODEL, *given)
  keep(folder / 'several', MODEL.clone(text=MODEL.text.clone(vocab=MULTILINGUAL)), *given)
  keep(folder / 'bare', MODEL, *given, said={})
  keep(folder / 'no words', MODEL, *given, tokens=TOKENS[:2])
  keep(folder / 'bert', BERT(9, 4, schedule='1*[t<t]', pooler=False, **SIZES), np.ones((1, 4), int))
  waves = {
    'a.wav': (NOISE[: RATE // 2], RATE),
    'long.flac': (NOISE, RATE),
    'stereo.ogg': (np.stack([NOISE[:RATE], 0 * NOISE[:RATE]], 1), 44_100),
    'phone.wav': (NOISE[:4000], 8000),
    'silent.wav': (np.zeros(RATE), RATE),
    'one.wav': (NOISE[:1] + 0.5, RATE),
    'empty.wav': (NOISE[:0], RATE),
  }
  for name, (wave, rate) in waves.items():
    soundfile.write(folder / name, wave, rate)
  (folder / 'text.wav').write_text('no sound')
  (folder / 'other').mkdir()
  soundfile.write(folder / 'other' / 'a.wav', NOISE[:RATE], RATE)
  return folder


def call(root, *argv, weights='model'):
  out = []
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, 'argv', ['transcribe', *argv, *([f'--weights={root / weights}'] if weights else [])])
    patch.setattr('builtins.print', lambda *text, **where: out.append(' '.join(map(str, text))))
    code = cli.exit_code(transcribe.run)
  return code, out


def test_each_sound_is_written_down_and_drawn(root, tmp_path):
  names = ['a.wav', 'long.flac', 'stereo.ogg', 'phone.wav', 'silent.wav', 'one.wav']
  code, out = call(root, *(str(root / name) for name in names), f'--out={tmp_path / "new"}')
  assert code == 0 and len(out) == len(names) + 2
  for name, line in zip(names, out, strict=False):
    file, said = line.split(': ')
    assert file == str(root / name) and re.fullmatch(r'(red|car|\$9|s| )+|\(silence\)', said)
    assert ('(silence)' in said) == (name == 'silent.wav')
    assert np.asarray(Image.open(tmp_path / 'new' / f'{name}.words.png')).std() > 1
  assert out[-2].startswith('7.4 s of sound in ') and 'times as fast as real time' in out[-2]
  assert out[-1] == f'word by word: 6 in {tmp_path / "new"}'


def test_a_picture_lies_beside_its_sound_and_several_languages_are_told(root):
  code, out = call(root, str(root / 'a.wav'), weights='several')
  assert code == 0 and out[-1] == f'word by word: {root / "a.wav.words.png"}' and (root / 'a.wav.words.png').is_file()
  assert transcribing.Speech(str(root / 'several')).prompt == [1, 7, 8, 2]
  code, out = call(root, str(root / 'a.wav'), '--language=fr', weights='several')
  assert (code, out) == (2, ["error: tokenizer.json: found no <|fr|>; did you mean '<|en|>'?"])


def test_words_have_their_time_in_order(root):
  heard = transcribing.Speech(str(root / 'model')).hear(root / 'long.flac')
  assert heard.length == 5 and sum(window.seconds for window in heard.windows) == pytest.approx(5)
  for window in heard.windows:
    times = [at for _, at in window.words]
    assert window.seconds <= 1 and times == sorted(times) and all(0 < at <= 1 for at in times)
    assert window.attention.shape == (len(times), -(-round(window.seconds * RATE) // 320))
    assert window.spectrogram.shape == (-(-round(window.seconds * RATE) // 160), 5)
    assert np.isfinite(window.attention).all() and window.attention.max(initial=0) <= 1


def test_words_begin_with_a_space(root):
  speech = transcribing.Speech(str(root / 'model'))
  assert speech.groups([3, 4, 5, 5, 3]) == [range(0, 1), range(1, 4), range(4, 5)]
  assert speech.groups([5, 3]) == [range(0, 1), range(1, 2)] and speech.groups([]) == []


def test_windows_are_cut_where_it_is_quiet():
  wave = NOISE.copy()
  wave[int(1.7 * RATE) : int(1.9 * RATE)] = 0
  assert transcribing.cuts(wave[:RATE], RATE) == [(0, RATE)]
  found = transcribing.cuts(wave, 2 * RATE)
  assert found[0][0] == 0 and 1.7 * RATE <= found[0][1] <= 1.9 * RATE and found[-1][1] == 5 * RATE
  assert all(a < b <= a + 2 * RATE for a, b in found)
  assert all(one[1] == other[0] for one, other in itertools.pairwise(found))


def test_times_by_hand():
  """Two heads, three words and the end, 40 tokens: each has its place, and the third looks back at the first's too."""
  weights = np.full((2, 4, 40), 1.0)
  for row, place in enumerate((5, 15, 25, 35)):
    weights[:, row, place - 4 : place + 5] += 5
  weights[:, 2, 0:9] += 6  # the third word looks back too, where the first is
  near, at = transcribing.aligned(weights / weights.sum(-1, keepdims=True))
  assert near.shape == (3, 40) and (abs(at - [5, 15, 25]) <= 4).all()
  one, where = transcribing.aligned(np.ones((2, 2, 1)))
  assert one.tolist() == [[0]] and where.tolist() == [0]
  assert transcribing.aligned(np.ones((2, 1, 3)))[1].shape == (0,)


@pytest.mark.parametrize('argv, weights, said', [
  (['nowhere.wav'], 'model', 'nowhere.wav: No such file or directory'),
  (['a.wav', 'text.wav'], 'model', 'text.wav: no sound that can be read (WAV, FLAC or Ogg)'),
  (['empty.wav'], 'model', 'empty.wav: found no sample'),
  (['a.wav', 'other/a.wav', '--out={root}/both'], 'model', 'a.wav.words.png: two sounds would have this picture'),
  (['a.wav', '--out={root}/a.wav'], 'model', 'is a file, expected a folder'),
  (['a.wav', '--ot=b'], 'model', '--ot'),
  ([], 'model', 'FILE'),
  (['a.wav'], '', '--weights'),
  (['a.wav'], 'nothing', 'no folder and no installed package'),
  (['a.wav'], 'other', 'holds no checkpoint'),
  (['a.wav'], 'bert', 'found BERT, expected Whisper'),
  (['a.wav'], 'bare', 'config.json names no ids that are never written'),
  (['a.wav'], 'no words', 'found no <|notimestamps|>'),
])  # fmt: skip
def test_a_wrong_call_is_one_line(root, argv, weights, said):
  argv = [arg.format(root=root) if arg.startswith('--') else str(root / arg) for arg in argv]
  code, out = call(root, *argv, weights=weights)
  assert code == 2 and len(out) == 1 and said in out[0] and '\n' not in out[0]
