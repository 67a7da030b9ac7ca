"""Whose modules are imported."""

import json
import os
import stat

import pytest

from acme_hieros import config as config_lib
from acme_hieros.environments import foreign_module
from acme_hieros.experiments import runs, trust

ENVIRONMENT = 'gym/my_package.games:Odd-v0'


def write_run(directory, name):
  """What of a run on that environment says whose it is; returns its path."""
  run = runs.Run(
    environment=name,
    config=config_lib.preset('tiny'),
    num_steps=100,
    workdir=str(directory),
  )
  directory.mkdir()
  with open(directory / 'config.json', 'w') as file:
    json.dump({**run.identity(), **run.extent()}, file)
  return run.workdir


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
  """A user who has run nothing yet."""
  monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'state'))
  return tmp_path / 'state' / 'acme_hieros'


@pytest.mark.parametrize(
  'name,module',
  [
    (ENVIRONMENT, 'my_package.games'),
    ('gym/this:X-v0', 'this'),
    ('gym/ale_pyx:X-v0', 'ale_pyx'),
    ('gym/ale_py:ALE/Pong-v5', None),
    ('gym/ALE/Pong-v5', None),
    ('atari/Krull', None),
  ],
)
def test_only_modules_of_others_are_foreign(name, module):
  assert foreign_module(name) == module


def test_a_signature_is_of_one_user_and_one_environment(home, monkeypatch):
  signature = trust.sign(ENVIRONMENT)
  assert trust.is_own(ENVIRONMENT, signature)
  assert not trust.is_own('gym/this:X-v0', signature)
  for other in (None, '', signature[:-1], 'Größe', 7):
    assert not trust.is_own(ENVIRONMENT, other)
  assert [file.name for file in home.iterdir()] == ['key']
  assert stat.S_IMODE(os.stat(home / 'key').st_mode) == 0o600
  monkeypatch.setenv('XDG_STATE_HOME', str(home / 'of another'))
  assert not trust.is_own(ENVIRONMENT, signature)


def test_whoever_edits_his_environment_goes_on_with_his_run(
  tmp_path, monkeypatch
):
  """A name is trusted; as docs/faults.md says, not what is in the file."""
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'edited_games.py').write_text('make = print')
  path = write_run(tmp_path / 'run', 'edited_games:make')
  (tmp_path / 'edited_games.py').write_text('make = repr')
  assert runs.read_run(path).environment == 'edited_games:make'


def test_without_a_place_for_a_key_nothing_is_trusted(monkeypatch):
  monkeypatch.setenv('XDG_STATE_HOME', '/dev/null')
  assert trust.sign(ENVIRONMENT) is None
  assert not trust.is_own(ENVIRONMENT, None)


@pytest.mark.parametrize('content', [b'', b'short'])
def test_a_key_that_is_none_is_not_used(home, content):
  trust.sign(ENVIRONMENT)
  (home / 'key').write_bytes(content)
  assert trust.sign(ENVIRONMENT) is None


@pytest.mark.parametrize('name', [ENVIRONMENT, 'my_package.games:make'])
def test_a_run_of_somebody_else_has_to_be_named(tmp_path, monkeypatch, name):
  path = write_run(tmp_path / 'run', name)
  assert runs.read_run(path).environment == name
  monkeypatch.setenv('XDG_STATE_HOME', str(tmp_path / 'of another'))
  with pytest.raises(ValueError, match=f"'my_package.games'.* --env={name}"):
    runs.read_run(path)
  with pytest.raises(ValueError, match='somebody else'):
    runs.read_run(path, 'atari/Krull')
  assert runs.read_run(path, name).environment == name
  # Whoever gives a function has no other code run.
  assert runs.read_run(path, print).environment is print
