import jax
import pytest


@pytest.fixture(scope='package', autouse=True)
def quick_compile():
  """Programs run once here, so that compiling them well does not pay."""
  before = jax.config.values['jax_disable_most_optimizations']
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', before)
