"""Gymnasium's environments keep their meaning under dm_env."""

import sys

from dm_env import specs
import gymnasium
from gymnasium import spaces
import numpy as np
import pytest

from acme_hieros.environments import gymnasium_adapter, make_environment

_BIT = spaces.Discrete(2)


class Scripted(gymnasium.Env):
  """Shows and returns what it was given, and notes what it is asked."""

  def __init__(
    self,
    observation_space=_BIT,
    action_space=_BIT,
    observations=(0,),
    ends=((False, False),),
  ):
    self.observation_space = observation_space
    self.action_space = action_space
    self._observations = list(observations)
    self._ends = list(ends)
    self.actions, self.seeds, self.closed = [], [], False

  def reset(self, *, seed=None, options=None):
    self.seeds.append(seed)
    self._step = 0
    return self._observations[0], {}

  def step(self, action):
    self.actions.append(action)
    end = self._ends[self._step % len(self._ends)]
    self._step += 1
    observation = self._observations[self._step % len(self._observations)]
    return observation, 0.5, *end, {}

  def close(self):
    self.closed = True


class Nested(Scripted):
  """A registered environment with nested observations and actions."""

  def __init__(self):
    super().__init__(
      observation_space=spaces.Dict(
        {
          'camera': spaces.Box(0, 255, (4, 4, 3), np.uint8),
          'body': spaces.Dict(
            {
              'speed': spaces.Box(-np.inf, np.inf, (2,), np.float64),
              'gear': spaces.Discrete(5, start=-1),
            }
          ),
          'pair': spaces.Tuple(
            (spaces.MultiBinary(3), spaces.MultiDiscrete([2, 3]))
          ),
        }
      ),
      action_space=spaces.Dict(
        {
          'steer': spaces.Box(-0.5, 0.5, (1,), np.float64),
          'buttons': spaces.Tuple(
            (spaces.Discrete(2), spaces.MultiDiscrete([2, 3]))
          ),
        }
      ),
      observations=[
        {
          'camera': np.full((4, 4, 3), 7, np.uint8),
          'body': {'speed': np.array([1.5, -2.0]), 'gear': np.int64(3)},
          'pair': (np.array([0, 1, 1], np.int8), np.array([1, 2])),
        }
      ],
    )


if 'NestedForTests-v0' not in gymnasium.registry:
  gymnasium.register('NestedForTests-v0', entry_point=Nested)


def _equal(value, expected, dtype):
  np.testing.assert_array_equal(value, expected)
  assert np.asarray(value).dtype == dtype


def test_nested_observations():
  environment = make_environment('gym/NestedForTests-v0')
  spec = environment.observation_spec()
  assert spec['camera'].dtype == np.uint8
  assert type(spec['body']['speed']) is specs.Array
  assert spec['body']['gear'].num_values == 5
  assert spec['pair']['1'].maximum.tolist() == [1, 2]
  for step in (
    environment.reset(),
    environment.step(
      {
        'steer': np.zeros(1, np.float32),
        'buttons': {'0': np.int32(0), '1': np.zeros(2, np.int32)},
      }
    ),
  ):
    observation = step.observation
    _equal(observation['camera'], np.full((4, 4, 3), 7), np.uint8)
    _equal(observation['body']['speed'], [1.5, -2.0], np.float32)
    _equal(observation['body']['gear'], 4, np.int32)  # Counted from 0.
    _equal(observation['pair']['0'], [0, 1, 1], np.int32)
    _equal(observation['pair']['1'], [1, 2], np.int32)
    spec['body']['gear'].validate(observation['body']['gear'])


def test_nested_actions():
  inner = Nested()
  environment = gymnasium_adapter.GymnasiumAdapter(inner)
  assert environment.action_spec()['steer'].dtype == np.float32
  environment.reset()
  environment.step(
    {
      'steer': np.array([2.0], np.float32),
      'buttons': {'0': np.int32(1), '1': np.array([1, 2], np.int32)},
    }
  )
  (action,) = inner.actions
  assert inner.action_space.contains(action)
  assert action['steer'].tolist() == [0.5]
  assert action['buttons'][0] == 1
  assert action['buttons'][1].tolist() == [1, 2]


@pytest.mark.parametrize(
  'space,given,received',
  [
    (spaces.Discrete(3), np.int32(2), 2),
    (spaces.Discrete(3, start=10), np.int32(0), 10),
    (spaces.MultiDiscrete([3, 4], start=[1, -1]), np.array([2, 0]), [3, -1]),
    (spaces.MultiBinary(2), np.array([1, 0], np.int32), [1, 0]),
    (spaces.Box(-1, 1, (2,), np.float32), np.array([-3, 0.25]), [-1, 0.25]),
    (
      spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 9.0]), dtype=np.float64),
      np.array([3, 4], np.float32),
      [1, 4],
    ),
  ],
)
def test_actions_arrive_as_the_space_has_them(space, given, received):
  inner = Scripted(action_space=space)
  environment = gymnasium_adapter.GymnasiumAdapter(inner)
  environment.reset()
  environment.step(given)
  assert inner.actions[0].tolist() == received
  assert space.contains(inner.actions[0])


@pytest.mark.parametrize(
  'space',
  [
    spaces.Discrete(3, start=10),
    spaces.MultiDiscrete([3, 4], start=[1, -1]),
    spaces.MultiBinary(2),
    spaces.Box(-1, 1, (2,), np.float64),
    spaces.Box(np.array([0, -np.inf]), np.array([1, np.inf])),
    spaces.Box(0, 255, (2, 2, 3), np.uint8),
  ],
)
def test_observations_are_valid_by_the_spec(space):
  space.seed(0)
  samples = [space.sample() for _ in range(20)]
  environment = gymnasium_adapter.GymnasiumAdapter(
    Scripted(observation_space=space, observations=samples)
  )
  spec = environment.observation_spec()
  spec.validate(environment.reset().observation)
  for _ in samples:
    spec.validate(environment.step(0).observation)


def test_bounds_of_a_box_are_in_the_spec():
  spec = make_environment('gym/Pendulum-v1').action_spec()
  torque = gymnasium.make('Pendulum-v1').action_space
  assert (spec.minimum, spec.maximum) == (torque.low, torque.high)
  assert (spec.shape, spec.dtype) == (torque.shape, np.float32)


@pytest.mark.filterwarnings('error')
def test_bounds_beyond_float32_are_infinite():
  space = spaces.Box(-1e300, 1e300, (2,), np.float64)
  environment = gymnasium_adapter.GymnasiumAdapter(
    Scripted(observation_space=space)
  )
  assert environment.observation_spec().maximum.tolist() == [np.inf] * 2


@pytest.mark.parametrize(
  'end,discount', [((True, False), 0), ((False, True), 1), ((True, True), 0)]
)
def test_discount_at_the_end(end, discount):
  environment = gymnasium_adapter.GymnasiumAdapter(
    Scripted(ends=[(False, False), end])
  )
  environment.reset()
  step = environment.step(0)
  assert step.mid() and step.discount == 1 and step.reward == np.float32(0.5)
  step = environment.step(0)
  assert step.last() and step.discount == discount
  assert environment.step(0).first()


def test_cartpole_terminates_when_it_falls_and_truncates_at_its_limit():

  def last_step(**options):
    environment = make_environment('gym/CartPole-v1', **options)
    step, steps = environment.reset(), 0
    while not step.last():  # Pushing one way makes the pole fall.
      step, steps = environment.step(1), steps + 1
    return step, steps

  step, steps = last_step()
  assert step.discount == 0
  limit = steps - 2
  step, steps = last_step(max_episode_steps=limit)
  assert step.discount == 1 and steps == limit


def test_only_the_first_reset_is_seeded():
  inner = Scripted()
  environment = gymnasium_adapter.GymnasiumAdapter(inner, seed=3)
  for _ in range(3):
    environment.reset()
  assert inner.seeds == [3, None, None]


def test_close_closes():
  inner = Scripted()
  gymnasium_adapter.GymnasiumAdapter(inner).close()
  assert inner.closed


@pytest.mark.parametrize(
  'space',
  [
    spaces.Text(5),
    spaces.Sequence(spaces.Discrete(2)),
    spaces.Dict({'a': spaces.Graph(spaces.Discrete(2), None)}),
  ],
)
def test_unsupported_spaces_are_named(space):
  with pytest.raises(ValueError, match='of .observation.* is not supported'):
    gymnasium_adapter.GymnasiumAdapter(Scripted(observation_space=space))
  with pytest.raises(ValueError, match='of .action.* is not supported'):
    gymnasium_adapter.GymnasiumAdapter(Scripted(action_space=space))


def test_namespaced_id():
  environment = make_environment('gym/ALE/Pong-v5')
  assert environment.reset().observation.shape == (210, 160, 3)


def refusal(name):
  with pytest.raises(ValueError) as caught:
    make_environment(name)
  assert '\n' not in str(caught.value) and str(caught.value).endswith('.')
  return str(caught.value)


@pytest.mark.parametrize('name', ['my_environments', 'my_environments.one'])
@pytest.mark.parametrize('file', ['my_environments.py', 'my_environments/'])
def test_a_module_beside_the_user_is_not_called_uninstalled(
  tmp_path, monkeypatch, name, file
):
  monkeypatch.chdir(tmp_path)
  elsewhere = [path for path in sys.path if path not in ('', '.')]
  monkeypatch.setattr(sys, 'path', elsewhere)
  said = refusal(f'gym/{name}:Env-v0')
  assert "no module 'my_environments'" in said and 'PYTHONPATH' in said
  assert 'this directory' not in said
  if file.endswith('/'):
    (tmp_path / file).mkdir()
  else:
    (tmp_path / file).touch()
  said = refusal(f'gym/{name}:Env-v0')
  assert 'this directory' in said and 'PYTHONPATH=.' in said
  assert 'not installed' not in said


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
