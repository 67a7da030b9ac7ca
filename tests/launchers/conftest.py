"""Launchers, run within the test's process."""

import importlib.util
import pathlib

from absl import flags
from absl.testing import flagsaver
import jax
import pytest

LAUNCHERS = pathlib.Path(__file__).parents[2] / 'launchers'


@pytest.fixture(scope='module')
def load_launcher(compile_quickly):
  """Loads launchers by their names; takes their flags away afterwards."""
  loaded = []

  def load_launcher(name):
    specification = importlib.util.spec_from_file_location(
      name, LAUNCHERS / f'{name}.py'
    )
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    loaded.append(name)
    return module

  yield load_launcher
  for name in loaded:
    for flag in flags.FLAGS.flags_by_module_dict().get(name, []):
      if flag.name in flags.FLAGS:
        delattr(flags.FLAGS, flag.name)


@pytest.fixture
def run_launcher():
  """Runs a launcher with flags; returns what it hands to sys.exit, or None."""

  def run_launcher(launcher, *arguments):
    with flagsaver.flagsaver():
      for flag in flags.FLAGS.get_key_flags_for_module(launcher):
        flag.unparse()
      rest = flags.FLAGS([launcher.__name__, *arguments])
      try:
        launcher.main(rest)
      except SystemExit as exit:
        return exit.code

  platforms = jax.config.jax_platforms
  yield run_launcher
  jax.config.update('jax_platforms', platforms)
