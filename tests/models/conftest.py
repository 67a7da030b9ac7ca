"""Sizes as small as they go, so that compiling is all that a test costs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros import config as config_lib
from acme_hieros.models import behaviour


@pytest.fixture(scope='module', autouse=True)
def _quick(compile_quickly):
  """All that is here."""


@pytest.fixture(scope='session')
def config():
  """A depth-3 agent with a tick every 2 steps and odd, unequal sizes."""
  return config_lib.HierosConfig(
    depth=3,
    batch_size=2,
    sequence_length=5,
    world_model=config_lib.WorldModelConfig(
      s5=config_lib.S5Config(
        num_blocks=1, width=6, state_size=4, hippo_blocks=2
      ),
      s3m=config_lib.S3MConfig(layers=1, width=6, state_size=4, hippo_blocks=2),
      gru=config_lib.GRUConfig(width=6),
      block_gru=config_lib.BlockGRUConfig(width=6, blocks=7),
      attention=config_lib.AttentionConfig(layers=1, width=8, heads=2, units=6),
      hybrid=config_lib.HybridConfig('s5,attention'),
      categoricals=2,
      classes=5,
      deter_size=7,
      cnn_depths=(4, 6),
      mlp_layers=1,
      mlp_units=16,
      hidden_units=16,
      head_layers=1,
      head_units=16,
      reward_bins=41,
      free_nats=0.05,
    ),
    actor_critic=config_lib.ActorCriticConfig(
      layers=1, units=16, horizon=3, value_bins=41, novelty_weight=(0.1,)
    ),
    subgoals=config_lib.SubgoalConfig(
      duration=(2,),
      categoricals=2,
      classes=3,
      encoder_layers=1,
      encoder_units=16,
      decoder_layers=1,
      decoder_units=16,
    ),
  )


@pytest.fixture(scope='session')
def replace():
  """Replaces fields of one part: replace(config, 'world_model', classes=3)."""

  def replace(config, part, **fields):
    changed = dataclasses.replace(getattr(config, part), **fields)
    return dataclasses.replace(config, **{part: changed})

  return replace


@pytest.fixture(scope='session')
def perturb():
  """Adds noise to every leaf, so that nothing is zero or at its start.

  By NumPy: JAX would compile a sum for every shape.
  """

  def perturb(tree, scale=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
      lambda x: jnp.asarray(
        np.asarray(x) + scale * rng.normal(size=x.shape), x.dtype
      ),
      tree,
    )

  return perturb


@pytest.fixture(scope='session')
def draw(perturb):
  """Parameters as `init` shapes them, all random; `init` is not compiled."""

  def draw(init, seed=0):
    shapes = jax.eval_shape(init, jax.random.PRNGKey(0))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    return perturb(zeros, 0.7, seed)

  return draw


@pytest.fixture(scope='session')
def draw_state(draw):
  """A level's learning state before the first update, its parameters random."""

  def draw_state(level):
    shapes = jax.eval_shape(level.init, jax.random.PRNGKey(0))
    state = jax.tree.map(
      lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), shapes
    )
    return state._replace(
      params=draw(lambda key: level.init(key).params),
      slow_critics=draw(lambda key: level.init(key).slow_critics, seed=1),
      key=jax.random.PRNGKey(2),
    )

  return draw_state


@pytest.fixture(scope='session')
def behaviour_gradients():
  """Gradients of a level's behaviour loss; a replay where each step earns 1.

  gradients(level, state, start [N, ...], features, code, shape of the replay).
  """

  def gradients(level, state, start, features, code, shape):
    action = jnp.zeros((*shape, level.action_space.size)).at[..., 0].set(1.0)
    replayed = behaviour.Replayed(
      reward=jnp.ones(shape),
      continuation=jnp.ones(shape),
      start_of_episode=jnp.zeros(shape, bool),
      alive=jnp.ones(shape),
      action=action,
      log_prob=jnp.zeros(shape),
      told=jnp.ones(shape),
    )
    return jax.grad(level._behaviour_loss, has_aux=True)(
      state.params._replace(world_model={}),
      state.params.world_model,
      state,
      jax.random.PRNGKey(1),
      start,
      features,
      (),
      replayed,
      code,
      1.0,
    )[0]

  return gradients
