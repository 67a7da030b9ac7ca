"""The ensemble, against NumPy; neither what is known nor chance is new."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from acme_hieros import config as config_lib
from acme_hieros.models import exploration, hierarchy, spaces, world_model
from acme_hieros.models import level as level_lib

MEMBERS, CATEGORICALS, CLASSES, WIDTH = 3, 2, 4, 5

CONFIG = config_lib.ExplorationConfig(
  novelty='disagreement', members=MEMBERS, units=16
)


@pytest.fixture(scope='module')
def ensemble():
  return exploration.make_ensemble(CONFIG, CATEGORICALS, CLASSES)


@pytest.fixture(scope='module')
def output():
  rng = np.random.default_rng(0)
  return jnp.asarray(rng.normal(size=(6, WIDTH)), jnp.float32)


def entropy(p):
  return -np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-30)), 0), (-2, -1))


def test_disagreement_is_the_entropy_of_the_mean_less_the_mean_entropy():
  rng = np.random.default_rng(0)
  p = rng.dirichlet(np.ones(CLASSES), size=(7, MEMBERS, CATEGORICALS))
  expected = entropy(p.mean(1)) - entropy(p).mean(-1)
  measured = exploration.disagreement(jnp.log(p))
  np.testing.assert_allclose(measured, expected, rtol=1e-4)
  assert (expected > 0).all()


def test_who_is_sure_of_different_things_disagrees_and_who_is_unsure_does_not():
  sure = np.full((MEMBERS, 1, CLASSES), 1e-12)
  sure[np.arange(MEMBERS), 0, np.arange(MEMBERS)] = 1.0
  chance = np.full((MEMBERS, 1, CLASSES), 1.0 / CLASSES)
  same = np.repeat(sure[:1], MEMBERS, 0)
  measured = exploration.disagreement(jnp.log(np.stack([sure, chance, same])))
  np.testing.assert_allclose(measured, [np.log(MEMBERS), 0, 0], atol=1e-5)


def test_the_members_are_networks_of_their_own(ensemble, output, draw):
  params = draw(lambda key: ensemble.init(key, output))
  log_probs = ensemble.predict(params, output)
  assert log_probs.shape == (6, MEMBERS, CATEGORICALS, CLASSES)
  np.testing.assert_allclose(jnp.exp(log_probs).sum(-1), 1.0, rtol=1e-5)
  first = jax.grad(
    lambda params: jnp.sum(ensemble.predict(params, output)[:, 0, 0, 0])
  )(params)
  last = slice((MEMBERS - 1) * CONFIG.units, None)
  for name, parts in first.items():
    for part, gradient in parts.items():
      if 'linear' in name:
        own, other = gradient[:, : CONFIG.units], gradient[:, last]
      else:
        own, other = gradient[0], gradient[-1]
      assert jnp.any(own != 0), (name, part)
      assert not jnp.any(other), (name, part)


def test_the_loss_is_the_mean_of_what_is_missing(ensemble, output, draw):
  params = draw(lambda key: ensemble.init(key, output))
  rng = np.random.default_rng(1)
  shown = rng.dirichlet(np.ones(CLASSES), size=(6, CATEGORICALS))
  told = np.asarray(ensemble.predict(params, output), np.float64)
  missing = np.sum(shown[:, None] * (np.log(shown)[:, None] - told), (-2, -1))
  loss = exploration.loss(ensemble, params, output, jnp.log(shown))
  np.testing.assert_allclose(loss, missing.mean(), rtol=1e-4)


def test_the_loss_leaves_the_world_model_alone(ensemble, output, draw):
  params = draw(lambda key: ensemble.init(key, output))
  shown = jnp.log(jnp.full((6, CATEGORICALS, CLASSES), 1.0 / CLASSES))
  gradients = jax.grad(exploration.loss, (2, 3))(
    ensemble, params, output, shown
  )
  assert not any(jnp.any(x) for x in gradients)


def test_what_was_learned_is_not_new_and_neither_is_chance():
  """Of 15 situations 3 never come; in 4 what is shown is a coin's."""
  rng = np.random.default_rng(0)
  ensemble = exploration.make_ensemble(CONFIG, CATEGORICALS, CLASSES)
  output = jnp.asarray(rng.normal(size=(15, WIDTH)), jnp.float32)
  order = rng.permutation(15)
  never, coins, known = order[:3], order[3:7], order[7:]
  shown = rng.integers(CLASSES, size=(15, CATEGORICALS))
  params = ensemble.init(jax.random.PRNGKey(0), output)
  optimizer = optax.adam(1e-2)
  met = np.concatenate([coins, known])

  @jax.jit
  def learn(params, state, shown):
    log_probs = jax.nn.log_softmax(30.0 * jax.nn.one_hot(shown, CLASSES))
    gradient = jax.grad(exploration.loss, 1)(
      ensemble, params, output[met], log_probs
    )
    change, state = optimizer.update(gradient, state)
    return optax.apply_updates(params, change), state

  state = optimizer.init(params)
  for _ in range(600):
    shown[coins, 0] = rng.integers(2, size=len(coins))
    params, state = learn(params, state, jnp.asarray(shown[met]))
  novelty = np.asarray(
    exploration.disagreement(ensemble.predict(params, output))
  )
  assert novelty[never].min() > 5 * novelty[known].max()
  assert novelty[never].min() > 3 * novelty[coins].max()


# In a level.


SEEN = {'body': spaces.Vector((3,))}
CHOICE = spaces.Discrete((), 3)


def largest(tree):
  return max(jnp.abs(x).max() for x in jax.tree.leaves(tree))


def assert_equal(one, two):
  jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.fixture(scope='module')
def curious(config, replace, draw_state):
  """A flat level with the novelty of an ensemble, its state and its update."""
  config = dataclasses.replace(config, depth=1)
  config = replace(
    config, 'exploration', novelty='disagreement', members=3, units=8
  )
  level = level_lib.Level(config, SEEN, CHOICE)
  return level, draw_state(level), jax.jit(level.update)


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(0)
  shape = (2, 5)
  return level_lib.Batch(
    world_model.Sequence(
      observation={'body': rng.normal(size=(*shape, 3)).astype(np.float32)},
      action=rng.integers(0, 3, shape).astype(np.int32),
      reward=rng.normal(size=shape).astype(np.float32),
      discount=np.ones(shape, np.float32),
      start_of_episode=np.zeros(shape, bool),
    )
  )


def test_a_level_learns_the_ensemble_and_needs_no_autoencoder(curious, batch):
  level, state, update = curious
  assert level.streams.keys() == {'extrinsic', 'novelty'}
  assert not state.params.autoencoder
  new, metrics = update(state, batch)
  moved = jax.tree.map(jnp.subtract, new.params.ensemble, state.params.ensemble)
  rate = level._config.exploration.optimizer.learning_rate
  assert 0.9 * rate < largest(moved) < 1.02 * rate
  assert metrics['novelty_reward'] > 0
  assert metrics['ensemble_loss'] > 0


def test_nothing_but_its_loss_teaches_the_ensemble(curious, batch, perturb):
  level, state, update = curious
  new, _ = update(state, batch)
  params = state.params
  other = params._replace(
    actor=perturb(params.actor), critics=perturb(params.critics)
  )
  another, _ = update(state._replace(params=other), batch)
  assert_equal(new.params.ensemble, another.params.ensemble)
  assert_equal(new.optimizers.ensemble, another.optimizers.ensemble)
  # It teaches the world model nothing, and the actor by its reward.
  other = params._replace(ensemble=perturb(params.ensemble))
  another, _ = update(state._replace(params=other), batch)
  assert_equal(new.params.world_model, another.params.world_model)
  change = jax.tree.map(
    jnp.subtract, new.optimizers.actor, another.optimizers.actor
  )
  assert largest(change) > 0


def test_without_novelty_there_is_no_ensemble(config, replace):
  config = replace(config, 'exploration', novelty='disagreement')
  config = replace(config, 'actor_critic', novelty_weight=(0.0, 0.1))
  config = dataclasses.replace(config, depth=2)
  low, high = hierarchy.Hierarchy(config, SEEN, CHOICE).levels
  # The lower level is told its subgoals by an autoencoder all the same.
  assert (low.ensemble, high.autoencoder) == (None, None)
  assert low.autoencoder and high.ensemble


def test_a_manager_is_told_what_is_new_below(config):
  config = config_lib.override(
    config,
    {
      'depth': 1,
      'exploration.novelty': 'disagreement',
      'actor_critic.novelty_weight': (0.0, 0.1),
      'actor_critic.horizon': 4,
      'subgoals.manager': 'policy',
    },
  )
  level = level_lib.Level(config, SEEN, CHOICE)
  assert 'novelty' not in level.streams
  assert 'novelty' in level.manager.streams
  assert level.ensemble and level.autoencoder


def test_novelty_has_a_floor_of_its_own(config, replace):
  config = replace(config, 'actor_critic', scale_floor=8.0)
  config = replace(config, 'exploration', scale_floor=0.5)
  level = level_lib.Level(dataclasses.replace(config, depth=1), SEEN, CHOICE)
  assert level.behaviour.floors == {'extrinsic': 8.0, 'novelty': 0.5}
