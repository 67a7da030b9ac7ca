"""A manager on the world model of level 0: Director's hierarchy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros import config as config_lib
from acme_hieros.models import hierarchy, shares, spaces, world_model
from acme_hieros.models import level as level_lib

SEEN = {'body': spaces.Vector((3,))}
CHOICE = spaces.Discrete((), 3)
BATCH, LENGTH, K, STRETCHES = 2, 5, 2, 3
STARTS = BATCH * LENGTH
DISCOUNT = 0.9


@pytest.fixture(scope='module')
def managed(config):
  return config_lib.override(
    config,
    {
      'depth': 1,
      'actor_critic.horizon': K * STRETCHES,
      'actor_critic.discount': DISCOUNT,
      'actor_critic.extrinsic_weight': (0.0, 1.0),
      'actor_critic.subgoal_weight': 1.0,
      'actor_critic.novelty_weight': (0.0, 0.1),
      'actor_critic.entropy_target': 0.5,
      'subgoals.manager': 'policy',
      'subgoals.learns_from': 'replay',
      'subgoals.kl_target': 1.0,
    },
  )


@pytest.fixture(scope='module')
def level(managed):
  return level_lib.Level(managed, SEEN, CHOICE)


@pytest.fixture(scope='module')
def state(level, draw_state):
  drawn = draw_state(level)
  return drawn._replace(held={name: jnp.float32(0.1) for name in drawn.held})


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(0)
  shape = (BATCH, LENGTH)
  return level_lib.Batch(
    world_model.Sequence(
      observation={'body': rng.normal(size=(*shape, 3)).astype(np.float32)},
      action=rng.integers(0, 3, shape).astype(np.int32),
      reward=rng.normal(size=shape).astype(np.float32),
      discount=np.ones(shape, np.float32),
      start_of_episode=np.zeros(shape, bool),
    ),
    rng.integers(0, 3, (*shape, 2)).astype(np.uint8),
    np.full(shape, -1.0, np.float32),
  )


@pytest.fixture(scope='module')
def imagined(level, state):
  """The parameters, the starts' features, and what is imagined from them."""
  params = level_lib.unpack_policy(level_lib.policy_params(state.params))
  start = level.world_model.initial_context(STARTS).state
  start = start._replace(
    deter=jax.random.normal(jax.random.PRNGKey(5), start.deter.shape)
  )
  features = level.world_model.predict(params.world_model, start).features
  managed = jax.jit(level.imagine_managed)(
    params, jax.random.PRNGKey(0), start, features
  )
  return params, features, managed


def by_stretch(x):
  """[k, P * N, ...] to [P, k, N, ...]."""
  x = np.asarray(x)
  return x.reshape((len(x), STRETCHES, STARTS, *x.shape[2:])).swapaxes(0, 1)


def test_stretches_follow_one_another_each_under_one_subgoal(level, imagined):
  _, features, managed = imagined
  stoch, numbers, codes = map(
    by_stretch,
    jax.tree.map(
      np.asarray,
      (
        managed.trajectory.inputs[0].value,
        managed.trajectory.inputs[1],
        managed.trajectory.inputs[2],
      ),
    ),
  )
  chosen = np.asarray(managed.code).reshape((STRETCHES, STARTS, -1))
  assert numbers.shape[:3] == (STRETCHES, K + 1, STARTS)
  np.testing.assert_array_equal(numbers[0, 0], features[1])
  for before, after in zip(range(STRETCHES), range(1, STRETCHES)):
    np.testing.assert_array_equal(numbers[before, -1], numbers[after, 0])
    np.testing.assert_array_equal(stoch[before, -1], stoch[after, 0])
  for step in range(K + 1):
    np.testing.assert_array_equal(codes[:, step], chosen)
  # One class of each of the two categoricals.
  np.testing.assert_array_equal(
    chosen.reshape((STRETCHES, STARTS, 2, 3)).sum(-1), 1.0
  )
  assert len({code.tobytes() for code in chosen.reshape((-1, 6))}) > 3
  # The manager chooses from states, and is not told of subgoals.
  assert len(managed.features) == 2
  np.testing.assert_array_equal(managed.features[1][:-1], numbers[:, 0])
  np.testing.assert_array_equal(managed.features[1][-1], numbers[-1, -1])


def test_each_stretch_is_reached_as_far_as_those_before_go_on(imagined):
  _, _, managed = imagined
  continuation = by_stretch(managed.trajectory.continuation)
  reached = np.ones((STRETCHES, STARTS))
  for p in range(1, STRETCHES):
    reached[p] = reached[p - 1] * continuation[p - 1].prod(0)
  assert reached.min() < 0.9
  np.testing.assert_allclose(managed.reached, reached, rtol=1e-5)


@pytest.mark.parametrize('aggregation', ['mean', 'sum'])
def test_a_manager_s_step_is_a_stretch(managed, imagined, aggregation):
  level = level_lib.Level(
    dataclasses.replace(managed, reward_aggregation=aggregation), SEEN, CHOICE
  )
  _, _, stretches = imagined
  rng = np.random.default_rng(0)
  rewards = {
    name: rng.normal(size=(K, STRETCHES * STARTS)).astype(np.float32)
    for name in ('extrinsic', 'novelty', 'subgoal')
  }
  alive = rng.uniform(size=STARTS).astype(np.float32)
  steps = level._managing(stretches, rewards, alive)
  assert set(steps.rewards) == {'extrinsic', 'novelty'}
  continuation = by_stretch(stretches.trajectory.continuation)
  np.testing.assert_allclose(
    steps.continuation, continuation.prod(1), rtol=1e-5
  )
  for name, reward in steps.rewards.items():
    own = by_stretch(rewards[name])
    expected = np.zeros((STRETCHES, STARTS))
    for p in range(STRETCHES):
      for n in range(STARTS):
        there = 1.0
        for t in range(K):
          expected[p, n] += there * own[p, t, n]
          there *= continuation[p, t, n]
    if (name, aggregation) != ('extrinsic', 'sum'):
      expected /= K
    np.testing.assert_allclose(reward, expected, rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(
    steps.action, np.asarray(stretches.code).reshape((STRETCHES, STARTS, -1))
  )
  np.testing.assert_array_equal(steps.alive, alive)


def largest(tree):
  return max(
    (float(jnp.abs(x).max()) for x in jax.tree.leaves(tree)), default=0.0
  )


def test_worker_and_manager_learn_each_of_its_own_rewards(
  level, state, imagined, monkeypatch, behaviour_gradients
):
  """Which losses reach which parts, with one behaviour at a time."""
  _, features, _ = imagined
  start = level.world_model.initial_context(STARTS).state
  factor = {}
  for name in ('behaviour', 'manager'):
    own = getattr(level, name)
    loss = own.loss

    def scaled(*args, loss=loss, name=name):
      total, more = loss(*args)
      return factor[name] * total, more

    monkeypatch.setattr(own, 'loss', scaled)
  coded = level._autoencoder_loss
  monkeypatch.setattr(
    level,
    '_autoencoder_loss',
    lambda *a: (factor['autoencoder'] * coded(*a)[0], coded(*a)[1]),
  )

  @jax.jit
  def gradients(factors):
    factor.update(factors)
    return behaviour_gradients(
      level, state, start, features, None, (BATCH, LENGTH)
    )

  names = ('behaviour', 'manager', 'autoencoder')
  reached = {}
  for name in names:
    gradient = gradients({n: float(n == name) for n in names})
    parts = {**gradient._asdict(), **gradient.critics}
    del parts['critics']
    reached[name] = {part for part, g in parts.items() if largest(g) > 0}
  assert reached == {
    'behaviour': {'actor', 'subgoal'},
    'manager': {'manager', 'manager_extrinsic', 'manager_novelty'},
    'autoencoder': {'autoencoder'},
  }


def test_an_update_moves_all_parts_and_the_held_weights(level, state, batch):
  update = jax.jit(level.update)
  new, metrics = update(state, batch)
  assert all(np.isfinite(x) for x in metrics.values()), metrics
  for name in ('world_model', 'actor', 'autoencoder', 'manager', 'critics'):
    old, moved = getattr(state.params, name), getattr(new.params, name)
    assert largest(jax.tree.map(jnp.subtract, old, moved)) > 0, name
  assert set(new.params.critics) == {
    'subgoal',
    'manager_extrinsic',
    'manager_novelty',
  }
  most = {'': np.log(3), 'manager_': 2 * np.log(3)}
  for prefix, entropy in most.items():
    measured = float(metrics[f'{prefix}policy_entropy'])
    # A higher weight makes for more entropy, and less for less.
    expected = 0.1 * step_of(0.5 * entropy / measured)
    np.testing.assert_allclose(
      new.held[f'{prefix}entropy'], expected, rtol=1e-5
    )
  expected = 0.1 * step_of(float(metrics['autoencoder_kl']) / 1.0)
  np.testing.assert_allclose(new.held['kl'], expected, rtol=1e-5)
  assert metrics['kl_weight'] == new.held['kl']


def step_of(ratio):
  return 1.1 if ratio > 1.1 else 1 / 1.1 if ratio < 1 / 1.1 else 1.0


def test_nothing_is_held_where_nobody_asks(managed, replace):
  config = replace(managed, 'actor_critic', entropy_target=0.0)
  config = replace(config, 'subgoals', kl_target=0.0)
  level = level_lib.Level(config, SEEN, CHOICE)
  state = jax.eval_shape(level.init, jax.random.PRNGKey(0))
  assert state.held == {}


def test_entropy_weighs_for_each_level_what_it_says(
  managed, replace, state, batch
):
  def updated(entropy_scale, target=0.0):
    config = replace(
      managed,
      'actor_critic',
      entropy_scale=entropy_scale,
      entropy_target=target,
    )
    level = level_lib.Level(config, SEEN, CHOICE)
    known = state._replace(held=level.init(state.key).held)
    if target:
      return known.held
    _, metrics = jax.jit(level.update)(known, batch)
    return metrics

  held = updated((0.2, 0.6), target=0.5)
  assert held['entropy'] == np.float32(0.2)
  assert held['manager_entropy'] == np.float32(0.6)
  little, much = updated((0.0,)), updated((0.0, 10.0))
  assert little['actor_loss'] == much['actor_loss']
  assert much['manager_actor_loss'] < little['manager_actor_loss'] - 1.0


def test_acting_keeps_a_subgoal_for_k_steps_of_an_episode(managed, draw):
  agent = hierarchy.Hierarchy(managed, SEEN, CHOICE)
  (params,) = (
    level_lib.policy_params(draw(lambda key: agent.init(key)[0].params)),
  )
  step, reset = jax.jit(agent.step), jax.jit(agent.reset)
  state = agent.initial_state(jax.random.PRNGKey(3), 2)
  rng = np.random.default_rng(0)
  codes, told = [], []
  for time in range(12):
    if time == 5:  # The second environment's episode is over.
      state = reset(state, np.array([False, True]))
    seen = {'body': rng.normal(size=(2, 3)).astype(np.float32)}
    _, state = step([params], seen, state)
    (memory,) = agent.memories(state.memories)
    codes.append(np.asarray(hierarchy.subgoal([memory], 0)))
    (did,) = agent.level_steps(state.did)
    told.append(np.asarray(did.extras['subgoal']))
  codes = np.array(codes)
  np.testing.assert_array_equal(codes.reshape((12, 2, 2, 3)).sum(-1), 1.0)
  np.testing.assert_array_equal(
    codes.reshape((12, 2, 2, 3)).argmax(-1), np.array(told)
  )
  starts = [range(0, 12, K), [*range(0, 5, K), *range(5, 12, K)]]
  for i, chosen in enumerate(starts):
    for time in range(1, 12):
      if time not in chosen:
        np.testing.assert_array_equal(codes[time, i], codes[time - 1, i])
    assert len({codes[time, i].tobytes() for time in chosen}) > 1


def test_manager_and_worker_do_not_draw_alike(managed, draw):
  """Which class a code has says nothing of the action that is drawn with it."""
  agent = hierarchy.Hierarchy(managed, SEEN, CHOICE)
  (zeros,) = jax.eval_shape(agent.init, jax.random.PRNGKey(0))
  # All heads are even, whatever they see.
  params = level_lib.policy_params(
    jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), zeros.params)
  )

  def draw_both(key):
    action, state = agent.step(
      [params], {'body': jnp.ones((1, 3))}, agent.initial_state(key, 1)
    )
    (did,) = agent.level_steps(state.did)
    return action[0], did.extras['subgoal'][0, 0]

  keys = jax.random.split(jax.random.PRNGKey(0), 400)
  pairs = zip(*map(np.asarray, jax.jit(jax.vmap(draw_both))(keys)))
  seen = np.zeros((3, 3))
  for pair in pairs:
    seen[pair] += 1
  # Of nine even cells; 99.99 % of independent draws stay below.
  assert np.sum(np.square(seen - 400 / 9)) / (400 / 9) < 32


def test_what_is_replayed_needs_no_subgoals(level, state, batch):
  """Rows of another agent have none, and the manager sets its own."""
  jax.eval_shape(level.update, state, batch._replace(subgoal=None))


def test_deterministic_managers_choose_the_likeliest(managed, draw):
  agent = hierarchy.Hierarchy(managed, SEEN, CHOICE)
  params = level_lib.policy_params(draw(lambda key: agent.init(key)[0].params))
  step = jax.jit(agent.step, static_argnums=3)
  seen = {'body': np.ones((1, 3), np.float32)}
  _, state = step(
    [params], seen, agent.initial_state(jax.random.PRNGKey(0), 1), True
  )
  (memory,) = agent.memories(state.memories)
  level, own = agent.levels[0], level_lib.unpack_policy(params)
  features = level.world_model.predict(own.world_model, memory.state).features
  mode = level.manager.actor.apply(own.manager, features).mode()
  np.testing.assert_array_equal(memory.code, mode)


def test_devices_that_share_the_batch_do_together_what_one_does(
  level, state, batch
):
  new, metrics = jax.jit(level.update)(state, batch)
  rows = jax.tree.map(lambda x: x.reshape(BATCH, 1, *x.shape[1:]), batch)
  together = jax.vmap(level.update, (None, 0), axis_name=shares.AXIS)
  news, told = jax.jit(together)(state, rows)
  for name, value in metrics.items():
    np.testing.assert_allclose(
      told[name], [value] * BATCH, rtol=1e-4, atol=1e-6, err_msg=name
    )
  for name, weight in new.held.items():
    np.testing.assert_allclose(news.held[name], [weight] * BATCH, rtol=1e-5)
