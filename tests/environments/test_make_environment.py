"""Environments are made by name, and mistakes are explained."""

import subprocess
import sys

import pytest

from acme_hieros.environments import environment_names, make_environment


@pytest.mark.parametrize(
  'name,meant',
  [
    ('atari/krul', 'atari/Krull'),
    ('atari/ms_pacman', 'atari/MsPacman'),
    ('atari/breakout', 'atari/Breakout'),
    ('Krull', 'atari/Krull'),
    ('atri/Krull', 'atari/Krull'),
    ('CartPole-v1', 'gym/CartPole-v1'),
    ('gym/cartpole-v1', 'gym/CartPole-v1'),
    ('gym/CartPole', 'gym/CartPole-v1'),
    ('gym/Pong-v5', 'gym/ALE/Pong-v5'),
    ('gym/gymnasium:CartPole-v7', 'gym/CartPole-v1'),
    ('debug/cach', 'debug/catch'),
    ('debug/recal', 'debug/recall'),
    ('minatar/space_invaders', 'minatar/SpaceInvaders'),
    ('minatr/Asterix', 'minatar/Asterix'),
    ('bsuite/memory_len/30', 'bsuite/memory_len/3'),
    ('bsuite/deepsea/1', 'bsuite/deep_sea/1'),
    ('dmc/walkerwalk', 'dmc/walker_walk'),
    ('walker_run', 'dmc/walker_run'),
    ('memory_maze/9', 'memory_maze/9x9'),
    ('minigrid/Empty-5x5', 'minigrid/MiniGrid-Empty-5x5-v0'),
    ('minigrid/MiniGrid-DoorKey-5x5', 'minigrid/MiniGrid-DoorKey-5x5-v0'),
    ('popgym/autoencode', 'popgym/AutoencodeEasy'),
    ('', None),
    ('debug/', None),
  ],
)
def test_unknown_name_lists_the_nearest(name, meant):
  with pytest.raises(ValueError) as info:
    make_environment(name)
  sentence = str(info.value)
  assert sentence.startswith('Unknown environment ')
  suggested = sentence.partition('did you mean ')[2].rstrip('?')
  suggested = suggested.replace(' or ', ', ').split(', ')
  assert len(suggested) == 3 and set(suggested) <= set(environment_names())
  assert meant is None or meant in suggested


def test_names_have_families_and_are_unique():
  names = environment_names()
  assert len(set(names)) == len(names)
  families = {name.split('/')[0] for name in names}
  assert families == {
    'atari',
    'bsuite',
    'crafter',
    'debug',
    'dmc',
    'gym',
    'memory_maze',
    'minatar',
    'minigrid',
    'popgym',
    'sparse',
  }
  assert {
    'atari/Krull',
    'debug/catch',
    'gym/CartPole-v1',
    'minatar/Breakout',
  } <= set(names)


@pytest.mark.parametrize(
  'name', ['atari/Pong', 'debug/catch', 'debug/point', 'minatar/Breakout']
)
def test_unknown_option_lists_the_options(name):
  with pytest.raises(ValueError, match=f"{name}.* no option 'colour'") as info:
    make_environment(name, colour='red')
  assert 'its options are' in str(info.value)
  assert 'seed' not in str(info.value) and 'game' not in str(info.value)


def test_a_file_is_no_name():
  with pytest.raises(
    ValueError, match='my/envs.py:make.*package.module:functi'
  ):
    make_environment('my/envs.py:make')


@pytest.mark.parametrize('seed', [-1, 0.5, None, 'a'])
def test_seed_is_checked(seed):
  with pytest.raises(ValueError, match='^seed='):
    make_environment('debug/catch', seed=seed)


def test_imports_only_what_a_family_needs():
  code = """
import sys
from acme_hieros.environments import environment_names, make_environment
make_environment('debug/catch').reset()
for module in ('ale_py', 'gymnasium', 'minatar'):
  assert module not in sys.modules, module
make_environment('atari/Pong').reset()
make_environment('gym/CartPole-v1').reset()
environment_names()
for module in (
  'bsuite', 'crafter', 'dm_control', 'memory_maze', 'minatar', 'minigrid',
  'popgym',
):
  assert module not in sys.modules, module
make_environment('minatar/Breakout').reset()
for module in ('acme', 'jax', 'launchpad', 'reverb', 'tensorflow'):
  assert module not in sys.modules, module
"""
  subprocess.run([sys.executable, '-c', code], check=True)
