"""Parity with the published code, case by case: float32, matmul precision 'highest', weights and outputs stored."""

import json

import pytest

from tests.convert.cases import FOLDER, errors

CASES = sorted(folder.name for folder in FOLDER.iterdir())


@pytest.mark.oracles
@pytest.mark.parametrize('case', CASES)
def test_every_output_of_the_peer(case):
  found = errors(case)
  for name, (error, tolerance) in found.items():
    print(f'{case} {name} {error:.1e} (at most {tolerance:.0e})')
  assert set(found) == set(json.loads((FOLDER / case / 'case.json').read_text())['outputs'])
  assert not {name: error for name, (error, tolerance) in found.items() if not error <= tolerance}
