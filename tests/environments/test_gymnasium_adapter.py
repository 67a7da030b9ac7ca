"""Gymnasium's environments keep their meaning under dm_env."""

import fractions

from dm_env import specs
import gymnasium
from gymnasium import spaces
import numpy as np
import pytest
import tree

from acme_hieros.environments import gymnasium_adapter, make_environment
from acme_hieros.models import spaces as model_spaces

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


# What an environment returns against its space.

_THREE = spaces.Box(-10, 10, (3,), np.float32)
_PIXELS = spaces.Box(0, 255, (16, 16, 3), np.uint8)
_BODY = spaces.Dict({'speed': _THREE, 'on': spaces.Discrete(2)})
_STILL = np.zeros(3, np.float32)


def observe(space, value):
  """What the agent gets of an observation, at the start and in a step."""
  environment = gymnasium_adapter.GymnasiumAdapter(
    Scripted(observation_space=space, observations=[value])
  )
  first = environment.reset().observation
  later = environment.step(0).observation
  for a, b, spec in zip(
    *map(tree.flatten, (first, later, environment.observation_spec())),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)
    assert type(a) is np.ndarray and a.dtype == b.dtype == spec.dtype
    assert a.shape == b.shape == spec.shape
  return first


@pytest.mark.parametrize(
  'space,value,words',
  [
    # Numbers that are none.
    (_THREE, np.array([0, np.nan, 0], np.float32), ['nan', 'finite']),
    (_THREE, np.array([0, np.inf, 0]), ['inf', 'finite']),
    (_THREE, np.array([0, -np.inf, 0]), ['-inf', 'finite']),
    (_THREE, [0.0, 1e39, 0.0], ['1e+39', 'float32', 'finite']),
    (_THREE, np.array([0, np.nan, 0], np.float16), ['nan']),
    (_BODY, {'speed': _STILL * np.nan, 'on': 1}, ["'speed'", 'nan']),
    # Other types.
    (_THREE, None, ['object', 'None', 'float32']),
    (_THREE, np.array([0, None, 1], object), ['object', 'None']),
    (_THREE, [0.0, 1.0j, 0.0], ['complex128']),
    (_THREE, ['0', '1', '2'], ["'1'", 'float32']),
    (_THREE, [[0.0], [1.0, 2.0], 3.0], ['object']),
    (_THREE, np.ma.masked_invalid([0.0, np.nan, 1.0]), ['--']),
    (_THREE, np.zeros(3, 'datetime64[s]'), ['datetime64']),
    # Other shapes.
    (_THREE, np.zeros((1, 3), np.float32), ['(1, 3)', '(3,)']),
    (_THREE, np.zeros(4, np.float32), ['(4,)', '(3,)']),
    (_THREE, np.float32(1), ['()', '(3,)']),
    (_THREE, {'speed': _STILL}, ['object', 'speed']),
    (spaces.Box(-1, 1, (), np.float32), np.zeros(1), ['(1,)', '()']),
    (_PIXELS, np.zeros((16, 16), np.uint8), ['(16, 16)', '(16, 16, 3)']),
    (spaces.Discrete(3), np.array([1]), ['(1,)', '()']),
    # Casts that lose something.
    (_PIXELS, np.full((16, 16, 3), 0.7), ['0.7', 'uint8', '0 to 255']),
    (_PIXELS, np.ones((16, 16, 3), np.float32), ['1.0', 'uint8', '0 to 255']),
    (_PIXELS, np.full((16, 16, 3), -1), ['-1', 'uint8']),
    (_PIXELS, np.full((16, 16, 3), 256), ['256', 'uint8']),
    (spaces.Discrete(3), 1.5, ['1.5', 'int32']),
    (spaces.MultiBinary(2), [0.0, 0.5], ['0.5', 'int32']),
    (spaces.MultiBinary(2), [0, np.nan], ['nan', 'int32']),
    (spaces.Box(0, 1, (2,), bool), [0, 2], ['2', 'bool']),
    # Beyond the bounds of whole numbers.
    (spaces.Discrete(3), 3, ['3', 'bounds']),
    (spaces.Discrete(3), -1, ['-1', 'bounds']),
    (spaces.Discrete(3, start=10), 13, ['3', 'bounds']),
    (spaces.Discrete(3, start=10), np.uint8(9), ['-1', 'bounds']),
    (spaces.Discrete(3), None, ['object', 'None']),
    (spaces.Discrete(3), 2**40, ['1099511627776', 'int32']),
    (spaces.MultiDiscrete([2, 3]), [1, 3], ['3', 'bounds']),
    (spaces.MultiBinary(2), [0, 2], ['2', 'bounds']),
    (spaces.Box(0, 9, (2,), np.uint8), [1, 10], ['10', 'bounds', '9']),
    (spaces.Box(0, 99, (2,), np.int64), [1, 2**40], ['1099511627776', '99']),
    # Keys.
    (_BODY, {'speed': _STILL}, ["'on'", 'without']),
    (_BODY, _STILL, ["'speed'", 'dict']),
    (_BODY, None, ["'speed'", 'dict']),
    (spaces.Tuple((_THREE, _BIT)), (_STILL,), ["'1'", 'without']),
    (spaces.Tuple((_THREE, _BIT)), None, ["'0'", "'1'"]),
    (
      spaces.Dict({'a': _BODY}),
      {'a': {'speed': _STILL, 'on': 2}},
      ["'a/on'", '2', 'bounds'],
    ),
  ],
)
def test_what_does_not_fit_the_space_is_refused(space, value, words):
  with pytest.raises(ValueError) as error:
    observe(space, value)
  said = str(error.value)
  for word in ["Environment 'Scripted' returned", 'observation', *words]:
    assert word in said
  assert '\n' not in said and said.endswith('.') and len(said) < 300


@pytest.mark.parametrize(
  'space,value,seen',
  [
    (_THREE, [1, 2, 3], [1, 2, 3]),
    (_THREE, (True, False, True), [1, 0, 1]),
    (_THREE, np.array([0.1, 0.2, 0.3]), np.float32([0.1, 0.2, 0.3])),
    (_THREE, np.array([1, 2, 3], np.float16), [1, 2, 3]),
    (_THREE, np.ma.array([1.0, 2.0, 3.0]), [1, 2, 3]),
    (_THREE, np.array([1, 2, 3], '>f4'), [1, 2, 3]),
    (spaces.Box(-1, 1, (), np.float32), 0.5, 0.5),
    (spaces.Box(-1, 1, (), np.float32), np.array(0.5), 0.5),
    (_PIXELS, np.full((16, 16, 3), 255, np.int64), np.full((16, 16, 3), 255)),
    (spaces.Discrete(3), 2.0, 2),
    (spaces.Discrete(3), np.array(2), 2),
    (spaces.Discrete(3), True, 1),
    (spaces.Discrete(3, start=-5), np.uint8(0) - 4, 1),
    (spaces.MultiBinary(2), [0.0, 1.0], [0, 1]),
    (spaces.Box(0, 1, (2,), bool), [0, 1], [False, True]),
    # More than 32 bits hold.
    (
      spaces.Box(0, 2**62, (2,), np.int64),
      [2**40, 1_700_000_000_000],
      np.float32([2**40, 1_700_000_000_000]),
    ),
    (
      spaces.Box(0, 2**64 - 1, (1,), np.uint64),
      np.array([2**63], np.uint64),
      [2.0**63],
    ),
    (spaces.Box(0, 99, (2,), np.int64), [1, 99], [1, 99]),
  ],
)
def test_what_fits_the_space_keeps_its_meaning(space, value, seen):
  np.testing.assert_array_equal(observe(space, value), seen)


@pytest.mark.parametrize(
  'dtype,bound,used',
  [
    (np.int64, 2**31 - 1, np.int64),
    (np.int64, 2**31, np.float32),
    (np.uint64, 2**32 - 1, np.uint64),
    (np.uint64, 2**32, np.float32),
    (np.uint32, 2**32 - 1, np.uint32),
  ],
)
def test_integers_that_need_64_bits_are_seen_as_floats(dtype, bound, used):
  space = spaces.Box(0, bound, (1,), dtype)
  spec = gymnasium_adapter.GymnasiumAdapter(
    Scripted(observation_space=space)
  ).observation_spec()
  assert spec.dtype == used and spec.maximum == used(bound)
  # Actions are not what JAX computes with.
  spec = gymnasium_adapter.GymnasiumAdapter(
    Scripted(action_space=space)
  ).action_spec()
  assert spec.dtype == dtype


def test_the_world_model_sees_large_integers_as_they_are():
  space = spaces.Box(0, 2**62, (2,), np.int64)
  value = np.array([2**40 + 1, 1_700_000_000_000])
  environment = gymnasium_adapter.GymnasiumAdapter(
    Scripted(observation_space=space, observations=[value])
  )
  seen = model_spaces.observation_spaces(environment.observation_spec())
  encoded = seen['observation'].encode(environment.reset().observation)
  np.testing.assert_allclose(encoded, np.log1p(value), rtol=1e-6)


def test_images_get_their_channels_last():
  space = spaces.Box(
    np.arange(4, dtype=np.uint8)[:, None, None].repeat(20, 1).repeat(9, 2),
    255,
    (4, 20, 9),
    np.uint8,
  )
  space.seed(0)
  value = space.sample()
  environment = gymnasium_adapter.GymnasiumAdapter(
    Scripted(observation_space=space, observations=[value])
  )
  spec = environment.observation_spec()
  assert spec.shape == (20, 9, 4)
  assert spec.minimum[3, 2].tolist() == [0, 1, 2, 3]
  seen = environment.reset().observation
  assert seen.flags.c_contiguous
  assert all(
    seen[y, x, c] == value[c, y, x] for c, y, x in np.ndindex(value.shape)
  )
  with pytest.raises(ValueError, match=r'\(20, 9, 4\).*\(4, 20, 9\)'):
    observe(space, seen)


def test_floats_beyond_their_bounds_are_taken_with_one_warning():
  value = np.array([0, 10.5, 0], np.float32)
  environment = gymnasium_adapter.GymnasiumAdapter(
    Scripted(observation_space=_THREE, observations=[value])
  )
  with pytest.warns(UserWarning, match='-10.0 to 10.0') as warned:
    for _ in range(3):
      assert environment.reset().observation.tolist() == [0, 10.5, 0]
  assert len(warned) == 1 and 'Scripted' in str(warned[0].message)


@pytest.mark.filterwarnings('error')
def test_bounds_are_those_of_rounded_numbers():
  space = spaces.Box(0.0, 0.1, (1,), np.float64)
  assert observe(space, np.array([0.1])) == np.float32(0.1)


def test_keys_that_the_space_does_not_have_are_dropped_with_one_warning():
  value = {'speed': _STILL, 'on': 1, 'goal': 3}
  environment = gymnasium_adapter.GymnasiumAdapter(
    Scripted(observation_space=_BODY, observations=[value])
  )
  with pytest.warns(UserWarning, match="'goal'") as warned:
    for _ in range(3):
      assert environment.reset().observation.keys() == _BODY.keys()
  assert len(warned) == 1


def test_buffers_may_be_used_again():
  buffer = np.zeros(3, np.float32)
  environment = gymnasium_adapter.GymnasiumAdapter(
    Scripted(observation_space=_THREE, observations=[buffer])
  )
  seen = environment.reset().observation
  buffer[:] = 1
  assert seen.tolist() == [0, 0, 0]


class Returning(Scripted):
  """Returns what it was given from `reset` or `step`."""

  def __init__(self, reset=None, step=None):
    super().__init__()
    self._returned = {'reset': reset, 'step': step}

  def reset(self, **options):
    super().reset(**options)
    given = self._returned['reset']
    return (0, {}) if given is None else given

  def step(self, action):
    return self._returned['step']


def play(**returned):
  environment = gymnasium_adapter.GymnasiumAdapter(Returning(**returned))
  environment.reset()
  return environment.step(0)


@pytest.mark.parametrize(
  'reward',
  [
    np.nan,
    -np.inf,
    np.float32(np.inf),
    1e39,
    10**400,
    None,
    'one',
    '1.0',
    1j,
    np.array([1.0]),
    [1.0],
    np.array(None),
    {},
    np.ma.masked,
    np.datetime64(1, 's'),
    fractions.Fraction(1, 2),
  ],
  ids=repr,
)
def test_a_reward_is_one_finite_number(reward):
  with pytest.raises(ValueError, match='returned the reward .*finite number'):
    play(step=(0, reward, False, False, {}))


@pytest.mark.parametrize(
  'reward,number',
  [
    (3, 3),
    (True, 1),
    (np.bool_(True), 1),
    (np.array(0.5), 0.5),
    (np.float16(0.5), 0.5),
    (np.float64(0.1), np.float32(0.1)),
    (np.int64(-7), -7),
    (1e38, np.float32(1e38)),
    (np.ma.array(2.0), 2),
  ],
  ids=repr,
)
def test_rewards_may_be_numbers_of_any_type(reward, number):
  step = play(step=(0, reward, False, False, {}))
  assert type(step.reward) is np.float32 and step.reward == number


@pytest.mark.parametrize('name', ['terminated', 'truncated'])
@pytest.mark.parametrize(
  'value', [None, np.nan, 2, 'no', {}, 0.0, np.array([True, False])], ids=repr
)
def test_ends_are_truth_values(name, value):
  ends = {'terminated': False, 'truncated': False, name: value}
  with pytest.raises(ValueError, match=f'{name}=.*True or False'):
    play(step=(0, 0.0, *ends.values(), {}))


@pytest.mark.parametrize(
  'value', [True, np.True_, 1, np.array(True), np.array([True])], ids=repr
)
def test_ends_may_be_numpys_truth_values(value):
  assert play(step=(0, 0.0, value, False, {})).discount == 0
  assert play(step=(0, 0.0, False, value, {})).discount == 1
  assert play(step=(0, 0.0, False, value, None)).last()


@pytest.mark.parametrize(
  'returned',
  [
    {'reset': np.array([0.0, 1.0])},
    {'reset': 0},
    {'reset': (0, 1)},
    {'reset': (0, {}, 1)},
    {'step': (0, 0.0, False, {})},
    {'step': None},
    {'step': np.zeros(5)},
  ],
  ids=repr,
)
def test_another_interface_is_told(returned):
  (method,) = returned
  with pytest.raises(ValueError, match=rf"'Returning'.*{method}\(\).*older"):
    play(**returned)


def test_a_reset_without_a_seed_is_of_another_interface():
  class Old(Returning):
    def reset(self):
      return np.zeros(2, np.float32)

  for environment in (Old(), gymnasium.Wrapper(Old())):
    with pytest.raises(ValueError, match="'Old' has a reset.*older interface"):
      gymnasium_adapter.GymnasiumAdapter(environment)


def test_an_environment_is_called_by_its_id():
  environment = gymnasium_adapter.GymnasiumAdapter(
    gymnasium.make('NestedForTests-v0', disable_env_checker=True)
  )
  environment._environment.unwrapped._observations = [{}]
  with pytest.raises(ValueError, match="'NestedForTests-v0' returned"):
    environment.reset()
