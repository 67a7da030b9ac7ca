"""The program `hieros`: what answers at once, and what is refused."""

import importlib
import pathlib
import subprocess
import sys

import pytest

from acme_hieros import commands, config, environments, version
from acme_hieros.config import meanings
from acme_hieros.experiments import runs

LAUNCHERS = pathlib.Path(__file__).parents[2] / 'launchers'

# What takes seconds to import.
HEAVY = ('acme', 'jax', 'launchpad', 'reverb', 'tensorflow')


def say(capsys, *argv):
  """What `hieros` prints to these words, and with what it ends."""
  # As in a process of its own.
  for command in commands.COMMANDS:
    values = importlib.import_module(f'acme_hieros.commands.{command}').FLAGS
    for name in values:
      values[name].unparse()
  with pytest.raises(SystemExit) as ended:
    commands.main(argv)
  return capsys.readouterr().out, ended.value.code


@pytest.mark.parametrize('argv', [[], ['--help'], ['-h']])
def test_the_program_lists_its_commands_families_and_presets(argv, capsys):
  said, code = say(capsys, *argv)
  assert code == 0
  for names in (
    commands.COMMANDS,
    environments.families(),
    config.PRESETS,
    config.SYSTEMS,
  ):
    assert all(name in said for name in names)


@pytest.mark.parametrize('command', commands.COMMANDS)
def test_the_help_of_a_command_says_all_its_flags(command, capsys):
  said, code = say(capsys, command, '--seed=1', '--help')
  assert code == 0
  module = getattr(commands, command)
  assert said.startswith(module.__doc__.splitlines()[0])
  flags = list(module.FLAGS)
  assert flags and all(
    f'--{name}' in said or f']{name}' in said for name in flags
  )


def test_the_help_of_training_lists_families_presets_and_launches(capsys):
  said, _ = say(capsys, 'train', '--help')
  for names in (environments.families(), config.PRESETS, config.SYSTEMS):
    assert all(name in said for name in names)
  assert tuple(commands.train.FLAGS['launch'].parser.enum_values) == (
    runs.LAUNCHES
  )


def test_what_a_command_takes_beside_flags_is_said(capsys):
  said, _ = say(capsys, 'report', '--help')
  assert 'hieros report runs/* [--name=value ...]' in said.splitlines()
  said, _ = say(capsys, 'show', '--help')
  assert 'hieros show [--name=value ...]' in said.splitlines()


def test_the_version_is_said(capsys):
  assert say(capsys, '--version') == (f'{version.VERSION}\n', 0)


@pytest.mark.parametrize(
  'argv,parts',
  [
    (['fly'], ["'fly'", 'train', 'demo']),
    (['--fly'], ["'--fly'", 'train']),
    (['train', '--sed=1'], ["'sed'", 'seed', '--help']),
    (['train', '--seed=one'], ['--seed=one', '--help']),
    (['train', '--launch=rocket'], ['rocket', 'local_mp']),
    (['evaluate', '--workdr=x'], ['workdr', 'workdir']),
    (['configs', 'surely'], ['surely', '--name=value']),
    (['configs', '--system=muzero'], ['muzero', 'dreamerv3']),
    (['configs', '--fields=wings'], ['wings']),
  ],
)
def test_wrong_words_get_one_sentence(argv, parts, capsys):
  said, error = say(capsys, *argv)
  assert said == ''
  # sys.exit prints a string to stderr and exits with code 1.
  name = ' '.join(['hieros', *argv[: argv[0] in commands.COMMANDS]])
  assert error.startswith(f'{name}: ') and '\n' not in error
  assert error.endswith('.')
  for part in parts:
    assert part in error


@pytest.mark.parametrize('flag', ['--help', '--fly'])
@pytest.mark.parametrize(
  'start',
  [
    ['-m', 'acme_hieros', 'train'],
    ['-m', 'acme_hieros', 'demo'],
    [str(LAUNCHERS / 'run_hieros.py')],
    [str(LAUNCHERS / 'report.py')],
  ],
  ids=lambda start: start[-1].rpartition('/')[2],
)
def test_what_needs_no_agent_is_answered_before_anything_heavy_is_loaded(
  start, flag
):
  done = subprocess.run(
    [sys.executable, '-X', 'importtime', *start, flag],
    capture_output=True,
    text=True,
    cwd=LAUNCHERS.parent,
  )
  assert done.returncode == (flag != '--help')
  loaded = {
    line.rpartition('|')[2].strip()
    for line in done.stderr.splitlines()
    if line.startswith('import time:')
  }
  assert 'absl.flags' in loaded and not loaded & set(HEAVY)


# --- configs -----------------------------------------------------------------


def test_every_field_has_a_meaning_of_its_own_words():
  meant = meanings.meanings()
  assert list(meant) == list(config.field_names(config.HierosConfig()))
  for name, text in meant.items():
    assert text.strip(), f'{name} needs a comment in fields.py'
    assert text[0].isupper() or text.startswith('h '), (name, text)
    assert text.endswith('.'), (name, text)
  # One comment for two; one of a class that is derived from; one of its own.
  assert meant['batch_size'] == meant['sequence_length']
  assert meant['world_model.s3m.dt_min'] == meant['actor_critic.s5.dt_min']
  assert meant['actor_critic.discount'] != meant['actor_critic.horizon']
  assert 'lambda' not in meant['actor_critic.entropy_scale']


def test_presets_stand_side_by_side(capsys):
  said, code = say(capsys, 'configs', '--system=rssm')
  assert code in (0, None)
  lines = said.splitlines()
  assert lines[0].split() == list(config.PRESETS)
  rows = {
    line.split()[0]: line.split()[1:]
    for line in lines[1:]
    if not line.startswith(' ')
  }
  assert list(rows) == list(config.field_names(config.HierosConfig()))
  used = [name for name in rows if not UNUSED & set(name.split('.'))]
  for i, preset in enumerate(config.PRESETS):
    # As they stand there they can be overridden.
    found = config.override(
      config.preset('tiny', 'rssm'), {name: rows[name][i] for name in used}
    )
    found, wanted = map(
      config.fields_by_name, (found, config.preset(preset, 'rssm'))
    )
    assert [found[name] for name in used] == [wanted[name] for name in used]


# Parts of other cores than that of rssm, which may not be overridden.
UNUSED = {'s5', 's3m', 'block_gru', 'attention', 'hybrid'}


def test_some_fields_can_be_asked_for(capsys):
  said, _ = say(capsys, 'configs', '--fields=replay')
  names = [x.split()[0] for x in said.splitlines()[1:] if x[0] != ' ']
  assert 'replay.ratio' in names
  assert all('replay' in name for name in names)
