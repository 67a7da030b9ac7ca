"""Gymnasium's environments are made by name, or it is said why not."""

import sys

import gymnasium
import pytest

from acme_hieros.environments import make_environment


@pytest.mark.parametrize(
  'options,shape,notes',
  [
    ({}, (64, 64, 3), 1),
    ({'image_size': 96, 'obs_type': 'grayscale'}, (96, 96, 1), 1),
    ({'image_size': 'native'}, (210, 160, 3), 0),
  ],
)
def test_namespaced_id_and_the_size_of_its_images(options, shape, notes):
  environment = make_environment('gym/ALE/Pong-v5', **options)
  assert environment.observation_spec().shape == shape
  assert environment.reset().observation.shape == shape
  assert len(environment.notes) == notes


class Sized(gymnasium.Env):
  """Has an option of its own by the name of ours."""

  action_space = gymnasium.spaces.Discrete(2)

  def __init__(self, image_size):
    self.observation_space = gymnasium.spaces.Box(
      0, 255, (image_size, 90, 3), 'uint8'
    )


def test_an_option_of_that_name_may_be_the_environments_own(monkeypatch):
  monkeypatch.setitem(
    gymnasium.registry,
    'Sized-v0',
    gymnasium.envs.registration.EnvSpec('Sized-v0', Sized),
  )
  environment = make_environment('gym/Sized-v0', image_size=20)
  assert environment.observation_spec().shape == (20, 64, 3)


@pytest.mark.parametrize('name', ['gym/CartPole-v1', 'debug/catch'])
@pytest.mark.parametrize('size', [0, 'small', 1.5, True])
def test_a_size_of_images_that_will_not_do_is_refused(name, size):
  with pytest.raises(ValueError, match='image_size=.* will not do'):
    make_environment(name, image_size=size)


def refusal(name):
  with pytest.raises(ValueError) as caught:
    make_environment(name)
  assert '\n' not in str(caught.value) and str(caught.value)[-1] in '.?'
  return str(caught.value)


@pytest.mark.parametrize('module', ['my_environments', 'my_package.one'])
def test_a_module_beside_the_user_is_found(tmp_path, monkeypatch, module):
  monkeypatch.chdir(tmp_path)
  elsewhere = [path for path in sys.path if path not in ('', '.')]
  monkeypatch.setattr(sys, 'path', elsewhere)
  said = refusal(f'gym/{module}:Env-v0')
  assert f'no module {module.partition(".")[0]!r}' in said
  assert 'PYTHONPATH' in said and 'not installed' not in said
  file = tmp_path / f'{module.replace(".", "/")}.py'
  file.parent.mkdir(exist_ok=True)
  file.touch()
  assert 'Unknown environment' in refusal(f'gym/{module}:Env-v0')


def test_what_a_module_needs_is_told(tmp_path, monkeypatch):
  (tmp_path / 'needy_module.py').write_text('import no_such_thing_at_all')
  monkeypatch.syspath_prepend(tmp_path)
  said = refusal('gym/needy_module:Env-v0')
  assert "installed: No module named 'no_such_thing_at_all'" in said


def test_module_that_registers_the_id_is_imported(tmp_path, monkeypatch):
  (tmp_path / 'registers_for_tests.py').write_text(
    'import gymnasium\n'
    'gymnasium.register("FromModule-v0", max_episode_steps=5, entry_point='
    '"gymnasium.envs.classic_control:CartPoleEnv")\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  environment = make_environment('gym/registers_for_tests:FromModule-v0')
  assert environment.action_spec().num_values == 2


def test_missing_package_is_one_sentence(monkeypatch):

  def needs_a_package():
    raise gymnasium.error.DependencyNotInstalled('Box9D is not installed')

  monkeypatch.setitem(
    gymnasium.registry,
    'Box9D-v0',
    gymnasium.envs.registration.EnvSpec('Box9D-v0', needs_a_package),
  )
  with pytest.raises(ValueError, match='gym/Box9D-v0.*Box9D is not installed'):
    make_environment('gym/Box9D-v0')


def test_errors_of_an_environment_without_options_are_its_own(monkeypatch):

  def broken():
    raise TypeError('broken')

  monkeypatch.setitem(
    gymnasium.registry,
    'Broken-v0',
    gymnasium.envs.registration.EnvSpec('Broken-v0', broken),
  )
  with pytest.raises(TypeError, match='broken'):
    make_environment('gym/Broken-v0')


def test_refused_options_are_named():
  with pytest.raises(ValueError, match="no option 'lenght'.*max_episode_steps"):
    make_environment('gym/CartPole-v1', lenght=3)
  with pytest.raises(ValueError, match="refuses the options {'map_name': 'x'}"):
    make_environment('gym/FrozenLake-v1', map_name='x')
  with pytest.raises(ValueError, match="'max_episode_steps': 0"):
    make_environment('gym/CartPole-v1', max_episode_steps=0)
