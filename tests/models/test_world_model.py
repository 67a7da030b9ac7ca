"""What holds for one level's world model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from acme_hieros.models import distributions, spaces, world_model

BATCH, LENGTH = 2, 6
IMAGE = spaces.Image((8, 12, 3))
VECTORS = {'body': spaces.Vector((2, 2)), 'kind': spaces.OneHot((), 4)}
MIXED = {'eye': IMAGE, **VECTORS}
CHOICES = spaces.Discrete((2,), 3)


def random_sequence(observation, action, seed=0, shape=(BATCH, LENGTH)):
  rng = np.random.default_rng(seed)
  seen = {}
  for name, space in observation.items():
    size = (*shape, *space.shape)
    if isinstance(space, spaces.Vector):
      seen[name] = rng.normal(size=size).astype(np.float32)
    else:
      high = space.classes if isinstance(space, spaces.OneHot) else 256
      seen[name] = rng.integers(0, high, size).astype(space.dtype)
  chosen = rng.integers(0, action.classes, (*shape, *action.shape))
  # Row 0 starts in the middle of an episode; one starts at step 3.
  start = np.zeros(shape, bool)
  start[0, 3] = start[1, 0] = True
  return world_model.Sequence(
    observation=jax.tree.map(jnp.asarray, seen),
    action=jnp.asarray(chosen),
    reward=jnp.asarray(rng.normal(size=shape) * 3, jnp.float32),
    discount=jnp.asarray(rng.integers(0, 2, shape), jnp.float32),
    start_of_episode=jnp.asarray(start),
  )


@pytest.fixture(scope='module')
def mixed(config, draw):
  """A model of every kind of observation, and its jitted functions."""
  model = world_model.make_world_model(config.world_model, MIXED, CHOICES)
  params = draw(model.init)
  model = model._replace(
    observe=jax.jit(model.observe),
    imagine_step=jax.jit(model.imagine_step),
    decode=jax.jit(model.decode),
    loss=jax.jit(model.loss),
  )
  return model, params


@pytest.fixture(scope='module')
def vectors(config, draw):
  """A model of a vector; it compiles fast."""
  model = world_model.make_world_model(
    dataclasses.replace(config.world_model, free_nats=0.0),
    {'body': spaces.Vector((3,))},
    CHOICES,
  )
  params = draw(model.init)
  model = model._replace(
    observe=jax.jit(model.observe), imagine_step=jax.jit(model.imagine_step)
  )
  return model, params


def most_likely(monkeypatch):
  """Makes every z the mode, so that two ways to infer it draw the same."""
  monkeypatch.setattr(
    distributions, 'sample_index', lambda _, p: jnp.argmax(p, -1)
  )


# What came before an observation.


def test_arrivals_pair_an_observation_with_what_was_done_before_it():
  actions = np.array([[[1, 2], [0, 1], [2, 2], [1, 0]]])
  sequence = world_model.Sequence(
    observation={},
    action=jnp.asarray(actions),
    reward=jnp.array([[1.0, 2.0, 3.0, 4.0]]),
    discount=jnp.array([[1.0, 0.0, 0.99, 1.0]]),
    start_of_episode=jnp.zeros((1, 4), bool),
  )
  onehot = np.eye(3)[actions[0]].reshape(4, 6)

  middle = world_model.arrivals(sequence, CHOICES)
  np.testing.assert_array_equal(middle.previous_action[0, 1:], onehot[:-1])
  np.testing.assert_array_equal(middle.reward[0, 1:], [1.0, 2.0, 3.0])
  np.testing.assert_array_equal(middle.continuation[0, 1:], [1.0, 0.0, 1.0])
  np.testing.assert_array_equal(middle.known[0], [False, True, True, True])

  # Nothing comes before an episode's first observation.
  start = jnp.array([[True, False, True, False]])
  first = world_model.arrivals(
    sequence._replace(start_of_episode=start), CHOICES
  )
  np.testing.assert_array_equal(first.previous_action[0, ::2], 0.0)
  np.testing.assert_array_equal(first.previous_action[0, 1::2], onehot[::2])
  np.testing.assert_array_equal(first.reward[0], [0.0, 1.0, 0.0, 3.0])
  np.testing.assert_array_equal(first.continuation[0], [1.0, 1.0, 1.0, 1.0])
  assert first.known.all()


# Observing a sequence and stepping through it.


@pytest.mark.parametrize('deter_from', ['state', 'output'])
def test_observe_equals_repeated_observe_step(
  config, draw, monkeypatch, deter_from
):
  most_likely(monkeypatch)
  model = world_model.make_world_model(
    dataclasses.replace(config.world_model, deter_from=deter_from),
    VECTORS,
    CHOICES,
  )
  params = draw(model.init)
  sequence = random_sequence(VECTORS, CHOICES)
  came = world_model.arrivals(sequence, CHOICES)
  reset = sequence.start_of_episode
  observed = jax.jit(model.observe)(
    params, jax.random.PRNGKey(1), sequence.observation,
    came.previous_action, reset,
  )  # fmt: skip
  assert np.ptp(observed.deter, (0, 1)).max() > 0.1

  step = jax.jit(model.observe_step)
  # Any state does before a step that resets; a sequence starts with one.
  state = jax.tree.map(lambda x: x[:, 3] + jnp.ones_like(x[:, 3]), observed)
  for t in range(LENGTH):
    state = step(
      params,
      jax.random.PRNGKey(t),
      state,
      came.previous_action[:, t],
      jax.tree.map(lambda x, t=t: x[:, t], sequence.observation),
      reset[:, t] | (t == 0),
    )
    for one, all_steps in zip(
      jax.tree.leaves(state), jax.tree.leaves(observed), strict=True
    ):
      np.testing.assert_allclose(
        one, all_steps[:, t], atol=1e-4, err_msg=f'at {t}'
      )


def test_nothing_before_an_episode_s_start_reaches_what_comes_after(mixed):
  model, params = mixed
  sequence, others = (random_sequence(MIXED, CHOICES, seed) for seed in (0, 1))
  cut = 3
  reset = jnp.zeros((BATCH, LENGTH), bool).at[:, cut].set(True)

  def observe(sequence, reset):
    action = CHOICES.encode(sequence.action)
    key = jax.random.PRNGKey(1)
    return model.observe(params, key, sequence.observation, action, reset)

  # Everything before the start is another; so is the action that led to it.
  other = world_model.Sequence(*sequence)._replace(
    observation=jax.tree.map(
      lambda x, y: x.at[:, :cut].set(y[:, :cut]),
      sequence.observation,
      others.observation,
    ),
    action=sequence.action.at[:, : cut + 1].set(
      (sequence.action[:, : cut + 1] + 1) % 3
    ),
  )
  one, two = observe(sequence, reset), observe(other, reset)
  for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    np.testing.assert_array_equal(x[:, cut:], y[:, cut:])
  assert np.abs(one.deter[:, 1:cut] - two.deter[:, 1:cut]).max() > 1e-2
  # Without the start it does reach.
  one, two = (observe(x, jnp.zeros_like(reset)) for x in (sequence, other))
  assert np.abs(one.deter[:, cut + 1 :] - two.deter[:, cut + 1 :]).max() > 1e-3


def test_imagination_is_the_prior_and_the_memory_of_observation(vectors):
  """h_t does not depend on o_t: the prior's h is the posterior's."""
  model, params = vectors
  key = jax.random.PRNGKey(0)
  space = {'body': spaces.Vector((3,))}
  sequence = random_sequence(space, CHOICES)
  came = world_model.arrivals(sequence, CHOICES)
  start = jnp.zeros((BATCH, LENGTH), bool)
  observed = model.observe(
    params, key, sequence.observation, came.previous_action, start
  )
  before, after = (
    jax.tree.map(lambda x, s=s: x[:, s].reshape((-1,) + x.shape[2:]), observed)
    for s in (slice(None, -1), slice(1, None))
  )
  action = came.previous_action[:, 1:].reshape(-1, CHOICES.size)
  imagined = model.imagine_step(params, key, before, action)
  np.testing.assert_allclose(imagined.deter, after.deter, atol=1e-4)
  for one, other in zip(imagined.memory, after.memory, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4)
  assert np.abs(imagined.log_probs - after.log_probs).max() > 0.01


# The loss.


def numpy_mlp(params, prefix, x):
  """Linear, LayerNorm, SiLU and Linear, in float64."""
  p = {k.removeprefix(prefix): v for k, v in params.items() if prefix in k}
  p = jax.tree.map(lambda v: np.asarray(v, np.float64), p)
  x = x @ np.concatenate([p['dense/linear'][name] for name in ('w_0', 'w_1')])
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
  x = x * p['dense/layer_norm']['scale'] + p['dense/layer_norm']['offset']
  x = x / (1 + np.exp(-x))
  return x @ p['linear']['w'] + p['linear']['b']


def test_every_part_of_the_loss_equals_its_formula(config, mixed):
  model, params = mixed
  settings = config.world_model
  sequence = random_sequence(MIXED, CHOICES)
  total, (state, prediction, came, metrics) = model.loss(
    params, jax.random.PRNGKey(1), sequence
  )
  start = np.asarray(sequence.start_of_episode)

  # Reconstruction: squared errors, summed over the observation.
  decoded = jax.tree.map(np.asarray, model.decode(params, state))
  seen = jax.tree.map(np.asarray, sequence.observation)
  image = (decoded['eye'] - (seen['eye'] / 255.0 - 0.5)) ** 2
  body = np.sign(seen['body']) * np.log1p(np.abs(seen['body']))
  body = (decoded['body'] - body.reshape(BATCH, LENGTH, 4)) ** 2
  kind = (decoded['kind'] - np.eye(4)[seen['kind']]) ** 2
  expected = {
    'image': image.sum((2, 3, 4)).mean(),
    'vector': (body.sum(-1) + kind.sum(-1)).mean(),
  }

  # Heads: nobody knows what led to the first step of row 0.
  known = np.ones((BATCH, LENGTH), bool)
  known[0, 0] = False
  np.testing.assert_array_equal(came.known, known)
  latent = np.concatenate(
    [np.reshape(state.stoch.value, (BATCH, LENGTH, -1)), state.deter], -1
  )
  logits = numpy_mlp(params, 'world_model/~/reward/', latent)
  reward = np.roll(sequence.reward, 1, 1) * ~start
  bins = np.linspace(-20, 20, settings.reward_bins)
  position = np.sign(reward) * np.log1p(np.abs(reward))
  weights = 1 - np.abs(position[..., None] - bins) / (bins[1] - bins[0])
  log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  reward_loss = -(np.maximum(0, weights) * log_probs).sum(-1)
  expected['reward'] = reward_loss[known].mean()
  np.testing.assert_allclose(
    prediction.reward, (np.exp(log_probs) * bins).sum(-1), rtol=1e-3, atol=1e-3
  )
  goes_on = 1 / (
    1 + np.exp(-numpy_mlp(params, 'world_model/~/continue/', latent)[..., 0])
  )
  np.testing.assert_allclose(prediction.continuation, goes_on, rtol=1e-4)
  target = np.where(start, 1.0, np.roll(sequence.discount, 1, 1))
  bernoulli = -np.log(np.where(target > 0, goes_on, 1 - goes_on))
  expected['continuation'] = bernoulli[known].mean()

  # KL: the prior is what imagination would have drawn from. What comes before a
  # reset is learned, as the last row of the weights of actions: in its place
  # stands an action here that has these weights.
  module = 'world_model/~/input/linear'
  weights = params[module]['w_1']
  resetting = {
    **params,
    module: {**params[module], 'w_1': weights.at[0].set(weights[-1])},
  }
  kl = np.zeros((BATCH, LENGTH))
  for t in range(LENGTH):
    first = jnp.asarray(start[:, t] | (t == 0))
    before = jax.tree.map(lambda x, t=t: x[:, t - 1], state)
    key, action = jax.random.PRNGKey(0), came.previous_action[:, t]
    prior = model.imagine_step(params, key, before, action).log_probs
    nothing = before._replace(
      stoch=world_model.no_choices(settings, BATCH),
      memory=jax.tree.map(jnp.zeros_like, before.memory),
    )
    action = jnp.zeros_like(action).at[:, 0].set(1.0)
    at_reset = model.imagine_step(resetting, key, nothing, action).log_probs
    prior = jnp.where(first[:, None, None], at_reset, prior)
    kl[:, t] = scipy.stats.entropy(
      np.exp(state.log_probs[:, t]), np.exp(prior), axis=-1
    ).sum(-1)
  assert kl.max() > settings.free_nats
  clipped = np.maximum(settings.free_nats, kl)[known].mean()
  expected['dynamics'] = 0.5 * clipped
  expected['representation'] = 0.1 * clipped
  np.testing.assert_allclose(metrics['kl'], kl[known].mean(), rtol=1e-3)

  for name, value in expected.items():
    np.testing.assert_allclose(
      metrics[f'{name}_loss'], value, rtol=1e-3, err_msg=name
    )
  np.testing.assert_allclose(total, sum(expected.values()), rtol=1e-3)

  # Features: z, h, reward, continuation and symlog of the entropy of z.
  entropy = scipy.stats.entropy(np.exp(state.log_probs), axis=-1).sum(-1)
  scalars = [prediction.reward, prediction.continuation, np.log1p(entropy)]
  stoch, numbers = prediction.features
  for one, other in zip(stoch, state.stoch, strict=True):
    np.testing.assert_array_equal(one, other)
  np.testing.assert_allclose(
    numbers,
    np.concatenate([state.deter, np.stack(scalars, -1)], -1),
    rtol=1e-4,
    atol=1e-5,
  )


def test_an_unknown_reward_or_continuation_changes_no_loss(mixed):
  model, params = mixed
  sequence = random_sequence(MIXED, CHOICES)
  # What the last step led to is not in the sequence either; nor is what led to
  # the start at step 3 of row 0.
  changed = sequence._replace(
    reward=sequence.reward.at[:, -1].add(9.0).at[0, 2].add(9.0),
    discount=1.0 - sequence.discount.at[:, :-1].set(
      1.0 - sequence.discount[:, :-1]
    ).at[0, 2].set(sequence.discount[0, 2]),
  )  # fmt: skip
  assert not np.array_equal(changed.discount, sequence.discount)
  key = jax.random.PRNGKey(1)
  assert model.loss(params, key, sequence)[0] == model.loss(
    params, key, changed
  )[0]  # fmt: skip


def test_each_kl_teaches_only_its_own_side(vectors):
  model, params = vectors
  sequence = random_sequence({'body': spaces.Vector((3,))}, CHOICES)
  # Where every step is a start, the prior gets nothing from the encoder.
  sequence = sequence._replace(start_of_episode=jnp.ones((BATCH, LENGTH), bool))

  @jax.jit
  def gradients(params):
    def losses(params):
      metrics = model.loss(params, jax.random.PRNGKey(1), sequence)[1][3]
      return metrics['dynamics_loss'], metrics['representation_loss']

    return jax.jacrev(losses)(params)

  def reach(gradient):
    sizes = {'encoder': 0.0, 'posterior': 0.0, 'prior': 0.0, 's5': 0.0}
    for module, leaves in gradient.items():
      for name in sizes:
        if f'/{name}/' in module:
          size = max(float(np.abs(x).max()) for x in leaves.values())
          sizes[name] = max(sizes[name], size)
    return {name for name, size in sizes.items() if size > 0}

  dynamics, representation = gradients(params)
  assert reach(dynamics) == {'prior', 's5'}
  assert reach(representation) == {'encoder', 'posterior'}


# What it can be built for.


@pytest.mark.parametrize(
  'observation,action',
  [
    ({'eye': IMAGE}, spaces.Discrete((), 4)),
    ({'kind': spaces.OneHot((2,), 4)}, CHOICES),
  ],
  ids=['image', 'onehot-multi'],
)
def test_all_observations_and_actions_have_a_finite_gradient(
  config, draw, observation, action
):
  model = world_model.make_world_model(config.world_model, observation, action)
  params = draw(model.init)
  sequence = random_sequence(observation, action)

  @jax.jit
  def gradient(params):
    return jax.grad(model.loss, has_aux=True)(
      params, jax.random.PRNGKey(1), sequence
    )

  gradients, (state, *_) = gradient(params)
  assert state.deter.shape == (BATCH, LENGTH, config.world_model.deter_size)
  for module, leaves in gradients.items():
    for name, leaf in leaves.items():
      assert np.all(np.isfinite(leaf)), (module, name)
  decoded = jax.eval_shape(model.decode, params, state)
  assert {n: x.shape[2:] for n, x in decoded.items()} == {
    name: space.shape if isinstance(space, spaces.Image) else (space.size,)
    for name, space in observation.items()
  }


@pytest.mark.parametrize('shape', [(8, 10, 3), (6, 8, 3)])
def test_an_image_that_does_not_fit_is_refused_in_one_sentence(config, shape):
  with pytest.raises(ValueError) as error:
    world_model.make_world_model(
      config.world_model, {'eye': spaces.Image(shape)}, CHOICES
    )
  for word in ("'eye'", str(shape), 'world_model.cnn_depths', 'multiples of 4'):
    assert word in str(error.value)


# What an action does.

MOVES = 4


def moves(seed, rows):
  """Sequences in which o_{t+1} is the action a_t; o is MOVES at a start."""
  rng = np.random.default_rng(seed)
  seen = np.zeros((rows, 10), int)
  action, start = np.zeros_like(seen), np.zeros(seen.shape, bool)
  for row in range(rows):
    left, last = 0, 0
    # Some rows start in the middle of an episode.
    for t in range(-int(rng.integers(0, 6)), 10):
      begins = left == 0
      left = int(rng.integers(3, 8)) if begins else left - 1
      now, last = last, int(rng.integers(MOVES))
      if t >= 0:
        seen[row, t], action[row, t] = MOVES if begins else now, last
        start[row, t] = begins
  return world_model.Sequence(
    observation={'seen': jnp.asarray(seen)},
    action=jnp.asarray(action),
    reward=jnp.zeros(seen.shape),
    discount=jnp.asarray(1.0 - np.roll(start, -1, 1)),
    start_of_episode=jnp.asarray(start),
  )


def test_the_model_learns_what_an_action_does(config):
  settings = dataclasses.replace(
    config.world_model, deter_size=16, mlp_units=32, hidden_units=32
  )
  space = spaces.Discrete((), MOVES)
  model = world_model.make_world_model(
    settings, {'seen': spaces.OneHot((), MOVES + 1)}, space
  )
  optimizer = optax.adam(5e-3)

  @jax.jit
  def train(key, pool):
    def update(carry, key):
      params, state = carry
      rows = jax.random.randint(key, (16,), 0, pool.reward.shape[0])
      batch = jax.tree.map(lambda x: x[rows], pool)
      gradient, _ = jax.grad(model.loss, has_aux=True)(params, key, batch)
      steps, state = optimizer.update(gradient, state)
      return (optax.apply_updates(params, steps), state), None

    params = model.init(key)
    start = params, optimizer.init(params)
    return jax.lax.scan(update, start, jax.random.split(key, 400))[0][0]

  @jax.jit
  def predicted(params, key, sequence):
    """What the prior expects to see next: [B, T - 1]."""
    came = world_model.arrivals(sequence, space)
    state = model.observe(
      params, key, sequence.observation, came.previous_action,
      sequence.start_of_episode,
    )  # fmt: skip
    state = jax.tree.map(lambda x: x[:, :-1].reshape(-1, *x.shape[2:]), state)
    action = space.encode(sequence.action)[:, :-1].reshape(-1, MOVES)
    imagined = model.imagine_step(params, key, state, action)
    seen = model.decode(params, imagined)['seen']
    return jnp.argmax(seen[:, :MOVES], -1).reshape(came.known[:, 1:].shape)

  pool, test = moves(0, 1000), moves(1, 200)
  key = jax.random.PRNGKey(0)

  def accuracy(actions):
    params = train(key, pool._replace(action=actions))
    right = predicted(params, key, test) == test.observation['seen'][:, 1:]
    return np.mean(right[~test.start_of_episode[:, 1:]])

  # 200 rows of about 7 such steps: chance is 0.25 with a deviation of 0.012.
  assert accuracy(pool.action) > 0.9
  # Had training paired z_{t-1} with a_t, it would not be learned.
  assert accuracy(jnp.roll(pool.action, -1, 1)) < 0.35
