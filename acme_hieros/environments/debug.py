"""Small, fast environments to test agents with; each asks for one ability."""

from typing import Any

import dm_env
from dm_env import specs
import numpy as np

from acme_hieros.environments import base, construction


class Catch(base.EpisodicEnvironment):
  """`debug/catch`: can it be learnt to move a paddle under a falling ball?

  The ball starts in a random column of the top row and falls by a row a step;
  the paddle starts in the middle of the bottom row, and the actions 0, 1, 2
  move it left, not at all, right. When the ball reaches the bottom row the
  reward is 1 if the paddle is there and else -1; all other rewards are 0. Every
  ball can be caught. The last ball of an episode terminates it; any other is
  followed at once by the next, at the top, with the paddle in the middle again.

  Observations are images, uint8 [2 * rows + 2, 2 * columns + 2, 3], four pixels
  a cell, the ball yellow and the paddle cyan, with a margin of one pixel: the
  sides of odd boards, which have a middle, are multiples of 4. Or they are
  vectors, float32 [3], of the ball's row and column and the paddle's column,
  each from -1 to 1; or a dict of both, with the keys 'image' and 'vector'.
  """

  def __init__(
    self,
    seed: int = 0,
    rows: int = 7,
    columns: int = 7,
    observation: str = 'image',
    balls: int = 1,
  ):
    """Sets up the board.

    Args:
      seed: Decides the balls' columns.
      rows: The height of the board; at least half the width and one more, or
        some balls could not be caught.
      columns: The width of the board, at least 2.
      observation: 'image', 'vector' or 'both'.
      balls: The number of balls of an episode. With many, it is long: does an
        agent act as well late in it?
    """
    self._balls = base.check_integer('balls', balls, 1)
    self._columns = base.check_integer('columns', columns, 2)
    self._rows = base.check_integer('rows', rows, columns // 2 + 1)
    self._observation = base.check_choice(
      'observation', observation, ('image', 'vector', 'both')
    )
    self._rng = np.random.default_rng(seed)

  def _reset(self) -> Any:
    self._balls_left = self._balls
    self._drop()
    return self._observe()

  def _drop(self):
    self._ball_row = 0
    self._ball_column = int(self._rng.integers(self._columns))
    self._paddle = self._columns // 2

  def _step(self, action: Any) -> base.Transition:
    self._ball_row += 1
    self._paddle = min(
      max(self._paddle + int(action) - 1, 0), self._columns - 1
    )
    landed = self._ball_row == self._rows - 1
    caught = self._paddle == self._ball_column
    reward = (1 if caught else -1) if landed else 0
    self._balls_left -= landed
    if landed and self._balls_left:
      self._drop()
    return self._observe(), reward, not self._balls_left, False

  def _observe(self) -> Any:
    if self._observation == 'image':
      return self._image()
    if self._observation == 'vector':
      return self._vector()
    return {'image': self._image(), 'vector': self._vector()}

  def _image(self) -> np.ndarray:
    # [row, pixel, column, pixel, channel]; ball and paddle have a channel each
    # of their own, so that neither hides the other.
    image = np.zeros((self._rows, 2, self._columns, 2, 3), np.uint8)
    image[self._ball_row, :, self._ball_column, :, :2] = 255
    image[-1, :, self._paddle, :, 1:] = 255
    image = image.reshape(2 * self._rows, 2 * self._columns, 3)
    return np.pad(image, ((1, 1), (1, 1), (0, 0)))

  def _vector(self) -> np.ndarray:
    last_row, last_column = self._rows - 1, self._columns - 1
    return np.array(
      [
        2 * self._ball_row / last_row - 1,
        2 * self._ball_column / last_column - 1,
        2 * self._paddle / last_column - 1,
      ],
      np.float32,
    )

  def observation_spec(self) -> specs.Array | dict[str, specs.Array]:
    both = {
      'image': specs.BoundedArray(
        (2 * self._rows + 2, 2 * self._columns + 2, 3),
        np.uint8,
        0,
        255,
        name='image',
      ),
      'vector': specs.BoundedArray((3,), np.float32, -1, 1, name='vector'),
    }
    return both if self._observation == 'both' else both[self._observation]

  def action_spec(self) -> specs.DiscreteArray:
    return specs.DiscreteArray(3, np.int32, name='action')


class Recall(base.EpisodicEnvironment):
  """`debug/recall`: can something be remembered for `delay` steps?

  The first observation shows a cue; `delay` steps later an observation asks for
  it. The action then, the number of the cue, earns 1 if it is right and else
  -1, and terminates the episode. Actions before have no effect and no reward.

  Observations are float32 [num_cues + 1]: the cue, one-hot in the first step
  and zeros ever after, and a flag that is 1 when the answer is asked for.
  """

  def __init__(self, seed: int = 0, num_cues: int = 2, delay: int = 15):
    """Sets up the task.

    Args:
      seed: Decides the cues.
      num_cues: The number of cues, and of actions; at least 2.
      delay: The number of steps from the cue to the question, at least 1.
    """
    self._num_cues = base.check_integer('num_cues', num_cues, 2)
    self._delay = base.check_integer('delay', delay, 1)
    self._rng = np.random.default_rng(seed)

  def _reset(self) -> np.ndarray:
    self._steps = 0
    self._cue = int(self._rng.integers(self._num_cues))
    observation = np.zeros(self._num_cues + 1, np.float32)
    observation[self._cue] = 1
    return observation

  def _step(self, action: Any) -> base.Transition:
    answered = self._steps == self._delay
    self._steps += 1
    observation = np.zeros(self._num_cues + 1, np.float32)
    observation[-1] = self._steps == self._delay
    reward = (1 if int(action) == self._cue else -1) if answered else 0
    return observation, reward, answered, False

  def observation_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray(
      (self._num_cues + 1,), np.float32, 0, 1, name='observation'
    )

  def action_spec(self) -> specs.DiscreteArray:
    return specs.DiscreteArray(self._num_cues, np.int32, name='action')


class Echo(base.EpisodicEnvironment):
  """`debug/echo`: do actions meet the observations and rewards they caused?

  An action decides all that comes next: the observation, float32 [num_actions],
  is its one-hot, and the reward its number over that of the last action, from 0
  to 1. The first observation of an episode is zeros. Nothing is random, and the
  episode is truncated after `length` steps.
  """

  def __init__(self, seed: int = 0, num_actions: int = 4, length: int = 20):
    """Sets up the task.

    Args:
      seed: Decides nothing; all environments take one.
      num_actions: The number of actions, at least 2.
      length: The number of steps of an episode.
    """
    del seed
    self._num_actions = base.check_integer('num_actions', num_actions, 2)
    self._length = base.check_integer('length', length, 1)

  def _reset(self) -> np.ndarray:
    self._steps = 0
    return np.zeros(self._num_actions, np.float32)

  def _step(self, action: Any) -> base.Transition:
    self._steps += 1
    observation = np.zeros(self._num_actions, np.float32)
    observation[int(action)] = 1
    reward = int(action) / (self._num_actions - 1)
    return observation, reward, False, self._steps == self._length

  def observation_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray(
      (self._num_actions,), np.float32, 0, 1, name='observation'
    )

  def action_spec(self) -> specs.DiscreteArray:
    return specs.DiscreteArray(self._num_actions, np.int32, name='action')


class RandomLength(base.EpisodicEnvironment):
  """`debug/random_length`: does every reward of every episode arrive?

  Episodes of 1 to `max_length` steps end in a termination or a truncation, with
  equal chances. Every reward is a random integer from -3 to 3 that is not 0, so
  that a lost one is missed and sums are exact. Observations, float32 [1], are
  the number of steps of the episode so far. Actions, of which there are two,
  have no effect.
  """

  def __init__(self, seed: int = 0, max_length: int = 40):
    """Sets up the task.

    Args:
      seed: Decides lengths, endings and rewards.
      max_length: The number of steps of the longest episodes.
    """
    self._max_length = base.check_integer('max_length', max_length, 1)
    self._rng = np.random.default_rng(seed)

  def _reset(self) -> np.ndarray:
    self._steps = 0
    self._length = self._rng.integers(1, self._max_length, endpoint=True)
    self._terminates = bool(self._rng.integers(2))
    return self._observe()

  def _step(self, action: Any) -> base.Transition:
    del action
    self._steps += 1
    reward = self._rng.integers(1, 3, endpoint=True) * self._rng.choice((-1, 1))
    ended = self._steps == self._length
    return (
      self._observe(),
      reward,
      ended and self._terminates,
      ended and not self._terminates,
    )

  def _observe(self) -> np.ndarray:
    return np.array([self._steps], np.float32)

  def observation_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray(
      (1,), np.float32, 0, self._max_length, name='observation'
    )

  def action_spec(self) -> specs.DiscreteArray:
    return specs.DiscreteArray(2, np.int32, name='action')


class Point(base.EpisodicEnvironment):
  """`debug/point`: can a continuous action be learnt?

  A point and a target start at random places from -1 to 1. The action, float32
  [1] from -1 to 1, moves the point by a fifth of it; the reward is minus the
  distance to the target that results. Observations, float32 [2], are point and
  target. The episode is truncated after `length` steps.
  """

  def __init__(self, seed: int = 0, length: int = 20):
    """Sets up the task.

    Args:
      seed: Decides where point and target start.
      length: The number of steps of an episode.
    """
    self._length = base.check_integer('length', length, 1)
    self._rng = np.random.default_rng(seed)

  def _reset(self) -> np.ndarray:
    self._steps = 0
    self._point, self._target = self._rng.uniform(-1, 1, size=2)
    return self._observe()

  def _step(self, action: Any) -> base.Transition:
    self._steps += 1
    force = min(max(float(action[0]), -1), 1)
    self._point = min(max(self._point + 0.2 * force, -1), 1)
    reward = -abs(self._point - self._target)
    return self._observe(), reward, False, self._steps == self._length

  def _observe(self) -> np.ndarray:
    return np.array([self._point, self._target], np.float32)

  def observation_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray((2,), np.float32, -1, 1, name='observation')

  def action_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray((1,), np.float32, -1, 1, name='action')


_ENVIRONMENTS = {
  'catch': Catch,
  'echo': Echo,
  'point': Point,
  'random_length': RandomLength,
  'recall': Recall,
}


def make(task: str, seed: int, options: dict[str, Any]) -> dm_env.Environment:
  """Makes `debug/<task>`; the options are those of the class."""
  name = f'debug/{task}'
  if task not in _ENVIRONMENTS:
    raise base.unknown_environment(name, names())
  return construction.construct(_ENVIRONMENTS[task], name, options, seed=seed)


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'debug/{task}' for task in _ENVIRONMENTS]
