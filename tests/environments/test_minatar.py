"""MinAtar's games are shown and played as the package has them."""

import copy
import pkgutil
import random
import sys

import minatar.environments
import numpy as np
import pytest

from acme_hieros import config
from acme_hieros.environments import make_environment
from acme_hieros.environments import minatar as family
from acme_hieros.models import spaces, world_model

# In MinAtar's order of all actions: no-op, left, up, right, down, fire.
_ALL = 'nlurdf'
_MINIMAL = {
  'Asterix': 'nlurd',
  'Breakout': 'nlr',
  'Freeway': 'nud',
  'Seaquest': 'nlurdf',
  'SpaceInvaders': 'nlrf',
}
_CHANNELS = {
  'Asterix': 4,
  'Breakout': 4,
  'Freeway': 7,
  'Seaquest': 10,
  'SpaceInvaders': 6,
}

games = pytest.mark.parametrize('game', _MINIMAL)


def _play(environment, steps, seed=0):
  """Returns the observations, rewards and discounts of random play."""
  rng = np.random.default_rng(seed)
  actions = rng.integers(environment.action_spec().num_values, size=steps)
  played = [environment.reset()] + [environment.step(a) for a in actions]
  return (
    [s.observation.tolist() for s in played],
    [s.reward for s in played],
    [s.discount for s in played],
  )


def test_all_games_of_the_package_have_their_names_from_atari():
  modules = pkgutil.iter_modules(minatar.environments.__path__)
  games = {module.name.title().replace('_', '') for module in modules}
  assert games == set(_MINIMAL)
  assert set(family.names()) == {f'minatar/{game}' for game in games}


@games
@pytest.mark.parametrize('full_action_set', [False, True])
def test_steps_are_those_of_the_package(game, full_action_set):
  environment = make_environment(
    f'minatar/{game}', full_action_set=full_action_set
  )
  names = _ALL if full_action_set else _MINIMAL[game]
  spec = environment.action_spec()
  assert (spec.num_values, spec.dtype) == (len(names), np.int32)
  rng = np.random.default_rng(0)
  rewards, ends = 0, 0
  for _ in range(20):
    step = environment.reset()
    # Of equal random numbers to come.
    bare = copy.deepcopy(environment._game)
    for _ in range(200):
      action = rng.integers(len(names))
      step = environment.step(action)
      reward, terminated = bare.act(_ALL.index(names[action]))
      assert step.reward == reward
      assert step.last() == terminated and step.discount == 1 - terminated
      board = step.observation[3:13, 3:13]
      np.testing.assert_array_equal(board, 255 * bare.state().astype(np.uint8))
      rewards += reward
      if terminated:
        ends += 1
        break
  if game != 'Freeway':  # Random play hardly ever crosses the road.
    assert rewards and ends


@games
def test_images_are_boards_in_a_black_margin(game):
  environment = make_environment(f'minatar/{game}')
  spec = environment.observation_spec()
  assert (spec.shape, spec.dtype) == ((16, 16, _CHANNELS[game]), np.uint8)
  observations, _, _ = _play(environment, 50)
  for image in np.array(observations):
    assert set(np.unique(image)) == {0, 255}
    margin = image.copy()
    margin[3:13, 3:13] = 0
    assert not margin.any()


def test_breakout_starts_the_right_way_up():
  image = make_environment('minatar/Breakout').reset().observation
  board = image[3:13, 3:13]
  paddle, ball, _, bricks = np.moveaxis(board, -1, 0)
  assert np.argwhere(paddle).tolist() == [[9, 4]]
  assert np.argwhere(ball).tolist() in ([[3, 0]], [[3, 9]])
  assert (bricks[1:4] == 255).all() and np.count_nonzero(bricks) == 30


@games
def test_vectors_say_what_images_do(game):
  vector = make_environment(f'minatar/{game}', observation='vector')
  spec = vector.observation_spec()
  assert (spec.shape, spec.dtype) == ((100 * _CHANNELS[game],), np.float32)
  vectors, rewards, discounts = _play(vector, 100)
  images, *rest = _play(make_environment(f'minatar/{game}'), 100)
  boards = np.array(images)[:, 3:13, 3:13] / 255
  np.testing.assert_array_equal(vectors, boards.reshape(101, -1))
  assert rest == [rewards, discounts]


@pytest.mark.parametrize('preset', config.PRESETS)
@pytest.mark.parametrize('observation', ['image', 'vector'])
def test_every_preset_takes_the_observations(preset, observation):
  environment = make_environment('minatar/Seaquest', observation=observation)
  seen = spaces.observation_spaces(environment.observation_spec())
  kind = spaces.Image if observation == 'image' else spaces.Vector
  assert [type(space) for space in seen.values()] == [kind]
  # Raises for images that its convolutions cannot halve.
  world_model.make_world_model(
    config.preset(preset).world_model,
    seen,
    spaces.action_space(environment.action_spec()),
    context_length=8,
  )


@games
def test_the_seed_alone_decides_what_is_random(game):
  np.random.seed(0)
  random.seed(0)
  first = _play(make_environment(f'minatar/{game}', seed=5), 300)
  # The global generators have no say, and nothing is drawn from them.
  np.random.seed(1)
  random.seed(1)
  theirs = np.random.get_state()[1].tolist(), random.getstate()
  second = _play(make_environment(f'minatar/{game}', seed=5), 300)
  assert (np.random.get_state()[1].tolist(), random.getstate()) == theirs
  assert first == second
  assert first != _play(make_environment(f'minatar/{game}', seed=6), 300)


def test_seeds_may_be_larger_than_those_of_the_package():
  # Of which all bits count.
  small, large, larger = (
    _play(make_environment('minatar/Breakout', seed=seed), 300)
    for seed in (1, 2**70 + 1, 2**70 + 2)
  )
  assert small != large != larger


def _followed(**options):
  """The share of steps with the paddle going where it was told to.

  It is told to go left and right by turns, for four steps an episode: there is
  room for that many to either side, and the ball does not land before.
  """
  environment = make_environment('minatar/Breakout', **options)
  followed = []
  for _ in range(1500):
    steps = [environment.reset()]
    steps += [environment.step(action) for action in (1, 2, 1, 2)]
    columns = [int(s.observation[12, 3:13, 0].argmax()) for s in steps]
    followed.append(np.diff(columns) == [-1, 1, -1, 1])
  return np.mean(followed)


def test_a_tenth_of_the_actions_is_sticky_unless_chosen_otherwise():
  # With probability p the step before is done again, which is the opposite
  # unless that was such a step itself: then it goes where it is told to. Of
  # this chain p / (1 + p) of all steps go wrong; 0.02 is more than four times
  # the standard deviation.
  for options, p in (({}, 0.1), ({'sticky': 0.3}, 0.3)):
    assert abs(_followed(**options) - 1 / (1 + p)) < 0.02
  assert _followed(sticky=0.0) == 1
  # The no-op that everything starts with goes on for ever.
  assert _followed(sticky=1.0) == 0


@pytest.mark.parametrize('ramping', [False, True])
def test_difficulty_ramps_unless_it_is_not_to(ramping):
  environment = make_environment(
    'minatar/Asterix', difficulty_ramping=ramping, sticky=0.0
  )
  most = 0
  for _ in range(30):
    step = environment.reset()
    while not step.last():
      step = environment.step(0)
      most = max(most, environment._game.env.difficulty_ramp())
  assert (most > 0) == ramping


def _last_step(name, action, **options):
  environment = make_environment(name, sticky=0.0, **options)
  step, steps = environment.reset(), 0
  while not step.last():
    step, steps = environment.step(action), steps + 1
  return steps, step.discount


def test_a_missed_ball_terminates():
  # It falls by six rows and as many columns, from column 0 or 9; the paddle
  # flees to column 0.
  for seed in range(5):
    assert _last_step('minatar/Breakout', 1, seed=seed) == (6, 0)


def test_time_limit_truncates():
  assert _last_step('minatar/Freeway', 0, time_limit=7) == (7, 1)
  assert _last_step('minatar/Freeway', 0) == (2500, 1)


def test_freeway_terminates_by_itself_after_the_default_limit():
  assert _last_step('minatar/Freeway', 0, time_limit=10_000) == (2501, 0)


def test_the_time_limit_is_of_each_episode():
  environment = make_environment('minatar/Freeway', time_limit=4)
  for _ in range(3):
    steps = [environment.reset()] + [environment.step(0) for _ in range(4)]
    assert [s.last() for s in steps] == [False] * 4 + [True]


@pytest.mark.parametrize(
  'options',
  [
    dict(sticky=1.5),
    dict(sticky='no'),
    dict(sticky=float('nan')),
    dict(full_action_set='minimal'),
    dict(difficulty_ramping=2),
    dict(time_limit=0),
    dict(time_limit=None),
    dict(observation='pixels'),
  ],
)
def test_refuses_options_out_of_range(options):
  ((option, value),) = options.items()
  with pytest.raises(ValueError, match=f'^{option}={value!r} will not do'):
    make_environment('minatar/Breakout', **options)


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
  monkeypatch.setitem(sys.modules, 'minatar', None)
  with pytest.raises(ValueError) as info:
    make_environment('minatar/Breakout')
  sentence = str(info.value)
  assert "'minatar/Breakout': MinAtar is missing" in sentence
  assert "pip install '.[minatar]'" in sentence
  assert 'minatar/Breakout' in family.names()
