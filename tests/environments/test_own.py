"""Environments of a user's own: a function that makes them, or its name."""

import functools
import sys

import dm_env
import gymnasium
import numpy as np
import pytest

from acme_hieros.environments import (
  checked,
  checking,
  debug,
  environment_name,
  foreign_module,
  make_environment,
)

MODULE = """
import dm_env
import gymnasium
import my_helper
from dm_env import specs
from acme_hieros.environments import debug

SIZE = 3

def make(seed, rows=5):
  return debug.Catch(seed, rows=rows, observation='vector')

def seedless(length=20):
  return gymnasium.make('CartPole-v1', max_episode_steps=length)

def anything(**options):
  return debug.Echo(**options)

def named(name, module=None):
  return debug.Echo(num_actions=name)

def demanding(level):
  return debug.Echo()

def placed(level, /):
  return debug.Echo()

def wrong():
  return 3

class Spaceless(gymnasium.Env):
  action_space = gymnasium.spaces.Discrete(2)

class Specless(debug.Echo):
  def observation_spec(self):
    return {'eye': None}

class Mine(dm_env.Environment):
  def reset(self):
    return dm_env.restart(float('nan'))
  def step(self, action):
    import my_late_helper
    return dm_env.transition(0.0, 0.0)
  def observation_spec(self):
    return specs.Array((), float)
  def action_spec(self):
    return specs.DiscreteArray(2)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
  """The current directory, which only `sys.path` of programs lacks."""
  (tmp_path / 'my_package').mkdir()
  (tmp_path / 'my_package' / 'envs.py').write_text(MODULE)
  (tmp_path / 'my_helper.py').touch()
  monkeypatch.chdir(tmp_path)
  elsewhere = [path for path in sys.path if path not in ('', '.')]
  monkeypatch.setattr(sys, 'path', elsewhere)
  yield tmp_path
  for name in ('my_package', 'my_package.envs', 'my_helper'):
    sys.modules.pop(name, None)


def make_here(seed=0, balls=1):
  return debug.Catch(seed, balls=balls, observation='vector')


def play(environment, steps=30):
  played = [environment.reset()]
  played += [environment.step(i % 2) for i in range(steps)]
  return [(s.step_type, s.reward, s.observation.tolist()) for s in played]


def test_a_function_is_found_from_the_current_directory():
  environment = make_environment('my_package.envs:make', seed=3, rows=6)
  own = debug.Catch(3, rows=6, observation='vector')
  assert play(environment) == play(own)


def test_nothing_that_was_found_before_is_found_elsewhere_now(here):
  (here / 'dm_env.py').write_text('raise SystemExit')
  before = list(sys.path)
  make_environment('my_package.envs:make')
  assert sys.path == [*before, str(here)]
  make_environment('my_package.envs:make')
  assert len(sys.path) == len(before) + 1


def test_a_gymnasium_environment_is_adapted_and_seeded():
  name = 'my_package.envs:seedless'
  first, second = (
    play(make_environment(name, seed=seed, length=9)) for seed in (1, 1)
  )
  assert first == second
  assert first != play(make_environment(name, seed=2, length=9))
  ends = [step_type for step_type, *_ in first]
  assert ends.index(dm_env.StepType.LAST) == 9


def test_what_it_returns_is_checked():
  environment = make_environment('my_package.envs:Mine')
  assert checked(environment) is environment
  with pytest.raises(checking.UnfitValueError, match="'Mine'.*nan"):
    environment.reset()


def test_a_function_may_take_any_options():
  environment = make_environment('my_package.envs:anything', num_actions=7)
  assert environment.action_spec().num_values == 7
  environment = make_environment('my_package.envs:named', name=7, module=None)
  assert environment.action_spec().num_values == 7


@pytest.mark.parametrize(
  'name,options,words',
  [
    ('my_package.envs:mak', {}, ["no 'mak'", "did you mean 'make'"]),
    ('my_package.envs:SIZE', {}, ["'SIZE'", 'no function']),
    ('my_package.envs:wrong', {}, ['int', 'dm_env.Environment', 'gymnasium']),
    ('my_package.envs:make', {'size': 1}, ["no option 'size'", 'rows']),
    ('my_package.envs:demanding', {}, ["'level'", '--env_option']),
    ('my_package.envs:placed', {}, ["'level'", 'by its place']),
    ('my_package.none:make', {}, ["no module 'my_package.none'"]),
    ('none_at_all:make', {}, ["no module 'none_at_all'", 'PYTHONPATH']),
  ],
)
def test_what_will_not_do_is_one_sentence(name, options, words):
  with pytest.raises(ValueError) as caught:
    make_environment(name, **options)
  said = str(caught.value)
  assert '\n' not in said and said[-1] in '.?'
  for word in [repr(name), *words]:
    assert word in said


@pytest.mark.parametrize(
  'made,lacks',
  [('Spaceless', 'no observation_space'), ('Specless', 'no observation_spec')],
)
def test_what_tells_nothing_of_itself_is_refused(made, lacks):
  with pytest.raises(ValueError, match=f"^Environment '{made}' has {lacks}"):
    make_environment(f'my_package.envs:{made}')


def test_what_a_module_lacks_is_said(here):
  (here / 'needy.py').write_text('import no_such_thing_at_all')
  with pytest.raises(ValueError, match='not installed: .*no_such_thing_at_all'):
    make_environment('needy:make')


@pytest.mark.parametrize(
  'name,module',
  [
    ('my_package.envs:make', 'my_package.envs'),
    ('my_package:Envs.make', 'my_package'),
    # Any function of anything that is installed.
    ('os:system', 'os'),
    ('gymnasium.utils:anything', 'gymnasium.utils'),
    ('acme_hieros.process:tune_process', 'acme_hieros.process'),
    ('atari/Krull', None),
    ('factory/__main__:make', None),
    ('not a name:make', None),
  ],
)
def test_its_module_is_foreign(name, module):
  assert foreign_module(name) == module


def test_a_function_is_taken_as_it_is():
  environment = make_environment(make_here, seed=4, balls=2)
  own = debug.Catch(4, balls=2, observation='vector')
  assert play(environment) == play(own)
  with pytest.raises(ValueError, match="test_own:make_here' has no option 'x'"):
    make_environment(make_here, x=1)
  gym = make_environment(lambda: gymnasium.make('CartPole-v1'), seed=1)
  assert gym.action_spec().num_values == 2


@pytest.mark.parametrize('unfit', [debug.Echo(), 3, None])
def test_what_makes_no_environments_is_refused(unfit):
  with pytest.raises(ValueError, match='a name, or a function'):
    make_environment(unfit)


def test_a_function_has_the_name_by_which_it_is_found():
  assert environment_name('debug/catch') == 'debug/catch'
  name = environment_name(make_here)
  assert name == f'{__name__}:make_here'
  assert play(make_environment(name)) == play(make_here())
  assert environment_name(debug.Catch) == 'acme_hieros.environments.debug:Catch'


class Maker:
  def __call__(self):
    return debug.Echo()

  def make(self):
    return debug.Echo()


@pytest.mark.parametrize(
  'factory,name',
  [
    (lambda: debug.Echo(), 'factory/test_own:<lambda>'),
    (functools.partial(make_here, balls=2), 'factory/functools:partial'),
    (Maker(), 'factory/test_own:Maker'),
    (Maker().make, 'factory/test_own:Maker.make'),
  ],
)
def test_of_others_it_is_said_that_only_their_program_has_them(factory, name):
  assert make_environment(factory).reset().first()
  assert environment_name(factory) == name.replace('test_own', __name__)
  with pytest.raises(
    ValueError, match='only the program.*has.*environment=function'
  ):
    make_environment(environment_name(factory))


def test_a_program_s_own_function_is_not_another_program_s(monkeypatch):
  monkeypatch.setattr(make_here, '__module__', '__main__')
  monkeypatch.setattr(
    sys.modules['__main__'], 'make_here', make_here, raising=False
  )
  assert environment_name(make_here) == 'factory/__main__:make_here'


def test_own_environments_of_this_package_are_not_checked_twice():
  environment = make_environment('my_package.envs:make')
  assert isinstance(environment, debug.Catch)
  assert np.float32 is type(play(environment)[1][1])


@pytest.mark.parametrize('name', ['my_envs.py:make', 'my_envs.make'])
def test_how_a_function_is_called_is_told(name):
  with pytest.raises(ValueError, match=r'called package\.module:function'):
    make_environment(name)
