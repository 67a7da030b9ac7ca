"""MiniGrid: rooms, keys and doors seen in part, `minigrid/<Id>`.

The environments are those of the package minigrid (Chevalier-Boisvert et al.,
2023, https://arxiv.org/abs/2306.13831) by their ids, as they are. What to do
there is not seen where it is told in words.
"""

from typing import Any

import dm_env
from dm_env import specs
import gymnasium
import numpy as np

from acme_hieros.environments import (
  base,
  construction,
  modules,
  one_hots,
  resize,
)

# All ids of the package, but for 'MiniGrid-' and the version; those of
# 'MiniGrid-WFC-' need pictures that it does not bring.
_IDS = """
BlockedUnlockPickup
DistShift1 DistShift2
DoorKey-5x5 DoorKey-6x6 DoorKey-8x8 DoorKey-16x16
Dynamic-Obstacles-5x5 Dynamic-Obstacles-6x6 Dynamic-Obstacles-8x8
Dynamic-Obstacles-16x16 Dynamic-Obstacles-Random-5x5
Dynamic-Obstacles-Random-6x6
Empty-5x5 Empty-6x6 Empty-8x8 Empty-16x16 Empty-Random-5x5 Empty-Random-6x6
Fetch-5x5-N2 Fetch-6x6-N2 Fetch-8x8-N3
FourRooms
GoToDoor-5x5 GoToDoor-6x6 GoToDoor-8x8
GoToObject-6x6-N2 GoToObject-8x8-N2
KeyCorridorS3R1 KeyCorridorS3R2 KeyCorridorS3R3 KeyCorridorS4R3
KeyCorridorS5R3 KeyCorridorS6R3
LavaCrossingS9N1 LavaCrossingS9N2 LavaCrossingS9N3 LavaCrossingS11N5
LavaGapS5 LavaGapS6 LavaGapS7
LockedRoom
MemoryS7 MemoryS9 MemoryS11 MemoryS13 MemoryS13Random MemoryS17Random
MultiRoom-N2-S4 MultiRoom-N4-S5 MultiRoom-N6
ObstructedMaze-1Dl ObstructedMaze-1Dlh ObstructedMaze-1Dlhb
ObstructedMaze-2Dl ObstructedMaze-2Dlh ObstructedMaze-2Dlhb
ObstructedMaze-1Q ObstructedMaze-2Q ObstructedMaze-Full
Playground
PutNear-6x6-N2 PutNear-8x8-N3
RedBlueDoors-6x6 RedBlueDoors-8x8
SimpleCrossingS9N1 SimpleCrossingS9N2 SimpleCrossingS9N3 SimpleCrossingS11N5
Unlock UnlockPickup
"""
_SECOND_VERSIONS = """
MultiRoom-N4-S5 ObstructedMaze-1Q ObstructedMaze-2Q ObstructedMaze-2Dlhb
ObstructedMaze-Full
"""
_NAMES = tuple(
  f'MiniGrid-{name}-v{version}'
  for version, all_names in enumerate((_IDS, _SECOND_VERSIONS))
  for name in all_names.split()
)

# Of a view's side: cells, and pixels of a cell.
_VIEW, _TILE = 7, 8


class MiniGrid(base.EpisodicEnvironment):
  """A world of cells, of which the 7 x 7 before the player are seen.

  Observations are vectors, float32 [984]: for each cell, one-hot, what is
  there, of which colour and in which state, and where the player looks. Or what
  the package has, 'image', uint8 [7, 7, 3], these three as numbers, with the
  direction; or 'pixels', uint8 [size, size, 3], the view as people see it.
  There are seven actions. To succeed earns 1, less up to 0.9 for the steps that
  it took.
  """

  def __init__(
    self,
    env_id: str,
    seed: int = 0,
    observation: str = 'vector',
    size: int = 64,
    max_steps: int | None = None,
  ):
    """Sets up the world.

    Args:
      env_id: 'MiniGrid-Empty-5x5-v0'.
      seed: Decides all that is random.
      observation: 'vector', 'image' or 'pixels'.
      size: The side in pixels.
      max_steps: The number of steps after which an episode is truncated; None
        for what is usual, which depends on the world.

    Raises:
      ValueError: An option is out of its range, or the package is missing.
    """
    name = f'minigrid/{env_id}'
    self._observation = base.check_choice(
      'observation', observation, ('vector', 'image', 'pixels')
    )
    self._size = base.check_integer('size', size, 1)
    options = {}
    if max_steps is not None:
      options['max_steps'] = base.check_integer('max_steps', max_steps, 1)
    modules.import_extra(name, 'minigrid', 'minigrid', 'minigrid')
    constants = modules.import_extra(
      name, 'minigrid.core.constants', 'minigrid', 'minigrid'
    )
    self._world = gymnasium.make(env_id, disable_env_checker=True, **options)
    self._seed = seed
    kinds = (
      constants.OBJECT_TO_IDX,
      constants.COLOR_TO_IDX,
      constants.STATE_TO_IDX,
    )
    last = [max(kind.values()) for kind in kinds]
    self._one_hots = one_hots.OneHots(
      (
        specs.BoundedArray((_VIEW, _VIEW, 3), np.uint8, 0, last),
        specs.DiscreteArray(4),
      )
    )
    self._resize = resize.AreaResize(2 * (_VIEW * _TILE,), (size, size))

  def _reset(self) -> Any:
    observation, _ = self._world.reset(seed=self._seed)
    self._seed = None
    return self._observe(observation)

  def _step(self, action: Any) -> base.Transition:
    observation, *rest, _ = self._world.step(int(action))
    return self._observe(observation), *rest

  def _observe(self, observation: dict[str, Any]) -> Any:
    if self._observation == 'vector':
      return self._one_hots((observation['image'], observation['direction']))
    if self._observation == 'image':
      return {part: observation[part] for part in ('image', 'direction')}
    frame = self._world.unwrapped.get_frame(tile_size=_TILE, agent_pov=True)
    return self._resize(frame)

  def observation_spec(self) -> Any:
    if self._observation == 'vector':
      return self._one_hots.spec.replace(name='observation')
    side, channels = self._size, 3
    if self._observation == 'image':
      side = _VIEW
    image = specs.BoundedArray(
      (side, side, channels), np.uint8, 0, 255, name='image'
    )
    if self._observation == 'pixels':
      return image
    return {
      'image': image,
      'direction': specs.DiscreteArray(4, np.int32, name='direction'),
    }

  def action_spec(self) -> specs.DiscreteArray:
    count = int(self._world.action_space.n)
    return specs.DiscreteArray(count, np.int32, name='action')

  def close(self):
    self._world.close()


def make(env_id: str, seed: int, options: dict[str, Any]) -> dm_env.Environment:
  """Makes `minigrid/<env_id>`; the options are those of `MiniGrid`."""
  name = f'minigrid/{env_id}'
  if env_id not in _NAMES:
    raise base.unknown_environment(name, names())
  return construction.construct(
    MiniGrid, name, options, env_id=env_id, seed=seed
  )


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'minigrid/{env_id}' for env_id in _NAMES]
