"""POPGym's tasks are shown and played as the package has them."""

import sys

import numpy as np
import pytest

from acme_hieros.environments import make_environment, popgym

envs = pytest.importorskip('popgym.envs')


def play(environment, steps, seed=0):
  rng = np.random.default_rng(seed)
  spec = environment.action_spec()
  played = [environment.reset()]
  for _ in range(steps):
    action = rng.uniform(spec.minimum, spec.maximum, spec.shape)
    if spec.dtype.kind == 'i':
      action = rng.integers(spec.minimum, spec.maximum, spec.shape, np.int32)
    played.append(environment.step(action))
  return played


def test_all_tasks_of_the_package_have_their_names():
  classes = {f'popgym/{kind.__name__}' for kind in envs.ALL}
  # Those in mazes need a further package, and are not offered.
  assert set(popgym.names()) == {n for n in classes if 'Labyrinth' not in n}


def read(vector, *sizes):
  """Which of so many each one-hot part says."""
  parts = np.split(vector, np.cumsum(sizes)[:-1])
  assert all(set(part) <= {0, 1} and part.sum() == 1 for part in parts)
  return [int(part.argmax()) for part in parts]


@pytest.mark.parametrize(
  'task,sizes',
  [
    ('AutoencodeEasy', [2, 4]),
    ('RepeatPreviousMedium', [4]),
    ('ConcentrationHard', [14] * 52),
    ('CountRecallEasy', [2, 2]),
  ],
)
def test_what_is_one_of_several_is_one_hot(task, sizes):
  environment = make_environment(f'popgym/{task}')
  assert environment.observation_spec().shape == (sum(sizes),)
  for step in play(environment, 20):
    read(step.observation, *sizes)


def test_the_best_play_of_repeat_previous_earns_one():
  # After k steps the suit of k steps before is asked for (here 4).
  environment = make_environment('popgym/RepeatPreviousEasy', seed=3)
  step = environment.reset()
  seen, rewards = [], []
  while not step.last():
    seen.append(read(step.observation, 4)[0])
    step = environment.step(seen[-4] if len(seen) >= 4 else 0)
    rewards.append(step.reward)
  assert sum(rewards) == pytest.approx(1)
  assert len(rewards) == 51


def test_the_best_play_of_autoencode_earns_one():
  environment = make_environment('popgym/AutoencodeEasy', seed=3)
  step = environment.reset()
  seen, total, playing = [], 0.0, False
  while not step.last():
    watching, suit = read(step.observation, 2, 4)
    if not playing:  # The last card comes with the question.
      seen.append(suit)
    playing = not watching
    step = environment.step(seen.pop() if playing else 0)
    total += step.reward
  assert total == pytest.approx(1)


@pytest.mark.parametrize('task', [n.partition('/')[2] for n in popgym.names()])
def test_the_seed_alone_decides_and_rewards_are_in_range(task):

  def episodes(seed, theirs):
    np.random.seed(theirs)
    before = np.random.get_state()[1].tolist()
    environment = make_environment(f'popgym/{task}', seed=seed)
    steps = play(environment, 250)
    assert np.random.get_state()[1].tolist() == before
    total = 0.0
    for step in steps:
      total = 0.0 if step.first() else total + step.reward
      assert -1.0001 <= total <= 1.0001
    return [(s.observation.tolist(), s.reward) for s in steps]

  first = episodes(1, 0)
  assert first == episodes(1, 1)
  assert first != episodes(2, 0)


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
  monkeypatch.setitem(sys.modules, 'popgym.envs', None)
  with pytest.raises(ValueError, match=r"popgym is missing; .*'.\[popgym\]'"):
    make_environment('popgym/AutoencodeEasy')
  with pytest.raises(ValueError, match='popgym/AutoencodeEasy'):
    make_environment('popgym/Autoencode')
