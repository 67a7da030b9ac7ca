"""How the actor acts, and what it tells its adder."""

import types

import acme
from acme import core, specs
import dm_env
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import untrained

from acme_hieros.agent import acting
from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import checking, make_environment
from acme_hieros.models import level as level_lib
from acme_hieros.models import spaces


class Recorder:
  """In place of an adder: keeps what it is told."""

  def __init__(self):
    self.calls = []

  def add_first(self, timestep):
    pass

  def add(self, action, next_timestep, extras):
    self.calls.append((action, next_timestep, extras))


@pytest.fixture(scope='module')
def hierarchy(make_config):
  """A depth-2 agent for debug/random_length: its networks and parameters."""
  environment = make_environment('debug/random_length', max_length=6)
  networks = networks_lib.make_networks(
    make_config(), specs.make_environment_spec(environment)
  )
  states = untrained.draw_state(networks)
  params = tuple(level_lib.policy_params(state.params) for state in states)
  return types.SimpleNamespace(networks=networks, params=params)


@pytest.fixture(scope='module')
def make_actor(hierarchy):
  """Makes actors that share what is compiled."""
  actors = {}

  def make_actor(seed, deterministic=False):
    if deterministic not in actors:
      actors[deterministic] = acting.HierosActor(
        networks_lib.make_policy(hierarchy.networks, deterministic),
        jax.random.PRNGKey(seed),
        types.SimpleNamespace(
          params=hierarchy.params, update=lambda wait: None
        ),
        Recorder(),
      )
    actor = actors[deterministic]
    actor._random_key = jax.random.PRNGKey(seed)
    actor._adder = Recorder()
    return actor

  return make_actor


def act(actor, seed, episodes):
  """Runs Acme's loop; returns what the adder was told, by episode."""
  environment = make_environment('debug/random_length', seed=seed, max_length=6)
  acme.EnvironmentLoop(
    environment, actor, logger=types.SimpleNamespace(write=lambda _: None)
  ).run(num_episodes=episodes)
  calls, actor._adder.calls = actor._adder.calls, []
  split = [[]]
  for call in calls:
    split[-1].append(call)
    if call[1].last():
      split.append([])
  return split[:-1]


def equal(one, other):
  same = jax.tree.map(np.array_equal, one, other)
  return all(jax.tree.leaves(same))


def test_only_last_steps_have_the_windows_at_the_end(make_actor):
  for episode in act(make_actor(0), seed=0, episodes=8):
    for _, timestep, extras in episode:
      assert (extras.end is not None) == timestep.last()


def test_the_adder_gets_arrays_of_no_device(make_actor):
  for _, _, extras in act(make_actor(0), seed=0, episodes=1)[0]:
    leaves = jax.tree.leaves(extras)
    assert leaves and all(isinstance(leaf, np.ndarray) for leaf in leaves)


def test_ticks_count_from_each_episodes_start(make_actor):
  for episode in act(make_actor(0), seed=1, episodes=8):
    for t, (_, _, extras) in enumerate(episode):
      ticks = [bool(step.ticked) for step in extras.steps]
      assert ticks == [True, t % 2 == 0]


@pytest.mark.parametrize('deterministic', [False, True])
def test_the_same_key_gives_the_same_episodes(make_actor, deterministic):
  one = act(make_actor(3, deterministic), seed=2, episodes=3)
  other = act(make_actor(3, deterministic), seed=2, episodes=3)
  assert equal(one, other)


def test_nothing_is_compiled_after_the_first_episodes(make_actor, compilations):
  actor = make_actor(0)
  act(actor, seed=0, episodes=2)
  jax.jit(lambda x: x + 1)(1)
  assert compilations  # It would be noticed.
  compilations.clear()
  act(actor, seed=1, episodes=5)
  assert not compilations


def test_other_keys_give_other_actions(make_actor):
  one = act(make_actor(3), seed=2, episodes=6)
  other = act(make_actor(4), seed=2, episodes=6)
  one, other = ([int(c[0]) for e in x for c in e] for x in (one, other))
  assert one != other


def test_an_episode_does_not_depend_on_the_one_before(make_actor):
  actor = make_actor(5)
  act(actor, seed=10, episodes=1)
  after_one = act(actor, seed=20, episodes=1)
  actor = make_actor(5)
  act(actor, seed=11, episodes=1)
  assert equal(after_one, act(actor, seed=20, episodes=1))


def test_deterministic_choices_are_the_likeliest(hierarchy):
  networks, params = hierarchy.networks, hierarchy.params
  policy = networks_lib.make_policy(networks, deterministic=True)
  select = jax.jit(policy.select_action)
  for seed in range(5):
    state = policy.init(jax.random.PRNGKey(seed))
    _, state = select(params, jnp.full((1,), float(seed)), state)
    code = None
    for level, own, memory in reversed(
      list(zip(networks.levels, params, networks.memories(state.memories)))
    ):
      own = level_lib.unpack_policy(own)
      prediction = level.world_model.predict(own.world_model, memory.state)
      inputs = level.policy_inputs(prediction.features, code)
      mode = level.actor.apply(own.actor, inputs).mode()
      np.testing.assert_array_equal(memory.action, mode)
      code = memory.action


class Source(core.VariableSource):
  """Gives 1, 2, 3, ..."""

  def __init__(self):
    self.requests = 0

  def get_variables(self, names):
    self.requests += 1
    return [jnp.float32(self.requests) for _ in names]


def make_idle_policy(observation):
  """Sees these spaces, and its action is its parameters."""
  return networks_lib.HierosPolicy(
    init=lambda key: key,
    select_action=lambda params, observation, state: (params, state),
    get_extras=lambda state: None,
    end=lambda params, observation, state: None,
    observation_spaces=observation,
    action_space=spaces.Continuous((), (0.0,), (9.0,)),
  )


def test_actions_come_from_the_parameters_given_last(make_config):
  policy = make_idle_policy({'observation': spaces.Vector((1,))})
  source = Source()
  actor = builder_lib.HierosBuilder(
    make_config(variable_update_period=3)
  ).make_actor(jax.random.PRNGKey(0), policy, variable_source=source)
  first = make_environment('debug/random_length').reset()
  actor.observe_first(first)
  given = []
  for _ in range(7):
    given.append(float(actor.select_action(first.observation)))
    actor.update(wait=True)
  assert given == [1, 1, 1, 2, 2, 2, 3]


def test_an_actor_without_parameters_is_refused(make_config):
  with pytest.raises(ValueError, match='variable_source'):
    builder_lib.HierosBuilder(make_config()).make_actor(
      jax.random.PRNGKey(0), None
    )


class Episodes:
  """In place of an adder: steps by episode, as (action, timestep, extras)."""

  def __init__(self):
    self.episodes = []

  def add_first(self, timestep):
    self.episodes.append([timestep])

  def add(self, action, next_timestep, extras):
    self.episodes[-1].append((action, next_timestep, extras))

  def reset(self):
    self.episodes.pop()


@pytest.fixture(scope='module')
def make_batch_actor(hierarchy):
  policy = networks_lib.make_batch_policy(hierarchy.networks)

  def make_batch_actor(adders, seed=0):
    return acting.BatchActor(
      policy,
      jax.random.PRNGKey(seed),
      types.SimpleNamespace(params=hierarchy.params, update=lambda wait: None),
      adders,
    )

  return make_batch_actor


def act_in_all(actor, environments, steps, broken=lambda index, step: False):
  """Steps all environments; where one breaks it is started again."""
  timesteps = [None] * len(environments)
  for step in range(steps):
    for i, environment in enumerate(environments):
      if timesteps[i] is None or timesteps[i].last():
        timesteps[i] = environment.reset()
        actor.observe_first(i, timesteps[i])
    actions = actor.select_actions([t.observation for t in timesteps])
    timesteps = [
      None if broken(i, step) else environment.step(action)
      for i, (environment, action) in enumerate(zip(environments, actions))
    ]
    actor.observe(actions, timesteps)


def make_environments(count, **options):
  return [
    make_environment('debug/random_length', seed=i, **options)
    for i in range(count)
  ]


def test_each_environment_has_its_own_episodes(make_batch_actor):
  adders = [Episodes() for _ in range(3)]
  act_in_all(make_batch_actor(adders), make_environments(3, max_length=6), 40)
  lengths = [[len(e) for e in adder.episodes] for adder in adders]
  assert lengths[0] != lengths[1] != lengths[2]
  for adder in adders:
    for episode in adder.episodes:
      for t, (_, timestep, extras) in enumerate(episode[1:]):
        assert [bool(s.ticked) for s in extras.steps] == [True, t % 2 == 0]
        assert (extras.end is not None) == timestep.last()
        leaves = jax.tree.leaves(extras)
        assert all(isinstance(leaf, np.ndarray) for leaf in leaves)


def test_states_of_one_environment_reach_no_other(make_batch_actor):
  """Its steps are the same whatever the others see and wherever they start."""
  runs = []
  for options in ({'max_length': 6}, {'max_length': 3}):
    adders = [Episodes() for _ in range(3)]
    environments = [
      make_environment('debug/random_length', seed=5, max_length=6),
      *make_environments(2, **options),
    ]
    act_in_all(make_batch_actor(adders), environments, 30)
    runs.append(adders)
  for one, other in zip(runs[0][0].episodes, runs[1][0].episodes):
    assert equal(one, other)
  assert not all(
    len(one) == len(other)
    for one, other in zip(runs[0][1].episodes, runs[1][1].episodes)
  )


def test_an_episode_begins_without_a_past(make_batch_actor, hierarchy):
  """Windows of the first tick are padding and the state of that very step."""
  classes = hierarchy.networks.config.world_model.classes
  adders = [Episodes() for _ in range(3)]
  act_in_all(make_batch_actor(adders), make_environments(3, max_length=6), 40)
  for adder in adders:
    assert len(adder.episodes) > 5
    for episode in adder.episodes[:-1]:
      window = episode[1][2].steps[1].observation
      np.testing.assert_array_equal(window['stoch'][:-1], classes)
      np.testing.assert_array_equal(window['deter'][:-1], 0)
      assert np.all(window['stoch'][-1] < classes)


def test_an_environment_that_broke_down_starts_again(make_batch_actor):
  adders = [Episodes(), Episodes()]
  act_in_all(
    make_batch_actor(adders),
    make_environments(2, max_length=6),
    30,
    broken=lambda index, step: index == 1 and step % 5 == 0,
  )
  for adder in adders:
    for episode in adder.episodes[:-1]:
      assert episode[-1][1].last()
      assert bool(episode[1][2].steps[1].ticked)


# Environments of others, in Acme's loops.


def make_watching_actor(observation):
  """Sees these spaces; the policy does nothing with them."""
  policy = make_idle_policy(observation)
  return acting.HierosActor(policy, jax.random.PRNGKey(0), None, Recorder())


@pytest.mark.parametrize(
  'space,good,bad,word',
  [
    (spaces.Vector((2,)), np.ones(2), np.array([1, np.nan]), 'nan'),
    (spaces.Vector((2,)), np.ones(2), np.ones((1, 2)), r'\(1, 2\)'),
    (spaces.Vector((), np.dtype(np.int64)), 2**31 - 1, 2**31, '2147483648'),
    (spaces.Vector((), np.dtype(np.float64)), 1e38, 1e39, 'float32'),
    (spaces.OneHot((), 4), 3, 4, 'bounds from 0 to 3'),
    (
      spaces.Image((8, 8, 3)),
      np.zeros((8, 8, 3), np.uint8),
      np.full((8, 8, 3), 0.7),
      'uint8',
    ),
  ],
)
def test_an_actor_refuses_what_networks_cannot_take(space, good, bad, word):
  actor = make_watching_actor({'a/b': space})
  actor.observe_first(dm_env.restart({'a': {'b': good}}))
  actor.observe(0, dm_env.transition(1.0, {'a': {'b': good}}))
  with pytest.raises(checking.UnfitValueError, match=f"'a/b'.*{word}"):
    actor.observe_first(dm_env.restart({'a': {'b': bad}}))
  with pytest.raises(checking.UnfitValueError, match=f"'a/b'.*{word}"):
    actor.observe(0, dm_env.transition(1.0, {'a': {'b': bad}}))
  assert len(actor._adder.calls) == 1


@pytest.mark.parametrize(
  'reward,discount,words',
  [
    (np.nan, 1.0, 'reward nan'),
    (np.ones(1), 1.0, r'reward .*\(1,\)'),
    (None, 1.0, 'reward None'),
    (0.0, np.nan, 'discount nan'),
    (0.0, 1.5, 'discount 1.5'),
  ],
)
def test_an_actor_refuses_what_would_spoil_the_replay(reward, discount, words):
  actor = make_watching_actor({'observation': spaces.Vector(())})
  actor.observe_first(dm_env.restart(0.0))
  timestep = dm_env.TimeStep(dm_env.StepType.MID, reward, discount, 0.0)
  with pytest.raises(checking.UnfitValueError, match=words):
    actor.observe(0, timestep)
  assert not actor._adder.calls
