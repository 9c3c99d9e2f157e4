"""Three fresh random models a family, held to the published implementation that runs beside them."""

import pytest

from tests.peers.live import FAMILIES, compared

pytestmark = pytest.mark.peers


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('family', FAMILIES)
def test_a_fresh_model_agrees(family, seed):
  kind, found = compared(family, seed)
  assert len(found) > 3
  assert {name: e for name, (e, most) in found.items() if e is None or not e <= most} == {}, kind
