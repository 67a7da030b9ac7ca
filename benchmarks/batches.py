"""What replay could hold, without meaning, where only its shape counts."""

import numpy as np

from acme_hieros import config as config_lib
from acme_hieros.models import level as level_lib
from acme_hieros.models import spaces, world_model


def draw(
  config: config_lib.HierosConfig, level: level_lib.Level
) -> level_lib.Batch:
  """A level's batch at random; NumPy, [B, T, ...]."""
  rng = np.random.default_rng(0)
  shape = (config.batch_size, config.sequence_length)

  def draw_in(space):
    size = (*shape, *space.shape)
    if isinstance(space, spaces.Vector):
      return rng.normal(size=size).astype(space.dtype)
    if isinstance(space, spaces.Continuous):
      return rng.uniform(space.minimum, space.maximum, size).astype(space.dtype)
    high = 256 if isinstance(space, spaces.Image) else space.classes
    return rng.integers(0, high, size).astype(space.dtype)

  return level_lib.Batch(
    world_model.Sequence(
      observation={
        n: draw_in(space) for n, space in level.observation_spaces.items()
      },
      action=draw_in(level.action_space),
      reward=rng.normal(size=shape).astype(np.float32),
      discount=np.ones(shape, np.float32),
      start_of_episode=rng.random(shape) < 0.01,
    ),
    draw_in(level.subgoal_space).astype(np.uint8)
    if level.subgoal_space
    else None,
    np.full(shape, -1.0, np.float32),
  )
