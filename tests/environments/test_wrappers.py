"""Options of all environments: what each does to what it is around."""

import dm_env
from dm_env import specs
import numpy as np
import pytest

from acme_hieros.environments import (
  checked,
  checking,
  debug,
  make_environment,
  one_hots,
  wrappers,
)


class Counter(dm_env.Environment):
  """Rewards 1, 2, 3, ... with the discount 0.5; ends after five steps."""

  def reset(self):
    self.count = 0
    return dm_env.restart(np.float32(0))

  def step(self, action):
    if getattr(self, 'count', 5) == 5:
      return self.reset()
    self.count += 1
    last = self.count == 5
    kind = dm_env.StepType.LAST if last else dm_env.StepType.MID
    return dm_env.TimeStep(kind, self.count, 0.5, np.float32(self.count))

  def observation_spec(self):
    return specs.Array((), np.float32, 'count')

  def action_spec(self):
    return specs.DiscreteArray(3)


def wrap(**options):
  return wrappers.wrap(checked(Counter()), **options)


def play(environment, steps, action=0):
  return [environment.step(action) for _ in range(steps)]


def test_a_repeat_sums_discounted_rewards_and_stops_at_an_end():
  first, *rest = play(wrap(action_repeat=2), 5)
  assert first.first() and first.reward is None
  # 1 + 0.5 * 2 and 3 + 0.5 * 4; then 5 alone, since there the episode ends.
  assert [s.reward for s in rest[:3]] == [2, 5, 5]
  assert [s.discount for s in rest[:3]] == [0.25, 0.25, 0.5]
  assert [s.last() for s in rest[:3]] == [False, False, True]
  assert rest[3].first() and rest[3].observation == 0
  assert type(rest[0].reward) is type(rest[0].discount) is np.float32


def test_a_time_limit_truncates_each_episode():
  environment = wrap(time_limit=3)
  steps = play(environment, 9)
  assert [s.step_type for s in steps] == [0, 1, 1, 2] * 2 + [0]
  assert steps[3].discount == 0.5  # Its own: there is something to come.
  assert [s.observation for s in steps] == [0, 1, 2, 3] * 2 + [0]
  environment.reset()
  assert [s.last() for s in play(environment, 3)] == [False, False, True]
  # An end that comes by itself counts anew, too.
  assert [s.step_type for s in play(wrap(time_limit=7), 8)] == [
    *(0, 1, 1, 1, 1, 2),
    *(0, 1),
  ]


def test_a_time_limit_counts_every_repeat():
  steps = play(wrap(action_repeat=2, time_limit=3), 3)
  assert [s.step_type for s in steps] == [0, 1, 2]
  assert [s.reward for s in steps[1:]] == [2, 3]


def test_truncation_is_no_termination():
  environment = make_environment('debug/catch', time_limit=2)
  last = play(environment, 3)[-1]
  assert last.last() and last.discount == 1


def test_rewards_are_scaled():
  first, *rest = play(wrap(reward_scale=np.float32(-0.25)), 3)
  assert first.reward is None
  assert [s.reward for s in rest] == [-0.25, -0.5]
  assert type(rest[0].reward) is np.float32
  with pytest.raises(checking.UnfitValueError, match='reward 1e\\+39'):
    play(wrap(reward_scale=1e39), 2)


def test_the_previous_action_is_seen():
  environment = wrap(previous_action=True)
  spec = environment.observation_spec()
  assert list(spec) == ['observation', 'previous_action']
  first = environment.reset()
  seen = [first, *(environment.step(a) for a in (2, 0, 0, 0, 1, 2))]
  assert [s.observation['previous_action'].tolist() for s in seen] == [
    [0, 0, 0],
    [0, 0, 1],
    *[[1, 0, 0]] * 3,
    [0, 1, 0],
    [0, 0, 0],  # That was a reset.
  ]
  for step in seen:
    for name in spec:
      spec[name].validate(step.observation[name])


def test_the_previous_action_is_a_further_part():
  environment = make_environment(
    'debug/catch', observation='both', previous_action=True
  )
  assert set(environment.observation_spec()) == {
    'image',
    'vector',
    'previous_action',
  }
  with pytest.raises(ValueError, match='already'):
    wrappers.wrap(environment, previous_action=True)


def test_numbers_are_previous_actions_as_they_are():
  environment = make_environment('debug/point', previous_action=True)
  action = environment.action_spec().generate_value() * 0 + 0.25
  environment.reset()
  seen = environment.step(action).observation['previous_action']
  np.testing.assert_array_equal(seen, action)


def test_truth_values_are_choices_of_two():
  encode = one_hots.OneHots(specs.Array((2,), bool))
  assert encode(np.array([False, True])).tolist() == [1, 0, 0, 1]


def test_choices_of_any_structure_are_one_vector():
  spec = {
    'b': specs.BoundedArray((2,), np.int32, [0, 1], [2, 2]),
    'a': specs.DiscreteArray(2),
    'c': (specs.Array((2, 1), np.float32),),
  }
  value = {
    'b': np.array([2, 1]),
    'a': np.int32(1),
    'c': (np.array([[0.5], [-7]]),),
  }
  encode = one_hots.OneHots(spec)
  assert encode(value).tolist() == [0, 1, 0, 0, 1, 1, 0, 0.5, -7]
  assert encode.spec.shape == (9,) and encode(value).dtype == np.float32
  choices = one_hots.OneHots(spec['b']).spec
  assert (choices.minimum, choices.maximum) == (0, 1)
  with pytest.raises(ValueError, match='bounds'):
    one_hots.OneHots(specs.Array((), np.int32))


ALL = dict(
  action_repeat=2, time_limit=60, reward_scale=0.5, previous_action=True
)


@pytest.mark.parametrize(
  'name',
  ['debug/recall', 'gym/CartPole-v1', 'minatar/Breakout', 'sparse/key'],
)
def test_every_family_has_these_options(name):
  environment = make_environment(name, **ALL)
  assert checked(environment) is environment
  assert isinstance(environment, wrappers.PreviousAction)
  step = environment.reset()
  while not step.last():
    step = environment.step(0)
  environment.close()


def test_a_family_s_own_option_is_meant():
  # Frames, of which an action takes four and an episode begins with up to 30.
  environment = make_environment('atari/Pong', time_limit=60, noops=0)
  assert not isinstance(environment, wrappers.Wrapper)
  steps = play(environment, 40)
  assert 10 <= [s.last() for s in steps].index(True) <= 15
  # Atari calls its own `repeat`.
  twice = make_environment('atari/Pong', action_repeat=2)
  assert isinstance(twice, wrappers.ActionRepeat)


def test_without_options_nothing_is_around():
  assert type(make_environment('debug/catch', action_repeat=1)) is debug.Catch
  assert wrappers.OPTIONS == tuple(ALL)


def test_it_goes_back_to_a_state():
  environment = make_environment(
    'debug/catch', balls=3, **ALL | {'time_limit': 5}
  )
  environment.reset()
  environment.step(0)
  state = environment.get_state()
  first, second = [], []
  for kept in (first, second):
    kept += [(s.step_type, s.reward) for s in play(environment, 9, action=2)]
    environment.set_state(state)
  assert first == second and any(kind == 2 for kind, _ in first)
  # Where what is wrapped cannot, it says so.
  assert not hasattr(wrap(**ALL), 'get_state')


@pytest.mark.parametrize(
  'options',
  [
    dict(action_repeat=0),
    dict(action_repeat=1.5),
    dict(time_limit=0),
    dict(reward_scale=0),
    dict(reward_scale=True),
    dict(reward_scale=10**400),
    dict(reward_scale='big'),
    dict(reward_scale=float('nan')),
    dict(previous_action=2),
  ],
)
def test_values_that_will_not_do_are_refused(options):
  ((option, value),) = options.items()
  with pytest.raises(ValueError, match=f'^{option}={value!r} will not do'):
    make_environment('debug/catch', **options)


def test_options_of_all_are_named_with_those_of_one():
  with pytest.raises(ValueError, match='balls, image_size, action_repeat'):
    make_environment('debug/catch', colour='red')
