"""Runs the stored cases of the published code: the table of docs/parity.md.

python -m tests.convert.cases [NAME ...]   all, or those whose names begin so
"""

import argparse
from pathlib import Path

from mmjax.convert.check import compute, errors, tolerance
from mmjax.convert.tensors import Tensors

FOLDER = Path(__file__).parent.parent / 'oracles'
CASES = sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())


def compared(case: str) -> dict[str, tuple[float | None, float]]:
  """output -> (its error, the most that it may be); None where it is not computed."""
  found = errors(compute(FOLDER / case), Tensors([FOLDER / case / 'outputs.safetensors']))
  return {name: (error, tolerance(case, name)) for name, error in found.items()}


def main() -> None:
  parser = argparse.ArgumentParser(
    prog='python -m tests.convert.cases', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('names', nargs='*', help='beginnings of names')
  names = parser.parse_args().names
  for name in names:
    if not any(case.startswith(name) for case in CASES):
      parser.error(f'found {name!r}, expected the beginning of one of {", ".join(CASES)}')
  print(f'{"case":32} {"outputs":>7}  {"worst":>7}  of')
  for case in (case for case in CASES if not names or case.startswith(tuple(names))):
    found = {name: (float('inf') if e is None else e, most) for name, (e, most) in compared(case).items()}
    name, (error, most) = max(found.items(), key=lambda item: item[1][0] / item[1][1])
    print(f'{case:32} {len(found):7}  {error:7.1e}  {name} (at most {most:.0e})')


if __name__ == '__main__':
  main()
