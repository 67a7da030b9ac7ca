"""Every kind of environment keeps the contract of dm_env, ends included."""

import importlib.util

from absl.testing import absltest
from dm_env import specs, test_utils
import numpy as np
import pytest
import tree

from acme_hieros.environments import make_environment

# Options are such that an episode is shorter than the sequence of actions.
_STEPS = 45
_CASES = {
  'atari/Pong': dict(noops=3, time_limit=60),
  'bsuite/catch/0': {},
  'bsuite/deep_sea_stochastic/0': {},
  'bsuite/memory_len/9': {},
  'bsuite/umbrella_length/3': {},
  'crafter/reward': dict(length=20),
  'debug/catch': {},
  'debug/catch both': dict(observation='both', rows=5, columns=9),
  'debug/catch vector': dict(observation='vector'),
  'debug/echo': {},
  'debug/point': {},
  'debug/random_length': dict(max_length=20),
  'debug/recall': dict(num_cues=3),
  'dmc/cheetah_run': dict(time_limit=20),
  'dmc/walker_walk repeated': dict(time_limit=20, previous_action=True),
  'gym/ALE/Pong-v5': dict(max_num_frames_per_episode=60),
  'gym/Acrobot-v1': dict(max_episode_steps=20),
  'gym/Blackjack-v1': {},
  'gym/CartPole-v1': dict(max_episode_steps=20),
  'gym/FrozenLake-v1': dict(max_episode_steps=20),
  'gym/Pendulum-v1': dict(max_episode_steps=20),
  'minatar/Freeway': dict(time_limit=20),
  'minigrid/MiniGrid-DoorKey-5x5-v0': dict(max_steps=20),
  'minigrid/MiniGrid-Fetch-5x5-N2-v0 image': dict(
    observation='image', max_steps=20
  ),
  'minigrid/MiniGrid-Empty-5x5-v0 pixels': dict(
    observation='pixels', time_limit=20
  ),
  'popgym/AutoencodeEasy': dict(time_limit=40),
  'popgym/BattleshipEasy': dict(time_limit=40),
  'popgym/ConcentrationEasy': dict(time_limit=40),
  'popgym/CountRecallEasy': dict(time_limit=40),
  'popgym/PositionOnlyPendulumEasy': dict(time_limit=40),
  'sparse/corridor': dict(length=20),
  'sparse/key': dict(length=20),
  'sparse/pads': dict(length=20),
  'sparse/signal': dict(delay=10, length=20),
  'minatar/Seaquest vector': dict(observation='vector', time_limit=20),
}


def _random_action(rng: np.random.Generator, spec: specs.BoundedArray):
  if np.issubdtype(spec.dtype, np.integer):
    return rng.integers(
      spec.minimum, spec.maximum, spec.shape, spec.dtype, endpoint=True
    )
  return rng.uniform(spec.minimum, spec.maximum, spec.shape).astype(spec.dtype)


# What `make test` does not install.
_OPTIONAL = {'crafter': 'crafter'}


class _Conformance(test_utils.EnvironmentTestMixin):
  case: str

  def setUp(self):
    family = self.case.partition('/')[0]
    if family in _OPTIONAL and not importlib.util.find_spec(_OPTIONAL[family]):
      self.skipTest(f'{family} is not installed')
    super().setUp()

  def make_object_under_test(self):
    return make_environment(self.case.split()[0], **_CASES[self.case])

  def make_action_sequence(self):
    rng = np.random.default_rng(0)
    spec = self.environment.action_spec()
    for _ in range(_STEPS):
      yield tree.map_structure(lambda s: _random_action(rng, s), spec)

  def test_sequence_of_actions_ends_an_episode(self):
    self.environment.reset()
    ends = [
      self.environment.step(a).last() for a in self.make_action_sequence()
    ]
    self.assertTrue(any(ends))

  def test_rewards_and_discounts_are_float32(self):
    self.environment.reset()
    for action in self.make_action_sequence():
      step = self.environment.step(action)
      if not step.first():
        self.assertIsInstance(step.reward, np.float32)
        self.assertIsInstance(step.discount, np.float32)
        self.assertTrue(step.discount == 1 or step.last())

  def test_observations_are_not_overwritten_by_later_steps(self):
    self.environment.reset()
    observations, copies = [], []
    for action in self.make_action_sequence():
      observations.append(self.environment.step(action).observation)
      copies.append(tree.map_structure(np.copy, observations[-1]))
    tree.map_structure(np.testing.assert_array_equal, observations, copies)

  def test_same_seed_gives_the_same_episodes(self):

    def play(seed):
      environment = make_environment(
        self.case.split()[0], seed=seed, **_CASES[self.case]
      )
      steps = [environment.reset()]
      steps += [environment.step(a) for a in self.make_action_sequence()]
      environment.close()
      return [np.array(x) for x in tree.flatten([tuple(s) for s in steps])]

    for seed in (1, 2):
      tree.map_structure(np.testing.assert_array_equal, play(seed), play(seed))


for _case in _CASES:
  _name = 'Test_' + ''.join(c if c.isalnum() else '_' for c in _case)
  globals()[_name] = type(
    _name, (_Conformance, absltest.TestCase), {'case': _case}
  )


@pytest.mark.parametrize(
  'name',
  [
    'debug/catch',
    'debug/point',
    'debug/random_length',
    'debug/recall',
    'bsuite/catch/0',
    'bsuite/deep_sea_stochastic/0',
    'gym/CartPole-v1',
    'minatar/Breakout',
    'popgym/CountRecallEasy',
    'popgym/RepeatPreviousEasy',
    'sparse/key',
    'sparse/pads',
  ],
)
def test_other_seeds_and_later_episodes_differ(name):
  """Seeds matter, and an environment does not repeat its first episode."""

  def starts_and_rewards(seed):
    environment = make_environment(name, seed=seed)
    action = environment.action_spec().generate_value()
    episodes = []
    for _ in range(30):
      step = environment.reset()
      episode = [step.observation.tolist()]
      while not step.last():
        step = environment.step(action)
        episode.append(float(step.reward))
      episodes.append(episode)
    return episodes

  first, second = starts_and_rewards(1), starts_and_rewards(2)
  assert first != second
  assert any(episode != first[0] for episode in first)
