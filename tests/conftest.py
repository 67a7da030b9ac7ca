"""What tests of all folders share."""

import jax
import pytest

# At the end of a run all workers shall have something to do.
_LONG = ('launchers', 'experiments', 'examples')


def pytest_collection_modifyitems(items):
  """The longest files come first."""
  items.sort(key=lambda item: item.path.parent.name not in _LONG)


@pytest.fixture(scope='module')
def compile_quickly():
  """Compiling takes longer than running here, and half as long like this."""
  before = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', before)
