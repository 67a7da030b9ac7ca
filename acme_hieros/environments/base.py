"""What the environments of this package have in common."""

import abc
from collections.abc import Sequence
import copy
import difflib
import functools
from typing import Any

import dm_env
from dm_env import specs
import numpy as np

from acme_hieros.environments import checking

# (observation, reward, terminated, truncated)
Transition = tuple[Any, float, bool, bool]


class EpisodicEnvironment(dm_env.Environment):
  """A `dm_env.Environment` that only needs `_reset` and `_step` to be written.

  Rewards and discounts are float32 scalars. The discount of an episode's last
  step is 0 if the episode terminated and 1 if it was merely truncated, so that
  a learner may bootstrap there; an episode that does both has terminated.

  Whatever `_reset` and `_step` return is checked; `checking.UnfitValueError`
  says what is wrong with it.
  """

  _needs_reset = True

  @functools.cached_property
  def _checker(self) -> checking.Checker:
    return checking.Checker(type(self).__name__, self.observation_spec())

  @property
  def notes(self) -> Sequence[str]:
    """A sentence on each array that the agent sees otherwise than expected."""
    return self._checker.notes

  @abc.abstractmethod
  def _reset(self) -> Any:
    """Starts an episode and returns its first observation."""

  @abc.abstractmethod
  def _step(self, action: Any) -> Transition:
    """Takes a step of an episode that has not ended."""

  def reset(self) -> dm_env.TimeStep:
    observation = self._checker.observation(self._reset())
    self._needs_reset = False
    return dm_env.restart(observation)

  def step(self, action: Any) -> dm_env.TimeStep:
    if self._needs_reset:
      return self.reset()
    observation, reward, terminated, truncated = self._step(action)
    check = self._checker
    terminated = check.flag(terminated, 'terminated')
    self._needs_reset = terminated or check.flag(truncated, 'truncated')
    # `dm_env.termination` and its like would give Python floats, which are
    # float64 to every reader.
    return dm_env.TimeStep(
      step_type=(
        dm_env.StepType.LAST if self._needs_reset else dm_env.StepType.MID
      ),
      reward=check.reward(reward),
      discount=np.float32(0 if terminated else 1),
      observation=check.observation(observation),
    )

  def get_state(self) -> Any:
    """Everything that decides what comes next, for `set_state`."""
    return copy.deepcopy(self.__dict__)

  def set_state(self, state: Any):
    """Goes back to where `get_state` was called, as often as one likes."""
    self.__dict__.update(copy.deepcopy(state))

  def reward_spec(self) -> specs.Array:
    return specs.Array((), np.float32, name='reward')

  def discount_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray((), np.float32, 0, 1, name='discount')


def check_integer(option: str, value: Any, minimum: int) -> int:
  """Returns `value` as an int, or raises ValueError if it will not do."""
  is_integer = isinstance(value, (int, np.integer))
  if not is_integer or isinstance(value, bool) or value < minimum:
    raise ValueError(
      f'{option}={value!r} will not do: it has to be an integer of at least '
      f'{minimum}.'
    )
  return int(value)


def check_choice(option: str, value: Any, choices: Sequence[Any]) -> Any:
  """Returns `value`, or raises ValueError if it is none of `choices`."""
  if value not in choices:
    raise ValueError(
      f'{option}={value!r} will not do: it has to be '
      f'{_alternatives([repr(c) for c in choices])}.'
    )
  return value


def unknown_environment(name: str, known: Sequence[str]) -> ValueError:
  """The error for a name that is none of `known`: it lists the nearest."""

  def likeness(candidate: str) -> float:
    # A forgotten or mistaken family should not hide a game that was meant, so
    # what follows the family is compared by itself as well.
    pairs = ((name, candidate), (_tail(name), _tail(candidate)))
    return max(
      difflib.SequenceMatcher(None, a.casefold(), b.casefold()).ratio()
      for a, b in pairs
    )

  nearest = sorted(known, key=likeness, reverse=True)[:3]
  return ValueError(
    f'Unknown environment {name!r}: did you mean {_alternatives(nearest)}?'
  )


def _tail(name: str) -> str:
  return name.partition('/')[2] or name


def _alternatives(words: Sequence[str]) -> str:
  return ' or '.join(filter(None, (', '.join(words[:-1]), words[-1])))
