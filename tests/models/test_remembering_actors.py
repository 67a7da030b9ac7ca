"""What holds for actors that have a memory of their own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros import config as config_lib
from acme_hieros.models import (
  actor_critic,
  hierarchy,
  spaces,
  world_model,
)
from acme_hieros.models import level as level_lib
from acme_hieros.models.ops import linear

BATCH, LENGTH, AHEAD = 2, 6, 4
CHOICES = spaces.Discrete((), 3)
BODY = {'body': spaces.Vector((3,))}


@pytest.fixture(scope='module')
def settings(config):
  return dataclasses.replace(
    config.actor_critic,
    core='s5',
    s5=config_lib.S5Config(
      num_blocks=1, width=6, state_size=4, hippo_blocks=2, dt_max=1.0
    ),
  )


@pytest.fixture(scope='module')
def actor(settings, draw):
  """The actor, its parameters, and inputs [B, T, ...] of z and numbers."""
  actor = actor_critic.make_actor(settings, CHOICES)
  rng = np.random.default_rng(0)
  inputs = (
    linear.one_hots(jnp.asarray(rng.integers(0, 5, (BATCH, LENGTH, 2))), 5),
    jnp.asarray(rng.normal(size=(BATCH, LENGTH, 4)), jnp.float32),
  )
  params = draw(lambda key: actor.init(key, at(inputs, 0)))
  return actor, params, inputs


def at(inputs, t):
  return jax.tree.map(lambda x: x[:, t], inputs)


def test_before_equals_repeated_steps(actor):
  actor, params, inputs = actor
  reset = jnp.zeros((BATCH, LENGTH), bool).at[:, 0].set(True).at[1, 3].set(True)
  before = actor.before(params, inputs, reset)
  memory = jax.tree.map(
    lambda x: x + 7.0, actor.initial_state(BATCH)
  )  # Of another episode.
  for t in range(LENGTH):
    empty = actor.initial_state(BATCH)
    memory = jax.tree.map(
      lambda x, e, t=t: jnp.where(reset[:, t, None], e, x), memory, empty
    )
    for one, other in zip(memory, before, strict=True):
      np.testing.assert_allclose(one, other[:, t], atol=1e-5)
    _, memory = actor.step(params, at(inputs, t), reset[:, t], memory)
  assert max(np.abs(x).max() for x in memory) > 1e-2


def test_apply_equals_repeated_steps_and_credit_reaches_back(actor):
  actor, params, inputs = actor
  memory = jax.tree.map(lambda x: x + 0.3, actor.initial_state(BATCH))
  ahead = jax.tree.map(lambda x: x.swapaxes(0, 1), inputs)

  def follow(numbers):
    return actor.apply(params, (ahead[0], numbers), memory).log_probs

  found = follow(ahead[1])
  state = memory
  for t in range(LENGTH):
    policy, state = actor.step(params, at(inputs, t), None, state)
    np.testing.assert_allclose(policy.log_probs, found[t], atol=1e-5)
  # What the last choice was like depends on all that was seen before it.
  gradient = jax.grad(lambda x: follow(x)[-1, ..., 0].sum())(ahead[1])
  assert np.all(np.abs(gradient).max(-1) > 0.0)


@pytest.mark.parametrize('depth', [1, 2])
def test_acting_has_the_memory_that_training_starts_from(
  config, settings, draw, most_likely, depth
):
  """Replay a whole episode: the memory before each step is the actor's."""
  config = dataclasses.replace(
    config, depth=depth, actor_critic=settings, context_length=LENGTH
  )
  agent = hierarchy.Hierarchy(config, BODY, CHOICES)
  params = [
    draw(lambda k, i=i: agent.init(k)[i].params, seed=i) for i in range(depth)
  ]
  policies = [level_lib.policy_params(p) for p in params]
  step = jax.jit(agent.step)
  rng = np.random.default_rng(1)
  body = rng.normal(size=(LENGTH, 1, 3)).astype(np.float32)
  state = agent.initial_state(jax.random.PRNGKey(0), 1)
  actions, memories, codes = [], [], []
  for t in range(LENGTH):
    action, state = step(policies, {'body': body[t]}, state)
    actions.append(action)
    memories.append(agent.memories(state.memories))
    if depth > 1:
      codes.append(memories[-1][1].action)

  level = agent.levels[0]
  sequence = world_model.Sequence(
    observation={'body': jnp.asarray(body.swapaxes(0, 1))},
    action=jnp.stack(actions, 1),
    reward=jnp.zeros((1, LENGTH)),
    discount=jnp.ones((1, LENGTH)),
    start_of_episode=jnp.zeros((1, LENGTH), bool).at[0, 0].set(True),
  )
  came = world_model.arrivals(sequence, CHOICES)
  observed = level.world_model.observe(
    params[0].world_model,
    jax.random.PRNGKey(1),
    sequence.observation,
    came.previous_action,
    sequence.start_of_episode,
  )
  features = level.world_model.predict(params[0].world_model, observed).features
  code = jnp.stack(codes, 1) if codes else None
  before = level.actor.before(
    params[0].actor,
    level.policy_inputs(features, code),
    sequence.start_of_episode,
  )
  for t in range(1, LENGTH):
    for acted, trained in zip(memories[t - 1][0].policy.memory, before):
      np.testing.assert_allclose(acted, trained[:, t], atol=1e-4)
    assert memories[t][0].policy.age == t + 1


def test_a_level_learns_and_its_actor_s_memory_too(config, settings):
  config = dataclasses.replace(
    config,
    depth=1,
    sequence_length=LENGTH,
    actor_critic=dataclasses.replace(
      settings, horizon=AHEAD, replay_actor_scale=1.0
    ),
  )
  level = level_lib.Level(config, BODY, CHOICES)
  state = level_lib.draw(level.init, jax.random.PRNGKey(0))
  rng = np.random.default_rng(2)
  shape = (BATCH, LENGTH)
  batch = level_lib.Batch(
    world_model.Sequence(
      observation={'body': rng.normal(size=(*shape, 3)).astype(np.float32)},
      action=rng.integers(0, 3, shape).astype(np.int32),
      reward=rng.normal(size=shape).astype(np.float32),
      discount=np.ones(shape, np.float32),
      start_of_episode=jnp.zeros(shape, bool).at[1, 2].set(True),
    ),
    log_prob=jnp.full(shape, -np.log(3.0)),
  )
  update = jax.jit(level.update)
  after, _ = update(state, batch)
  after, metrics = update(after, batch)
  assert all(np.isfinite(x) for x in metrics.values()), metrics
  module = 'core/~_apply/ssm_layer'
  for name in ('complex_b', 'complex_c', 'd'):
    one, other = (s.params.actor[module][name] for s in (after, state))
    assert np.any(one != other), name
