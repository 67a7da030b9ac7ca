"""Crafter's world is shown and played as the package has it."""

import numpy as np
import pytest

from acme_hieros.environments import crafter, make_environment

package = pytest.importorskip('crafter')


def test_an_episode_is_truncated_by_its_length():
  environment = make_environment('crafter/reward', length=5)
  steps = [environment.reset(), *(environment.step(0) for _ in range(5))]
  assert [s.last() for s in steps] == [False] * 5 + [True]
  assert steps[-1].discount == 1
  assert steps[0].observation.shape == (64, 64, 3)


def test_death_terminates():
  environment = make_environment('crafter/reward')
  environment.reset()
  environment._world._player.health = 0
  step = environment.step(0)
  assert step.last() and step.discount == 0


def achieve(name):
  environment = make_environment(name)
  environment.reset()
  environment._world._player.achievements['wake_up'] = 1
  return environment.step(0).reward


def test_an_achievement_earns_one_unless_nothing_does():
  assert achieve('crafter/reward') == 1
  assert achieve('crafter/noreward') == 0


def test_it_goes_back_to_a_state():
  environment = make_environment('crafter/reward')
  environment.reset()
  state = environment.get_state()
  played = []
  for _ in range(2):
    environment.set_state(state)
    played.append([environment.step(i % 17).observation for i in range(30)])
  np.testing.assert_array_equal(*played)


def test_other_names_are_refused():
  assert crafter.names() == ['crafter/reward', 'crafter/noreward']
  with pytest.raises(ValueError, match='crafter/reward'):
    make_environment('crafter/rewards')
