from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import jax
import pytest
import smallest

from acme_hieros import config as config_lib


@pytest.fixture(scope='session')
def make_config():
  """Makes a configuration from fields by their dotted names."""

  def make_config(**fields):
    changes = {name.replace('__', '.'): v for name, v in fields.items()}
    return config_lib.override(
      config_lib.preset('tiny'), smallest.OVERRIDES | changes
    )

  return make_config


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
