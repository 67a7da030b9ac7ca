"""DM Control's tasks are shown and played as the package has them."""

import os
import subprocess
import sys
import types

import numpy as np
import pytest

from acme_hieros.environments import (
  dmc,
  make_environment,
  modules,
  rendering,
)


@pytest.fixture(scope='module')
def suite():
  """The package, imported as environments do it."""
  pytest.importorskip('mujoco')
  return rendering.import_drawing(
    'dmc', 'dm_control.suite', 'dm_control', 'dmc', needed=False
  )


def test_all_tasks_of_the_package_have_their_names(suite):
  tasks = {f'dmc/{domain}_{task}' for domain, task in suite.ALL_TASKS}
  assert set(dmc.names()) == tasks


def play(environment, steps, seed=0):
  rng = np.random.default_rng(seed)
  spec = environment.action_spec()
  played = [environment.reset()]
  for _ in range(steps):
    action = rng.uniform(spec.minimum, spec.maximum, spec.shape)
    played.append(environment.step(action.astype(np.float32)))
  return played


def test_steps_are_those_of_the_package(suite):
  environment = make_environment('dmc/ball_in_cup_catch', seed=5)
  drawn = np.random.SeedSequence(5).generate_state(4)
  bare = suite.load(
    'ball_in_cup', 'catch', {'random': np.random.RandomState(drawn)}
  )
  for ours, theirs in zip(play(environment, 30), play(bare, 30)):
    assert ours.step_type == theirs.step_type
    assert ours.reward == theirs.reward
    assert set(ours.observation) == {'position', 'velocity'}
    for part, value in ours.observation.items():
      np.testing.assert_array_equal(
        value, theirs.observation[part].astype(np.float32)
      )
  assert environment.action_spec().dtype == np.float32


def test_a_time_limit_counts_each_repeat(suite):
  options = dict(action_repeat=3, time_limit=10)
  steps = play(make_environment('dmc/cartpole_balance', **options), 9)
  assert [i for i, step in enumerate(steps) if step.last()] == [4, 9]
  assert steps[4].discount == 1
  assert 0 < steps[4].reward <= 1 < steps[3].reward


def test_parts_of_the_state_are_vectors(suite):
  environment = make_environment('dmc/walker_walk')
  spec = environment.observation_spec()
  assert spec['height'].shape == (1,)  # A number in the package.
  assert {part.dtype for part in spec.values()} == {np.dtype(np.float32)}


def test_an_episode_is_truncated_and_its_rewards_are_at_most_a_thousand(suite):
  environment = make_environment('dmc/cartpole_balance', action_repeat=8)
  steps = play(environment, 125)
  assert [s.last() for s in steps].index(True) == 125  # 1,000 steps.
  assert steps[-1].discount == 1
  rewards = [s.reward for s in steps[1:]]
  assert 0 < min(rewards) and max(rewards) <= 8 and 8 < sum(rewards) <= 1000


def test_a_repeat_sums_rewards(suite):
  once = make_environment('dmc/cartpole_balance', seed=1)
  twice = make_environment('dmc/cartpole_balance', seed=1, action_repeat=2)
  action = np.zeros(1, np.float32)
  once.reset(), twice.reset()
  for _ in range(5):
    rewards = [once.step(action).reward for _ in range(2)]
    assert twice.step(action).reward == pytest.approx(sum(rewards))


def test_it_goes_back_to_a_state(suite):
  environment = make_environment('dmc/cartpole_swingup', time_limit=40)
  play(environment, 5)
  state = environment.get_state()
  first, second = [], []
  for kept in (first, second):
    environment.set_state(state)
    for _ in range(50):  # The next episode begins alike, too.
      step = environment.step(np.ones(1, np.float32))
      kept.append([step.reward, *step.observation['position'].tolist()])
  assert first == second


# How MuJoCo draws is decided once for a process, and here it may be otherwise.
_DRAWS = """
import numpy as np
from acme_hieros.environments import make_environment
e = make_environment('dmc/{task}', pixels=True, size={size}, seed=1)
first = e.reset().observation
step = e.step(np.ones(e.action_spec().shape, np.float32))
assert first.shape == step.observation.shape == ({size}, {size}, 3)
assert first.dtype == np.uint8 and first.std() > 5
assert (first != step.observation).any()
e.observation_spec().validate(first)
e.close()
state = make_environment('dmc/{task}', action_repeat=2, seed=1)
state.reset()
assert step.reward == state.step(np.ones(e.action_spec().shape)).reward
"""


def draw(**variables):
  environment = {k: v for k, v in os.environ.items() if k != 'MUJOCO_GL'}
  return subprocess.run(
    [sys.executable, '-c', _DRAWS.format(task='cartpole_swingup', size=32)],
    env=environment | variables,
    capture_output=True,
    text=True,
  )


def test_pixels_are_drawn_and_actions_are_taken_twice(suite):
  done = draw()
  if 'cannot draw' in done.stderr or 'MUJOCO_GL=disable' in done.stderr:
    pytest.skip('neither EGL nor OSMesa works here')
  assert done.returncode == 0, done.stderr


def test_what_cannot_draw_says_so_in_a_sentence(suite):
  done = draw(MUJOCO_GL='disable')
  said = done.stderr.splitlines()[-1]
  assert said.startswith("ValueError: Environment 'dmc/cartpole_swingup' draws")
  assert 'libegl1' in said and said.endswith('or not at all.')


class Imports:
  """Stands for `modules.import_extra`."""

  def __init__(self, monkeypatch, *broken):
    self.broken, self.tried = broken, []
    monkeypatch.setattr(modules, 'import_extra', self)

  def __call__(self, name, module, package, extra):
    self.tried.append(os.environ['MUJOCO_GL'])
    if self.tried[-1] in self.broken:
      raise AttributeError('no eglGetDisplay')
    return types.ModuleType(module)


def import_drawing(needed):
  return rendering.import_drawing('dmc/x', 'a.b', 'a', 'dmc', needed)


@pytest.mark.parametrize(
  'libraries,gl', [('EGL OSMesa', 'egl'), ('OSMesa', 'osmesa'), ('', 'disable')]
)
def test_it_draws_by_what_is_there(monkeypatch, libraries, gl):
  monkeypatch.setenv('MUJOCO_GL', '')
  monkeypatch.delenv('MUJOCO_GL')
  monkeypatch.setattr(
    rendering.ctypes.util, 'find_library', lambda n: n in libraries.split()
  )
  imports = Imports(monkeypatch)
  import_drawing(needed=False)
  assert imports.tried == [gl]


def test_what_does_not_work_matters_only_where_something_is_drawn(monkeypatch):
  monkeypatch.setenv('MUJOCO_GL', '')
  monkeypatch.delenv('MUJOCO_GL')
  monkeypatch.setattr(rendering.ctypes.util, 'find_library', lambda n: n)
  imports = Imports(monkeypatch, 'egl')
  import_drawing(needed=False)
  assert imports.tried == ['egl', 'disable']
  # What the user has chosen stays.
  for needed in (False, True):
    monkeypatch.setenv('MUJOCO_GL', 'egl')
    with pytest.raises(ValueError, match='=egl .no eglGetDisplay.: install'):
      import_drawing(needed)
    assert os.environ['MUJOCO_GL'] == 'egl'


@pytest.mark.parametrize(
  'options',
  [
    dict(pixels='maybe'),
    dict(action_repeat=0),
    dict(size=0),
    dict(size=481),
    dict(time_limit=0),
    dict(camera=-1),
  ],
)
def test_refuses_options_out_of_range(options):
  ((option, value),) = options.items()
  with pytest.raises(ValueError, match=f'^{option}={value!r} will not do'):
    make_environment('dmc/cartpole_swingup', **options)


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
  monkeypatch.setitem(sys.modules, 'dm_control.suite', None)
  with pytest.raises(ValueError, match=r"dm_control is missing; .*'.\[dmc\]'"):
    make_environment('dmc/walker_walk')
