"""Crafter: a world to survive in and 22 achievements, `crafter/<reward>`.

The world is that of the package crafter (Hafner, 2021,
https://arxiv.org/abs/2109.06780), as it is.
"""

import collections
from typing import Any

import dm_env
from dm_env import specs
import numpy as np

from acme_hieros.environments import base, construction, modules

_REWARDS = ('reward', 'noreward')


class Crafter(base.EpisodicEnvironment):
  """A world seen from above.

  Observations are images, uint8 [size, size, 3]; there are 17 actions. With
  rewards, an achievement earns 1 when it is unlocked for the first time in an
  episode, and health that is lost or won 0.1. An episode terminates with the
  player, and is truncated after `length` steps.
  """

  def __init__(
    self, reward: str, seed: int = 0, size: int = 64, length: int = 10_000
  ):
    """Sets up the world.

    Args:
      reward: 'reward', or 'noreward' for none at all.
      seed: Decides worlds and what happens in them.
      size: The side of the observations in pixels.
      length: The number of steps of the longest episodes.

    Raises:
      ValueError: An option is out of its range, or the package is missing.
    """
    self._size = base.check_integer('size', size, 1)
    self._length = base.check_integer('length', length, 1)
    package = modules.import_extra(
      f'crafter/{reward}', 'crafter', 'crafter', 'crafter'
    )
    # The limit is kept here: the package does not tell it from death.
    self._world = package.Env(
      size=(size, size), reward=reward == 'reward', length=None, seed=seed
    )
    _order(self._world._world)

  def _reset(self) -> np.ndarray:
    self._steps = 0
    return self._world.reset()

  def _step(self, action: Any) -> base.Transition:
    self._steps += 1
    observation, reward, terminated, _ = self._world.step(int(action))
    truncated = self._steps == self._length
    # Without a limit the package says None.
    return observation, reward, bool(terminated), truncated

  def observation_spec(self) -> specs.BoundedArray:
    shape = (self._size, self._size, 3)
    return specs.BoundedArray(shape, np.uint8, 0, 255, name='observation')

  def action_spec(self) -> specs.DiscreteArray:
    return specs.DiscreteArray(
      int(self._world.action_space.n), np.int32, name='action'
    )


class _OrderedSet(dict):
  """A set in the order in which things were added."""

  def add(self, thing: Any):
    self[thing] = None

  def remove(self, thing: Any):
    del self[thing]


def _order(world: Any):
  """Has a world keep creatures in order.

  The package draws among them as sets have them, by their place in memory, and
  the same seed would give other episodes.
  """

  class Ordered(type(world)):
    def reset(self, seed: int | None = None):
      super().reset(seed)
      self._chunks = collections.defaultdict(_OrderedSet)

  world.__class__ = Ordered


def make(reward: str, seed: int, options: dict[str, Any]) -> dm_env.Environment:
  """Makes `crafter/<reward>`; the options are those of `Crafter`."""
  name = f'crafter/{reward}'
  if reward not in _REWARDS:
    raise base.unknown_environment(name, names())
  return construction.construct(
    Crafter, name, options, reward=reward, seed=seed
  )


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'crafter/{reward}' for reward in _REWARDS]
