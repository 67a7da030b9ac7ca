"""What holds for one level's imagination and update."""

import dataclasses

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from acme_hieros import config as config_lib
from acme_hieros.models import (
  actor_critic,
  hierarchy,
  shares,
  spaces,
  subgoals,
  world_model,
)
from acme_hieros.models import level as level_lib
from acme_hieros.models.ops import linear

SEEN = {'body': spaces.Vector((3,))}
CHOICE = spaces.Discrete((), 3)
BOX = spaces.Continuous((2,), (-1.0, -1.0), (1.0, 1.0))


def make_batch(level, seed=0, shape=(2, 5)):
  rng = np.random.default_rng(seed)
  if isinstance(level.action_space, spaces.Joint):
    action = level.action_space.zeros(shape)
  elif isinstance(level.action_space, spaces.Discrete):
    action = jnp.asarray(rng.integers(0, level.action_space.classes, shape))
  else:
    size = (*shape, *level.action_space.shape)
    action = jnp.asarray(rng.uniform(-1, 1, size), jnp.float32)
  subgoal = None
  if level.subgoal_space:
    size = (*shape, level.subgoal_space.num_choices)
    subgoal = jnp.asarray(rng.integers(0, level.subgoal_space.classes, size))
  start = np.zeros(shape, bool)
  start[0, 2] = start[1, 0] = True
  return level_lib.Batch(
    world_model.Sequence(
      observation={
        'body': jnp.asarray(rng.normal(size=(*shape, 3)), jnp.float32)
      },
      action=action,
      reward=jnp.asarray(rng.normal(size=shape), jnp.float32),
      discount=jnp.ones(shape).at[0, 1].set(0.0),
      start_of_episode=jnp.asarray(start),
    ),
    subgoal,
  )


@pytest.fixture(scope='module', params=[CHOICE, BOX], ids=['choice', 'box'])
def trained(request, config, draw_state):
  """A level with every reward stream, its state, and its jitted update."""
  level = level_lib.Level(config, SEEN, request.param)
  jitted = jax.jit(level.update)

  def update(state, batch, guidance=1.0):
    return jitted(state, batch, guidance)

  return level, draw_state(level), update, make_batch(level)


def assert_equal(one, two):
  jax.tree.map(np.testing.assert_array_equal, one, two)


def gradient_of(part, updated):
  """A part's gradient in the first update: Adam has kept a tenth of it."""
  state, metrics = updated
  # It has not been clipped.
  assert metrics[f'{part}_grad_norm'] < 100
  kept = optax.tree.get(getattr(state.optimizers, part), 'mu')
  unravel = jax.flatten_util.ravel_pytree(getattr(state.params, part))[1]
  return unravel(10.0 * kept)


def largest(tree):
  return max((np.abs(x).max() for x in jax.tree.leaves(tree)), default=0.0)


# The update.


def test_update_is_pure_finite_and_moves_every_part_by_its_own_rate(
  config, trained
):
  _, state, update, batch = trained
  new, metrics = update(state, batch)
  again, metrics_again = update(state, batch)
  assert_equal(new, again)
  assert_equal(metrics, metrics_again)
  for leaf in jax.tree.leaves((new, metrics)):
    assert np.all(np.isfinite(leaf))
  assert new.steps == 1
  assert not np.array_equal(new.key, state.key)
  assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
  # The first step of Adam is at most the learning rate, and near it.
  moved = jax.tree.map(lambda x, y: x - y, new.params, state.params)
  rates = {
    'world_model': config.world_model.optimizer.learning_rate,
    'actor': config.actor_critic.optimizer.learning_rate,
    'critics': config.actor_critic.optimizer.learning_rate,
    'autoencoder': config.subgoals.optimizer.learning_rate,
  }
  for name, rate in rates.items():
    assert 0.9 * rate < largest(getattr(moved, name)) < 1.02 * rate, name


def test_what_is_not_finite_changes_nothing_and_shows_in_the_metrics(trained):
  _, state, update, batch = trained
  sequence = batch.sequence
  lost = sequence._replace(reward=sequence.reward.at[1, 2].set(jnp.nan))
  new, metrics = update(state, batch._replace(sequence=lost))
  assert_equal(new, state)
  assert np.isnan(metrics['reward_loss'])
  assert np.isnan(metrics['world_model_grad_norm'])
  assert np.isfinite(metrics['vector_loss'])
  assert np.isfinite(metrics['dynamics_loss'])
  assert np.isfinite(metrics['actor_loss'])

  blind = jax.tree.map(lambda x: x.at[0, 0].set(jnp.inf), sequence.observation)
  new, metrics = update(
    state, batch._replace(sequence=sequence._replace(observation=blind))
  )
  assert_equal(new, state)
  assert not np.isfinite(metrics['vector_loss'])


def test_slow_critics_follow_at_their_rate(config, trained):
  _, state, update, batch = trained
  new, _ = update(state, batch)
  rate = config.actor_critic.slow_rate
  assert rate == 0.02
  jax.tree.map(
    lambda slow, old, fast: np.testing.assert_allclose(
      slow, (1 - rate) * old + rate * fast, rtol=1e-4, atol=1e-6
    ),
    new.slow_critics,
    state.slow_critics,
    new.params.critics,
  )


def test_neither_actor_critics_nor_autoencoder_teach_the_world_model(
  trained, perturb
):
  _, state, update, batch = trained
  other = perturb(state.params, seed=2)
  other = other._replace(world_model=state.params.world_model)
  one, _ = update(state, batch)
  two, _ = update(state._replace(params=other), batch)
  assert_equal(one.params.world_model, two.params.world_model)
  assert_equal(one.optimizers.world_model, two.optimizers.world_model)


def test_each_behaviour_loss_teaches_only_its_own_part(
  trained, config, replace, monkeypatch, behaviour_gradients
):
  level, state, _, batch = trained
  # Without the novelty reward all that leaves `reconstruct` is the
  # autoencoder's loss.
  level = level_lib.Level(
    replace(
      config,
      'actor_critic',
      novelty_weight=(0.0,),
      replay_scale=0.3,
      replay_actor_scale=0.3,
    ),
    SEEN,
    level.action_space,
  )
  assert set(level.streams) == {'extrinsic', 'subgoal'}
  scale = {}

  def scaled(module, name, by, part=lambda result, x: result * x):
    original = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a: part(original(*a), scale[by]))

  two_hot = level.behaviour._head
  monkeypatch.setattr(
    level.behaviour,
    '_head',
    two_hot._replace(loss=lambda *a: scale['critic'] * two_hot.loss(*a)),
  )
  scaled(
    subgoals,
    'reconstruct',
    'autoencoder',
    lambda r, x: r._replace(error=r.error * x, kl=r.kl * x),
  )
  # Advantages are divided by it.
  scaled(
    actor_critic,
    'percentile_range',
    'actor',
    lambda result, x: result / jnp.where(x > 0, 1.0, 0.0),
  )
  scaled(actor_critic, 'replay_policy_loss', 'replayed')
  scaled(actor_critic.Categoricals, 'entropy', 'entropy')
  scaled(actor_critic.Gaussian, 'entropy', 'entropy')

  start = some_state(level, 4)
  code = level.subgoal_space.encode(batch.subgoal.reshape(-1, 2)[:4])

  @jax.jit
  def gradients(scales):
    scale.update(scales)
    features = level.world_model.predict(
      state.params.world_model, start
    ).features
    return behaviour_gradients(level, state, start, features, code, (2, 2))

  names = ('critic', 'autoencoder', 'actor', 'replayed', 'entropy')
  reached = {}
  for name in names:
    gradient = gradients({n: float(n == name) for n in names})
    reached[name] = {
      part for part, g in gradient._asdict().items() if largest(g) > 0
    }
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient))
  assert reached == {
    'critic': {'critics'},
    'autoencoder': {'autoencoder'},
    'actor': {'actor'},
    'replayed': {'actor'},
    'entropy': {'actor'},
  }


def without_actor(updated):
  """What an update gave, but for the actor, its loss and what that is of."""
  state, metrics = updated
  state = state._replace(
    params=state.params._replace(actor=None),
    optimizers=state.optimizers._replace(actor=None),
  )
  return state, {
    name: value
    for name, value in metrics.items()
    if not name.startswith('actor_') and not name.endswith('_advantage_share')
  }


def test_without_guidance_only_the_actor_does_without_its_subgoals(
  trained, perturb
):
  _, state, update, batch = trained
  full, half, none = (update(state, batch, x) for x in (1.0, 0.5, 0.0))
  assert_equal(without_actor(full), without_actor(none))
  critics = gradient_of('critics', none)
  assert all(largest(critics[name]) > 0 for name in state.params.critics)

  # Each stream has its part in the actor's gradient.
  gradients = [gradient_of('actor', updated) for updated in (full, half, none)]
  assert largest(gradients[2]) > 0
  mean = jax.tree.map(lambda x, y: (x + y) / 2, gradients[0], gradients[2])
  size = largest(mean)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4 * size),
    gradients[1],
    mean,
  )
  # Without guidance nothing depends on what subgoals are worth.
  for name in ('subgoal', 'extrinsic'):
    critics = dict(state.params.critics)
    critics[name] = perturb(critics[name], seed=3)
    other = state._replace(params=state.params._replace(critics=critics))
    for guidance, own in ((1.0, gradients[0]), (0.0, gradients[2])):
      changed = gradient_of('actor', update(other, batch, guidance))
      change = largest(jax.tree.map(jnp.subtract, own, changed))
      if name == 'subgoal' and not guidance:
        assert change == 0.0
      else:
        assert change > 1e-3 * size

  shares = [updated[1]['subgoal_advantage_share'] for updated in (full, half)]
  np.testing.assert_allclose(
    shares[1], 0.5 * shares[0] / (1 - 0.5 * shares[0]), rtol=1e-4
  )
  assert none[1]['subgoal_advantage_share'] == 0.0


def test_scales_are_running_means_without_bias(config, trained):
  level, state, update, batch = trained
  decay = config.actor_critic.scale_decay
  new, metrics = update(state, batch)
  measured = {name: metrics[f'{name}_scale'] for name in level.streams}
  for name, scale in measured.items():
    assert scale > 0
    np.testing.assert_allclose(new.scales[name], (1 - decay) * scale, rtol=1e-4)
  # The same returns once more, after some others.
  before = {name: jnp.float32(i) for i, name in enumerate(level.streams, 2)}
  new, metrics = update(
    state._replace(scales=before, steps=jnp.int32(7)), batch
  )
  for name, scale in measured.items():
    mean = decay * before[name] + (1 - decay) * scale
    np.testing.assert_allclose(new.scales[name], mean, rtol=1e-4)
    np.testing.assert_allclose(
      metrics[f'{name}_scale'], mean / (1 - decay**8), rtol=1e-4
    )


@pytest.mark.parametrize('trained', [CHOICE], ids=['choice'], indirect=True)
def test_replayed_returns_teach_only_the_extrinsic_critic(
  config, replace, trained
):
  level, state, update, batch = trained
  replaying = level_lib.Level(
    replace(config, 'actor_critic', replay_scale=0.7),
    SEEN,
    level.action_space,
  )
  one, other = update(state, batch), jax.jit(replaying.update)(state, batch)
  np.testing.assert_allclose(
    other[1]['critic_loss'], one[1]['critic_loss'], rtol=1e-4
  )
  assert other[1]['replay_critic_loss'] > 0
  for part in ('world_model', 'actor', 'critics', 'autoencoder'):
    gradients = [gradient_of(part, updated) for updated in (one, other)]
    for name in gradients[0]:
      own, replayed = (gradient[name] for gradient in gradients)
      size = max(largest(own), 1e-6)
      change = largest(jax.tree.map(jnp.subtract, own, replayed)) / size
      if (part, name) == ('critics', 'extrinsic'):
        assert change > 1e-2
      else:
        assert change < 1e-4, (part, name)


def some_state(level, batch_size):
  """States [N, ...] that are not zero."""
  state = level.world_model.initial_context(batch_size).state
  other = jax.tree.map(lambda x: x + 0.5, state)
  index = jnp.zeros_like(state.stoch.chosen)
  return other._replace(
    stoch=linear.one_hots(index, state.stoch.value.shape[-1])
  )


def test_imagination_keeps_the_subgoal_and_starts_where_it_is_told(
  trained, config
):
  level, state, _, batch = trained
  params = level_lib.unpack_policy(level_lib.policy_params(state.params))
  start = some_state(level, 4)
  features = level.world_model.predict(params.world_model, start).features
  code = level.subgoal_space.encode(batch.subgoal.reshape(-1, 2)[:4])
  trajectory = jax.jit(level.imagine)(
    params, jax.random.PRNGKey(0), start, features, code
  )
  horizon = config.actor_critic.horizon
  stoch, numbers, codes = trajectory.inputs
  for x in (*stoch, numbers, codes):
    assert x.shape[:2] == (horizon + 1, 4)
  for one, other in zip((*stoch, numbers), (*features[0], features[1])):
    np.testing.assert_array_equal(one[0], other)
  for given in codes:
    np.testing.assert_array_equal(given, code)
  np.testing.assert_array_equal(stoch.chosen, np.argmax(stoch.value, -1))
  # The numbers are h, symlog(reward) and continuation.
  arrived = np.asarray(numbers[1:])
  reward = np.sign(arrived[..., -2]) * np.expm1(np.abs(arrived[..., -2]))
  np.testing.assert_allclose(trajectory.reward, reward, rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(trajectory.continuation, arrived[..., -1])
  deter = arrived[..., :-2]
  np.testing.assert_array_equal(trajectory.deter, deter)


# Policy improvement, in a world of one step.


def one_step_features(config, batch):
  """Features [*batch, ...] that are always the same."""
  settings = config.world_model
  stoch = jax.tree.map(
    lambda x: jnp.broadcast_to(x, (*batch, *x.shape[1:])),
    world_model.no_choices(settings, 1),
  )
  return stoch, jnp.ones((*batch, settings.deter_size + 2))


def one_step_world(reward, config, action_size):
  """A world model that ends after one action, which it keeps as h."""

  def state_of(deter):
    batch = deter.shape[:-1]
    stoch = linear.one_hots(jnp.zeros((*batch, 1)), 1)
    return world_model.State(stoch, stoch.value, deter, deter, (stoch.value,))

  def predict(params, state):
    batch = state.deter.shape[:-1]
    return world_model.Prediction(
      features=one_step_features(config, batch),
      reward=reward(state.deter),
      continuation=jnp.zeros(batch),
    )

  def loss(params, key, sequence):
    start = state_of(jnp.zeros((*sequence.reward.shape, action_size)))
    came = world_model.Arrivals(
      previous_action=start.deter,
      reward=sequence.reward,
      continuation=sequence.discount,
      known=jnp.ones(sequence.reward.shape, bool),
    )
    return jnp.sum(params['unused']), (start, predict(params, start), came, {})

  return world_model.WorldModel(
    init=lambda key: {'unused': jnp.zeros(())},
    initial_context=None,
    no_features=lambda n: one_step_features(config, (n,)),
    observe=None,
    starts=lambda state, times, horizon: jax.tree.map(
      lambda x: x[:, times].reshape((-1, *x.shape[2:])), state
    ),
    observe_step=None,
    imagine_step=lambda params, key, state, action: state_of(action),
    predict=predict,
    decode=None,
    loss=loss,
    eigenvalues=None,
  )


def one_step_level(config, replace, action, reward, divisor=1, **settings):
  config = replace(
    config,
    'actor_critic',
    horizon=1,
    entropy_scale=(1e-4,),
    optimizer=config_lib.OptimizerConfig(1e-2, 1e-5, 100.0),
    novelty_weight=(0.0,),
    **settings,
  )
  # The highest level: of one, or of two of which each step takes so many.
  index = int(divisor > 1)
  config = dataclasses.replace(config, depth=index + 1)
  config = replace(config, 'subgoals', duration=(max(divisor, 2),))
  level = level_lib.Level(config, SEEN, action, index)
  level.world_model = one_step_world(reward, config, action.size)
  return level, one_step_features(config, (1,))


def one_step_batch(level, alive=1.0):
  batch = make_batch(level, shape=(4, 8))
  discount = jnp.full((4, 8), alive)
  return batch._replace(sequence=batch.sequence._replace(discount=discount))


def improve(level, batch):
  state = level.init(jax.random.PRNGKey(0))
  return jax.jit(
    lambda state: jax.lax.scan(
      lambda s, _: level.update(s, batch), state, None, 300
    )[0]
  )(state)


@pytest.mark.parametrize('best', [0, 1])
def test_reinforce_makes_the_better_action_likelier(config, replace, best):
  level, features = one_step_level(
    config, replace, spaces.Discrete((), 2), lambda a: a[..., best]
  )
  state = improve(level, one_step_batch(level))
  policy = level.actor.apply(state.params.actor, features)
  assert np.exp(policy.log_probs[0, 0, best]) > 0.9


def test_dynamics_lead_a_continuous_policy_to_the_best_action(config, replace):
  level, features = one_step_level(
    config,
    replace,
    spaces.Continuous((1,), (-1.0,), (1.0,)),
    lambda a: -10 * jnp.square(a[..., 0] - 0.5),
  )
  state = improve(level, one_step_batch(level))
  policy = level.actor.apply(state.params.actor, features)
  np.testing.assert_allclose(policy.mean, 0.5, atol=0.1)
  # Noise costs reward, so it goes; the entropy bonus is too small to keep it.
  assert policy.std < 0.3


def test_each_part_of_a_joint_action_is_improved_in_its_own_way(
  config, replace
):
  """Choices by how they turned out, and numbers through the dynamics."""
  space = spaces.Joint(
    {
      'to': spaces.Continuous((1,), (-1.0,), (1.0,)),
      'go': spaces.Discrete((2,), 3, sizes=(3, 2)),
    },
    {'to': 'to', 'go': 'go'},
  )
  level, features = one_step_level(
    config,
    replace,
    space,
    # The number, then three classes and two.
    lambda a: -10 * jnp.square(a[..., 0] - 0.5) + 3 * a[..., 3] + 3 * a[..., 4],
  )
  state = improve(level, one_step_batch(level))
  numbers, choices = level.actor.apply(state.params.actor, features).parts
  np.testing.assert_allclose(numbers.mean, 0.5, atol=0.1)
  assert numbers.std < 0.3
  probs = np.exp(choices.log_probs[0])
  assert probs[0, 2] > 0.9 and probs[1, 0] > 0.9


@pytest.mark.parametrize(
  'space,target',
  [
    (CHOICE, 0.5 * np.log(3)),
    (spaces.Discrete((2,), 3, sizes=(3, 2)), 0.5 * np.log(6)),
    (spaces.Joint({'a': CHOICE, 'b': CHOICE}, ('a', 'b')), np.log(3)),
    # Of which there is none, or no end.
    (spaces.Discrete((), 1), None),
    (BOX, None),
    (spaces.Joint({'a': CHOICE, 'b': BOX}, ('a', 'b')), None),
  ],
)
def test_entropy_is_held_where_choices_can_have_any(
  config, replace, space, target
):
  level = level_lib.Level(
    replace(config, 'actor_critic', entropy_target=0.5), SEEN, space
  )
  found = level._targets().get('entropy')
  assert (found is None) == (target is None)
  if found:
    np.testing.assert_allclose(found.value, target)


def test_a_start_whose_episode_is_over_teaches_nothing(config, replace):
  level, _ = one_step_level(
    config, replace, spaces.Discrete((), 2), lambda a: a[..., 0]
  )
  state = level.init(jax.random.PRNGKey(0))
  update = jax.jit(level.update)
  for alive in (1.0, 0.0):
    _, metrics = update(state, one_step_batch(level, alive))
    for name in ('actor_grad_norm', 'critics_grad_norm'):
      assert (metrics[name] > 0) == bool(alive), (alive, name)


@pytest.mark.parametrize('kind', ['range', 'deviation'])
def test_the_first_update_s_scale_is_what_was_measured(config, replace, kind):
  level, _ = one_step_level(
    config,
    replace,
    spaces.Discrete((), 2),
    lambda a: 3.0 * a[..., 0],
    advantage_scale=kind,
  )
  _, metrics = jax.jit(level.update)(
    level.init(jax.random.PRNGKey(0)), one_step_batch(level)
  )
  # Returns are 0 and 3, of which a new critic expects nothing.
  mean = metrics['extrinsic_return']
  assert 0.6 < mean < 2.4
  expected = 3.0 if kind == 'range' else np.sqrt(mean * (3.0 - mean))
  np.testing.assert_allclose(metrics['extrinsic_scale'], expected, rtol=1e-4)


@pytest.mark.parametrize('kind', ['range', 'deviation'])
def test_with_deviations_advantages_are_taken_from_their_mean(
  config, replace, kind
):
  norms = []
  for more in (0.0, 5.0):
    level, _ = one_step_level(
      config,
      replace,
      spaces.Discrete((), 2),
      lambda a, more=more: a[..., 0] + more,
      advantage_scale=kind,
      scale_floor=0.1,
    )
    _, metrics = jax.jit(level.update)(
      level.init(jax.random.PRNGKey(0)), one_step_batch(level)
    )
    norms.append(metrics['actor_grad_norm'])
  same = np.isclose(norms[0], norms[1], rtol=1e-3)
  assert same == (kind == 'deviation')


def test_advantages_are_divided_by_their_scale_or_its_floor(config, replace):
  norms = []
  for divisor in (1, 2, 8):
    level, _ = one_step_level(
      config,
      replace,
      spaces.Discrete((), 2),
      lambda a: a[..., 0],
      divisor,
      scale_floor=4.0,
    )
    _, metrics = jax.jit(level.update)(
      level.init(jax.random.PRNGKey(0)), one_step_batch(level)
    )
    norms.append(metrics['actor_grad_norm'])
  # By 4, by 4 / 2, and by the range of returns of 0 and 1. The policy is even:
  # its entropy has no gradient.
  np.testing.assert_allclose(norms, norms[0] * np.array([1, 2, 4]), rtol=1e-4)


def test_the_extrinsic_critic_learns_what_was_really_earned(config, replace):
  """A model that expects nothing, and a replay that brings 1 at each step."""
  weight = 0.7
  level, features = one_step_level(
    config,
    replace,
    spaces.Discrete((), 2),
    lambda a: 0.0 * a[..., 0],
    replay_scale=weight,
    return_lambda=0.0,
    slow_scale=0.0,
  )
  alive, starts = np.ones((4, 8)), np.zeros((4, 8), bool)
  # Two episodes are over in each row, and one is cut.
  alive[:, [1, 3]] = 0.0
  starts[:, [2, 4]] = starts[3, 6] = starts[1, 0] = True
  batch = one_step_batch(level)
  batch = batch._replace(
    sequence=batch.sequence._replace(
      reward=jnp.ones((4, 8)),
      discount=jnp.asarray(alive),
      start_of_episode=jnp.asarray(starts),
    )
  )
  state = improve(level, batch)
  # A return is 1 where the next step is known, and else what is imagined. The
  # critic learns a mixture of that and of what is imagined everywhere.
  known = np.zeros((4, 8), bool)
  known[:, :-1] = ~starts[:, 1:]
  expected = weight * np.average(known, weights=alive) / (1 + weight)
  np.testing.assert_allclose(
    level.behaviour.value(state.params.critics['extrinsic'], features),
    expected,
    rtol=0.03,
  )


@pytest.mark.parametrize('known', [True, False])
def test_the_actor_learns_from_what_came_of_actions(config, replace, known):
  """A model that expects nothing of any, where replay has one that pays."""
  level, features = one_step_level(
    config,
    replace,
    spaces.Discrete((), 2),
    lambda a: 0.0 * a[..., 0],
    replay_actor_scale=1.0,
  )
  batch = one_step_batch(level)
  action = np.tile([0, 1, 1, 0, 1, 0, 0, 1], (4, 1))
  # Rewards come with the next observation.
  reward = np.roll(action == 1, 1, 1).astype(np.float32)
  batch = batch._replace(
    sequence=batch.sequence._replace(
      action=jnp.asarray(action),
      reward=jnp.asarray(reward),
      start_of_episode=jnp.zeros((4, 8), bool),
    ),
    log_prob=jnp.full((4, 8), np.log(0.5)) if known else None,
  )
  state = improve(level, batch)
  policy = np.exp(level.actor.apply(state.params.actor, features).log_probs)
  if known:
    assert policy[0, 0, 1] > 0.9
  else:
    # Nothing to weigh it by: only what is imagined counts.
    np.testing.assert_allclose(policy, 0.5, atol=1e-3)


# DreamerV2, `--system=dreamerv2`.


def dreamer_level(config, **changes):
  """Its level; changes: of `config`, with two underscores for a dot."""
  changes = {name.replace('__', '.'): x for name, x in changes.items()}
  return level_lib.Level(
    config_lib.override(config, {**config_lib.SYSTEMS['dreamerv2'], **changes}),
    SEEN,
    CHOICE,
  )


@pytest.fixture(scope='module')
def dreamer(config, draw_state):
  """Its state, a jitted update that copies each third time, and a batch."""
  level = dreamer_level(config, actor_critic__slow_period=3)
  batch = make_batch(level)
  # Of a size that tanh changes.
  sequence = batch.sequence._replace(reward=2.0 * batch.sequence.reward)
  batch = batch._replace(sequence=sequence)
  return draw_state(level), jax.jit(level.update), batch


def test_slow_critics_are_copied_once_a_period_and_stay_in_between(dreamer):
  state, update, batch = dreamer
  expected = state.slow_critics
  for k in range(1, 8):
    before = state.params.critics
    state, _ = update(state, batch)
    moved = jax.tree.map(jnp.subtract, state.params.critics, before)
    assert largest(moved) > 1e-5
    if k in (3, 6):
      # XLA may compute twice what both are, and round otherwise.
      jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7),
        state.slow_critics,
        state.params.critics,
      )
      expected = state.slow_critics
    assert_equal(state.slow_critics, expected)


def test_returns_go_on_with_what_slow_critics_expect(dreamer, perturb):
  state, update, batch = dreamer
  critics = perturb(state.params.critics, seed=5)
  others = (
    state,
    state._replace(params=state.params._replace(critics=critics)),
    state._replace(slow_critics=critics),
  )
  one, fast, slow = (update(other, batch)[1] for other in others)
  assert one['extrinsic_value'] != fast['extrinsic_value']
  assert one['extrinsic_return'] == fast['extrinsic_return']
  assert one['extrinsic_value'] == slow['extrinsic_value']
  assert one['extrinsic_return'] != slow['extrinsic_return']


def test_rewards_are_learned_as_if_replay_had_their_tanh(config, dreamer):
  state, update, batch = dreamer
  squashed = np.tanh(np.asarray(batch.sequence.reward, np.float64))
  squashed = batch._replace(
    sequence=batch.sequence._replace(reward=jnp.asarray(squashed, jnp.float32))
  )
  plain = jax.jit(
    dreamer_level(
      config, actor_critic__slow_period=3, reward_transform='all'
    ).update
  )
  found, expected = update(state, batch), plain(state, squashed)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
    # Parameters by their gradients, which Adam would hide.
    (found[1], found[0].optimizers),
    (expected[1], expected[0].optimizers),
  )
  _, raw = plain(state, batch)
  assert raw['reward_loss'] > 1.1 * expected[1]['reward_loss']


def test_advantages_can_be_taken_as_they_are(config, replace):
  norms, worth = [], (0.25, 8.0)
  for reward in worth:
    level, _ = one_step_level(
      config,
      replace,
      spaces.Discrete((), 2),
      lambda a, reward=reward: reward * a[..., 0],
      advantage_scale='nothing',
      scale_floor=0.1,
    )
    _, metrics = jax.jit(level.update)(
      level.init(jax.random.PRNGKey(0)), one_step_batch(level)
    )
    np.testing.assert_allclose(metrics['extrinsic_scale'], 1.0, rtol=1e-5)
    # The policy is even, and a new critic expects nothing.
    objective = metrics['extrinsic_return'] * np.log(0.5) + 1e-4 * np.log(2)
    np.testing.assert_allclose(metrics['actor_loss'], -objective, rtol=1e-4)
    norms.append(metrics['actor_grad_norm'])
  np.testing.assert_allclose(norms[1], 32.0 * norms[0], rtol=1e-4)


# What a level is made of.


@pytest.mark.parametrize(
  'aggregation,extrinsic', [('mean', [8.0, 4.0, 2.0]), ('sum', [8.0] * 3)]
)
def test_floors_follow_the_scale_of_a_level_s_rewards(
  config, replace, aggregation, extrinsic
):
  """A mean is half as large for each level up, which takes 2 steps for one."""
  config = replace(config, 'actor_critic', scale_floor=8.0)
  config = dataclasses.replace(config, reward_aggregation=aggregation)
  levels = hierarchy.Hierarchy(config, SEEN, CHOICE).levels
  for level, floor in zip(levels, extrinsic):
    floors = dict(level.behaviour.floors)
    # Novelty has no unit, and a floor of its own.
    assert floors.pop('novelty') == config.exploration.scale_floor == 1.0
    others = dict.fromkeys(floors, 8.0)
    assert floors == {**others, 'extrinsic': floor}


@pytest.mark.parametrize('novelty', [(0.0, 0.1), (0.2,)])
def test_levels_have_the_reward_streams_of_their_place(
  config, replace, novelty
):
  config = replace(config, 'actor_critic', novelty_weight=novelty)

  def build(depth):
    changed = dataclasses.replace(config, depth=depth)
    return hierarchy.Hierarchy(changed, SEEN, CHOICE).levels

  low, high = ({'novelty': w} if w else {} for w in (novelty[0], novelty[-1]))
  assert [level.streams for level in build(3)] == [
    {'extrinsic': 1.0, 'subgoal': 0.3, **low},
    {'extrinsic': 1.0, 'subgoal': 0.3, **high},
    {'extrinsic': 1.0, **high},
  ]
  (flat,) = build(1)
  assert flat.streams == {'extrinsic': 1.0, **low}
  assert flat.subgoal_space is None
  assert bool(flat.autoencoder) == bool(low)
  state = jax.eval_shape(flat.init, jax.random.PRNGKey(0))
  assert bool(state.params.autoencoder) == bool(low)


def test_policy_params_are_enough_to_act(trained):
  level, state, *_ = trained
  params = level_lib.unpack_policy(level_lib.policy_params(state.params))
  assert not any('decoder' in name for name in params.world_model)
  assert len(params.world_model) < len(state.params.world_model)
  code = jnp.zeros((1, level.subgoal_space.size))
  before = level.world_model.initial_context(1)
  inferred = jax.eval_shape(
    level.world_model.observe_step,
    params.world_model,
    jax.random.PRNGKey(0),
    before,
    jnp.zeros((1, level.action_space.size)),
    {'body': jnp.zeros((1, 3))},
    jnp.ones(1, bool),
  )
  assert jax.tree.map(jnp.shape, before) == jax.tree.map(jnp.shape, inferred)
  action, log_prob, memory = jax.eval_shape(
    level.act,
    params,
    jax.random.PRNGKey(0),
    inferred.state,
    code,
    level.initial_policy(1),
    jnp.ones(1, bool),
  )
  assert memory == ()
  assert action.shape == (1, level.action_space.size) and log_prob.shape == (1,)


def test_parameter_count_takes_a_complex_number_as_one(trained, config):
  _, state, *_ = trained
  params = state.params.world_model
  s5 = config.world_model.s5
  halves = 2 * s5.num_blocks * 2 * s5.width * s5.state_size
  assert level_lib.parameter_count(params) == (
    sum(x.size for x in jax.tree.leaves(params)) - halves
  )


def test_the_paper_s_levels_have_the_reference_s_parameter_counts():
  config = config_lib.PRESETS['atari100k']
  agent = hierarchy.Hierarchy(
    config, {'eye': spaces.Image((64, 64, 3))}, spaces.Discrete((), 18)
  )
  states = jax.eval_shape(agent.init, jax.random.PRNGKey(0))
  counts = [
    level_lib.parameter_count((s.params, s.slow_critics)) / 1e6 for s in states
  ]
  np.testing.assert_allclose(counts, [11.4, 21.0, 20.0], rtol=0.1)


def test_only_the_subgoal_s_reward_outlasts_an_episode(config, replace, draw):
  def rewards(absorbing):
    changed = replace(config, 'subgoals', absorbing=absorbing)
    level = level_lib.Level(changed, SEEN, CHOICE)
    params = draw(lambda key: level.init(key).params)
    code = jnp.asarray(np.eye(3)[[[0, 1], [2, 2]]].reshape((2, 6)))
    goal = level.autoencoder.decode(params.autoencoder, code)
    trajectory = level_lib.Trajectory(
      inputs=None,
      action=None,
      reward=jnp.ones((3, 2)),
      continuation=jnp.asarray([[1.0, 1.0], [1.0, 0.0], [0.5, 1.0]]),
      deter=jnp.stack([goal, 0.5 * goal, 2 * goal]),
      output=None,
    )
    return level._rewards(
      params, jax.random.PRNGKey(0), trajectory, code, shares.FIRST
    )

  plain, absorbed = rewards(False), rewards(True)
  assert np.all(plain['subgoal'] > 0)
  discount = config.actor_critic.discount
  for_ever = plain['subgoal'][1, 1] / (1 - discount)
  np.testing.assert_allclose(absorbed['subgoal'][1, 1], for_ever, rtol=1e-4)
  # Nothing is added where an episode goes on, or to other rewards.
  on = np.array([[True, True], [True, False], [False, True]])
  np.testing.assert_array_equal(absorbed['subgoal'][on], plain['subgoal'][on])
  np.testing.assert_array_equal(absorbed['extrinsic'], plain['extrinsic'])


def test_what_was_done_under_another_subgoal_teaches_nothing(config, draw):
  """Of starts that all practise; of none all replay counts."""

  def metrics(practice):
    changed = config_lib.override(
      config,
      {
        'subgoals.practice': practice,
        'actor_critic.replay_scale': 0.3,
        'actor_critic.replay_actor_scale': 1.0,
      },
    )
    level = level_lib.Level(changed, SEEN, CHOICE)
    batch = make_batch(level)._replace(log_prob=jnp.full((2, 5), -1.0))
    return jax.jit(level.update)(draw(level.init), batch)[1]

  told, practised = metrics(0.0), metrics(1.0)
  for name in ('replay_critic_loss', 'replay_actor_loss'):
    assert told[name] != 0 and practised[name] == 0
  # It is rewarded for another subgoal in each imagined step.
  assert told['subgoal_reward'] != practised['subgoal_reward']
  assert told['reward_loss'] == practised['reward_loss']


def test_information_of_codes_is_taken_off_the_loss(config, draw):
  deter = jnp.asarray(np.random.default_rng(0).normal(size=(7, 5, 8)))

  def loss(scale):
    changed = config_lib.override(
      config,
      {'subgoals.information_scale': scale, 'world_model.deter_size': 8},
    )
    level = level_lib.Level(changed, SEEN, CHOICE)
    params = draw(level.init).params.autoencoder
    # Codes that say something.
    params = jax.tree.map(lambda x: 3.0 * x, params)
    value, _ = level._autoencoder_loss(
      params,
      jax.random.PRNGKey(0),
      deter,
      jnp.ones((7, 5)),
      0.5,
      shares.FIRST,
    )
    log_probs = level.autoencoder.encode(params, deter)
    return value, np.exp(log_probs).reshape((-1, *log_probs.shape[2:]))

  (without, probs), (told, same) = loss(0.0), loss(3.0)
  np.testing.assert_array_equal(probs, same)
  of_all = scipy.stats.entropy(probs.mean(0), axis=-1).sum()
  of_each = scipy.stats.entropy(probs, axis=-1).sum(-1).mean()
  assert of_all - of_each > 0.1
  np.testing.assert_allclose(
    without - told, 3.0 * (of_all - of_each), rtol=1e-3
  )
