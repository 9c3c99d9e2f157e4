"""The command line: each mistake is one line and exit code 2, --help is quick, SIGTERM saves."""

import errno
import os
import pathlib
import signal
import subprocess
import sys

import ml_collections
import pytest

from mmjax import cli
from mmjax.errors import RunError, UserError

ROOT = pathlib.Path(__file__).parent.parent
OF_RUNS = {'profile': '', 'hosts': '', 'heartbeat': 100}

CONFIG = """
import ml_collections

VARIANTS = {'base': 'as in the paper', 'tiny': 'two steps on a CPU'}

def get_config(variant='base'):
  c = ml_collections.ConfigDict()
  c.seed = 0
  c.name = variant
  c.optim = ml_collections.ConfigDict({'lr': 1e-4, 'betas': (0.9, 0.98), 'nesterov': False, 'decay': (('bias', 0.0),)})
  c.model = ml_collections.ConfigDict({'schedule': '9*[t<t]', 'width': 768, 'streams': ('t', 'v')})
  c.model.heads = (12, 12)
  c.model.norm = ()
  return c
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'toy.py').write_text(CONFIG)
  return tmp_path


def parse(*argv, **options):
  options = (
    dict(
      config='toy.py:base',
      modes=('train', 'eval', 'predict'),
      flags={'image': ('', 'a picture'), 'top': (5, 'answers shown')},
    )
    | options
  )
  return cli.parse(list(argv), **options)


def test_defaults(folder):
  config, args = parse('--workdir=run')
  assert vars(args) == OF_RUNS | {'config': 'toy.py:base', 'workdir': 'run', 'mode': 'train', 'image': '', 'top': 5}
  assert (config.name, config.optim.lr, config.optim.betas) == ('base', 1e-4, (0.9, 0.98))


def test_a_switch_takes_no_value(folder, capsys):
  flags = {'dry-run': (False, 'train nothing'), 'top': (5, 'answers shown')}
  assert parse('--workdir=run', flags=flags)[1].dry_run is False
  args = parse('--workdir=run', '--dry-run', '--top', '7', flags=flags)[1]
  assert (args.dry_run, args.top) == (True, 7)
  assert parse('--workdir=run', '--dry-run=false', flags=flags)[1].dry_run is False
  with pytest.raises(UserError, match="unexpected argument 'yes'"):
    parse('--workdir=run', '--dry-run', 'yes', flags=flags)
  with pytest.raises(SystemExit):
    parse('--help', flags=flags)
  assert '--dry-run  ' in capsys.readouterr().out


def test_values_may_follow_the_flag_and_the_last_holds(folder):
  config, args = parse(
    '--workdir',
    'a b',
    '--mode',
    'eval',
    '--top=2',
    '--image',
    'x=y.png',
    '--top',
    '-3',
    '--config',
    'toy.py:tiny',
    '--config.seed',
    '7',
  )
  assert vars(args) == OF_RUNS | {
    'config': 'toy.py:tiny',
    'workdir': 'a b',
    'mode': 'eval',
    'image': 'x=y.png',
    'top': -3,
  }
  assert (config.name, config.seed) == ('tiny', 7)


@pytest.mark.parametrize(
  'text, key, value',
  [
    ('1e-3', 'optim.lr', 1e-3),
    ('1', 'optim.lr', 1.0),
    ('-1', 'seed', -1),
    ('True', 'optim.nesterov', True),
    ('12*[t<tv v<tv tied]', 'model.schedule', '12*[t<tv v<tv tied]'),
    ('3', 'model.schedule', '3'),
    ('(0.5, 1)', 'optim.betas', (0.5, 1.0)),
    ('0.5,0.6,0.7', 'optim.betas', (0.5, 0.6, 0.7)),
    ('[8]', 'model.heads', (8,)),
    ('("a",)', 'model.streams', ('a',)),
    ('(1,"x")', 'model.norm', (1, 'x')),
    ('()', 'model.heads', ()),
    ('(("norm", 0.1),)', 'optim.decay', (('norm', 0.1),)),
  ],
)
def test_overrides_keep_the_type(folder, text, key, value):
  config, _ = parse('--workdir=w', f'--config.{key}={text}')
  for part in key.split('.'):
    config = config[part]
  assert config == value and type(config) is type(value)
  if isinstance(value, tuple):
    assert [type(item) for item in config] == [type(item) for item in value]


def test_the_config_is_locked(folder):
  config, _ = parse('--workdir=w')
  with pytest.raises(AttributeError):
    config.seed = 3
  with pytest.raises(AttributeError):
    config.optim.new = 3
  assert dict(**config.model)['width'] == 768 and hash(config) is not None


@pytest.mark.parametrize(
  'argv, words',
  [
    (['--wrokdir=w'], "unknown flag '--wrokdir'; did you mean '--workdir'?"),
    (['--workdir=w', '--optim.lr=1'], 'config keys are set by --config.KEY=VALUE'),
    (['--workdir=w', 'train'], "unexpected argument 'train'"),
    (['--workdir'], '--workdir needs a value'),
    (['--workdir', '--mode=eval'], '--workdir needs a value'),
    (['--workdir='], '--workdir is empty'),
    ([], '--workdir=DIR is missing'),
    (['--workdir=w', '--mode=evla'], "unknown mode 'evla'; did you mean 'eval'?"),
    (['--workdir=w', '--top= '], '--top is empty; give a value, or leave it out'),
    (['--workdir=w', '--top=x'], "--top: found 'x', expected int such as 5"),
    (['--workdir=w', '--config=toy.py:tyni'], "unknown variant 'tyni' of toy.py; did you mean 'tiny'?"),
    (['--workdir=w', '--config=toy.py:'], "unknown variant '' of toy.py; choose from base, tiny"),
    (['--workdir=w', '--config=tyo.py'], "config file 'tyo.py' not found"),
    (['--workdir=w', '--config=~nosuch/x.py'], "config file ~nosuch/x.py: found no home folder for '~nosuch'"),
    (['--workdir=w', '--config=empty.py'], 'empty.py has no get_config(variant)'),
    (['--workdir=w', '--config=novariants.py'], 'has no VARIANTS'),
    (['--workdir=w', '--config=dict.py'], 'returned a dict, expected an ml_collections.ConfigDict'),
    (['--workdir=w', '--config=syntax.py'], 'config file syntax.py, line 2: '),
    (['--workdir=w', '--config=zero.py'], 'config file zero.py, line 2: ZeroDivisionError: division by zero'),
    (['--workdir=w', '--config=lost.py'], "config file lost.py, line 3: KeyError: 'x'"),
    (['--workdir=w', '--config=lost.py:a'], "config file lost.py, line 3: KeyError: 'x'"),
    (['--workdir=w', '--config=far.py'], 'config file far.py, line 3: JSONDecodeError: '),
    (['--workdir=w', '--config=long.py'], 'config file long.py, line 1: RuntimeError: one two'),
    (['--workdir=w', '--config=few.py:a'], 'config file few.py: TypeError: get_config() takes 0'),
    (['--workdir=w', '--config=ours.py'], 'lr is too high'),
    (['--workdir=w', '--config.optm.lr=1'], "unknown config key 'optm.lr'; did you mean 'optim.lr'?"),
    (['--workdir=w', '--config.lr=1'], "unknown config key 'lr'; did you mean 'optim.lr'?"),
    (['--workdir=w', '--config.model.widht=1'], "did you mean 'model.width'?"),
    (['--workdir=w', '--config.optim.lr.x=1'], "unknown config key 'optim.lr.x'; did you mean 'optim.lr'?"),
    (['--workdir=w', '--config.optim=1'], '--config.optim is a group; its keys are betas, decay, lr, nesterov'),
    (['--workdir=w', '--config.=1'], "unknown config key ''"),
    (['--workdir=w', '--config.optim.lr=abc'], "--config.optim.lr: found 'abc', expected float such as 0.0001"),
    (['--workdir=w', '--config.seed=1.5'], "--config.seed: found '1.5', expected int such as 0"),
    (['--workdir=w', '--config.optim.nesterov=1'], "--config.optim.nesterov: found '1', expected bool such as False"),
    (['--workdir=w', '--config.model.heads=(1.5,)'], 'expected tuple such as (12, 12)'),
    (['--workdir=w', '--config.model.heads=(True,)'], 'expected tuple such as (12, 12)'),
    (['--workdir=w', '--config.model.heads=3'], 'expected tuple such as (12, 12)'),
    (['--workdir=w', '--config.model.heads=open("x")'], 'expected tuple such as (12, 12)'),
    (['--workdir=w', '--config.model.streams=(t,v)'], "expected tuple such as ('t', 'v')"),
  ],
)
def test_mistakes_are_one_line(folder, argv, words):
  (folder / 'empty.py').write_text('x = 1\n')
  (folder / 'novariants.py').write_text('def get_config(variant=0): pass\n')
  (folder / 'dict.py').write_text('VARIANTS = {}\ndef get_config(): return {}\n')
  (folder / 'syntax.py').write_text('x = 1\ny = = 2\n')
  (folder / 'zero.py').write_text('x = 1\ny = x / 0\n')
  (folder / 'lost.py').write_text("VARIANTS = {'a': ''}\ndef get_config(variant='a'):\n  return {}['x']\n")
  (folder / 'far.py').write_text("import json\nVARIANTS = {}\nx = json.loads('{')\n")
  (folder / 'long.py').write_text(r"raise RuntimeError('one\ntwo')")
  (folder / 'few.py').write_text("VARIANTS = {'a': ''}\ndef get_config(): pass\n")
  (folder / 'ours.py').write_text("from mmjax.errors import UserError\nraise UserError('lr is too high')\n")
  with pytest.raises(UserError) as caught:
    parse(*argv)
  assert words in str(caught.value) and '\n' not in str(caught.value)


def test_relative_configs_are_found_from_the_repository(folder, monkeypatch):
  root = folder / 'root'
  (root / 'configs').mkdir(parents=True)
  (root / 'configs' / 'toy.py').write_text(CONFIG.replace('c.seed = 0', 'c.seed = 5'))
  monkeypatch.setattr(cli, 'ROOT', root)
  assert parse('--workdir=w', config='configs/toy.py:tiny')[0].seed == 5
  assert parse('--workdir=w', config='toy.py')[0].seed == 0  # the current folder comes first
  with pytest.raises(UserError, match=r"did you mean 'toy\.py'"):
    parse('--workdir=w', config='configs/toi.py')


def end_of(capsys, raised):
  """Exit code and stderr of a command whose run() raises."""

  def run(config, args):
    raise raised

  with pytest.raises(SystemExit) as caught:
    cli.main(run, config='toy.py')
  return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
  'raised, code, line',
  [
    (UserError('no\nsuch image'), 2, 'error: no such image'),
    (RunError('loss is nan'), 1, 'error: loss is nan'),
    (cli.Preempted('saved step 3'), 143, 'preempted: saved step 3'),
    (KeyboardInterrupt(), 130, 'interrupted'),
    (OSError(errno.ENOSPC, 'No space left on device', '/x/y'), 2, 'error: No space left on device: /x/y'),
    (PermissionError(errno.EACCES, 'Permission denied', '/x'), 2, 'error: Permission denied: /x'),
    (OSError(errno.EFBIG, 'File too large'), 2, 'error: File too large'),
  ],
)
def test_each_failure_has_its_line_and_code(folder, capsys, monkeypatch, raised, code, line):
  monkeypatch.setattr(sys, 'argv', ['toy', '--workdir=w'])
  assert end_of(capsys, raised) == (code, line + '\n')


@pytest.mark.parametrize('bug', [ValueError('bug'), RuntimeError('bug'), KeyError('bug')])
def test_a_bug_keeps_its_traceback(folder, monkeypatch, bug):
  monkeypatch.setattr(sys, 'argv', ['toy', '--workdir=w'])
  with pytest.raises(type(bug)):
    cli.main(lambda config, args: (_ for _ in ()).throw(bug), config='toy.py')


def test_main_runs_and_ends_with_zero(folder, monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['toy', '--workdir=w', '--config.seed=4', '--question=what?'])
  seen, flags = [], {'question': ('', 'a text')}
  with pytest.raises(SystemExit) as caught:
    cli.main(lambda config, args: seen.append((config.seed, args.question)), config='toy.py', flags=flags)
  assert caught.value.code == 0 and seen == [(4, 'what?')]


def test_check_passes_a_good_line_and_ends_a_bad_one(folder, monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['toy', '--workdir=w'])
  assert cli.check(config='toy.py') is None
  monkeypatch.setattr(sys, 'argv', ['toy', '--workdir=w', '--mode=x'])
  with pytest.raises(SystemExit) as caught:
    cli.check(config='toy.py')
  assert caught.value.code == 2
  assert capsys.readouterr().err == "error: unknown mode 'x'; choose from eval, predict, train\n"


EXPERIMENT = '''
"""Toy: learns nothing."""
import sys, time
from mmjax import cli

def run(config, args):
  with cli.Signals() as signals:
    for step in range(1000):
      print(step, flush=True)
      time.sleep(0.02)
      if signals.term and args.mode == 'train':
        raise cli.Preempted(f'saved step {step}; the same command goes on from there')

if __name__ == '__main__':
  flags = {'image': ('', 'a picture (predict)'), 'top': (5, 'answers shown')}
  cli.main(run, config='toy.py:base', flags=flags, doc=__doc__)
  raise AssertionError('main returned')
'''


def start(folder, *argv):
  (folder / 'exp.py').write_text(EXPERIMENT)
  before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child of a shell's background job ignores it
  try:
    return subprocess.Popen(
      [sys.executable, '-X', 'importtime', '-m', 'exp', *argv],
      cwd=folder,
      text=True,
      env=os.environ | {'PYTHONPATH': str(ROOT)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
    )
  finally:
    signal.signal(signal.SIGINT, before)


def stderr_lines(text):
  return [line for line in text.splitlines() if not line.startswith('import time:')]


def test_help_is_a_useful_page_without_jax(folder):
  child = start(folder, '--help')
  out, err = child.communicate()
  assert child.returncode == 0 and stderr_lines(err) == []
  imported = {line.split('|')[-1].strip() for line in err.splitlines()}
  assert 'mmjax.cli' in imported and not imported & {'jax', 'flax', 'orbax', 'numpy.linalg', 'tensorboardX'}
  for words in (
    'Toy: learns nothing.',
    'python -m exp --workdir=DIR [flags]',
    '--image=VALUE',
    'answers shown (default 5)',
    'tiny  two steps on a CPU',
    "model.schedule  '9*[t<t]'",
    'optim.lr',
    'default toy.py:base',
    '--config=toy.py:tiny --config.',
    '--mode=predict',
    '(default train)',
  ):
    assert words in out, (words, out)
  assert max(map(len, out.splitlines())) <= 120


def test_first_sigterm_saves_the_second_kills(folder):
  child = start(folder, '--workdir=w')
  assert child.stdout.readline() == '0\n'
  child.send_signal(signal.SIGTERM)
  _, err = child.communicate(timeout=20)
  assert child.returncode == 143
  (line,) = stderr_lines(err)
  assert line.startswith('preempted: saved step ') and line.endswith('the same command goes on from there')
  child = start(folder, '--workdir=w', '--mode=eval')  # does not look at signals.term
  assert child.stdout.readline() == '0\n'
  child.send_signal(signal.SIGTERM)
  for _ in range(3):
    assert child.stdout.readline()  # goes on
  child.send_signal(signal.SIGTERM)
  child.communicate(timeout=20)
  assert child.returncode == -signal.SIGTERM


def test_sigterm_outside_of_a_loop_is_one_line_too(folder, monkeypatch, capsys):
  def run(config, args):
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError('the signal comes first')

  before = signal.getsignal(signal.SIGTERM)
  monkeypatch.setattr(sys, 'argv', ['x.py', f'--workdir={folder / "run"}'])
  with pytest.raises(SystemExit) as ended:
    cli.main(run, config='toy.py:base')
  assert ended.value.code == 143
  said = capsys.readouterr().err
  assert said.startswith('preempted: ended by SIGTERM outside of training') and said.count('\n') == 1
  assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c(folder):
  child = start(folder, '--workdir=w')
  assert child.stdout.readline() == '0\n'
  child.send_signal(signal.SIGINT)
  _, err = child.communicate(timeout=20)
  assert (child.returncode, stderr_lines(err)) == (130, ['interrupted'])


def test_signals_puts_the_old_handler_back():
  before = signal.getsignal(signal.SIGTERM)
  with cli.Signals() as signals:
    assert not signals.term and signal.getsignal(signal.SIGTERM) != before
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_locked_config_can_still_be_overridden(folder):
  (folder / 'locked.py').write_text(CONFIG.replace('return c', 'return c.lock()'))
  config, _ = parse('--workdir=w', '--config=locked.py:tiny', '--config.seed=9')
  assert config.seed == 9 and isinstance(config, ml_collections.FrozenConfigDict)
