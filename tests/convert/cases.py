"""Runs every stored case of the published code: the table of docs/parity.md.

python -m tests.convert.cases
"""

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
  print(f'{"case":32} {"outputs":>7}  {"worst":>7}  of')
  for case in CASES:
    found = {name: (float('inf') if e is None else e, most) for name, (e, most) in compared(case).items()}
    name, (error, most) = max(found.items(), key=lambda item: item[1][0] / item[1][1])
    print(f'{case:32} {len(found):7}  {error:7.1e}  {name} (at most {most:.0e})')


if __name__ == '__main__':
  main()
