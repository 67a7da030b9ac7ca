"""Memory Maze is shown and played as the package has it."""

import sys

import numpy as np
import pytest

from acme_hieros.environments import make_environment


@pytest.fixture(scope='module')
def environment():
  pytest.importorskip('gym')  # The package needs it and does not say so.
  pytest.importorskip('memory_maze')
  environment = make_environment('memory_maze/9x9', seed=1)
  yield environment
  environment.close()


def test_it_is_seen_and_repeats_itself(environment):
  assert environment.action_spec().num_values == 6
  played = []
  for each in (environment, make_environment('memory_maze/9x9', seed=1)):
    steps = [each.reset(), *(each.step(a) for a in (1, 1, 2, 4, 5))]
    played.append([s.observation for s in steps])
    assert all(s.reward in (0, 1) for s in steps[1:])
  np.testing.assert_array_equal(*played)
  assert played[0][0].shape == (64, 64, 3) and played[0][0].std() > 5
  assert (played[0][0] != played[0][-1]).any()
  each.close()


def test_other_mazes_are_refused():
  with pytest.raises(ValueError, match='memory_maze/11x11'):
    make_environment('memory_maze/10x10')


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
  monkeypatch.setitem(sys.modules, 'memory_maze.tasks', None)
  with pytest.raises(ValueError, match=r"'.\[memory_maze\]'|EGL"):
    make_environment('memory_maze/9x9')
