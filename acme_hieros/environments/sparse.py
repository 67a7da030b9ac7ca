"""Tasks whose reward is rare or far off: what a hierarchy should be good for.

Boards, of 8 x 8 cells or more, on which a player walks. Random play hardly ever
meets a reward, and a reward says little of the many steps that led to it: an
agent has to find out how to get somewhere before it knows what for. Or what
tells where to go is long past when it is time to go there.
"""

import abc
from collections.abc import Sequence
from typing import Any

import dm_env
from dm_env import specs
import numpy as np

from acme_hieros.environments import base, construction

SIDE = 8
REWARD = 10.0

# What the actions do: nothing, up, down, left, right; (row, column).
MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))

_WALL = (130, 130, 130)
_PLAYER = (255, 255, 255)

Cell = tuple[int, int]


class Board(base.EpisodicEnvironment):
  """A player on a board of S x S cells; five actions, one of which is to stay.

  Observations are images, uint8 [2 S, 2 S, 3], two pixels a cell, on which the
  player is white and walls are gray. Or they are vectors, float32 [S S n], of
  zeros and ones: for each of n kinds of things that can change, the player
  last, where on the board it is. An episode is truncated after `length` steps.
  """

  # Of what can change, but for the player: each [3], or [S, S, 3] by place.
  _colours: Sequence[np.ndarray]

  def __init__(
    self, seed: int, length: int, observation: str, side: int = SIDE
  ):
    self._side = side
    self._length = base.check_integer('length', length, 1)
    self._observation = base.check_choice(
      'observation', observation, ('image', 'vector')
    )
    self._rng = np.random.default_rng(seed)
    self._walls = np.zeros((side, side), bool)
    # What is seen where nothing that can change is.
    self._ground = np.zeros((side, side, 3), np.uint8)
    self._player: Cell = (0, 0)

  def _reset(self) -> np.ndarray:
    self._steps = 0
    self._begin()
    return self._observe()

  def _step(self, action: Any) -> base.Transition:
    self._steps += 1
    row, column = np.add(self._player, MOVES[int(action)]).tolist()
    inside = 0 <= row < self._side and 0 <= column < self._side
    if inside and not self._walls[row, column]:
      self._player = row, column
    reward, terminated = self._arrive()
    return self._observe(), reward, terminated, self._steps == self._length

  @abc.abstractmethod
  def _begin(self):
    """Places everything."""

  @abc.abstractmethod
  def _arrive(self) -> tuple[float, bool]:
    """What comes of where the player is: a reward, and whether all is over."""

  @abc.abstractmethod
  def _things(self) -> Sequence[np.ndarray]:
    """Where each kind of thing of `_colours` is, bool [S, S]."""

  def _random_cell(self, allowed: np.ndarray) -> Cell:
    row, column = self._rng.choice(np.argwhere(allowed))
    return int(row), int(column)

  def _observe(self) -> np.ndarray:
    things = [*self._things(), at(self._player, self._side)]
    if self._observation == 'vector':
      return np.concatenate(things, None, dtype=np.float32)
    image = self._ground
    for thing, colour in zip(things, (*self._colours, _PLAYER)):
      image = np.where(thing[..., None], colour, image)
    return image.astype(np.uint8).repeat(2, 0).repeat(2, 1)

  def observation_spec(self) -> specs.BoundedArray:
    if self._observation == 'vector':
      shape = (self._side**2 * (len(self._colours) + 1),)
      return specs.BoundedArray(shape, np.float32, 0, 1, name='vector')
    shape = (2 * self._side, 2 * self._side, 3)
    return specs.BoundedArray(shape, np.uint8, 0, 255, name='image')

  def action_spec(self) -> specs.DiscreteArray:
    return specs.DiscreteArray(len(MOVES), np.int32, name='action')


def at(cell: Cell, side: int = SIDE) -> np.ndarray:
  """A board with one thing, bool [S, S]."""
  board = np.zeros((side, side), bool)
  board[cell] = True
  return board


# In the order in which they are to be touched, as rows and columns and the
# colour of one that was.
PADS = (
  (slice(0, 2), slice(0, 2), (255, 0, 0)),
  (slice(6, 8), slice(6, 8), (0, 255, 0)),
  (slice(6, 8), slice(0, 2), (60, 60, 255)),
  (slice(0, 2), slice(6, 8), (255, 255, 0)),
  (slice(3, 5), slice(0, 2), (255, 0, 255)),
  (slice(3, 5), slice(6, 8), (0, 255, 255)),
)


# The first of them, which lie in the corners.
_NUM_CORNERS = 4


class Pads(Board):
  """`sparse/pads`: can several places be visited in turn?

  Six pads lie on the board, four in the corners and two at the sides. Whoever
  touches the first `order` of them in turn earns 10 and is put on a random free
  cell, with all to be done again. A pad out of turn, though not the one that
  was touched last, undoes what was done; the first pad begins anew. Pads that
  were touched in turn are bright, the others dark: an observation says all.

  This is the Pin Pad of Director (Hafner et al., 2206.04114, section 3.2) on a
  smaller board, where the number of pads that count changes the difficulty and
  nothing else. A flat agent lacks a reason to go to the next pad: by chance it
  touches two or three in turn and no more, and only all of them bring a reward.
  What an episode of 200 steps brings:

    order         2      3      4       5       6
    random play   0.21   0.029  4.4e-4  2.2e-5  1.1e-6
    at best       126.2  93.7   60.3    50.0    40.2
  """

  def __init__(
    self,
    seed: int = 0,
    order: int = 3,
    length: int = 200,
    observation: str = 'image',
  ):
    """Sets up the board.

    Args:
      seed: Decides where the player is put.
      order: How many pads are to be touched in turn, from 2 to 6.
      length: The number of steps of an episode.
      observation: 'image' or 'vector'.
    """
    super().__init__(seed, length, observation)
    self._order = base.check_integer('order', order, 2)
    if order > len(PADS):
      raise ValueError(
        f'order={order} is too long: there are {len(PADS)} pads.'
      )
    # The pad of a cell; -1 where there is none.
    self._pads = np.full((SIDE, SIDE), -1)
    bright = np.zeros((SIDE, SIDE, 3), np.uint8)
    for i, (rows, columns, colour) in enumerate(PADS):
      self._pads[rows, columns] = i
      bright[rows, columns] = colour
    self._colours = (bright,)
    self._ground[:] = bright // 3

  def _begin(self):
    self._touched = 0
    self._player = self._random_cell(self._pads < 0)

  def _arrive(self) -> tuple[float, bool]:
    pad = self._pads[self._player]
    if pad in (-1, self._touched - 1):
      return 0.0, False
    self._touched = self._touched + 1 if pad == self._touched else int(pad == 0)
    if self._touched < self._order:
      return 0.0, False
    self._begin()
    return REWARD, False

  def _things(self) -> Sequence[np.ndarray]:
    return [(self._pads >= 0) & (self._pads < self._touched)]


class Key(Board):
  """`sparse/key`: is a key fetched before it is of any use?

  A wall with a door divides the board. On this side are the player and a key,
  beyond is the goal, all on random cells. The key, which vanishes when the
  player comes to it, opens the door; the goal earns 10 and terminates the
  episode.

  A flat agent lacks a reason to take the key: until it has been to the goal a
  key is a cell like all others. Random play comes there in 2.8 % of episodes of
  100 steps.
  """

  # Key, door when closed, door when open, goal.
  _colours = tuple(
    map(np.array, ((255, 255, 0), (200, 100, 0), (0, 0, 0), (0, 255, 0)))
  )

  def __init__(
    self, seed: int = 0, length: int = 100, observation: str = 'image'
  ):
    """Sets up the board.

    Args:
      seed: Decides where everything is.
      length: The number of steps of the longest episodes.
      observation: 'image' or 'vector'.
    """
    super().__init__(seed, length, observation)
    # How far to the right of the wall a cell is.
    self._beyond = np.tile(np.arange(SIDE), (SIDE, 1)) - SIDE // 2
    self._ground[self._beyond == 0] = _WALL

  def _begin(self):
    self._walls = self._beyond == 0
    self._player = self._random_cell(self._beyond < 0)
    self._key = at(self._random_cell((self._beyond < 0) & ~at(self._player)))
    self._door = at(self._random_cell(self._walls))
    self._goal = at(self._random_cell(self._beyond > 0))

  def _arrive(self) -> tuple[float, bool]:
    if self._key[self._player]:
      self._key = np.zeros_like(self._key)
      self._walls = self._walls & ~self._door
    found = bool(self._goal[self._player])
    return REWARD * found, found

  def _things(self) -> Sequence[np.ndarray]:
    closed = self._door & self._walls
    return [self._key, closed, self._door & ~closed, self._goal]


class Corridor(Board):
  """`sparse/corridor`: is one way kept for long?

  A corridor winds over the board, from the cell where an episode starts to a
  goal at its end, which earns 10 and terminates the episode.

  A flat agent lacks what keeps it going: a random walk comes as far as the
  square root of its steps. Of 200 steps, random play comes to the end of the
  longest corridor, which are 34, in 0.023 % of episodes; of that with three
  rows, 25, in 0.89 %. On a board of 16 x 16 with 8 rows the end is 134 steps
  away: nobody comes there by chance, and a reward there is worth little at the
  beginning to whoever discounts each step.
  """

  _colours = (np.array((0, 255, 0)),)

  def __init__(
    self,
    seed: int = 0,
    rows: int = 4,
    length: int = 200,
    observation: str = 'image',
    side: int = SIDE,
  ):
    """Sets up the board.

    Args:
      seed: Decides nothing; all environments take one.
      rows: Straight stretches of the corridor, as long as the board is wide,
        and one cell between two: from 1 to half of that.
      length: The number of steps of the longest episodes.
      observation: 'image' or 'vector'.
      side: Cells of a side of the board, at least 2.
    """
    base.check_integer('side', side, 2)
    base.check_integer('rows', rows, 1)
    if 2 * rows > side:
      raise ValueError(
        f'rows={rows} is too much: a board of side={side} has room for '
        f'{side // 2}.'
      )
    super().__init__(seed, length, observation, side)
    self._walls[1::2] = True
    self._walls[2 * rows - 1 :] = True
    # The turns, at the right and at the left.
    self._walls[1 : 2 * rows - 2 : 4, -1] = False
    self._walls[3 : 2 * rows - 2 : 4, 0] = False
    self._ground[self._walls] = _WALL
    self._goal = at((2 * rows - 2, 0 if rows % 2 == 0 else side - 1), side)

  def _begin(self):
    self._player = (0, 0)

  def _arrive(self) -> tuple[float, bool]:
    found = bool(self._goal[self._player])
    return REWARD * found, found

  def _things(self) -> Sequence[np.ndarray]:
    return [self._goal]


class Signal(Board):
  """`sparse/signal`: is something seen long ago still known?

  Four pads lie in the corners. In the first steps of an episode one of them is
  lit; then nothing happens for long, and touching pads does nothing. After
  `delay` steps the player is put into the middle, and the pads open: the first
  that is touched ends the episode, and earns 10 if it is the one that was lit.
  Where the player has waited meanwhile tells nothing then.

  An agent lacks what to remember it by if its memory is never longer than
  `delay` steps: at best it is right once in four times, 2.5 an episode. A level
  that ticks at every k-th step has a memory k times as long, and can tell the
  one below where to go. Random play comes to a pad in 54 % of episodes, and so
  has 1.36; the best there is is 10.

  With `decides` 'end' no pad ever opens: an episode ends at its last step, and
  earns 10 if the player stands on the pad that was lit. Then no state but the
  last ends anything, so that whoever is told to go somewhere can go there. The
  player starts, and is put after `delay` steps, anywhere. Random play has 0.62.
  """

  # The pad that is lit; pads that are open.
  _colours = tuple(map(np.array, ((255, 255, 0), (0, 255, 0))))

  def __init__(
    self,
    seed: int = 0,
    delay: int = 32,
    shown: int = 4,
    length: int = 56,
    observation: str = 'image',
    decides: str = 'touch',
  ):
    """Sets up the board.

    Args:
      seed: Decides which pad is lit, and in which of the cells that come into
        question the player is put.
      delay: Steps before the pads open, less than `length`.
      shown: The observations that show which one it is, at most `delay`.
      length: The number of steps of the longest episodes.
      observation: 'image' or 'vector'.
      decides: Which pad counts, that of the first 'touch' or that of the 'end'.
    """
    super().__init__(seed, length, observation)
    base.check_choice('decides', decides, ('touch', 'end'))
    self._opens = decides == 'touch'
    self._delay = base.check_integer('delay', delay, 1)
    self._shown = base.check_integer('shown', shown, 1)
    if not shown <= delay < length:
      raise ValueError(
        f'shown={shown}, delay={delay} and length={length} have to ascend, '
        'and the last two must not be equal.'
      )
    self._corners = np.zeros((_NUM_CORNERS, SIDE, SIDE), bool)
    for corner, (rows, columns, _) in zip(self._corners, PADS):
      corner[rows, columns] = True
    self._pads = self._corners.any(0)
    self._ground[self._pads] = (0, 85, 0)
    self._starts = np.full((SIDE, SIDE), not self._opens)
    self._starts[3:5, 3:5] = True

  def _begin(self):
    self._lit = self._corners[self._rng.integers(_NUM_CORNERS)]
    self._player = self._random_cell(self._starts)

  def _arrive(self) -> tuple[float, bool]:
    if self._steps == self._delay:
      self._player = self._random_cell(self._starts)
    if self._opens:
      decided = self._steps > self._delay and bool(self._pads[self._player])
    else:
      decided = self._steps == self._length
    return REWARD * (decided and bool(self._lit[self._player])), decided

  def _things(self) -> Sequence[np.ndarray]:
    return [
      self._lit & (self._steps < self._shown),
      self._pads & (self._opens and self._steps >= self._delay),
    ]


_ENVIRONMENTS = {
  'corridor': Corridor,
  'key': Key,
  'pads': Pads,
  'signal': Signal,
}


def make(task: str, seed: int, options: dict[str, Any]) -> dm_env.Environment:
  """Makes `sparse/<task>`; the options are those of the class."""
  name = f'sparse/{task}'
  if task not in _ENVIRONMENTS:
    raise base.unknown_environment(name, names())
  return construction.construct(_ENVIRONMENTS[task], name, options, seed=seed)


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'sparse/{task}' for task in _ENVIRONMENTS]
