"""Environments of others return what their specs say, or an error."""

import collections

import dm_env
from dm_env import specs
import numpy as np
import pytest

from acme_hieros.environments import (
  base,
  checked,
  checking,
  make_environment,
)

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


SCREEN = specs.BoundedArray((3, 128, 256), np.uint8, 0, 255)


@pytest.mark.parametrize(
  'image_size,size',
  [(None, (64, 64)), (100, (100, 100)), ('native', (128, 256))],
)
def test_images_are_what_encoders_take(image_size, size):
  value = np.full((3, 128, 256), [[[1]], [[2]], [[3]]], np.uint8)
  environment = checked(Foreign({'eye': SCREEN}, {'eye': value}), image_size)
  seen = environment.reset().observation['eye']
  environment.observation_spec()['eye'].validate(seen)
  np.testing.assert_array_equal(seen, np.broadcast_to([1, 2, 3], (*size, 3)))
  assert len(environment.notes) == (image_size != 'native')


class Family(base.EpisodicEnvironment):
  """As somebody might add it, with images of a form of his own."""

  def _reset(self):
    return np.full((3, 80, 90), 7, np.uint8)

  def _step(self, action):
    return self._reset(), 0.0, False, False

  def observation_spec(self):
    return specs.BoundedArray((3, 80, 90), np.uint8, 0, 255)

  def action_spec(self):
    return specs.DiscreteArray(2)


@pytest.mark.parametrize(
  'image_size,size', [(None, (80, 90)), (32, (32, 32)), ('native', (80, 90))]
)
def test_images_of_an_own_class_are_laid_out_but_only_shrunk_if_asked(
  image_size, size
):
  environment = checked(Family(), image_size)
  for step in (environment.reset(), environment.step(0)):
    assert step.observation.shape == (*size, 3)
    environment.observation_spec().validate(step.observation)
  # It can still be put back, as the benchmarks do.
  environment.set_state(environment.get_state())


def test_every_family_has_the_option():
  for name, size in (('debug/catch', 8), ('sparse/key', 8), ('atari/Pong', 48)):
    environment = make_environment(name, image_size=size)
    assert environment.reset().observation.shape[:2] == (size, size)
  # What it has itself is not touched.
  large = make_environment('atari/Pong', size=96)
  assert large.observation_spec().shape == (96, 96, 3)


def test_all_else_is_as_it_was():
  inner = Foreign(NUMBER, 1.0)
  environment = checked(inner)
  assert environment.secret == 7
  assert environment.action_spec() == inner.action_spec()
  with pytest.raises(AttributeError, match='nothing'):
    _ = environment.nothing
  environment.close()
  assert inner.closed
