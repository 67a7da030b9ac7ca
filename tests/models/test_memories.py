"""What holds for a level's world model whatever its core and posterior are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.models import (
  cores,
  diagnostics,
  spaces,
  world_model,
)
from acme_hieros.models import level as level_lib

BATCH, LENGTH = 2, 6
BODY = {'body': spaces.Vector((3,))}
CHOICES = spaces.Discrete((), 4)
BUILT_IN = ('s5', 'gru', 'block_gru', 's3m', 'attention', 'hybrid')

# Each core, and each kind of memory with a posterior that sees h; compiling all
# that there is would take minutes.
PAIRS = pytest.mark.parametrize(
  'core,posterior',
  [
    ('s5', 'observation'),
    ('s3m', 'observation'),
    ('hybrid', 'observation'),
    ('attention', 'observation'),
    ('attention', 'history'),
    ('gru', 'history'),
    ('block_gru', 'history'),
  ],
)


def make_model(config, context_length=LENGTH, **settings):
  return world_model.make_world_model(
    dataclasses.replace(config.world_model, **settings),
    BODY,
    CHOICES,
    context_length,
  )


def some_sequence(seed=0):
  rng = np.random.default_rng(seed)
  shape = (BATCH, LENGTH)
  start = np.zeros(shape, bool)
  start[0, 0] = start[1, 0] = start[1, 3] = True
  return world_model.Sequence(
    observation={'body': rng.normal(size=(*shape, 3)).astype(np.float32)},
    action=rng.integers(0, 4, shape).astype(np.int32),
    reward=rng.normal(size=shape).astype(np.float32),
    discount=np.ones(shape, np.float32),
    start_of_episode=jnp.asarray(start),
  )


def observe(model, params, sequence):
  came = world_model.arrivals(sequence, CHOICES)
  state = jax.jit(model.observe)(
    params,
    jax.random.PRNGKey(1),
    sequence.observation,
    came.previous_action,
    sequence.start_of_episode,
  )
  return state, came


def test_these_are_all_cores():
  assert set(BUILT_IN) <= set(cores.names())


@PAIRS
def test_observing_equals_stepping(config, draw, most_likely, core, posterior):
  model = make_model(config, core=core, posterior=posterior)
  params = draw(model.init)
  sequence = some_sequence()
  observed, came = observe(model, params, sequence)
  assert np.ptp(observed.deter, (0, 1)).max() > 0.05

  step = jax.jit(model.observe_step)
  context = model.initial_context(BATCH)
  for t in range(LENGTH):
    context = step(
      params,
      jax.random.PRNGKey(t),
      context,
      came.previous_action[:, t],
      {'body': sequence.observation['body'][:, t]},
      sequence.start_of_episode[:, t],
    )
    for name in ('deter', 'log_probs'):
      np.testing.assert_allclose(
        getattr(context.state, name),
        getattr(observed, name)[:, t],
        atol=1e-4,
        err_msg=f'{name} at {t}',
      )


@PAIRS
def test_imagining_the_next_step_gives_h_of_observing_it(
  config, draw, most_likely, core, posterior
):
  model = make_model(config, core=core, posterior=posterior)
  params = draw(model.init)
  sequence = some_sequence()
  observed, came = observe(model, params, sequence)
  imagined = jax.jit(model.imagine_step)(
    params,
    jax.random.PRNGKey(0),
    model.starts(observed, slice(0, -1), 1),
    came.previous_action[:, 1:].reshape((-1, CHOICES.size)),
  )
  deter = imagined.deter.reshape((BATCH, LENGTH - 1, -1))
  same = ~sequence.start_of_episode[:, 1:]
  np.testing.assert_allclose(
    deter[same], observed.deter[:, 1:][same], atol=1e-4
  )


@pytest.mark.parametrize('core', ['s5', 'attention'])
def test_a_posterior_of_the_history_hears_of_it_and_another_does_not(
  config, draw, most_likely, core
):
  sequence = some_sequence()
  changed = sequence._replace(action=(sequence.action + 1) % 4)
  for posterior in ('observation', 'history'):
    model = make_model(config, core=core, posterior=posterior)
    params = draw(model.init)
    one, _ = observe(model, params, sequence)
    other, _ = observe(model, params, changed)
    difference = np.abs(one.log_probs - other.log_probs).max((-2, -1))
    hears = posterior == 'history'
    # Nothing comes before a start.
    assert np.all(difference[sequence.start_of_episode] < 1e-5)
    assert np.all((difference[:, 1:3] > 1e-4) == hears)


def test_all_observations_hear_of_the_loss_through_a_recurrent_posterior(
  config, draw
):
  model = make_model(config, core='gru', posterior='history')
  params = draw(model.init)
  sequence = some_sequence()

  def loss(body):
    observation = {'body': body}
    total, _ = model.loss(
      params,
      jax.random.PRNGKey(1),
      sequence._replace(observation=observation),
    )
    return total

  gradient = jax.jit(jax.grad(loss))(sequence.observation['body'])
  assert np.all(np.isfinite(gradient))
  assert np.all(np.abs(gradient).max(-1) > 0)


@pytest.mark.parametrize(
  'core,features,size',
  [
    ('s5', 'hieros', 7 + 2),
    ('s5', 'latent', 7),
    ('s5', 'z', None),
    # Real and imaginary parts of 4 states in each of 2 layers.
    ('s5', 'memory', 2 * 2 * 4),
    ('s5', 'full', 7 + 2 * 2 * 4),
    ('s3m', 'memory', 2 * 4),
    ('gru', 'memory', 7),
    ('attention', 'full', 7 + 7),
    ('hybrid', 'memory', 7),
  ],
)
def test_features_are_what_is_asked_for(config, draw, core, features, size):
  model = make_model(config, core=core, features=features)
  params = draw(model.init)
  state, _ = observe(model, params, some_sequence())
  seen = model.predict(params, state).features
  expected = model.no_features(BATCH)
  assert len(seen) == len(expected) == (1 if size is None else 2)
  np.testing.assert_array_equal(seen[0].chosen, state.stoch.chosen)
  if size:
    assert seen[1].shape == (BATCH, LENGTH, size)
    assert expected[1].shape == (BATCH, size)
  if features == 'full' and core == 's5':
    np.testing.assert_array_equal(seen[1][..., :7], state.deter)
    memory = np.concatenate(state.memory, -1)
    np.testing.assert_array_equal(seen[1][..., 7:], memory)


@pytest.mark.parametrize(
  'core,posterior',
  [
    ('hybrid', 'observation'),
    ('s3m', 'history'),
  ],
)
def test_a_level_learns_by_two_updates(config, core, posterior):
  config = dataclasses.replace(
    config,
    depth=1,
    sequence_length=LENGTH,
    world_model=dataclasses.replace(
      config.world_model,
      core=core,
      posterior=posterior,
      features='full',
      overshooting=2,
    ),
    actor_critic=dataclasses.replace(
      config.actor_critic, replay_scale=0.3, replay_actor_scale=1.0
    ),
  )
  level = level_lib.Level(config, BODY, CHOICES)
  state = level_lib.draw(level.init, jax.random.PRNGKey(0))
  batch = level_lib.Batch(
    some_sequence(), log_prob=jnp.full((BATCH, LENGTH), -np.log(4.0))
  )
  # As the learner does now and then.
  diagnosed = jax.eval_shape(
    lambda *args: diagnostics.diagnose(level, *args),
    state.params,
    jax.random.PRNGKey(0),
    batch,
  )
  assert 'open_loop_error_1' in diagnosed
  update = jax.jit(level.update)
  # What starts at zero gain hides the layers before it from the first update.
  after, _ = update(state, batch)
  after, metrics = update(after, batch)
  assert all(np.isfinite(x) for x in metrics.values()), metrics
  for name in ('world_model', 'actor'):
    changed = jax.tree.map(
      lambda x, y: np.any(x != y),
      getattr(after.params, name),
      getattr(state.params, name),
    )
    # All but the means of images, and layers that a core is configured without.
    share = np.mean(jax.tree.leaves(changed))
    assert share > 0.9, (name, changed)
