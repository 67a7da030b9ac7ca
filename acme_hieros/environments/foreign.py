"""Environments that others have written, with what they return checked."""

from collections.abc import Sequence
import functools
from typing import Any

import dm_env
from dm_env import specs
import numpy as np
import tree

from acme_hieros.environments import base, checking, seeing, wrappers


def checked(
  environment: dm_env.Environment, image_size: int | str | None = None
) -> dm_env.Environment:
  """The environment, with every value checked that it returns.

  Observations, rewards, discounts and the marks of first and last steps have to
  be as the specs say, and all numbers finite; otherwise `reset` and `step`
  raise `checking.UnfitValueError`, which names environment, key, what is wanted
  and what was returned. Rewards and discounts are float32 then, and images what
  encoders take (`seeing.as_agents_want`); `notes` of what is returned says in a
  sentence each what else a user should know of that.

  Those of `make_environment`, which check themselves, are returned as they are,
  unless an `image_size` says otherwise.

  Args:
    environment: of anybody.
    image_size: longest side of images, to which longer ones are shrunk;
      'native' for any. Without it 64, but what a class of this package shows is
      not shrunk: it has options of its own.
  """
  image_size = seeing.check_image_size(image_size)
  is_checked = isinstance(
    _innermost(environment), (base.EpisodicEnvironment, _Checked)
  )
  if is_checked and image_size is None:
    image_size = seeing.NATIVE
  seen = _Checked(environment, image_size)
  return seen if seen.changes or not is_checked else environment


def _innermost(environment: dm_env.Environment) -> dm_env.Environment:
  while isinstance(environment, wrappers.Wrapper):
    environment = environment.wrapped
  return environment


class _Checked(dm_env.Environment):
  """What `checked` returns; other attributes are those of what it wraps.

  changes: whether the agent sees anything otherwise than it is.
  """

  def __init__(self, environment: dm_env.Environment, image_size):
    self._environment = environment
    self._name = type(_innermost(environment)).__name__
    for method in ('observation_spec', 'action_spec'):
      parts = tree.flatten(getattr(environment, method)())
      if not all(isinstance(part, specs.Array) for part in parts):
        raise ValueError(
          f'Environment {self._name!r} has no {method}() of which every part '
          'is one of dm_env.specs.'
        )
    self._checker = checking.Checker(
      self._name,
      environment.observation_spec(),
      functools.partial(seeing.as_agents_want, image_size=image_size),
    )
    self.changes = self._checker.changes

  @property
  def notes(self) -> Sequence[str]:
    """A sentence on each array that the agent sees otherwise than expected."""
    return self._checker.notes

  def reset(self) -> dm_env.TimeStep:
    timestep = self._check(self._environment.reset())
    if not timestep.first():
      raise checking.UnfitValueError(
        f'Environment {self._name!r} returned from reset() a step that is not '
        'the first of an episode.'
      )
    return timestep

  def step(self, action: Any) -> dm_env.TimeStep:
    return self._check(self._environment.step(action))

  def _check(self, timestep: dm_env.TimeStep) -> dm_env.TimeStep:
    if not isinstance(timestep, dm_env.TimeStep):
      raise checking.UnfitValueError(
        f'Environment {self._name!r} returned a {type(timestep).__name__}, '
        'where dm_env wants a TimeStep.'
      )
    check = self._checker
    timestep = timestep._replace(
      observation=check.observation(timestep.observation)
    )
    # Nothing came before the first step.
    if timestep.first():
      return timestep._replace(reward=None, discount=None)
    return timestep._replace(
      reward=check.reward(timestep.reward),
      discount=check.discount(timestep.discount),
    )

  def observation_spec(self) -> Any:
    return self._checker.observation_spec

  def action_spec(self) -> Any:
    return self._environment.action_spec()

  def reward_spec(self) -> specs.Array:
    return specs.Array((), np.float32, name='reward')

  def discount_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray((), np.float32, 0, 1, name='discount')

  def close(self):
    self._environment.close()

  def __getattr__(self, name: str) -> Any:
    if name.startswith('__'):
      raise AttributeError(name)
    return getattr(self._environment, name)
