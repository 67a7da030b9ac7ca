"""The environments for tests are what their docstrings say."""

import numpy as np
import pytest

from acme_hieros.environments import make_environment


def _episode(environment, policy):
  """Plays an episode; `policy` maps the steps so far to an action."""
  steps = [environment.reset()]
  while not steps[-1].last():
    steps.append(environment.step(policy(steps)))
  return steps


def _follow_ball(steps):
  _, ball, paddle = steps[-1].observation
  return 1 + int(np.sign(ball - paddle))


def _flee_ball(steps):
  # To the wall that is farther from the ball.
  return 0 if steps[-1].observation[1] > 0 else 2


@pytest.mark.parametrize('rows,columns', [(8, 8), (5, 8), (5, 9), (2, 2)])
def test_catch_every_ball_can_be_caught(rows, columns):
  environment = make_environment(
    'debug/catch', rows=rows, columns=columns, observation='vector'
  )
  columns_seen = set()
  for _ in range(20 * columns):
    steps = _episode(environment, _follow_ball)
    columns_seen.add(float(steps[0].observation[1]))
    assert [s.reward for s in steps[1:]] == [0] * (rows - 2) + [1]
    assert steps[-1].discount == 0
  assert len(columns_seen) == columns


def test_catch_missing_the_ball_costs_one():
  environment = make_environment('debug/catch', observation='vector')
  for _ in range(20):
    steps = _episode(environment, _flee_ball)
    assert steps[-1].reward == -1


def test_catch_goes_on_until_the_last_ball():
  environment = make_environment('debug/catch', observation='vector', balls=5)
  columns = set()
  for _ in range(10):
    steps = _episode(environment, _follow_ball)
    # A ball falls by the 6 rows below the first.
    assert [s.reward for s in steps[1:]] == ([0] * 5 + [1]) * 5
    assert [s.discount for s in steps[1:]] == [1] * 29 + [0]
    for step in steps[:-1:6]:
      row, column, paddle = step.observation
      assert row == -1 and paddle == 0
      columns.add(float(column))
    assert steps[-1].observation[0] == 1
  assert len(columns) == 7


def test_catch_image_and_vector_show_the_same_cells():
  environment = make_environment('debug/catch', observation='both')
  rng = np.random.default_rng(0)
  for _ in range(20):
    steps = _episode(environment, lambda _: rng.integers(3))
    for time, step in enumerate(steps):
      image = step.observation['image']
      assert image.shape == (16, 16, 3)
      # Every cell is of four equal pixels, in a black margin of one.
      cells = image[1:-1:2, 1:-1:2]
      shown = np.pad(cells.repeat(2, 0).repeat(2, 1), ((1, 1), (1, 1), (0, 0)))
      np.testing.assert_array_equal(image, shown)
      (ball,), (paddle,) = (
        np.argwhere(cells[..., 0]),
        np.argwhere(cells[..., 2]),
      )
      np.testing.assert_array_equal(
        cells[..., 1], np.maximum(cells[..., 0], cells[..., 2])
      )
      assert ball[0] == time and paddle[0] == 6
      np.testing.assert_allclose(
        step.observation['vector'],
        [ball[0] / 3 - 1, ball[1] / 3 - 1, paddle[1] / 3 - 1],
        atol=1e-6,
      )
      caught = (ball == paddle).all()
    assert step.reward == (1 if caught else -1)


def test_catch_actions_move_the_paddle_within_the_board():
  environment = make_environment(
    'debug/catch', observation='vector', rows=10, columns=5
  )
  for action in range(3):
    steps = _episode(environment, lambda _, action=action: action)
    # From [-1, 1] to columns 0 to 4; the paddle starts in the middle.
    paddle = [2 * s.observation[2] + 2 for s in steps]
    expected = np.clip(2 + (action - 1) * np.arange(len(steps)), 0, 4)
    np.testing.assert_allclose(paddle, expected, atol=1e-6)


@pytest.mark.parametrize('num_cues,delay', [(2, 15), (5, 1)])
def test_recall_rewards_the_cue_and_shows_it_once(num_cues, delay):
  environment = make_environment('debug/recall', num_cues=num_cues, delay=delay)
  rng = np.random.default_rng(0)
  cues = set()
  for episode in range(30):
    right = bool(episode % 2)

    def policy(steps, right=right):
      cue = steps[0].observation[:-1].argmax()
      if not steps[-1].observation[-1]:
        return rng.integers(num_cues)  # Of no effect before the question.
      return cue if right else (cue + 1) % num_cues

    steps = _episode(environment, policy)
    observations = np.stack([s.observation for s in steps])
    assert sorted(observations[0, :-1]) == [0] * (num_cues - 1) + [1]
    assert not observations[1:, :-1].any()
    asked = np.arange(len(steps)) == delay
    np.testing.assert_array_equal(observations[:, -1], asked)
    # The answer is to the question, `delay` steps after the cue.
    assert [s.reward for s in steps[1:]] == [0] * delay + [1 if right else -1]
    assert steps[-1].discount == 0
    cues.add(int(observations[0].argmax()))
  assert len(cues) == num_cues


def test_echo_shows_and_rewards_the_action_just_taken():
  environment = make_environment('debug/echo', num_actions=5, length=30)
  rng = np.random.default_rng(0)
  actions = rng.integers(5, size=30)
  steps = _episode(environment, lambda steps: actions[len(steps) - 1])
  assert len(steps) == 31
  assert not steps[0].observation.any()
  np.testing.assert_array_equal(
    [s.observation for s in steps[1:]], np.eye(5)[actions]
  )
  np.testing.assert_allclose([s.reward for s in steps[1:]], actions / 4)
  assert steps[-1].discount == 1


def test_random_length_episodes_and_endings():
  environment = make_environment('debug/random_length', max_length=4)
  lengths, discounts, rewards = set(), [], set()
  for _ in range(200):
    steps = _episode(environment, lambda _: 0)
    lengths.add(len(steps) - 1)
    discounts.append(steps[-1].discount)
    rewards |= {float(s.reward) for s in steps[1:]}
    assert [s.observation.tolist() for s in steps] == [
      [t] for t in range(len(steps))
    ]
  assert lengths == {1, 2, 3, 4}
  assert rewards == {-3, -2, -1, 1, 2, 3}
  # A fair coin strays this far in fewer than one of a million samples.
  assert 60 < sum(discounts) < 140


def test_random_length_has_the_documented_maximum():
  environment = make_environment('debug/random_length')
  assert environment.observation_spec().maximum == 40


def test_point_moves_by_a_fifth_of_the_action_and_stays_within_bounds():
  environment = make_environment('debug/point', length=12)
  for force in (-1.0, 0.5, 3.0):
    action = np.array([force], np.float32)
    steps = _episode(environment, lambda _, action=action: action)
    assert len(steps) == 13 and steps[-1].discount == 1
    point, target = np.stack([s.observation for s in steps]).T
    # Beyond its bounds an action counts as the bound.
    moved = point[:-1] + min(max(force, -1), 1) / 5
    np.testing.assert_allclose(point[1:], np.clip(moved, -1, 1), atol=1e-6)
    assert (target == target[0]).all()
    np.testing.assert_allclose(
      [s.reward for s in steps[1:]], -abs(point - target)[1:], atol=1e-6
    )


@pytest.mark.parametrize(
  'name,options',
  [
    ('catch', dict(rows=3)),
    ('catch', dict(columns=1)),
    ('catch', dict(balls=0)),
    ('catch', dict(observation='pixels')),
    ('echo', dict(num_actions=1)),
    ('echo', dict(length=0)),
    ('point', dict(length=2.5)),
    ('random_length', dict(max_length=0)),
    ('recall', dict(delay=0)),
    ('recall', dict(num_cues=1)),
  ],
)
def test_refuses_options_out_of_range(name, options):
  ((option, value),) = options.items()
  with pytest.raises(ValueError, match=f'^{option}={value!r} will not do'):
    make_environment(f'debug/{name}', **options)
