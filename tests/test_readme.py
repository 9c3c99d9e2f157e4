"""The README's tree names each file that there is, and none that is not."""

import re

from experiments import keep
from mmjax.cli import ROOT

README = (ROOT / 'README.md').read_text()
FOLDERS = ('mmjax', 'experiments', 'configs')


def tree():
  """{path: clause} of the tree; a folder's path ends in /."""
  found, above = {}, []
  for line in re.search(r'<!-- tree -->\n```\n(.*?)```', README, re.DOTALL)[1].splitlines():
    indent, name, clause = re.fullmatch(r'( *)(\S+)\s*(.*)', line).groups()
    above[len(indent) // 2 :] = [name]
    found[''.join(above)] = clause
  return found


def test_every_python_file_is_in_the_tree():
  there = {path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob('*.py')}
  there |= {f'tests/{path.name}' for path in (ROOT / 'tests').glob('*.py') if not path.match('test_*')}
  there = {path for path in there if not path.endswith(('__init__.py', 'conftest.py'))}
  assert there == {path for path in tree() if path.endswith('.py')}


def test_every_folder_is_there():
  folders = {path for path in tree() if path.endswith('/')}
  assert all((ROOT / folder).is_dir() for folder in folders)
  tests = {path.parent.relative_to(ROOT).as_posix() + '/' for path in (ROOT / 'tests').glob('*/*.py')}
  assert tests == {folder for folder in folders if folder.startswith('tests/')} - {'tests/'}


def test_every_file_has_its_clause():
  assert [path for path, clause in tree().items() if path.endswith('.py') and not clause] == []


def test_every_module_it_names_can_be_run():
  named = re.findall(r'python -m (experiments\.\w+)', README)
  assert named and all((ROOT / f'{name.replace(".", "/")}.py').is_file() for name in named)


def test_its_results_are_those_that_were_kept():
  assert keep.MARKS[0] + keep.section() + keep.MARKS[1] in README


def test_every_stored_case_has_its_row_of_errors():
  rows = re.findall(r'^(\w+) +\d+ +\d\.\de-\d\d  ', (ROOT / 'docs/parity.md').read_text(), re.MULTILINE)
  assert rows == sorted(path.name for path in (ROOT / 'tests/oracles').iterdir() if path.is_dir())
