from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import jax
import pytest

from benchmarks import smallest


@pytest.fixture(scope='session')
def make_config():
  """Makes a configuration; fields have two underscores for a dot."""
  return smallest.make_config


@pytest.fixture(scope='module', autouse=True)
def _quick(compile_quickly):
  """All that is here."""


@pytest.fixture
def compilations():
  """What XLA has compiled since the list was last cleared, an event each."""
  events = []

  def listen(event, _, **details):
    if event.endswith('backend_compile_duration'):
      events.append((event, details))

  jax.monitoring.register_event_duration_secs_listener(listen)
  return events
