"""Options that every environment has: each is an environment around another."""

import inspect
import numbers
import sys
from typing import Any

import dm_env
from dm_env import specs
import numpy as np

from acme_hieros.environments import base, checking, one_hots

# What a previous action is called among the parts of an observation, and what
# an observation of one part then is.
PREVIOUS_ACTION, OBSERVATION = 'previous_action', 'observation'

# Of rewards that are computed here.
_CHECKER = checking.Checker(None, {})


def wrap(
  environment: dm_env.Environment,
  action_repeat: int = 1,
  time_limit: int | None = None,
  reward_scale: float = 1.0,
  previous_action: bool = False,
) -> dm_env.Environment:
  """What every environment can be told by an option.

  Where an environment has an option of the same name, that is what is meant: of
  `atari/` and `minatar/`, `time_limit` is their own.

  Args:
    environment: One that checks what it returns (`foreign.checked`).
    action_repeat: For how many steps an action is repeated.
    time_limit: The number of steps, each repeat counted, after which an episode
      is truncated; None for no other limit than the environment's.
    reward_scale: What rewards are multiplied by; so are returns and scores.
    previous_action: Whether observations have a further part, the action that
      was taken before.

  Raises:
    ValueError: An option has a value that will not do.
  """
  base.check_integer('action_repeat', action_repeat, 1)
  base.check_choice('previous_action', previous_action, (False, True))
  if time_limit is not None:
    base.check_integer('time_limit', time_limit, 1)
    environment = TimeLimit(environment, time_limit)
  if action_repeat > 1:
    environment = ActionRepeat(environment, action_repeat)
  reward_scale = _check_scale(reward_scale)
  if reward_scale != 1:
    environment = RewardScale(environment, reward_scale)
  if previous_action:
    environment = PreviousAction(environment)
  return environment


OPTIONS = tuple(inspect.signature(wrap).parameters)[1:]


def _check_scale(value: Any) -> float:
  is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not is_number or not 0 < abs(value) <= sys.float_info.max:
    raise ValueError(
      f'reward_scale={value!r} will not do: it has to be a finite number '
      'that is not 0.'
    )
  return float(value)


class Wrapper(dm_env.Environment):
  """An environment around another, whose other attributes it has."""

  def __init__(self, environment: dm_env.Environment):
    self._environment = environment

  @property
  def wrapped(self) -> dm_env.Environment:
    """What it is around."""
    return self._environment

  def reset(self) -> dm_env.TimeStep:
    return self._environment.reset()

  def step(self, action: Any) -> dm_env.TimeStep:
    return self._environment.step(action)

  def observation_spec(self) -> Any:
    return self._environment.observation_spec()

  def action_spec(self) -> Any:
    return self._environment.action_spec()

  def reward_spec(self) -> specs.Array:
    return self._environment.reward_spec()

  def discount_spec(self) -> specs.Array:
    return self._environment.discount_spec()

  def close(self):
    self._environment.close()

  def __getattr__(self, name: str) -> Any:
    if name.startswith('_'):
      raise AttributeError(name)
    return getattr(self._environment, name)


class ActionRepeat(Wrapper):
  """Takes each action for several steps, or to the end of the episode.

  The reward is the sum of theirs, each discounted by those before.
  """

  def __init__(self, environment: dm_env.Environment, count: int):
    super().__init__(environment)
    self._count = count

  def step(self, action: Any) -> dm_env.TimeStep:
    reward, discount = 0.0, 1.0
    for _ in range(self._count):
      timestep = self._environment.step(action)
      if timestep.first():
        return timestep
      reward += discount * float(timestep.reward)
      discount *= float(timestep.discount)
      if timestep.last():
        break
    return timestep._replace(
      reward=_CHECKER.reward(reward), discount=np.float32(discount)
    )


class TimeLimit(Wrapper):
  """Truncates episodes: the discount of the last step is the step's own."""

  def __init__(self, environment: dm_env.Environment, limit: int):
    super().__init__(environment)
    self._limit = limit
    self._left = 0  # Of the episode's steps.

  def reset(self) -> dm_env.TimeStep:
    self._left = self._limit
    return self._environment.reset()

  def step(self, action: Any) -> dm_env.TimeStep:
    if not self._left:
      return self.reset()
    timestep = self._environment.step(action)
    self._left = 0 if timestep.last() else self._left - 1
    if self._left:
      return timestep
    return timestep._replace(step_type=dm_env.StepType.LAST)

  @property
  def get_state(self) -> Any:
    """As `base.EpisodicEnvironment` has it, if what is wrapped does."""
    get_state = self._environment.get_state
    return lambda: (get_state(), self._left)

  def set_state(self, state: Any):
    """Goes back to where `get_state` was called."""
    inner, self._left = state
    self._environment.set_state(inner)


class RewardScale(Wrapper):
  """Multiplies rewards."""

  def __init__(self, environment: dm_env.Environment, scale: float):
    super().__init__(environment)
    self._scale = scale

  def step(self, action: Any) -> dm_env.TimeStep:
    timestep = self._environment.step(action)
    if timestep.first():
      return timestep
    reward = _CHECKER.reward(self._scale * float(timestep.reward))
    return timestep._replace(reward=reward)


class PreviousAction(Wrapper):
  """Observations have the action before as `previous_action`, float32 [n].

  Choices are one-hot, numbers as they are, and zeros come first. What was not a
  dict is its part `observation`.
  """

  def __init__(self, environment: dm_env.Environment):
    super().__init__(environment)
    spec = environment.observation_spec()
    self._has_parts = isinstance(spec, dict)
    if self._has_parts and PREVIOUS_ACTION in spec:
      raise ValueError(
        f'previous_action=True will not do: observations have a part '
        f'{PREVIOUS_ACTION!r} already.'
      )
    self._one_hots = one_hots.OneHots(environment.action_spec())
    self._none = np.zeros(self._one_hots.spec.shape, np.float32)

  def reset(self) -> dm_env.TimeStep:
    return self._add(self._environment.reset(), self._none)

  def step(self, action: Any) -> dm_env.TimeStep:
    timestep = self._environment.step(action)
    if timestep.first():
      return self._add(timestep, self._none)
    return self._add(timestep, self._one_hots(action))

  def _add(
    self, timestep: dm_env.TimeStep, action: np.ndarray
  ) -> dm_env.TimeStep:
    parts = self._parts(timestep.observation)
    return timestep._replace(
      observation={**parts, PREVIOUS_ACTION: action.copy()}
    )

  def _parts(self, whole: Any) -> dict[Any, Any]:
    return whole if self._has_parts else {OBSERVATION: whole}

  def observation_spec(self) -> dict[Any, Any]:
    parts = self._parts(self._environment.observation_spec())
    return {
      **parts,
      PREVIOUS_ACTION: self._one_hots.spec.replace(name=PREVIOUS_ACTION),
    }
