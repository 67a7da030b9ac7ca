"""What holds for one level's world model."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from acme_hieros.models import cores, distributions, spaces, world_model
from acme_hieros.models.cores import base

BATCH, LENGTH = 2, 6
IMAGE = spaces.Image((8, 12, 3))
VECTORS = {'body': spaces.Vector((2, 2)), 'kind': spaces.OneHot((), 4)}
MIXED = {'eye': IMAGE, **VECTORS}
BODY = {'body': spaces.Vector((3,))}
CHOICES = spaces.Discrete((2,), 3)


def make_model(config, observation, action=CHOICES, context_length=LENGTH):
  return world_model.make_world_model(
    config, observation, action, context_length
  )


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
  model = make_model(config.world_model, MIXED)
  params = draw(model.init, seed=2)
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
  model = make_model(
    dataclasses.replace(config.world_model, free_nats=0.0), BODY
  )
  params = draw(model.init)
  model = model._replace(
    observe=jax.jit(model.observe), imagine_step=jax.jit(model.imagine_step)
  )
  return model, params


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


def anything(model, params, rows):
  """A Context [B, ...] full of what an earlier episode may have left."""
  sequence = random_sequence(BODY, CHOICES, seed=9, shape=(rows, 4))
  state = jax.jit(model.observe)(
    params, jax.random.PRNGKey(9), sequence.observation,
    CHOICES.encode(sequence.action), sequence.start_of_episode,
  )  # fmt: skip
  state = jax.tree.map(lambda x: x[:, -1] + jnp.ones_like(x[:, -1]), state)
  younger = jax.tree.map(lambda x: x - 3.0, state.memory)
  return world_model.Context(state, younger, jnp.arange(rows))


@pytest.mark.parametrize(
  'deter_from,direct_prior',
  [('state', False), ('output', False), ('state', True)],
)
@pytest.mark.parametrize('context_length', [LENGTH, 1000])
def test_observe_equals_repeated_observe_step_from_an_episode_s_start(
  config, draw, most_likely, deter_from, direct_prior, context_length
):
  model = make_model(
    dataclasses.replace(
      config.world_model,
      s5=dataclasses.replace(config.world_model.s5, deter_from=deter_from),
      direct_prior=direct_prior,
    ),
    BODY,
    context_length=context_length,
  )
  params = draw(model.init)
  sequence = random_sequence(BODY, CHOICES)
  start = sequence.start_of_episode.at[:, 0].set(True)
  sequence = sequence._replace(start_of_episode=start)
  came = world_model.arrivals(sequence, CHOICES)
  observed = jax.jit(model.observe)(
    params, jax.random.PRNGKey(1), sequence.observation,
    came.previous_action, start,
  )  # fmt: skip
  assert np.ptp(observed.deter, (0, 1)).max() > 0.1

  step = jax.jit(model.observe_step)
  context = anything(model, params, BATCH)
  for t in range(LENGTH):
    context = step(
      params,
      jax.random.PRNGKey(t),
      context,
      came.previous_action[:, t],
      jax.tree.map(lambda x, t=t: x[:, t], sequence.observation),
      start[:, t],
    )
    for one, all_steps in zip(
      jax.tree.leaves(context.state), jax.tree.leaves(observed), strict=True
    ):
      np.testing.assert_allclose(
        one, all_steps[:, t], atol=1e-4, err_msg=f'at {t}'
      )


def test_the_first_step_of_a_sequence_in_mid_episode_is_no_start(
  config, vectors
):
  model, params = vectors
  sequence = random_sequence(BODY, CHOICES)
  key = jax.random.PRNGKey(1)

  def first_steps(start, previous_action):
    start = jnp.zeros((BATCH, LENGTH), bool).at[:, 0].set(start)
    state = model.observe(
      params, key, sequence.observation, previous_action, start
    )
    return jax.tree.map(lambda x: x[:, 0], (state.deter, state.memory))

  nothing = jnp.zeros((BATCH, LENGTH, CHOICES.size))
  action = CHOICES.encode(sequence.action)
  in_between, at_start = (first_steps(s, nothing) for s in (False, True))
  for start, expected in ((False, in_between), (True, at_start)):
    # What was done before is not known, or was done in another episode.
    jax.tree.map(
      np.testing.assert_array_equal, first_steps(start, action), expected
    )
  assert np.abs(in_between[0] - at_start[0]).max() > 1e-2

  # In mid-episode there is nothing: no memory, no z, no action. At a start
  # there is what is learned of it.
  state = world_model.State(
    stoch=world_model.no_choices(config.world_model, BATCH),
    log_probs=None,
    deter=None,
    output=None,
    memory=jax.tree.map(jnp.zeros_like, at_start[1]),
  )
  module = 'world_model/~/input/linear'
  weights = params[module]['w_1']
  assert weights.shape[0] == CHOICES.size + 1
  learned = {
    **params,
    module: {**params[module], 'w_1': weights.at[0].set(weights[-1])},
  }
  for own, action, expected in (
    (params, nothing[:, 0], in_between),
    (learned, nothing[:, 0].at[:, 0].set(1.0), at_start),
  ):
    after = model.imagine_step(own, key, state, action)
    np.testing.assert_allclose(after.deter, expected[0], atol=1e-5)


def taken_in(starts, most):
  """For each step the steps that the memory that counts has taken in.

  Two memories are two lists of steps. When the older one is full, the other,
  which began half as many steps later, takes over.
  """
  older, younger, counting = [], [], []
  for t, starts_here in enumerate(starts):
    if starts_here:
      older, younger = [], []
    elif len(older) == most:
      older, younger = younger, []
    older.append(t)
    if len(older) > -(-most // 2):
      younger.append(t)
    counting.append(list(older))
  return counting


@pytest.mark.parametrize('most', [2, 3, 5, 6, 40])
def test_the_memory_that_counts_is_that_of_a_fresh_sequence(
  config, draw, most_likely, most
):
  steps, rows = min(5 * most + 3, 35), 6
  model = make_model(config.world_model, BODY, context_length=most)
  params = draw(model.init)
  start = np.random.default_rng(0).random((rows, steps)) < 0.15
  start[:2] = False
  start[1, [most % steps, 2 * most % steps]] = True  # Where one takes over.
  start[2, 1::2] = True
  start[:, 0] = True
  sequence = random_sequence(BODY, CHOICES, shape=(rows, steps))
  sequence = sequence._replace(start_of_episode=jnp.asarray(start))
  came = world_model.arrivals(sequence, CHOICES)

  @jax.jit
  def act(context):
    def step(context, inputs):
      action, observation, start = inputs
      key = jax.random.PRNGKey(0)
      context = model.observe_step(
        params, key, context, action, observation, start
      )
      return context, context

    inputs = came.previous_action, sequence.observation, jnp.asarray(start)
    inputs = jax.tree.map(lambda x: x.swapaxes(0, 1), inputs)
    return jax.lax.scan(step, context, inputs)[1]

  acted = act(anything(model, params, rows))

  # Each step once more, as the last of a sequence of its own.
  counting = [taken_in(row, most) for row in start]
  ages = np.array([[len(seen) for seen in row] for row in counting])
  np.testing.assert_array_equal(acted.age.T, ages)
  longest = min(most, steps)
  first = np.arange(steps) - ages + 1
  index = np.minimum(first[..., None] + np.arange(longest), steps - 1)
  assert all(
    seen == list(range(f, f + len(seen)))
    for row, firsts in zip(counting, first)
    for seen, f in zip(row, firsts)
  )
  row = np.arange(rows)[:, None, None]
  observation, action, fresh_start = jax.tree.map(
    lambda x: x[row, index].reshape((rows * steps, longest) + x.shape[2:]),
    (sequence.observation, came.previous_action, sequence.start_of_episode),
  )
  fresh = jax.jit(model.observe)(
    params, jax.random.PRNGKey(0), observation, action, fresh_start
  )
  last = np.arange(rows * steps), ages.ravel() - 1
  for one, other in zip(
    jax.tree.leaves(acted.state), jax.tree.leaves(fresh), strict=True
  ):
    one = one.swapaxes(0, 1)
    np.testing.assert_allclose(
      one, other[last].reshape(one.shape), rtol=1e-4, atol=1e-4
    )

  # Neither does a memory grow older than it was trained, nor does it forget
  # more than half.
  since = np.arange(steps) - np.maximum.accumulate(
    np.where(start, np.arange(steps), 0), 1
  )
  assert ages.min() >= 1 and ages.max() <= most
  late = ages[since >= most]
  assert late.size or most > steps
  assert np.all(late >= most - -(-most // 2) + 1)
  np.testing.assert_array_equal(ages[since < most], since[since < most] + 1)


class Counting(base.Core):
  """Counts the steps that it has taken in, in arrays of several ranks."""

  width = 3

  def __init__(self, config, context_length, dtype):
    del context_length, dtype
    self._deter_size = config.deter_size

  def initial_state(self, batch_size):
    return {
      'count': jnp.zeros(batch_size),
      'many': jnp.zeros((batch_size, 2, 3)),
    }

  def make_module(self, name):
    return CountingModule(self._deter_size, name)


class CountingModule(base.CoreModule):
  """See `Counting`."""

  def __init__(self, deter_size, name):
    super().__init__(name)
    self._deter_size = deter_size

  def step(self, u, reset, memory):
    if reset is not None:
      memory = {
        'count': jnp.where(reset, 0.0, memory['count']),
        'many': jnp.where(reset[:, None, None], 0.0, memory['many']),
      }
    return u, jax.tree.map(lambda x: x + 1.0, memory)

  def scan(self, u, reset, memory):
    def step(memory, reset):
      _, memory = self.step(u[:, 0], reset, memory)
      return memory, memory

    _, trace = hk.scan(step, memory, reset.swapaxes(0, 1))
    return u, jax.tree.map(lambda x: x.swapaxes(0, 1), trace)

  def deter(self, output, memory):
    count = memory['count'][..., None]
    return jnp.broadcast_to(count, (*count.shape[:-1], self._deter_size))


def test_a_memory_may_have_arrays_of_any_rank(config, draw, monkeypatch):
  monkeypatch.setattr(cores, '_MAKERS', dict(cores._MAKERS))
  cores.register('counting', Counting)
  settings = dataclasses.replace(config.world_model, core='counting')
  rows, steps = 2, 9
  model = make_model(settings, BODY, context_length=4)
  params = draw(model.init)
  sequence = random_sequence(BODY, CHOICES, shape=(rows, steps))
  # The rows are full at different times.
  start = np.zeros((steps, rows), bool)
  start[0] = start[1, 1] = True

  step = jax.jit(model.observe_step)
  context = model.initial_context(rows)
  for t in range(steps):
    context = step(
      params, jax.random.PRNGKey(t), context,
      jnp.zeros((rows, CHOICES.size)),
      jax.tree.map(lambda x, t=t: x[:, t], sequence.observation),
      jnp.asarray(start[t]),
    )  # fmt: skip
    memory = context.state.memory
    np.testing.assert_array_equal(memory['count'], context.age)
    np.testing.assert_array_equal(
      memory['many'], np.broadcast_to(context.age[:, None, None], (rows, 2, 3))
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
  sequence = random_sequence(BODY, CHOICES)
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


# Some of the steps have less than these free nats, and some have more.
@pytest.mark.parametrize('direct_prior,free_nats', [(False, 0.35), (True, 4.0)])
def test_every_part_of_the_loss_equals_its_formula(
  config, draw, direct_prior, free_nats
):
  settings = dataclasses.replace(
    config.world_model,
    free_nats=free_nats,
    direct_prior=direct_prior,
  )
  model = make_model(settings, MIXED)
  params = draw(model.init)
  sequence = random_sequence(MIXED, CHOICES)
  total, (state, prediction, came, metrics) = jax.jit(model.loss)(
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
  bins = np.linspace(-15, 15, settings.reward_bins)
  bins = np.sign(bins) * np.expm1(np.abs(bins))
  above = np.searchsorted(bins, reward)
  low, high = bins[above - 1], bins[above]
  log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  below, above = (
    np.take_along_axis(log_probs, i[..., None], -1)[..., 0]
    for i in (above - 1, above)
  )
  share = (reward - low) / (high - low)
  reward_loss = -((1 - share) * below + share * above)
  expected['reward'] = reward_loss[known].mean()
  # Large bins cancel out: rounding is that of what they add up to.
  error = prediction.reward - np.exp(log_probs) @ bins
  assert np.all(np.abs(error) < 1e-4 * (np.exp(log_probs) @ np.abs(bins)))
  goes_on = 1 / (
    1 + np.exp(-numpy_mlp(params, 'world_model/~/continue/', latent)[..., 0])
  )
  np.testing.assert_allclose(prediction.continuation, goes_on, rtol=1e-4)
  target = np.where(start, 1.0, np.roll(sequence.discount, 1, 1))
  bernoulli = -np.log(np.where(target > 0, goes_on, 1 - goes_on))
  expected['continuation'] = bernoulli[known].mean()

  # KL: the prior is what imagination would have drawn from. What comes before a
  # start is learned, as the last row of the weights of actions: in its place
  # stands an action here that has these weights.
  module, name = (
    ('world_model/~/action_input/linear', 'w')
    if direct_prior
    else ('world_model/~/input/linear', 'w_1')
  )
  rows = params[module][name]
  starting = {
    **params,
    module: {**params[module], name: rows.at[0].set(rows[-1])},
  }
  imagine = jax.jit(model.imagine_step)
  kl = np.zeros((BATCH, LENGTH))
  for t in range(LENGTH):
    before = jax.tree.map(lambda x, t=t: x[:, t - 1], state)
    key, action = jax.random.PRNGKey(0), came.previous_action[:, t]
    prior = imagine(params, key, before, action).log_probs
    nothing = before._replace(
      stoch=world_model.no_choices(settings, BATCH),
      memory=jax.tree.map(jnp.zeros_like, before.memory),
    )
    action = jnp.zeros_like(action).at[:, 0].set(1.0)
    at_start = imagine(starting, key, nothing, action).log_probs
    prior = jnp.where(start[:, t, None, None], at_start, prior)
    kl[:, t] = scipy.stats.entropy(
      np.exp(state.log_probs[:, t]), np.exp(prior), axis=-1
    ).sum(-1)
  assert kl.max() > settings.free_nats
  assert kl[known].min() < settings.free_nats
  clipped = np.maximum(settings.free_nats, kl)[known].mean()
  expected['dynamics'] = 0.5 * kl[known].mean()
  expected['representation'] = 0.1 * clipped
  np.testing.assert_allclose(metrics['kl'], kl[known].mean(), rtol=1e-3)

  for name, value in expected.items():
    np.testing.assert_allclose(
      metrics[f'{name}_loss'], value, rtol=1e-3, err_msg=name
    )
  np.testing.assert_allclose(total, sum(expected.values()), rtol=1e-3)
  np.testing.assert_array_equal(metrics['world_model_loss'], total)

  # Features: z, h, symlog of the reward, and continuation.
  reward = np.asarray(prediction.reward)
  reward = np.sign(reward) * np.log1p(np.abs(reward))
  scalars = [reward, prediction.continuation]
  stoch, numbers = prediction.features
  for one, other in zip(stoch, state.stoch, strict=True):
    np.testing.assert_array_equal(one, other)
  np.testing.assert_allclose(
    numbers,
    np.concatenate([state.deter, np.stack(scalars, -1)], -1),
    rtol=1e-4,
    atol=1e-5,
  )


def test_information_of_z_is_maximised(config, mixed):
  model, params = mixed
  settings = dataclasses.replace(config.world_model, information_scale=3.0)
  informed = make_model(settings, MIXED)
  key, sequence = jax.random.PRNGKey(1), random_sequence(MIXED, CHOICES)
  total, (*_, metrics) = model.loss(params, key, sequence)
  other_total, (state, *_, others) = informed.loss(params, key, sequence)
  probs = np.exp(np.asarray(state.log_probs)).reshape(-1, 2, 5)
  information = scipy.stats.entropy(probs.mean(0), axis=-1).sum()
  information -= scipy.stats.entropy(probs, axis=-1).sum(-1).mean()
  assert information > 0.05
  np.testing.assert_allclose(
    others['information_loss'], -3.0 * information, rtol=1e-3
  )
  np.testing.assert_allclose(
    other_total - total, others['information_loss'], rtol=1e-3, atol=1e-3
  )
  assert 'information_loss' not in metrics


def test_what_is_foreseen_over_several_steps_is_judged(
  config, mixed, most_likely
):
  _, params = mixed
  # Pieces of two steps from step 1 of six; row 0 has a start within one.
  settings = dataclasses.replace(config.world_model, overshooting=2)
  model = make_model(settings, MIXED)
  sequence, key = random_sequence(MIXED, CHOICES), jax.random.PRNGKey(1)
  total, (state, _, came, metrics) = jax.jit(model.loss)(params, key, sequence)
  plain = make_model(config.world_model, MIXED)
  plain_total, _ = jax.jit(plain.loss)(params, key, sequence)

  imagine = jax.jit(model.imagine_step)
  judged = []
  for first in (1, 3):
    foreseen = jax.tree.map(lambda x, t=first: x[:, t], state)
    known = np.ones(BATCH, bool)
    for t in (first + 1, first + 2):
      foreseen = imagine(params, key, foreseen, came.previous_action[:, t])
      known &= ~np.asarray(sequence.start_of_episode[:, t])
      latent = np.concatenate(
        [np.reshape(foreseen.stoch.value, (BATCH, -1)), foreseen.deter], -1
      )
      logits = jnp.asarray(
        numpy_mlp(params, 'world_model/~/reward/', latent), jnp.float32
      )
      goes_on = 1 / (
        1 + np.exp(-numpy_mlp(params, 'world_model/~/continue/', latent)[:, 0])
      )
      kl = scipy.stats.entropy(
        np.exp(state.log_probs[:, t]), np.exp(foreseen.log_probs), axis=-1
      ).sum(-1)
      ended = np.asarray(came.continuation)[:, t] == 0
      rows = {
        'reward': distributions.two_hot_loss(logits, came.reward[:, t]),
        'continuation': -np.log(np.where(ended, 1 - goes_on, goes_on)),
        'dynamics': settings.dynamics_scale * kl,
      }
      judged.append((known.copy(), rows))
  count = sum(known.sum() for known, _ in judged)
  # Row 0 starts anew at step 3.
  assert count == 7
  expected = {
    name: sum(np.sum(known * rows[name]) for known, rows in judged) / count
    for name in ('reward', 'continuation', 'dynamics')
  }
  for name, value in expected.items():
    np.testing.assert_allclose(
      metrics[f'foreseen_{name}_loss'], value, rtol=2e-3, err_msg=name
    )
  np.testing.assert_allclose(
    total - plain_total, sum(expected.values()), rtol=2e-3
  )


@pytest.mark.parametrize(
  'field, names',
  [
    ('observation_scale', ('image_loss', 'vector_loss')),
    ('continuation_scale', ('continuation_loss',)),
  ],
)
def test_a_loss_counts_by_its_scale(config, mixed, field, names):
  _, params = mixed
  sequence, key = random_sequence(MIXED, CHOICES), jax.random.PRNGKey(1)

  def losses(scale):
    settings = dataclasses.replace(config.world_model, **{field: scale})
    model = make_model(settings, MIXED)
    total, (*_, metrics) = jax.jit(model.loss)(params, key, sequence)
    return total, metrics

  (total, one), (more, scaled) = losses(1.0), losses(5.0)
  for name, value in one.items():
    if name.endswith('_loss') and name != 'world_model_loss':
      factor = 5.0 if name in names else 1.0
      np.testing.assert_allclose(scaled[name], factor * value, rtol=1e-5)
  loss = sum(one[name] for name in names)
  assert loss > 0.01
  np.testing.assert_allclose(more, total + 4.0 * loss, rtol=1e-5)


def test_overshooting_teaches_the_prior_and_what_leads_to_it_alone(
  config, mixed
):
  _, params = mixed
  model = make_model(
    dataclasses.replace(config.world_model, overshooting=3), MIXED
  )
  sequence, key = random_sequence(MIXED, CHOICES), jax.random.PRNGKey(1)

  def foreseen(params):
    _, (*_, metrics) = model.loss(params, key, sequence)
    return metrics['foreseen_dynamics_loss']

  gradient = jax.jit(jax.grad(foreseen))(params)
  norms = {
    module.split('/')[2]: float(optax.tree.norm(leaves))
    for module, leaves in gradient.items()
  }
  assert norms['prior'] > 0 and norms['core'] > 0 and norms['input'] > 0
  assert norms['decoder'] == norms['reward'] == norms['continue'] == 0


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
  sequence = random_sequence(BODY, CHOICES)
  # Where every step is a start, the prior gets nothing from the encoder.
  sequence = sequence._replace(start_of_episode=jnp.ones((BATCH, LENGTH), bool))

  @jax.jit
  def gradients(params):
    def losses(params):
      metrics = model.loss(params, jax.random.PRNGKey(1), sequence)[1][3]
      return metrics['dynamics_loss'], metrics['representation_loss']

    return jax.jacrev(losses)(params)

  def reach(gradient):
    sizes = {'encoder': 0.0, 'posterior': 0.0, 'prior': 0.0, 'core': 0.0}
    for module, leaves in gradient.items():
      for name in sizes:
        if f'/{name}/' in module:
          size = max(float(np.abs(x).max()) for x in leaves.values())
          sizes[name] = max(sizes[name], size)
    return {name for name, size in sizes.items() if size > 0}

  dynamics, representation = gradients(params)
  assert reach(dynamics) == {'prior', 'core'}
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
  model = make_model(config.world_model, observation, action)
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
  model = make_model(settings, {'seen': spaces.OneHot((), MOVES + 1)}, space)
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
