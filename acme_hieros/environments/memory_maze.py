"""Memory Maze: coloured balls to be found again, `memory_maze/<size>`.

The mazes are those of the package memory-maze (Pasukonis et al., 2022,
https://arxiv.org/abs/2210.13383), as they are.
"""

from typing import Any

import dm_env
from dm_env import specs
import numpy as np

from acme_hieros.environments import base, construction, rendering

# Cells, walls around them not counted.
_SIZES = ('9x9', '11x11', '13x13', '15x15')


class MemoryMaze(base.EpisodicEnvironment):
  """A maze with balls, of which the next to be touched has the border's colour.

  Observations are images, uint8 [size, size, 3]. The six actions are to stay,
  to roll on, and to turn, in rest or rolling. Each ball that is touched in turn
  earns 1. Episodes are truncated after 1,000 steps in the smallest maze, 4,000
  in the largest.
  """

  def __init__(self, maze: str, seed: int = 0, size: int = 64):
    """Sets up the maze.

    Args:
      maze: '9x9', '11x11', '13x13' or '15x15'.
      seed: Decides mazes, balls and where the player starts.
      size: The side of the observations in pixels.

    Raises:
      ValueError: A package or a library is missing.
    """
    name = f'memory_maze/{maze}'
    self._size = base.check_integer('size', size, 1)
    tasks = rendering.import_drawing(
      name, 'memory_maze.tasks', 'memory-maze', 'memory_maze', needed=True
    )
    self._environment = getattr(tasks, f'memory_maze_{maze}')(
      image_only_obs=True,
      camera_resolution=size,
      seed=np.random.SeedSequence(seed).generate_state(1)[0],
    )

  def _reset(self) -> np.ndarray:
    return self._environment.reset().observation

  def _step(self, action: Any) -> base.Transition:
    timestep = self._environment.step(int(action))
    terminated = timestep.last() and timestep.discount == 0
    truncated = timestep.last() and not terminated
    return timestep.observation, timestep.reward, terminated, truncated

  def observation_spec(self) -> specs.BoundedArray:
    shape = (self._size, self._size, 3)
    return specs.BoundedArray(shape, np.uint8, 0, 255, name='observation')

  def action_spec(self) -> specs.DiscreteArray:
    count = self._environment.action_spec().num_values
    return specs.DiscreteArray(count, np.int32, name='action')

  def close(self):
    self._environment.close()


def make(maze: str, seed: int, options: dict[str, Any]) -> dm_env.Environment:
  """Makes `memory_maze/<maze>`; the options are those of `MemoryMaze`."""
  name = f'memory_maze/{maze}'
  if maze not in _SIZES:
    raise base.unknown_environment(name, names())
  return construction.construct(MemoryMaze, name, options, maze=maze, seed=seed)


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'memory_maze/{maze}' for maze in _SIZES]
