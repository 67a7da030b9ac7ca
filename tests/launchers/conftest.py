"""Launchers and benchmarks, run within the test's process."""

import importlib.util
import pathlib
import sys
import types

from absl import flags
from absl.testing import flagsaver
import jax
import pytest

import benchmarks

LAUNCHERS = pathlib.Path(__file__).parents[2] / 'launchers'


@pytest.fixture(scope='module')
def load_launcher(compile_quickly):
  """Loads a launcher by its name, or another program by its folder, too.

  Returns launch(*flags), which returns what it hands to sys.exit, or None.
  """
  loaded = []

  def load_launcher(name, folder=LAUNCHERS):
    specification = importlib.util.spec_from_file_location(
      name, folder / f'{name}.py'
    )
    launcher = importlib.util.module_from_spec(specification)
    # Flags belong to the module of which absl finds that it defines them.
    sys.modules[name] = launcher
    loaded.append(name)
    specification.loader.exec_module(launcher)

    # Settings are for whole processes, and this one has other tests to run.
    if hasattr(launcher, 'process'):
      launcher.process = types.SimpleNamespace(tune_process=lambda: None)

    def launch(*arguments):
      platforms = jax.config.jax_platforms
      try:
        with flagsaver.flagsaver():
          for flag in flags.FLAGS.get_key_flags_for_module(launcher):
            flag.unparse()
          launcher.main(flags.FLAGS([name, *arguments]))
      except SystemExit as exit:
        return exit.code
      finally:
        jax.config.update('jax_platforms', platforms)

    return launch

  yield load_launcher
  for name in loaded:
    sys.modules.pop(name, None)
    for flag in list(flags.FLAGS.flags_by_module_dict()[name]):
      delattr(flags.FLAGS, flag.name)


@pytest.fixture
def pretend(tmp_path, monkeypatch):
  """Has benchmarks run these texts for the launcher, and for the evaluator."""

  def pretend(training, playing=''):
    for name, file, text in (
      ('LAUNCHER', 'train.py', training),
      ('EVALUATOR', 'play.py', playing),
    ):
      (tmp_path / file).write_text(text)
      monkeypatch.setattr(benchmarks, name, str(tmp_path / file))

  return pretend
