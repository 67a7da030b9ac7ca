"""Atari games follow the protocol, held against the bare emulator."""

import math
import subprocess
import sys

import ale_py
from ale_py import roms
import gymnasium
import numpy as np
import pytest

from acme_hieros.environments import (
  atari,
  environment_names,
  make_environment,
  resize,
)

_TWO_PLAYERS = {'Combat', 'Joust', 'MazeCraze', 'Warlords'}


def _emulator(rom_id: str) -> ale_py.ALEInterface:
  ale = ale_py.ALEInterface()
  ale.setFloat('repeat_action_probability', 0.0)
  ale.setInt('random_seed', 1)
  ale.loadROM(roms.get_rom_path(rom_id))
  ale.reset_game()
  return ale


def _observation(*frames: np.ndarray) -> np.ndarray:
  height, width, _ = frames[0].shape
  return resize.AreaResize((height, width), (64, 64))(np.maximum.reduce(frames))


def _play(environment, actions):
  """Returns the observations and rewards of some steps after a reset."""
  steps = [environment.reset()] + [environment.step(a) for a in actions]
  return [s.observation for s in steps], [s.reward for s in steps]


@pytest.mark.parametrize('repeat', [1, 4])
def test_steps_repeat_the_action_and_show_the_maximum_of_two_frames(repeat):
  environment = make_environment('atari/MsPacman', noops=0, repeat=repeat)
  ale = _emulator('ms_pacman')
  actions = ale.getMinimalActionSet()
  assert environment.action_spec().num_values == len(actions)

  frames = [ale.getScreenRGB()]
  step = environment.reset()
  np.testing.assert_array_equal(step.observation, _observation(frames[-1]))
  rng = np.random.default_rng(0)
  rewards, maximum_matters = 0, False
  # The game shows its start for some 260 frames before anything can be won.
  for _ in range(400 // repeat):
    action = rng.integers(len(actions), dtype=np.int32)
    reward = 0
    for _ in range(repeat):
      reward += ale.act(actions[action])
      frames.append(ale.getScreenRGB())
    step = environment.step(action)
    assert step.reward == reward
    rewards += reward
    np.testing.assert_array_equal(step.observation, _observation(*frames[-2:]))
    maximum_matters |= bool((frames[-2] > frames[-1]).any())
  assert rewards > 0 and maximum_matters


def test_episode_stops_at_once_when_the_game_ends_but_not_with_a_life():
  # Flying on to the right costs one helicopter after the other.
  ale = _emulator('chopper_command')
  right = ale.getMinimalActionSet().index(ale_py.Action.RIGHT)
  frames, rewards, lives = [], [], []
  while not ale.game_over():
    rewards.append(ale.act(ale_py.Action.RIGHT))
    frames.append(ale.getScreenRGB())
    lives.append(ale.lives())
  assert len(set(lives)) > 2 and sum(rewards) > 0
  assert (frames[-2] > frames[-1]).any()  # Both matter to the observation.

  # Repeats that the end interrupts, after one frame or after two.
  for left_over in (1, 2):
    repeat = next(r for r in range(3, 100) if len(frames) % r == left_over)
    environment = make_environment(
      'atari/ChopperCommand', noops=0, repeat=repeat
    )
    step = environment.reset()
    steps, total = 0, 0.0
    while not step.last():
      step = environment.step(right)
      steps, total = steps + 1, total + step.reward
    assert steps == math.ceil(len(frames) / repeat)
    assert total == sum(rewards)
    assert step.discount == 0
    np.testing.assert_array_equal(step.observation, _observation(*frames[-2:]))


def _noop_counts(seed, noops, episodes):
  """The numbers of no-ops at reset: with `repeat=1` they shorten episodes."""
  time_limit = noops + 2
  environment = make_environment(
    'atari/Pong', seed=seed, noops=noops, repeat=1, time_limit=time_limit
  )
  counts = []
  for _ in range(episodes):
    step, steps = environment.reset(), 0
    while not step.last():
      step, steps = environment.step(0), steps + 1
    counts.append(time_limit - steps)
  return counts


def test_every_number_of_noops_up_to_the_limit_occurs():
  assert set(_noop_counts(0, 3, 60)) == {0, 1, 2, 3}
  assert set(_noop_counts(0, 0, 3)) == {0}


def test_up_to_thirty_noops_decided_by_the_seed():
  counts = _noop_counts(1, 30, 25)
  assert min(counts) >= 0 and 15 < max(counts) <= 30
  assert counts == _noop_counts(1, 30, 25)
  assert counts != _noop_counts(2, 30, 25)


def test_noops_are_frames_without_action():
  ale = _emulator('breakout')  # Whose paddle moves from the first frame on.
  screens = [_observation(ale.getScreenRGB())]
  for _ in range(5):
    ale.act(ale_py.Action.NOOP)
    screens.append(_observation(ale.getScreenRGB()))
  environment = make_environment('atari/Breakout', noops=5)
  for _ in range(5):
    first = environment.reset().observation
    assert any((first == screen).all() for screen in screens)


def test_noops_that_end_the_game_start_another():

  class Emulator:
    """Says that the game is over after its third frame."""

    def __init__(self, ale):
      self._ale, self.calls = ale, []

    def __getattr__(self, name):
      return getattr(self._ale, name)

    def reset_game(self):
      self.calls.append('reset')
      self._ale.reset_game()

    def act(self, action):
      self.calls.append('act')
      return self._ale.act(action)

    def game_over(self):
      return self.calls[-1] == 'act' and self.calls.count('act') == 3

  environment = make_environment('atari/Pong', noops=8)
  for _ in range(20):
    environment._ale = Emulator(
      environment._ale._ale
      if isinstance(environment._ale, Emulator)
      else environment._ale
    )
    assert environment.reset().first()
    calls = environment._ale.calls
    expected = ['reset'] + ['act'] * calls.count('act')
    if len(expected) > 3:
      expected.insert(4, 'reset')
    assert calls == expected


def test_time_limit_counts_frames_and_truncates():
  environment = make_environment('atari/Pong', noops=0, time_limit=42)
  step, steps = environment.reset(), 0
  while not step.last():
    step, steps = environment.step(0), steps + 1
  assert steps == math.ceil(42 / 4)
  assert step.discount == 1


def test_same_seed_gives_the_same_episode():
  rng = np.random.default_rng(0)
  actions = rng.integers(4, size=60)
  plays = [
    _play(
      make_environment('atari/Breakout', seed=seed, sticky=0.25, noops=0),
      actions,
    )
    for seed in (5, 5, 6)
  ]
  np.testing.assert_array_equal(plays[0][0], plays[1][0])
  assert plays[0][1] == plays[1][1]
  assert not np.array_equal(plays[0][0], plays[2][0])


def test_sticky_actions_are_off_unless_asked_for():

  def paddle(action, **options):
    environment = make_environment('atari/Breakout', noops=0, **options)
    observations, _ = _play(environment, [action] * 20)
    return observations[-1]

  right, left = 2, 3
  assert not np.array_equal(paddle(left), paddle(right))
  # With certainty, the emulator carries on with the no-op of the start.
  np.testing.assert_array_equal(
    paddle(left, sticky=1.0), paddle(right, sticky=1.0)
  )


@pytest.mark.parametrize(
  'game,actions', [('Pong', 6), ('Breakout', 4), ('Krull', 18)]
)
def test_minimal_and_full_action_sets(game, actions):
  spec = make_environment(f'atari/{game}').action_spec()
  assert (spec.num_values, spec.dtype) == (actions, np.int32)
  full = make_environment(f'atari/{game}', full_action_set=True).action_spec()
  assert full.num_values == 18


def test_size_of_observations():
  environment = make_environment('atari/Pong', size=96)
  assert environment.reset().observation.shape == (96, 96, 3)
  assert environment.observation_spec().shape == (96, 96, 3)


def test_gray_images_are_those_of_the_emulator():
  environment = make_environment('atari/MsPacman', noops=0, gray=True)
  assert environment.observation_spec().shape == (64, 64, 1)
  ale = _emulator('ms_pacman')
  (first, second), _ = _play(environment, [0])
  frames = [ale.getScreenGrayscale()[..., None]]
  np.testing.assert_array_equal(first, _observation(frames[0]))
  for _ in range(4):
    ale.act(ale_py.Action.NOOP)
    frames.append(ale.getScreenGrayscale()[..., None])
  np.testing.assert_array_equal(second, _observation(*frames[-2:]))
  assert first.std() > 10 and (first != second).any()


def test_games_are_named_as_in_gymnasium():
  gymnasium.register_envs(ale_py)
  registered = {
    i.split('/')[1].rsplit('-')[0]
    for i in gymnasium.registry
    if i.startswith('ALE/') and i.endswith('-v5')
  }
  ours = {
    name.split('/')[1]
    for name in environment_names()
    if name.startswith('atari/')
  }
  assert ours == registered
  assert len(ours) + len(_TWO_PLAYERS) == len(roms.get_all_rom_ids()) == 108


@pytest.mark.parametrize('game', atari.game_names())
def test_every_game_can_be_played(game):
  environment = make_environment(f'atari/{game}', noops=0)
  environment.reset()
  step = environment.step(0)
  environment.observation_spec().validate(step.observation)
  assert step.observation.shape == (64, 64, 3)


@pytest.mark.parametrize('game', sorted(_TWO_PLAYERS))
def test_games_for_two_players_are_refused(game):
  with pytest.raises(ValueError, match='two players'):
    make_environment(f'atari/{game}')


@pytest.mark.parametrize(
  'options',
  [
    dict(repeat=0),
    dict(noops=-1),
    dict(size=0),
    dict(size=64.0),
    dict(sticky=1.5),
    dict(sticky='no'),
    dict(gray='very'),
    dict(full_action_set='minimal'),
    dict(time_limit=30),
    dict(repeat=True),
  ],
)
def test_refuses_options_out_of_range(options):
  ((option, value),) = options.items()
  with pytest.raises(ValueError, match=f'^{option}={value!r} will not do'):
    make_environment('atari/Pong', **options)


def test_emulator_is_silent():
  code = (
    'from acme_hieros.environments import make_environment as m; '
    "m('atari/Pong').reset(); m('gym/ALE/Pong-v5').reset()"
  )
  process = subprocess.run(
    [sys.executable, '-c', code], check=True, capture_output=True, text=True
  )
  assert process.stdout + process.stderr == ''
