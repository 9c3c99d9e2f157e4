"""The command line of an experiment: flags, config, help page, and how each kind of failure ends.

  python -m experiments.lxmert --workdir=DIR --config=configs/lxmert.py:tiny --config.optim.lr=1e-3

A config file is a Python file with two names:
  VARIANTS = {'tiny': 'one line on what it is', ...}
  def get_config(variant='tiny'): returns an ml_collections.ConfigDict of numbers, strings, tuples and such dicts
A relative path that does not exist in the current folder is taken from the folder that holds configs/, experiments/.

Exit codes: 0 done, 1 the run failed (RunError, or a bug with its traceback), 2 a mistake of the user or no room on
the disk, 130 Ctrl-C, 143 ended by SIGTERM after saving.
"""

import argparse
import ast
import contextlib
import math
import pathlib
import runpy
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import ml_collections

from mmjax.errors import RunError, UserError, nearest
from mmjax.workdir import expanded, flatten

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODES = ('train', 'eval', 'predict')

Flags = Mapping[str, tuple[Any, str]]  # {name: (default, one line of help)}; False for a switch, which takes no value
OF_RUNS: Flags = {  # of whatever has a workdir
  'profile': ('', 'FIRST:LAST, steps of which a trace is written, to see where their time goes'),
  'hosts': ('', 'one of several hosts: I/N@ADDRESS:PORT, where host 0 answers; auto on TPUs, in SLURM'),
  'heartbeat': (100, 'seconds of silence after which a host is taken for lost'),
}


class Parser(argparse.ArgumentParser):
  """For commands that are no experiments: a wrong command line is one line too."""

  def error(self, message: str) -> NoReturn:
    raise UserError(f'{message}; --help shows what can be asked for')


class Preempted(Exception):
  """The run was asked to end by SIGTERM, and has saved what there was; its text says how to go on. Exit code 143."""


class Signals:
  """SIGTERM as something a loop can ask about; a second SIGTERM ends the process at once.

  with Signals() as signals:
    for step in ...:
      ...
      if signals.term:
        checkpoints.save(step, state)
        checkpoints.wait()
        raise Preempted(f'saved step {step}; the same command goes on from there')
  """

  def __enter__(self) -> 'Signals':
    self.term = False
    self._before = signal.signal(signal.SIGTERM, self._first)
    return self

  def __exit__(self, *unused: object) -> None:
    signal.signal(signal.SIGTERM, self._before)

  def _first(self, number: int, frame: types.FrameType | None) -> None:
    self.term = True
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main(
  run: Callable[[ml_collections.FrozenConfigDict, types.SimpleNamespace], None],
  *,
  config: str,
  modes: Sequence[str] = MODES,
  flags: Flags | None = None,
  doc: str = '',
  workdir: bool = True,
) -> NoReturn:
  """Parses the command line, calls run(config, args) and ends the process; call it under `if __name__ == '__main__'`.

  run: takes a FrozenConfigDict and a namespace with workdir, mode and the names in flags; config: the default,
  'FILE:VARIANT'; modes: the first is the default; flags: {name: (default, one line of help)}, the value given has the
  type of the default; doc: what the experiment does, for --help; workdir: whether it has one. Raises SystemExit always.
  """
  before = signal.signal(signal.SIGTERM, _ended)
  try:
    how: dict[str, Any] = dict(config=config, modes=modes, flags=flags, doc=doc, workdir=workdir)
    sys.exit(exit_code(lambda: _run(run, *parse(sys.argv[1:], **how))))
  finally:
    signal.signal(signal.SIGTERM, before)


def _run(run: Callable, config: ml_collections.FrozenConfigDict, args: types.SimpleNamespace) -> None:
  """Runs it, as one of several hosts where that is asked for."""
  if not getattr(args, 'hosts', ''):
    return run(config, args)
  from mmjax import hosts  # slow, as JAX is

  args.workdir = hosts.join(args.hosts, args.workdir, args.heartbeat)
  try:
    hosts.agree(repr(sorted(flatten(config.to_dict()).items())), 'config')
    run(config, args)
    hosts.together('the end of the run')
  except Exception as error:
    hosts.end_if_lost(error)
    raise


def _ended(number: int, frame: types.FrameType | None) -> NoReturn:
  """SIGTERM where no loop asks about it: before training, and after it."""
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  raise Preempted('ended by SIGTERM outside of training, where there is nothing to save; the same command goes on')


def check(
  *, config: str, modes: Sequence[str] = MODES, flags: Flags | None = None, doc: str = '', workdir: bool = True
) -> None:
  """Ends the process on --help or a wrong command line, else does nothing. Same arguments as main().

  An experiment calls it above its slow imports, so that a misspelt flag is said in a tenth of a second.
  """
  how: dict[str, Any] = dict(config=config, modes=modes, flags=flags, doc=doc, workdir=workdir)
  code = exit_code(lambda: parse(sys.argv[1:], **how))
  if code:
    sys.exit(code)


def parse(
  argv: Sequence[str],
  *,
  config: str,
  modes: Sequence[str],
  flags: Flags | None = None,
  doc: str = '',
  workdir: bool = True,
) -> tuple[ml_collections.FrozenConfigDict, types.SimpleNamespace]:
  """argv: list of str, without the program. Returns (FrozenConfigDict, namespace); see main(). The namespace also has
  `config`, what was given or the default.

  Raises UserError in one line; SystemExit(0) after it has printed the page of --help.
  """
  flags = flags or {}
  flags = {**flags, **(OF_RUNS if workdir else {})}
  known = [*(['--workdir'] if workdir else []), '--config', '--mode', *(f'--{name}' for name in flags), '--help']
  switches = [f'--{name}' for name, (default, _) in flags.items() if default is False]
  given = _split(argv, known, switches)
  spec = given.pop('--config', config)
  values = load_config(spec)
  if given.pop('--help', None) is not None:
    print(_page(config, spec, values, modes, flags, doc, workdir))
    raise SystemExit(0)
  changes = {name.removeprefix('--config.'): text for name, text in given.items() if name.startswith('--config.')}
  for name, text in changes.items():
    override(values, name, text)
  if workdir and '--workdir' not in given:
    raise UserError('--workdir=DIR is missing; --help shows all flags')
  if workdir and not given['--workdir'].strip():
    raise UserError('--workdir is empty; give a folder')
  args = types.SimpleNamespace(config=spec, workdir=given.get('--workdir', ''), mode=given.get('--mode', modes[0]))
  if args.mode not in modes:
    raise UserError(f'unknown mode {args.mode!r}{nearest(args.mode, modes)}')
  for name, (default, _) in flags.items():
    if f'--{name}' in given and not given[f'--{name}'].strip():
      raise UserError(f'--{name} is empty; give a value, or leave it out')
    value = convert(f'--{name}', given[f'--{name}'], default) if f'--{name}' in given else default
    setattr(args, name.replace('-', '_'), value)
  if getattr(args, 'hosts', '') and args.mode != 'train':
    raise UserError(f'--hosts: found with --mode={args.mode}, expected train, which alone runs on several hosts')
  return ml_collections.FrozenConfigDict(values), args


def load_config(spec: str) -> ml_collections.ConfigDict:
  """spec: 'FILE' or 'FILE:VARIANT'. Returns the ConfigDict. Raises UserError: no such file, variant, get_config, and
  what the file itself raises.
  """
  path, colon, variant = spec.partition(':')
  module = _config_module(path)
  if colon and variant not in module['VARIANTS']:
    raise UserError(f'unknown variant {variant!r} of {path}{nearest(variant, module["VARIANTS"])}')
  with _raised_in(path):
    values = module['get_config'](variant) if colon else module['get_config']()
  if not isinstance(values, ml_collections.ConfigDict):
    raise UserError(f'{path}: get_config returned a {type(values).__name__}, expected an ml_collections.ConfigDict')
  return values


def override(config: ml_collections.ConfigDict, name: str, text: str) -> None:
  """Sets config.a.b from name 'a.b' and the text of the command line, in the type it has. Raises UserError."""
  flat = flatten(config.to_dict())
  if name not in flat:
    inside = [key.removeprefix(f'{name}.') for key in flat if key.startswith(f'{name}.')]
    if inside:
      raise UserError(f'--config.{name} is a group; its keys are {", ".join(inside)}')
    same_end = [key for key in flat if key.split('.')[-1] == name.split('.')[-1]]
    hint = nearest(name, same_end if len(same_end) == 1 else flat)
    raise UserError(f'unknown config key {name!r}{hint}')
  group, _, key = name.rpartition('.')
  for part in group.split('.') if group else ():
    config = config[part]
  config[key] = convert(f'--config.{name}', text, config[key])


def convert(name: str, text: str, old: Any) -> Any:
  """text in the type of old: bool, int, float, str or tuple. Raises UserError that says what was found and expected."""
  kind = type(old)
  try:
    if kind is bool:
      return {'true': True, 'false': False}[text.lower()]
    if kind in (int, float, str):
      value = kind(text)
      if kind is float and not math.isfinite(value):
        raise ValueError('no number')
      return value
    if kind is tuple:
      return _items(ast.literal_eval(text), old)
  except (KeyError, ValueError, SyntaxError, TypeError) as error:
    raise UserError(f'{name}: found {text!r}, expected {kind.__name__} such as {old!r}') from error
  raise UserError(f'{name} cannot be set on the command line, it is a {kind.__name__}')


def _items(new: Any, old: tuple) -> tuple:
  """new as a tuple whose items have the type of old's; an int does for a float. Raises TypeError."""
  if not isinstance(new, (tuple, list)):
    raise TypeError('no tuple')
  kinds = {type(item) for item in old}
  if kinds == {float}:
    new = [float(item) if type(item) is int else item for item in new]
  if kinds and not {type(item) for item in new} <= kinds:
    raise TypeError('items of another type')
  return tuple(new)


def _split(argv: Sequence[str], known: Iterable[str], switches: Sequence[str]) -> dict[str, str]:
  """['--a=1', '--b', '2', '--switch'] -> {'--a': '1', '--b': '2', '--switch': 'true'}.

  The last of two equal flags holds.
  """
  given: dict[str, str] = {}
  rest = list(argv)
  while rest:
    name, equals, text = rest.pop(0).partition('=')
    if name in ('--help', '-h'):
      given['--help'] = ''
      continue
    if not name.startswith('-'):
      raise UserError(f'unexpected argument {name!r}; flags are written --name=value')
    if name not in known and not name.startswith('--config.'):
      hint = '; config keys are set by --config.KEY=VALUE' if '.' in name else nearest(name, known)
      raise UserError(f'unknown flag {name!r}{hint}')
    if not equals and name in switches:
      text = 'true'
    elif not equals:
      if not rest or rest[0].startswith('--'):
        raise UserError(f'{name} needs a value: {name}=...')
      text = rest.pop(0)
    given[name] = text
  return given


def _found(name: str) -> pathlib.Path:
  """Where a config file lies: in the current folder, else in ROOT."""
  path = pathlib.Path(expanded('config file', name))
  return path if path.is_absolute() or path.exists() else ROOT / path


@contextlib.contextmanager
def _raised_in(name: str) -> Iterator[None]:
  """Whatever a config file raises is a UserError that names its line; a UserError stays as it is."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    path = str(_found(name))
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    words = f'{type(error).__name__}: {error}'
    if isinstance(error, SyntaxError) and error.filename == path:
      lines, words = [error.lineno], error.msg
    where = f', line {lines[-1]}' if lines and lines[-1] else ''
    raise UserError(f'config file {name}{where}: {" ".join(words.split())}') from error


def _config_module(name: str) -> dict[str, Any]:
  """The names of a config file as a dict."""
  path = _found(name)
  if not path.is_file():
    others = [other.name for other in path.parent.glob('*.py')]
    raise UserError(f'config file {name!r} not found, neither here nor in {ROOT}{nearest(path.name, others)}')
  with _raised_in(name):
    module = runpy.run_path(str(path))
  if not callable(module.get('get_config')):
    raise UserError(f'config file {name} has no get_config(variant)')
  if not isinstance(module.get('VARIANTS'), dict):
    raise UserError(f'config file {name} has no VARIANTS = {{name: one line on what it is}}')
  return module


def exit_code(call: Callable[[], object]) -> int:
  """Runs call() and returns the exit code; every expected failure is one line on stderr, a bug keeps its traceback."""
  try:
    call()
  except KeyboardInterrupt:
    return _said(130, 'interrupted')
  except Preempted as error:
    return _said(143, f'preempted: {error}')
  except UserError as error:
    return _said(2, f'error: {error}')
  except OSError as error:
    where = f': {error.filename}' if error.filename else ''
    return _said(2, f'error: {error.strerror or error}{where}')
  except RunError as error:
    return _said(1, f'error: {error}')
  return 0


def _said(code: int, line: str) -> int:
  print(' '.join(line.split()), file=sys.stderr, flush=True)
  return code


def _page(
  default: str,
  spec: str,
  values: ml_collections.ConfigDict,
  modes: Sequence[str],
  flags: Flags,
  doc: str,
  workdir: bool,
) -> str:
  spec_of_main = getattr(sys.modules['__main__'], '__spec__', None)
  program = f'python -m {spec_of_main.name}' if spec_of_main else f'python {sys.argv[0]}'
  path = spec.partition(':')[0]
  variants = _config_module(path)['VARIANTS']
  keys = {name: repr(value) for name, value in flatten(values.to_dict()).items()}
  number = next((f' --config.{name}={text}' for name, text in keys.items() if text[0].isdigit()), '')
  folder = 'folder of the run: checkpoints, logs, config.json; a run that is there goes on (required)'
  table = [
    *([('--workdir=DIR', folder)] if workdir else []),
    ('--config=FILE:VARIANT', f'numbers of the experiment (default {default})'),
    ('--config.KEY=VALUE', 'changes one of them, keys are below'),
    *([('--mode=MODE', f'{", ".join(modes)} (default {modes[0]})')] if len(modes) > 1 else []),
    *(
      (f'--{name}', text)
      if default is False
      else (f'--{name}=VALUE', f'{text} (default {default!r})' if default != '' else text)
      for name, (default, text) in flags.items()
    ),
    ('--help', 'this page'),
  ]
  start = f'{program} --workdir=DIR' if workdir else program
  examples = [
    start,
    *(f'{start} --config={path}:{name}{number}' for name in ['tiny'] if name in variants),
    *(f'{start} --mode={mode}' for mode in modes[1:]),
  ]
  return '\n'.join(
    [
      doc.strip(),
      '',
      'Usage',
      f'  {start} [flags]',
      '',
      'Flags',
      *_columns(table),
      '',
      f'Variants of {path}',
      *_columns(variants.items()),
      '',
      f'Keys of {spec}',
      *_columns(keys.items()),
      '',
      'Examples',
      *(f'  {line}' for line in examples),
    ]
  ).strip()


def _columns(given: Iterable[tuple[str, str]]) -> list[str]:
  rows = list(given)
  width = max((len(left) for left, _ in rows), default=0)
  return [f'  {left:<{width}}  {right}' for left, right in rows]
