"""The layout as rules on imports: a floor imports only from the floors below it. Read with ast, nothing is run."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / 'mmjax'
FLOORS = [  # from the lowest; a name is a file or a folder of mmjax
  {'errors'},
  {'workdir', 'hosts'},
  {'layers'},
  {'encoders'},
  {'fusion'},
  {'models'},
  {'objectives', 'generate'},
  {'train', 'masking', 'augment'},
  {'optim', 'checkpoint', 'logging', 'cli', 'parallel', 'flops'},
  {'run'},
]
HEIGHT = {name: n for n, names in enumerate(FLOORS) for name in names}
BASE = {'errors', 'workdir'}
ASIDE = {  # what stands beside the floors -> what of mmjax it may import besides itself
  'data': BASE | {'cli'},
  'metrics': BASE,
  'report': BASE,
  'convert': BASE | {'layers', 'encoders', 'fusion', 'models', 'objectives', 'generate', 'cli'},
}
TOGETHER = {'layers', 'fusion', 'models'} | set(ASIDE)  # folders whose files may import one another


def modules():
  """[(name below mmjax, path)] of all files but the empty __init__."""
  return [('.'.join(path.relative_to(PACKAGE).with_suffix('').parts), path) for path in sorted(PACKAGE.rglob('*.py'))]


def imports(source):
  """[(module, line)] of every import, wherever it stands: 'a.b' of 'from a import b', '.b' of a relative one."""
  found = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      found += [(alias.name, node.lineno) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      base = '.' * node.level + (f'{node.module}.' if node.module else '')
      found += [(base + alias.name, node.lineno) for alias in node.names]
  return found


def own(module):
  """The file or folder of mmjax that an import names, '' for another package."""
  parts = module.split('.')
  return parts[1] if parts[0] == 'mmjax' and len(parts) > 1 else ''


def faults(name, source):
  """What the layout forbids in a module of that name: lines of text."""
  home, found = name.split('.')[0], []
  for module, line in imports(source):
    where, target = f'mmjax/{name.replace(".", "/")}.py:{line}: {name} imports {module}', own(module)
    if module.startswith('.'):
      found.append(f'{where}: write the whole name')
    if target in ('', home) and not (target == home and home not in TOGETHER):
      continue
    if home in ASIDE:
      if target not in ASIDE[home]:
        found.append(f'{where}, expected {home} to import {", ".join(sorted(ASIDE[home]))} only')
    elif target not in HEIGHT:
      found.append(f'{where}, which stands beside the floors')
    elif HEIGHT[target] >= HEIGHT[home]:
      found.append(f'{where}, which runs upwards (floor {HEIGHT[home]} to floor {HEIGHT[target]})')
  return found


@pytest.mark.parametrize('name, path', modules(), ids=[name for name, _ in modules()])
def test_no_import_runs_upwards(name, path):
  home = name.split('.')[0]
  assert home in {'__init__', *HEIGHT, *ASIDE}, f'mmjax/{home} has no floor: give it one here and in the design'
  assert faults(name, path.read_text()) == []


@pytest.mark.parametrize('name, line, expected', [
  ('layers.blocks', 'from mmjax.models import lxmert', 'layers.blocks imports mmjax.models.lxmert, which runs upwards'),
  ('layers.blocks', 'def f():\n  import mmjax.fusion.layers', 'blocks.py:2: layers.blocks imports mmjax.fusion.layers'),
  ('encoders.image', 'from mmjax.encoders.regions import RegionEmbed', 'runs upwards (floor 3 to floor 3)'),
  ('objectives', 'from mmjax.train import State', 'runs upwards'),
  ('train', 'from mmjax import data', 'which stands beside the floors'),
  ('data.pipeline', 'from mmjax.layers.blocks import Mlp', 'expected data to import cli, errors, workdir only'),
  ('data.pipeline', 'from mmjax import train', 'expected data to import'),
  ('convert.load', 'from mmjax.train import State', 'expected convert to import'),
  ('errors', 'from mmjax.workdir import flatten', 'runs upwards'),
  ('layers.blocks', 'from . import attention', 'write the whole name'),
])  # fmt: skip
def test_an_import_upwards_is_found_and_named(name, line, expected):
  found = faults(name, line)
  assert len(found) == 1
  assert expected in found[0]


@pytest.mark.parametrize('name, line', [
  ('fusion.layers', 'from mmjax.fusion.schedule import parse'),
  ('models.lxmert', 'from mmjax.layers.blocks import Pooler'),
  ('encoders.image', 'from mmjax.errors import UserError'),
  ('data.encode', 'from mmjax.data import tokens'),
  ('train', 'import jax, flax.linen'),
])  # fmt: skip
def test_an_import_downwards_is_fine(name, line):
  assert faults(name, line) == []


def roots(path):
  return {module.split('.')[0] for module, _ in imports(path.read_text())}


def files(*folders):
  return [path for name, path in modules() if name.split('.')[0] in folders]


def test_data_knows_nothing_of_flax():
  assert files('data')
  for path in files('data', 'metrics'):
    assert not roots(path) & {'flax', 'optax', 'orbax'}, path


def test_the_schedule_language_is_pure_python():
  for name in ('schedule', 'schedules'):
    assert not roots(PACKAGE / 'fusion' / f'{name}.py') & {'jax', 'flax', 'numpy'}, name


def test_named_schedules_are_data_only():
  body = ast.parse((PACKAGE / 'fusion' / 'schedules.py').read_text()).body
  assert all(isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) for node in body[1:])


def test_numbers_that_are_read_go_through_no_global_switch():
  """jax.config is for those who start a process: the command line, experiments and tests, not for what they call."""
  for path in files('layers', 'encoders', 'fusion', 'models', 'objectives', 'train', 'optim'):
    assert 'jax.config' not in path.read_text(), path


def passed_on(source):
  """Names of functions that hand their own **keywords on, so that a misspelt one is found far away or never."""
  found = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.FunctionDef) and node.args.kwarg:
      name = node.args.kwarg.arg
      found += [node.name for call in ast.walk(node) if isinstance(call, ast.Call) for word in call.keywords
                if word.arg is None and isinstance(word.value, ast.Name) and word.value.id == name]  # fmt: skip
  return found


@pytest.mark.parametrize('path', [path for _, path in modules()], ids=[name for name, _ in modules()])
def test_no_importlib_and_no_keywords_passed_on(path):
  assert 'importlib' not in roots(path)
  assert '__import__' not in path.read_text()
  assert passed_on(path.read_text()) == []


def test_keywords_passed_on_are_found():
  assert passed_on('def f(**given):\n  return g(1, **given)') == ['f']
  assert passed_on('def f(**given):\n  return g(given)') == []


def test_a_mask_becomes_numbers_in_attend_alone():
  """Masks are bool everywhere; only `attend` puts -10000 or the lowest float among scores."""

  def writes(node):
    lowest = isinstance(node, ast.Attribute) and node.attr == 'finfo'
    below = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else None
    return lowest or (isinstance(below, ast.Constant) and below.value in (1e4, 1e9, float('inf')))

  users = [name for name, path in modules() if any(map(writes, ast.walk(ast.parse(path.read_text()))))]
  assert [name for name in users if name.split('.')[0] in HEIGHT] == ['layers.attention']
