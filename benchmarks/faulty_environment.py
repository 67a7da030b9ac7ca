"""An environment that does once what it should not, for `benchmarks.faults`."""

from typing import Any

import gymnasium
from gymnasium import spaces
import numpy as np


class Faulty(gymnasium.Env):
  """Counts the steps of its episodes, of ten steps each."""

  observation_space = spaces.Box(-10, 10, (3,), np.float32)
  action_space = spaces.Discrete(3)

  def __init__(self, fault: str, when: int):
    """Creates the environment.

    Args:
      fault: 'nan_reward', 'infinite_reward', 'nan_observation', 'shape' of an
        observation, 'raise', or 'close', which always raises.
      when: of its steps, the one at which it happens.
    """
    self._fault, self._when = fault, when
    self._total = self._steps = 0

  def reset(self, *, seed: int | None = None, options: Any = None):
    super().reset(seed=seed)
    self._steps = 0
    return np.zeros(3, np.float32), {}

  def step(self, action):
    self._steps += 1
    self._total += 1
    fault = self._fault if self._total == self._when else None
    if fault == 'raise':
      raise RuntimeError('The simulator is gone.')
    observation = np.full(4 if fault == 'shape' else 3, self._steps, np.float32)
    if fault == 'nan_observation':
      observation[0] = np.nan
    reward = {'nan_reward': np.nan, 'infinite_reward': -np.inf}.get(fault, 1.0)
    return observation, reward, self._steps >= 10, False, {}

  def close(self):
    if self._fault == 'close':
      raise RuntimeError('The simulator does not end.')


gymnasium.register('Faulty-v0', Faulty)
