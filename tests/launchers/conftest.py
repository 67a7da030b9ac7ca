"""Launchers and benchmarks, run within the test's process."""

import importlib.util
import pathlib
import runpy
import sys
import types

from absl import flags
from absl.testing import flagsaver
import jax
import pytest

from acme_hieros import command_line, commands, process
import benchmarks

LAUNCHERS = pathlib.Path(__file__).parents[2] / 'launchers'


@pytest.fixture(scope='module')
def load_launcher(compile_quickly):
  """Loads a launcher by its name, or another program by its folder, too.

  Returns launch(*flags), which returns what it hands to sys.exit, or None.
  """
  loaded = []

  def load_launcher(name, folder=LAUNCHERS):
    if folder == LAUNCHERS:
      return _launch_command(*command_of(folder / f'{name}.py'))
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
      launcher.process = types.SimpleNamespace(tune_process=lambda **_: None)

    def launch(*arguments):
      with flagsaver.flagsaver():
        for flag in flags.FLAGS.get_key_flags_for_module(launcher):
          flag.unparse()
        return _call(launcher.main, flags.FLAGS, name, arguments)

    return launch

  yield load_launcher
  for name in loaded:
    sys.modules.pop(name, None)
    for flag in list(flags.FLAGS.flags_by_module_dict()[name]):
      delattr(flags.FLAGS, flag.name)


def command_of(path):
  """The module of the command that a launcher stands before, and its name."""
  ran = []
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(commands, 'run', lambda *which: ran.append(which))
    runpy.run_path(str(path), run_name='__main__')
  ((command, program),) = ran
  return importlib.import_module(f'acme_hieros.commands.{command}'), program


def _launch_command(command, program):
  def launch(*arguments):
    for name in command.FLAGS:
      command.FLAGS[name].unparse()
    with pytest.MonkeyPatch.context() as patch:
      # Settings are for whole processes, and this one has other tests to run.
      patch.setattr(process, 'tune_process', lambda **_: None)
      return _call(command.main, command.FLAGS, program, arguments)

  return launch


def _call(main, values, program, arguments):
  platforms = jax.config.jax_platforms
  try:
    main(command_line.read_flags(values, program, arguments))
  except SystemExit as exit:
    return exit.code
  finally:
    jax.config.update('jax_platforms', platforms)


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
