"""Environments of others return what their specs say, or an error."""

import collections

import dm_env
from dm_env import specs
import numpy as np
import pytest

from acme_hieros.environments import checked, checking, make_environment

Pair = collections.namedtuple('Pair', ['left', 'right'])


class Foreign(dm_env.Environment):
  """Returns one observation forever, and what it was given."""

  secret = 7

  def __init__(self, spec, observation, first=None, later=None):
    self._spec, self._observation = spec, observation
    self._first, self._later = first, later
    self.closed = False

  def reset(self):
    return self._first or dm_env.restart(self._observation)

  def step(self, action):
    return self._later or dm_env.transition(action, self._observation, 0.5)

  def observation_spec(self):
    return self._spec

  def action_spec(self):
    return specs.Array((), np.float32)

  def close(self):
    self.closed = True


NUMBER = specs.Array((), np.float64)
STEPS = dm_env.StepType


def test_every_environment_is_checked_once():
  environment = Foreign(NUMBER, 1.0)
  once = checked(environment)
  assert once is not environment and checked(once) is once
  for name in ('debug/catch', 'gym/CartPole-v1'):
    own = make_environment(name)
    assert checked(own) is own


def test_what_is_checked_fits_the_specs():
  environment = checked(Foreign(NUMBER, 3))
  first, later = environment.reset(), environment.step(0.25)
  assert first.first() and first.reward is first.discount is None
  assert later.mid() and (later.reward, later.discount) == (0.25, 0.5)
  environment.reward_spec().validate(later.reward)
  environment.discount_spec().validate(later.discount)
  for timestep in (first, later):
    environment.observation_spec().validate(timestep.observation)


def test_nested_observations_keep_their_structure():
  spec = {'hands': Pair(NUMBER, (NUMBER, [NUMBER])), 'n': specs.Array((), int)}
  observation = {'hands': Pair(1, (2, [3])), 'n': 2**40}
  environment = checked(Foreign(spec, observation))
  hands = environment.reset().observation['hands']
  assert hands == Pair(1, (2, [3])) and type(hands) is Pair
  assert environment.observation_spec()['hands'] == spec['hands']
  # More than JAX's 32 bits hold.
  assert environment.observation_spec()['n'].dtype == np.float32
  assert environment.reset().observation['n'] == 2**40


@pytest.mark.parametrize(
  'hands,words',
  [
    (Pair(1, (2, [np.nan])), ["'hands/1/1/0'", 'nan']),
    (Pair(1, (2, [])), ["'hands/1/1'", 'tuple of 1']),
    (1, ["'hands'", 'tuple of 2']),
  ],
)
def test_parts_are_named(hands, words):
  spec = {'hands': Pair(NUMBER, (NUMBER, [NUMBER]))}
  with pytest.raises(checking.UnfitValueError) as error:
    checked(Foreign(spec, {'hands': hands})).reset()
  for word in ["Environment 'Foreign' returned", *words]:
    assert word in str(error.value)


@pytest.mark.parametrize(
  'first,later,says',
  [
    (3.0, None, 'returned a float, where'),
    (dm_env.transition(0.0, 1.0), None, 'not the first'),
    (None, (1.0, 0.0, False), 'returned a tuple, where'),
    (None, dm_env.transition(np.nan, 1.0), 'reward nan'),
    (None, dm_env.TimeStep(STEPS.LAST, None, 0.0, 1.0), 'reward None'),
    (None, dm_env.TimeStep(STEPS.LAST, 0.0, None, 1.0), 'discount None'),
    (None, dm_env.TimeStep(STEPS.MID, 0.0, 1.1, 1.0), '1.1.* between 0 and 1'),
    (None, dm_env.TimeStep(STEPS.MID, 0.0, np.ones(1), 1.0), r'\(1,\)'),
  ],
)
def test_what_is_no_step_of_dm_env_is_refused(first, later, says):
  environment = checked(Foreign(NUMBER, 1.0, first, later))
  with pytest.raises(checking.UnfitValueError, match=f"'Foreign'.*{says}"):
    environment.reset()
    environment.step(0.0)


def test_all_else_is_as_it_was():
  inner = Foreign(NUMBER, 1.0)
  environment = checked(inner)
  assert environment.secret == 7
  assert environment.action_spec() == inner.action_spec()
  with pytest.raises(AttributeError, match='nothing'):
    _ = environment.nothing
  environment.close()
  assert inner.closed
