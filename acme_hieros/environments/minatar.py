"""MinAtar: five Atari games in miniature, for quick experiments.

The games are those of the package MinAtar (Young and Tian, 2019,
https://arxiv.org/abs/1903.03176), as they are.
"""

import importlib
import math
from typing import Any

import dm_env
from dm_env import specs
import numpy as np

from acme_hieros.environments import base

# With what the package calls them. It is imported when a game is made: it is
# not always there, and loads the plotting libraries that it shows games with.
_GAMES = {
  'Asterix': 'asterix',
  'Breakout': 'breakout',
  'Freeway': 'freeway',
  'Seaquest': 'seaquest',
  'SpaceInvaders': 'space_invaders',
}

# Of an image, in pixels. Boards are 10 x 10; 16 x 16 can be halved four times.
_MARGIN = 3


class MinAtar(base.EpisodicEnvironment):
  """A game of MinAtar.

  The game shows a board of 10 x 10 cells with n binary channels, one for each
  kind of object and of trail; n is 4 in Asterix and Breakout, 6 in
  SpaceInvaders, 7 in Freeway and 10 in Seaquest. Observations are images, uint8
  [16, 16, n], of a pixel a cell, 255 where there is something, with a black
  margin of three pixels: their sides are multiples of 16, as four halvings by
  convolutions need them. Or they are vectors, float32 [100 * n], of zeros and
  ones. An action, int32 [], is for one step of the game. Rewards are the
  game's.
  """

  def __init__(
    self,
    game: str,
    seed: int = 0,
    sticky: float = 0.1,
    full_action_set: bool = False,
    difficulty_ramping: bool = True,
    time_limit: int = 2500,
    observation: str = 'image',
  ):
    """Sets up the game.

    Args:
      game: 'Asterix', 'Breakout', 'Freeway', 'Seaquest' or 'SpaceInvaders'.
      seed: Decides all that is random, sticky actions included.
      sticky: The probability, at every step, that the game carries out the
        action of the step before instead, which may be the last of the episode
        before.
      full_action_set: Whether all 6 actions of MinAtar are offered, or only
        those that do something in this game.
      difficulty_ramping: Whether Asterix, Seaquest and SpaceInvaders become
        harder as an episode goes on; the other two never do.
      time_limit: The number of steps after which an episode is truncated. The
        package has no limit, so that good players need not ever come to an end,
        but in Freeway, which terminates with step 2,501 whatever is done. The
        default is that length for all; it makes that end a truncation, since
        nothing on the board announces it.
      observation: 'image' or 'vector'.

    Raises:
      ValueError: There is no such game, an option is out of its range, or the
        package is missing.
    """
    if game not in _GAMES:
      raise base.unknown_environment(f'minatar/{game}', names())
    base.check_choice('full_action_set', full_action_set, (False, True))
    base.check_choice('difficulty_ramping', difficulty_ramping, (False, True))
    self._time_limit = base.check_integer('time_limit', time_limit, 1)
    self._observation = base.check_choice(
      'observation', observation, ('image', 'vector')
    )
    if not isinstance(sticky, (int, float)) or not 0 <= sticky <= 1:
      raise ValueError(
        f'sticky={sticky!r} will not do: it has to be a number from 0 to 1.'
      )
    try:
      package = importlib.import_module('minatar')
    except ModuleNotFoundError as error:
      raise ValueError(
        f"Environment 'minatar/{game}' needs the package MinAtar, which is not "
        "installed: pip install '.[minatar]' in a checkout brings it."
      ) from error

    self._game = package.Environment(_GAMES[game], sticky, difficulty_ramping)
    # What was random so far does not outlive the first reset.
    self._game.seed(np.random.SeedSequence(seed).generate_state(1)[0])
    self._actions = (
      range(self._game.num_actions())
      if full_action_set
      else self._game.minimal_action_set()
    )

  def _reset(self) -> np.ndarray:
    self._steps = 0
    self._game.reset()
    return self._observe()

  def _step(self, action: Any) -> base.Transition:
    self._steps += 1
    reward, terminated = self._game.act(self._actions[int(action)])
    truncated = self._steps == self._time_limit
    return self._observe(), reward, terminated, truncated

  def _observe(self) -> np.ndarray:
    board = self._game.state()
    if self._observation == 'vector':
      return board.astype(np.float32).ravel()
    image = np.zeros(self._image_shape(), np.uint8)
    image[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN][board] = 255
    return image

  def _image_shape(self) -> tuple[int, int, int]:
    height, width, channels = self._game.state_shape()
    return height + 2 * _MARGIN, width + 2 * _MARGIN, channels

  def observation_spec(self) -> specs.BoundedArray:
    if self._observation == 'vector':
      size = math.prod(self._game.state_shape())
      return specs.BoundedArray((size,), np.float32, 0, 1, name='observation')
    return specs.BoundedArray(
      self._image_shape(), np.uint8, 0, 255, name='observation'
    )

  def action_spec(self) -> specs.DiscreteArray:
    return specs.DiscreteArray(len(self._actions), np.int32, name='action')


def make(game: str, seed: int, options: dict[str, Any]) -> dm_env.Environment:
  """Makes `minatar/<game>`; the options are those of `MinAtar`."""
  return base.construct(
    MinAtar, f'minatar/{game}', options, game=game, seed=seed
  )


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'minatar/{game}' for game in _GAMES]
