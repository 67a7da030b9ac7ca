"""POPGym: what is not seen has to be remembered, `popgym/<Task><Difficulty>`.

The tasks are those of the package popgym (Morad et al., 2023,
https://arxiv.org/abs/2303.01859) that need no other package, as they are.
"""

from typing import Any

import dm_env
import numpy as np
import tree

from acme_hieros.environments import (
  base,
  checking,
  construction,
  modules,
  one_hots,
)
from acme_hieros.environments.gymnasium_adapter import GymnasiumAdapter

_TASKS = (
  'Autoencode',
  'Battleship',
  'Concentration',
  'CountRecall',
  'HigherLower',
  'MineSweeper',
  'MultiarmedBandit',
  'NoisyPositionOnlyCartPole',
  'NoisyPositionOnlyPendulum',
  'PositionOnlyCartPole',
  'PositionOnlyPendulum',
  'RepeatFirst',
  'RepeatPrevious',
  'VelocityOnlyCartPole',
)
_NAMES = tuple(
  f'{task}{difficulty}'
  for task in _TASKS
  for difficulty in ('Easy', 'Medium', 'Hard')
)


class POPGym(GymnasiumAdapter):
  """A task of POPGym.

  Observations are vectors, float32 [n]: cards, bits and whatever else is one of
  several are one-hot, one after the other. An action is one of several, int32
  []; two of them, int32 [2], in Battleship and MineSweeper; or float32 [1] in
  the tasks with a pendulum. The rewards of an episode lie between -1 and 1 in
  all.
  """

  def __init__(self, task: str, seed: int = 0):
    """Sets up the task.

    Args:
      task: its name with the difficulty, 'AutoencodeEasy'.
      seed: Decides all that is random.

    Raises:
      ValueError: The package is missing.
    """
    name = f'popgym/{task}'
    envs = modules.import_extra(name, 'popgym.envs', 'popgym', 'popgym')
    kind = next(k for k in envs.ALL if k.__name__ == task)
    super().__init__(kind(), seed)
    # Some tasks draw from NumPy's global generator when an episode begins.
    self._rng = np.random.default_rng(seed)
    spec = self._observation.spec
    self._one_hots = None
    if any(leaf.dtype != np.float32 for leaf in tree.flatten(spec)):
      self._one_hots = one_hots.OneHots(spec)
      self._checker = checking.Checker(name, self._one_hots.spec)

  def _reset(self) -> Any:
    theirs = np.random.get_state()
    np.random.seed(self._rng.integers(2**32, dtype=np.uint32))
    try:
      return self._encode(super()._reset())
    finally:
      np.random.set_state(theirs)

  def _step(self, action: Any) -> base.Transition:
    observation, *rest = super()._step(action)
    return self._encode(observation), *rest

  def _encode(self, observation: Any) -> Any:
    return self._one_hots(observation) if self._one_hots else observation


def make(task: str, seed: int, options: dict[str, Any]) -> dm_env.Environment:
  """Makes `popgym/<task>`; there are no options but those of all."""
  name = f'popgym/{task}'
  if task not in _NAMES:
    raise base.unknown_environment(name, names())
  return construction.construct(POPGym, name, options, task=task, seed=seed)


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'popgym/{task}' for task in _NAMES]
