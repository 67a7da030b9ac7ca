"""DM Control: `dmc/<domain>_<task>`, moving bodies by continuous actions.

The tasks are those of the package dm_control (Tassa et al., 2018,
https://arxiv.org/abs/1801.00690), as they are.
"""

from collections.abc import Mapping
from typing import Any

import dm_env
from dm_env import specs
import numpy as np

from acme_hieros.environments import (
  base,
  construction,
  rendering,
  wrappers,
)

# Domains with their tasks.
_TASKS: Mapping[str, str] = {
  'acrobot': 'swingup swingup_sparse',
  'ball_in_cup': 'catch',
  'cartpole': 'balance balance_sparse swingup swingup_sparse two_poles'
  ' three_poles',
  'cheetah': 'run',
  'dog': 'stand walk trot run fetch',
  'finger': 'spin turn_easy turn_hard',
  'fish': 'upright swim',
  'hopper': 'stand hop',
  'humanoid': 'stand walk run run_pure_state',
  'humanoid_CMU': 'stand walk run',
  'lqr': 'lqr_2_1 lqr_6_2',
  'manipulator': 'bring_ball bring_peg insert_ball insert_peg',
  'pendulum': 'swingup',
  'point_mass': 'easy hard',
  'quadruped': 'walk run escape fetch',
  'reacher': 'easy hard',
  'stacker': 'stack_2 stack_4',
  'swimmer': 'swimmer6 swimmer15',
  'walker': 'stand walk run',
}
_NAMES = {
  f'{domain}_{task}': (domain, task)
  for domain, tasks in _TASKS.items()
  for task in tasks.split()
}

# From which bodies are seen; 0 where nothing is said.
_CAMERAS = {'quadruped': 2}


class Control(base.EpisodicEnvironment):
  """A task of DM Control.

  Observations are dicts of the parts of the state, float32 [n], or images,
  uint8 [size, size, 3]. An action, float32, is repeated; the reward is the sum
  over the repeats. Most episodes are truncated after 1,000 steps, repeats
  counted, of which each has a reward from 0 to 1.
  """

  def __init__(
    self,
    domain: str,
    task: str,
    seed: int = 0,
    pixels: bool = False,
    action_repeat: int | None = None,
    time_limit: int | None = None,
    size: int = 64,
    camera: int | None = None,
  ):
    """Sets up the task.

    Args:
      domain: of the task.
      task: the rest of its name.
      seed: Decides how episodes begin.
      pixels: Whether observations are images. They need EGL or OSMesa, see
        `rendering`.
      action_repeat: For how many steps an action is repeated; None for what is
        usual, which is 2 with images and 1 without.
      time_limit: The number of steps, each repeat counted, after which an
        episode is truncated; None for no other limit than the task's.
      size: The side of the images in pixels, at most what MuJoCo draws, 480.
      camera: The number of the camera; None for what is usual, which is 2 of
        the quadruped and 0 of the others.

    Raises:
      ValueError: An option is out of its range, or a package or a library is
        missing.
    """
    name = f'dmc/{domain}_{task}'
    self._pixels = base.check_choice('pixels', pixels, (False, True))
    if action_repeat is None:
      action_repeat = 2 if pixels else 1
    self._repeat = base.check_integer('action_repeat', action_repeat, 1)
    if time_limit is not None:
      base.check_integer('time_limit', time_limit, 1)
    self._size = base.check_integer('size', size, 1)
    if camera is None:
      camera = _CAMERAS.get(domain, 0)
    self._camera = base.check_integer('camera', camera, 0)
    suite = rendering.import_drawing(
      name, 'dm_control.suite', 'dm_control', 'dmc', needed=pixels
    )
    state = np.random.RandomState(
      np.random.SeedSequence(seed).generate_state(4)
    )
    self._environment = suite.load(domain, task, task_kwargs={'random': state})
    if time_limit is not None:
      # Inside: each repeat counts, and images are drawn of the last alone.
      self._environment = wrappers.TimeLimit(self._environment, time_limit)
    model = self._environment.physics.model
    drawn = min(model.vis.global_.offwidth, model.vis.global_.offheight)
    if size > drawn:
      raise ValueError(
        f'size={size} will not do: of {name} at most {drawn} pixels are drawn.'
      )
    count = model.ncam
    if pixels and camera >= count:
      raise ValueError(
        f'camera={camera} will not do: {name} has the cameras 0 to {count - 1}.'
      )
    spec = self._environment.observation_spec()
    self._spec = {
      part: specs.Array(spec[part].shape or (1,), np.float32, part)
      for part in spec
    }

  def _reset(self) -> Any:
    return self._observe(self._environment.reset())

  def _step(self, action: Any) -> base.Transition:
    reward = 0.0
    for _ in range(self._repeat):
      timestep = self._environment.step(action)
      reward += timestep.reward
      if timestep.last():
        break
    terminated = timestep.last() and timestep.discount == 0
    truncated = timestep.last() and not terminated
    return self._observe(timestep), reward, terminated, truncated

  def _observe(self, timestep: dm_env.TimeStep) -> Any:
    if self._pixels:
      return self._environment.physics.render(
        self._size, self._size, camera_id=self._camera
      )
    return {
      part: np.reshape(timestep.observation[part], spec.shape)
      for part, spec in self._spec.items()
    }

  def observation_spec(self) -> Any:
    if not self._pixels:
      return dict(self._spec)
    shape = (self._size, self._size, 3)
    return specs.BoundedArray(shape, np.uint8, 0, 255, name='observation')

  def action_spec(self) -> specs.BoundedArray:
    spec = self._environment.action_spec()
    return specs.BoundedArray(
      spec.shape, np.float32, spec.minimum, spec.maximum, name='action'
    )

  def close(self):
    self._environment.close()


def make(task: str, seed: int, options: dict[str, Any]) -> dm_env.Environment:
  """Makes `dmc/<task>`; the options are those of `Control`."""
  name = f'dmc/{task}'
  if task not in _NAMES:
    raise base.unknown_environment(name, names())
  domain, rest = _NAMES[task]
  return construction.construct(
    Control, name, options, domain=domain, task=rest, seed=seed
  )


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'dmc/{task}' for task in _NAMES]
