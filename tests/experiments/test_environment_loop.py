"""Environments are stepped together, and rebuilt when they break down."""

import gc
import weakref

import dm_env
from dm_env import specs
import gymnasium
import numpy as np
import pytest

from acme_hieros.environments import checking, gymnasium_adapter
from acme_hieros.experiments import environment_loop


class Actor:
  """Chooses 0, 1, 2, ... and keeps what it is told."""

  def __init__(self, count):
    self.count = count
    self.firsts = []
    self.observed = []
    self.chosen = self.updates = 0

  def observe_first(self, index, timestep):
    self.firsts.append((index, len(self.observed)))

  def select_actions(self, observations):
    assert len(observations) == self.count
    self.chosen += 1
    return [self.chosen] * self.count

  def observe(self, actions, timesteps):
    assert set(actions) == {self.chosen}
    self.observed.append(list(timesteps))

  def update(self):
    self.updates += 1


class Environment(dm_env.Environment):
  """Episodes of `length` steps, a reward of 1 each; breaks when told to."""

  def __init__(self, length, breaks=lambda: False, truncate=False):
    self.length = length
    self.breaks = breaks
    self.truncate = truncate
    self.closed = False

  def reset(self):
    self.time = 0
    return dm_env.restart(np.float32(0))

  def step(self, action):
    if self.breaks():
      raise OSError('the emulator is gone')
    self.time += 1
    if self.time < self.length:
      return dm_env.transition(1.0, np.float32(self.time))
    end = dm_env.truncation if self.truncate else dm_env.termination
    return end(1.0, np.float32(self.time))

  def observation_spec(self):
    return specs.Array((), np.float32)

  def action_spec(self):
    return specs.DiscreteArray(2)

  def close(self):
    self.closed = True


def make_loop(actor, make_environment, reports=None):
  return environment_loop.EnvironmentLoop(
    actor,
    make_environment,
    actor.count,
    np.random.SeedSequence(0),
    actor.update,
    [].append if reports is None else reports.append,
  )


def test_episodes_end_independently_and_are_told_once():
  actor = Actor(2)
  lengths = iter([2, 3])
  loop = make_loop(actor, lambda seed: Environment(next(lengths)))
  ended = []
  for _ in range(12):
    steps, episodes = loop.step()
    assert steps == 2
    ended += episodes
  assert actor.updates == 12
  assert sorted(e.episode_length for e in ended) == [2] * 6 + [3] * 4
  assert all(e.episode_return == e.episode_length for e in ended)
  assert all(e.terminated for e in ended)
  assert actor.firsts == sorted(
    [(0, t) for t in range(0, 12, 2)] + [(1, t) for t in range(0, 12, 3)],
    key=lambda first: (first[1], first[0]),
  )


def test_episodes_say_where_they_were_played():
  lengths = iter([2, 3])
  loop = make_loop(Actor(2), lambda seed: Environment(next(lengths)))
  ended = [episode for _ in range(6) for episode in loop.step()[1]]
  played = [(e.environment_index, e.episode_length) for e in ended]
  assert played == [(0, 2), (1, 3), (0, 2), (0, 2), (1, 3)]


def test_a_retired_environment_is_not_stepped_nor_missed():
  made = []

  def make_environment(seed):
    made.append(Environment(2 + len(made)))
    return made[-1]

  actor = Actor(3)
  loop = make_loop(actor, make_environment)
  results = []
  for _ in range(4):
    results.append(loop.step())
    for episode in results[-1][1]:
      if episode.environment_index != 2:
        loop.retire(episode.environment_index)
  # Of 2, 3 and 4 steps; the last one goes on.
  assert [steps for steps, _ in results] == [3, 3, 2, 1]
  assert [len(ended) for _, ended in results] == [0, 1, 1, 1]
  assert [environment.time for environment in made] == [2, 3, 4]
  assert len(actor.firsts) == 3
  given = [[t is not None for t in timesteps] for timesteps in actor.observed]
  assert given[2:] == [[False, True, True], [False, False, True]]
  assert loop.step() == (1, [])
  loop.close()
  assert all(environment.closed for environment in made)


def test_truncations_are_no_terminations():
  actor = Actor(1)
  loop = make_loop(actor, lambda seed: Environment(1, truncate=True))
  assert not loop.step()[1][0].terminated


def test_environments_have_seeds_of_their_own():
  seeds = []

  def make_environment(seed):
    seeds.append(seed)
    return Environment(2)

  make_loop(Actor(3), make_environment).step()
  make_loop(Actor(3), make_environment).step()
  assert len(set(seeds[:3])) == 3
  assert seeds[:3] == seeds[3:]


def test_what_an_environment_holds_is_gone_when_it_is_closed():
  alive = weakref.WeakSet()

  def make_environment(seed):
    environment = Environment(2)
    alive.add(environment)
    return environment

  loop = make_loop(Actor(2), make_environment)
  loop.step()
  assert len(alive) == 2
  loop.close()
  gc.collect()
  assert not alive


def test_a_broken_environment_is_closed_and_built_anew():
  made, reports = [], []
  calls = iter([False, False, True] + [False] * 100)

  def make_environment(seed):
    made.append((seed, Environment(4, breaks=lambda: next(calls))))
    return made[-1][1]

  actor = Actor(1)
  loop = make_loop(actor, make_environment, reports)
  results = [loop.step() for _ in range(8)]
  assert [steps for steps, _ in results] == [1, 1, 0, 1, 1, 1, 1, 1]
  # The episode that broke never ended; the next one is whole.
  ended = [episode for _, episodes in results for episode in episodes]
  assert [episode.episode_length for episode in ended] == [4]
  assert actor.observed[2] == [None]
  assert actor.firsts == [(0, 0), (0, 3), (0, 7)]
  assert len(made) == 2 and made[0][1].closed and made[0][0] != made[1][0]
  (report,) = reports
  assert 'OSError: the emulator is gone' in report and '\n' not in report


def test_the_other_environments_go_on():
  actor = Actor(2)
  environments = iter(
    [Environment(3, breaks=lambda: True), Environment(3), Environment(3)]
  )
  loop = make_loop(actor, lambda seed: next(environments))
  steps = [loop.step()[0] for _ in range(3)]
  assert steps == [1, 2, 2]
  assert [timesteps[1].last() for timesteps in actor.observed] == [0, 0, 1]


@pytest.mark.parametrize('where', ['making', 'reset', 'step'])
def test_one_that_always_breaks_is_given_up(where):
  def fail():
    raise OSError('the emulator is gone')

  def make_environment(seed):
    if where == 'making':
      fail()
    environment = Environment(3, breaks=lambda: where == 'step')
    if where == 'reset':
      environment.reset = fail
    return environment

  reports = []
  loop = make_loop(Actor(1), make_environment, reports)
  with pytest.raises(
    environment_loop.BrokenEnvironmentError, match='5 times.*emulator is gone'
  ):
    for _ in range(10):
      loop.step()
  assert len(reports) == 4


def test_breakdowns_between_whole_episodes_are_forgiven():
  calls = iter(([True] * 4 + [False] * 3) * 50)
  loop = make_loop(
    Actor(1), lambda seed: Environment(3, breaks=lambda: next(calls))
  )
  assert sum(loop.step()[0] for _ in range(70)) == 30


@pytest.mark.parametrize(
  'error,says',
  [
    (OSError('no'), 'OSError: no'),
    (KeyError('x'), "KeyError: 'x'"),
    (ValueError(), 'ValueError'),
    (RuntimeError('first.\nsecond\nthird'), 'RuntimeError: first'),
  ],
)
def test_errors_fit_into_a_sentence(error, says):
  assert environment_loop.in_one_line(error) == says


def test_what_is_wrong_with_a_value_is_told_to_the_end():
  message = 'x' * 250 + ', which should be y.'
  said = environment_loop.in_one_line(checking.UnfitValueError(message))
  assert said == f'UnfitValueError: {message}'.rstrip('.')


def test_long_errors_are_cut():
  assert len(environment_loop.in_one_line(OSError('x' * 9999))) == 200


def leave(*unused_arguments):
  raise SystemExit(0)


@pytest.mark.parametrize('where', ['make', 'reset', 'step'])
def test_one_that_ends_the_program_breaks_down(where):
  def make():
    if not made:
      made.append(None)
      if where == 'make':
        leave()
      environment = Environment(3)
      setattr(environment, where, leave)
      return environment
    return Environment(3)

  made = []
  _, ended, reports = play(make, steps=7)
  assert len(ended) == 2
  assert len(reports) == 1 and 'SystemExit: 0' in reports[0]


def test_one_that_always_ends_the_program_is_given_up():
  loop = make_loop(Actor(1), leave)
  with pytest.raises(
    environment_loop.BrokenEnvironmentError, match='SystemExit: 0'
  ):
    loop.step()


@pytest.mark.parametrize('where', ['make', 'reset', 'step'])
def test_ctrl_c_is_no_breakdown(where):
  def interrupt(*unused_arguments):
    raise KeyboardInterrupt

  def make(seed):
    environment = Environment(3)
    setattr(environment, where, interrupt)
    return environment

  loop = make_loop(Actor(1), interrupt if where == 'make' else make)
  with pytest.raises(KeyboardInterrupt):
    loop.step()


# What an environment returns.


class Scripted(gymnasium.Env):
  """Episodes of 3 steps of Gymnasium; the n-th step of all is edited."""

  observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
  action_space = gymnasium.spaces.Discrete(99)

  def __init__(self, edit, when=lambda n: n == 5):
    self.edit, self.when, self.n = edit, when, 0

  def reset(self, seed=None, options=None):
    self.time = 0
    return np.zeros(2, np.float32), {}

  def step(self, action):
    self.n += 1
    self.time += 1
    step = {
      'observation': np.full(2, self.time, np.float32),
      'reward': 1.0,
      'terminated': self.time == 3,
      'truncated': False,
    }
    return *(step | self.edit if self.when(self.n) else step).values(), {}


class Native(Environment):
  """The same of dm_env's."""

  def __init__(self, edit, when=lambda n: n == 5):
    super().__init__(3)
    self.edit, self.when, self.n = edit, when, 0

  def step(self, action):
    self.n += 1
    timestep = super().step(action)
    return timestep._replace(**self.edit) if self.when(self.n) else timestep


def play(make, steps=12):
  """What the actor is told, the episodes, and what is reported."""
  actor, reports = Actor(1), []
  loop = make_loop(actor, lambda seed: make(), reports)
  ended = [episode for _ in range(steps) for episode in loop.step()[1]]
  return [timesteps[0] for timesteps in actor.observed], ended, reports


def check_one_breakdown(make, words):
  """The fifth step of all is bad; a new environment has it again."""
  observed, ended, reports = play(make)
  # 3 steps, 1 step and the bad one, twice, and 2 steps of a whole episode.
  assert [timestep is None for timestep in observed] == (
    [False, False, False, False, True] * 2 + [False, False]
  )
  assert [episode.episode_length for episode in ended] == [3, 3]
  for timestep in filter(None, observed):
    assert timestep.reward == 1 and timestep.discount in (0, 1)
    assert np.isfinite(timestep.observation).all()
  assert len(reports) == 2
  for word in ('is built anew', *words):
    assert word in reports[0]
  assert '\n' not in reports[0]


@pytest.mark.parametrize(
  'edit,words',
  [
    ({'observation': np.array([0, np.nan], np.float32)}, ["'observation'"]),
    ({'observation': np.zeros((1, 2))}, ['(1, 2)', '(2,)']),
    ({'observation': None}, ['None']),
    ({'reward': np.nan}, ['reward nan']),
    ({'reward': -np.inf}, ['reward -inf']),
    ({'reward': None}, ['reward None']),
    ({'reward': np.array([1.0])}, ['(1,)']),
    ({'terminated': None}, ['terminated=None']),
    ({'truncated': np.nan}, ['truncated=nan']),
  ],
  ids=repr,
)
def test_a_bad_value_is_a_breakdown_and_goes_nowhere(edit, words):
  check_one_breakdown(
    lambda: gymnasium_adapter.GymnasiumAdapter(Scripted(edit)),
    ["Environment 'Scripted' returned", *words],
  )


@pytest.mark.parametrize(
  'edit,words',
  [
    ({'observation': np.float32(np.inf)}, ["'observation'", 'inf']),
    ({'observation': np.zeros(1, np.float32)}, ['(1,)', '()']),
    ({'reward': np.nan}, ['reward nan']),
    ({'reward': None}, ['reward None']),
    ({'reward': np.ones((1,))}, ['(1,)']),
    ({'discount': np.nan}, ['discount nan']),
    ({'discount': None}, ['discount None']),
    ({'discount': 1.5}, ['discount 1.5', '0 and 1']),
    ({'discount': -1.0}, ['discount -1', '0 and 1']),
  ],
  ids=repr,
)
def test_so_it_is_of_environments_of_others(edit, words):
  check_one_breakdown(
    lambda: Native(edit), ["Environment 'Native' returned", *words]
  )


def test_one_that_always_returns_bad_values_is_given_up_with_the_reason():
  loop = make_loop(
    Actor(1), lambda seed: Native({'reward': np.nan}, lambda n: n > 1)
  )
  with pytest.raises(
    environment_loop.BrokenEnvironmentError,
    match="5 times.*'Native' returned the reward nan.*finite number",
  ):
    for _ in range(20):
      loop.step()


@pytest.mark.parametrize(
  'error', [AttributeError("'NoneType' has no close"), SystemExit(3)], ids=repr
)
def test_closing_never_raises(error):
  made, reports = [], []

  def make_environment(seed):
    made.append(Environment(2))
    return made[-1]

  loop = make_loop(Actor(3), make_environment, reports)
  loop.step()

  def fail():
    raise error

  made[1].close = fail
  loop.close()
  assert [environment.closed for environment in made] == [True, False, True]
  (report,) = reports
  assert 'could not be closed' in report and type(error).__name__ in report
