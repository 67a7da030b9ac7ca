"""MiniGrid's worlds are shown and played as the package has them."""

import sys

import gymnasium
import numpy as np
import pytest

from acme_hieros.environments import make_environment, minigrid

constants = pytest.importorskip('minigrid.core.constants')

NAME = 'minigrid/MiniGrid-DoorKey-5x5-v0'
TURN, GO = 0, 2


def test_all_worlds_of_the_package_have_their_names():
  ids = {i for i in gymnasium.registry if i.startswith('MiniGrid-')}
  # What these are made of is not in the package.
  ids = {i for i in ids if not i.startswith('MiniGrid-WFC-')}
  assert {f'minigrid/{i}' for i in ids} == set(minigrid.names())


def play(environment, steps=40):
  rng = np.random.default_rng(0)
  played = [environment.reset()]
  played += [environment.step(a) for a in rng.integers(7, size=steps)]
  return played


def test_steps_are_those_of_the_package():
  environment = make_environment(NAME, seed=3, observation='image')
  bare = gymnasium.make('MiniGrid-DoorKey-5x5-v0')
  theirs, _ = bare.reset(seed=3)
  rng = np.random.default_rng(0)
  ours = environment.reset()
  for action in rng.integers(7, size=40):
    np.testing.assert_array_equal(ours.observation['image'], theirs['image'])
    assert ours.observation['direction'] == theirs['direction']
    ours = environment.step(action)
    theirs, reward, *_ = bare.step(action)
    assert ours.reward == reward


def test_vectors_say_what_images_do():
  images = play(make_environment(NAME, seed=1, observation='image'))
  vectors = play(make_environment(NAME, seed=1))
  sizes = [
    len(kind)
    for kind in (
      constants.OBJECT_TO_IDX,
      constants.COLOR_TO_IDX,
      constants.STATE_TO_IDX,
    )
  ]
  for image, vector in zip(images, vectors):
    cells = vector.observation[:-4].reshape(7, 7, sum(sizes))
    parts = np.split(cells, np.cumsum(sizes)[:-1], -1)
    assert all((part.sum(-1) == 1).all() for part in parts)
    read = np.stack([part.argmax(-1) for part in parts], -1)
    np.testing.assert_array_equal(read, image.observation['image'])
    direction = vector.observation[-4:]
    assert direction.sum() == 1
    assert direction.argmax() == image.observation['direction']


def test_pixels_show_what_is_before_the_player():
  environment = make_environment(NAME, observation='pixels')
  pixels = [s.observation for s in play(environment)]
  assert pixels[0].shape == (64, 64, 3) and pixels[0].dtype == np.uint8
  assert len(np.unique(np.array(pixels), axis=0)) > 5


def test_who_comes_to_the_goal_earns_nearly_one():
  environment = make_environment('minigrid/MiniGrid-Empty-5x5-v0')
  environment.reset()
  steps = [environment.step(a) for a in (GO, GO, 1, GO, GO)]
  assert [s.last() for s in steps] == [False] * 4 + [True]
  # 1 - 0.9 * steps / the longest episode, 4 * 5 * 5.
  assert steps[-1].reward == pytest.approx(1 - 0.9 * 5 / 100)
  assert steps[-1].discount == 0


def test_the_longest_episode_is_an_option():
  environment = make_environment(NAME, max_steps=4)
  environment.reset()
  steps = [environment.step(TURN) for _ in range(4)]
  assert [s.last() for s in steps] == [False] * 3 + [True]
  assert steps[-1].discount == 1


def test_it_goes_back_to_a_state():
  environment = make_environment(NAME)
  environment.reset()
  state = environment.get_state()
  played = []
  for _ in range(2):
    environment.set_state(state)
    played.append([environment.step(a % 3).observation for a in range(20)])
  np.testing.assert_array_equal(*played)


def test_what_will_not_do_is_said(monkeypatch):
  for options in (dict(observation='x'), dict(size=0), dict(max_steps=0)):
    ((option, value),) = options.items()
    with pytest.raises(ValueError, match=f'^{option}={value!r} will not do'):
      make_environment(NAME, **options)
  with pytest.raises(ValueError, match='minigrid/MiniGrid-DoorKey-5x5-v0'):
    make_environment('minigrid/DoorKey-5x5')
  monkeypatch.setitem(sys.modules, 'minigrid', None)
  with pytest.raises(
    ValueError, match=r"minigrid is missing; .*'.\[minigrid\]'"
  ):
    make_environment(NAME)
