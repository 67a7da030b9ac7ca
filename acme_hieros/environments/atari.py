"""Atari 2600 games by the protocol of the Atari 100k benchmark."""

import copy
import functools
from typing import Any

import ale_py
from ale_py import registration, roms
import dm_env
from dm_env import specs
import numpy as np

from acme_hieros.environments import base, construction, resize

# Otherwise the emulator announces itself on stderr whenever one is made.
ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


class Atari(base.EpisodicEnvironment):
  """An Atari 2600 game.

  An observation, uint8 [size, size, 3], or [size, size, 1] in gray, is the
  maximum of the last two frames (games draw some sprites in every other frame
  only), resized by area interpolation; the first of an episode shows a single
  frame. An action, int32 [], is repeated; the reward is the sum over the
  repeats, unclipped. An episode ends where the game does, not with the loss of
  a life, and at once, even if repeats are left.
  """

  def __init__(
    self,
    game: str,
    seed: int = 0,
    repeat: int = 4,
    noops: int = 30,
    size: int = 64,
    gray: bool = False,
    sticky: float = 0.0,
    full_action_set: bool = False,
    time_limit: int = 108_000,
  ):
    """Loads the game.

    Args:
      game: The name of the game as in `game_names()`, for example 'MsPacman'.
      seed: Decides the numbers of no-ops and the emulator's own randomness.
      repeat: For how many frames an action is repeated.
      noops: An episode begins with 0 to `noops` frames without action; their
        number is drawn for every episode.
      size: The side of the observations in pixels.
      gray: Whether they are in gray, as DreamerV2 has them, or in colours.
      sticky: The probability, at every frame, that the emulator carries out the
        action of the frame before instead.
      full_action_set: Whether all 18 actions of the console are offered, or
        only those that do something in this game.
      time_limit: The number of frames after which an episode is truncated. It
        includes no-ops, and the frames by which the emulator starts some games.

    Raises:
      ValueError: There is no such game, or an option is out of its range.
    """
    self._repeat = base.check_integer('repeat', repeat, 1)
    self._noops = base.check_integer('noops', noops, 0)
    self._size = base.check_integer('size', size, 1)
    time_limit = base.check_integer('time_limit', time_limit, noops + 1)
    base.check_choice('gray', gray, (False, True))
    base.check_choice('full_action_set', full_action_set, (False, True))
    if not isinstance(sticky, (int, float)) or not 0 <= sticky <= 1:
      raise ValueError(
        f'sticky={sticky!r} will not do: it has to be a number from 0 to 1.'
      )

    emulator_seed, noop_seed = np.random.SeedSequence(seed).generate_state(2)
    self._rng = np.random.default_rng(noop_seed)
    self._ale = ale_py.ALEInterface()
    # To the emulator a negative seed means the time of day.
    self._ale.setInt('random_seed', int(emulator_seed) & 0x7FFFFFFF)
    self._ale.setFloat('repeat_action_probability', sticky)
    self._ale.setInt('max_num_frames_per_episode', time_limit)
    self._ale.loadROM(_rom_path(game))

    self._actions = (
      self._ale.getLegalActionSet()
      if full_action_set
      else self._ale.getMinimalActionSet()
    )
    height, width = self._ale.getScreenDims()
    self._resize = resize.AreaResize((height, width), (size, size))
    self._frame = np.zeros((height, width, 1 if gray else 3), np.uint8)
    self._previous_frame = np.zeros_like(self._frame)

  def _reset(self) -> np.ndarray:
    self._ale.reset_game()
    for _ in range(self._rng.integers(self._noops, endpoint=True)):
      self._ale.act(ale_py.Action.NOOP)
      if self._ale.game_over():
        self._ale.reset_game()
    self._read_screen()
    return self._resize(self._frame)

  def _step(self, action: Any) -> base.Transition:
    action = self._actions[int(action)]
    reward = 0
    for _ in range(self._repeat):
      reward += self._ale.act(action)
      self._frame, self._previous_frame = self._previous_frame, self._frame
      self._read_screen()
      if self._ale.game_over():
        break
    observation = self._resize(np.maximum(self._frame, self._previous_frame))
    terminated = self._ale.game_over(with_truncation=False)
    return observation, reward, terminated, self._ale.game_truncated()

  def _read_screen(self):
    if self._frame.shape[-1] == 1:
      self._ale.getScreenGrayscale(self._frame[..., 0])
    else:
      self._ale.getScreenRGB(self._frame)

  def get_state(self) -> Any:
    return (
      self._ale.cloneState(include_rng=True),
      self._needs_reset,
      copy.deepcopy((self._rng, self._frame, self._previous_frame)),
    )

  def set_state(self, state: Any):
    emulator, self._needs_reset, rest = state
    self._ale.restoreState(emulator)
    self._rng, self._frame, self._previous_frame = copy.deepcopy(rest)

  def observation_spec(self) -> specs.BoundedArray:
    return specs.BoundedArray(
      (self._size, self._size, self._frame.shape[-1]),
      np.uint8,
      0,
      255,
      name='observation',
    )

  def action_spec(self) -> specs.DiscreteArray:
    return specs.DiscreteArray(len(self._actions), np.int32, name='action')


def make(game: str, seed: int, options: dict[str, Any]) -> dm_env.Environment:
  """Makes `atari/<game>`; the options are those of `Atari`."""
  return construction.construct(
    Atari, f'atari/{game}', options, game=game, seed=seed
  )


@functools.cache
def _rom_ids() -> dict[str, str]:
  """All ROMs of ale-py, {'MsPacman': 'ms_pacman', ...}."""
  return {registration.rom_id_to_name(i): i for i in roms.get_all_rom_ids()}


@functools.cache
def _is_single_player(rom_id: str) -> bool:
  # The emulator ends the process if it is asked to load one that is not.
  path = str(roms.get_rom_path(rom_id))
  return ale_py.ALEInterface.isSupportedROM(path) is not None


def game_names() -> list[str]:
  """The games that one player can play, as in 'ALE/MsPacman-v5', sorted."""
  return sorted(name for name, i in _rom_ids().items() if _is_single_player(i))


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'atari/{game}' for game in game_names()]


def _rom_path(game: str) -> str:
  """Returns the path of the game's ROM, or raises a ValueError."""
  if game not in _rom_ids():
    raise base.unknown_environment(f'atari/{game}', names())
  rom_id = _rom_ids()[game]
  if not _is_single_player(rom_id):
    raise ValueError(
      f"Environment 'atari/{game}' needs two players, which the emulator has "
      f'only one of: choose another of the {len(game_names())} games.'
    )
  return str(roms.get_rom_path(rom_id))
