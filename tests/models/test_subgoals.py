"""What holds for the subgoal autoencoder and the rewards made of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from acme_hieros.config import SubgoalConfig
from acme_hieros.models import subgoals

CONFIG = SubgoalConfig(
  categoricals=3,
  classes=4,
  encoder_layers=1,
  encoder_units=32,
  decoder_layers=1,
  decoder_units=32,
)
SIZE = 6


@pytest.fixture(scope='module')
def autoencoder():
  return subgoals.make_autoencoder(CONFIG, SIZE)


def symlog(x):
  return np.sign(x) * np.log1p(np.abs(x))


@pytest.fixture
def states():
  return np.random.default_rng(0).normal(size=(20, SIZE)) * 2


def test_a_reached_subgoal_gives_log_2(states):
  np.testing.assert_allclose(
    subgoals.subgoal_reward(jnp.asarray(symlog(states)), jnp.asarray(states)),
    np.log(2),
    rtol=1e-5,
  )


def test_who_ends_an_episode_earns_as_much_as_who_stays_there():
  # A reward at each of five steps, of which the last ends it.
  reward, discount = np.array([0.3, 0.0, 0.7, 0.1, 0.4]), 0.9
  stays = np.concatenate([reward, np.full(2000, reward[-1])])
  expected = np.sum(stays * discount ** np.arange(len(stays)))
  absorbed = subgoals.absorb(
    jnp.asarray(reward), jnp.asarray([1.0, 1.0, 1.0, 1.0, 0.0]), discount
  )
  # What comes after an end counts for nothing.
  returned = np.sum(np.asarray(absorbed) * discount ** np.arange(5))
  np.testing.assert_allclose(returned, expected, rtol=1e-5)


def test_where_an_episode_may_end_both_count_by_their_probability():
  # At each step it ends with probability 0.2; the reward is always 1, so that
  # staying or not makes no difference: 1 / (1 - discount) is what there is.
  reward, discount, goes_on = 1.0, 0.9, 0.8
  absorbed = subgoals.absorb(jnp.array(reward), jnp.array(goes_on), discount)
  steps = np.arange(2000)
  returned = np.sum(float(absorbed) * (discount * goes_on) ** steps)
  np.testing.assert_allclose(returned, 1 / (1 - discount), rtol=1e-5)


def test_an_opposite_or_orthogonal_state_gives_nothing(states):
  goal = symlog(states)
  reward = subgoals.subgoal_reward(jnp.asarray(-goal), jnp.asarray(states))
  np.testing.assert_array_equal(reward, 0.0)
  first, second = jnp.eye(SIZE)[:2]
  assert subgoals.subgoal_reward(first, second) == 0.0


@pytest.mark.parametrize('scale', [0.25, 0.5, 2.0, 4.0])
def test_a_subgoal_too_short_loses_as_much_as_one_too_long(states, scale):
  # g . s / max(|g|, |s|)^2 with g = c s is min(c, 1 / c).
  reward = subgoals.subgoal_reward(
    jnp.asarray(scale * symlog(states)), jnp.asarray(states)
  )
  np.testing.assert_allclose(reward, np.log1p(min(scale, 1 / scale)), rtol=1e-5)


def test_subgoal_reward_equals_its_formula_and_stays_in_bounds(states):
  goal = np.random.default_rng(1).normal(size=states.shape)
  s = symlog(states)
  longer = np.maximum((goal**2).sum(-1), (s**2).sum(-1))
  expected = np.log1p(np.maximum(0.0, (goal * s).sum(-1) / longer))
  assert expected.max() > 0.1 and expected.min() == 0.0
  reward = subgoals.subgoal_reward(jnp.asarray(goal), jnp.asarray(states))
  np.testing.assert_allclose(reward, expected, rtol=1e-4, atol=1e-6)
  assert np.all((reward >= 0) & (reward <= np.log(2) + 1e-6))


@pytest.mark.parametrize('value', [0.0, 1e-20, 1e8])
def test_subgoal_reward_and_its_gradient_are_finite_at_extremes(value):
  state = jnp.full((SIZE,), value)
  for goal in (jnp.zeros(SIZE), state, -state, jnp.full(SIZE, 1e8)):
    reward, gradient = jax.value_and_grad(subgoals.subgoal_reward, 1)(
      goal, state
    )
    assert np.isfinite(reward) and np.all(np.isfinite(gradient))


def test_novelty_reward_is_the_symlog_of_the_mean_squared_error(autoencoder):
  deter = jax.random.normal(jax.random.PRNGKey(1), (5, SIZE)) * 3
  params = autoencoder.init(jax.random.PRNGKey(0), deter)
  key = jax.random.PRNGKey(2)
  seen = subgoals.reconstruct(autoencoder, params, key, deter)

  # One of the codes that can be drawn must explain the error.
  log_probs = np.asarray(autoencoder.encode(params, deter))
  assert log_probs.shape == (5, 3, 4)
  codes = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing='ij'), -1).reshape(
    -1, 3
  )
  onehot = np.eye(4)[codes].reshape(-1, 12)
  decoded = np.asarray(autoencoder.decode(params, jnp.asarray(onehot)))
  mean_error = ((decoded[:, None] - symlog(np.asarray(deter))) ** 2).mean(-1)
  novelty = subgoals.novelty_reward(seen.error, SIZE)
  distance = np.abs(np.log1p(mean_error) - np.asarray(novelty)).min(0)
  np.testing.assert_allclose(distance, 0.0, atol=1e-5)


def test_kl_is_of_the_code_against_the_uniform_one(autoencoder, perturb):
  deter = jax.random.normal(jax.random.PRNGKey(1), (5, SIZE))
  params = perturb(autoencoder.init(jax.random.PRNGKey(0), deter), 1.0)
  log_probs = np.asarray(autoencoder.encode(params, deter), np.float64)
  probs = np.exp(log_probs)
  assert probs.min() >= 0.01 / 4 * 0.999
  seen = subgoals.reconstruct(autoencoder, params, jax.random.PRNGKey(2), deter)
  expected = np.log(4) * 3 + (probs * log_probs).sum((1, 2))
  np.testing.assert_allclose(seen.kl, expected, rtol=1e-4)


def test_the_code_is_what_the_level_above_chooses(autoencoder):
  space = subgoals.code_space(CONFIG)
  assert (space.num_choices, space.classes, space.size) == (3, 4, 12)
  deter = jnp.zeros((2, SIZE))
  params = autoencoder.init(jax.random.PRNGKey(0), deter)
  code = space.encode(jnp.zeros((2, 3), jnp.uint8))
  assert autoencoder.decode(params, code).shape == (2, SIZE)


def test_the_autoencoder_learns_to_reconstruct_a_few_states(
  autoencoder, states
):
  deter = jnp.asarray(states[:6], jnp.float32)
  params = autoencoder.init(jax.random.PRNGKey(0), deter)
  optimizer = optax.adam(1e-2)

  def loss(params, key):
    seen = subgoals.reconstruct(autoencoder, params, key, deter)
    return jnp.mean(seen.error) + 0.01 * jnp.mean(seen.kl)

  @jax.jit
  def train(params, state, keys):
    def step(carry, key):
      params, state = carry
      value, gradient = jax.value_and_grad(loss)(params, key)
      updates, state = optimizer.update(gradient, state)
      return (optax.apply_updates(params, updates), state), value

    return jax.lax.scan(step, (params, state), keys)[1]

  losses = train(
    params, optimizer.init(params), jax.random.split(jax.random.PRNGKey(1), 500)
  )
  # Better than the best constant, whose error is the variance.
  variance = symlog(states[:6]).var(0).sum()
  assert losses[-20:].mean() < 0.3 * variance


def places(counts, count=32, classes=8, noise=0.0, seed=0):
  """z of as many places, each so many times: one-hot [N, count, classes].

  So many of the categoricals, by chance, say something else.
  """
  rng = np.random.default_rng(seed)
  z = np.repeat(rng.integers(0, classes, (len(counts), count)), counts, 0)
  other = rng.integers(0, classes, z.shape)
  return jax.nn.one_hot(
    np.where(rng.random(z.shape) < noise, other, z), classes
  )


def test_places_count_alike_however_often_one_is_there():
  counts = np.array([100, 20, 5, 1])
  place = np.repeat(np.arange(4), counts)

  def by_place(exponent, noise):
    weight = np.asarray(subgoals.rarity(places(counts, noise=noise), exponent))
    assert weight.shape == (126,) and (weight > 0).all()
    np.testing.assert_allclose(weight.mean(), 1.0, rtol=1e-5)
    return np.bincount(place, weight) / 126

  # Of n of 126 that are the same, each has a density of n / 126, but for what
  # unlike states add.
  np.testing.assert_allclose(by_place(1.0, 0.0), 0.25, atol=0.02)
  half = counts**0.5 / sum(counts**0.5)
  np.testing.assert_allclose(by_place(0.5, 0.0), half, atol=0.02)
  np.testing.assert_allclose(by_place(0.0, 0.0), counts / 126, rtol=1e-5)
  # Two of a place differ in each of 32 with probability p, so that each other
  # one of n counts as q on average: a place has n / (1 + q (n - 1)).
  p = 1 - (1 - 0.05 * 7 / 8) ** 2
  q = (1 - p * (1 - np.exp(-10 / 32))) ** 32
  expected = counts / (1 + q * (counts - 1))
  np.testing.assert_allclose(
    by_place(1.0, 0.05), expected / sum(expected), atol=0.04
  )


def test_rarity_is_that_of_each_state_wherever_it_stands():
  z = places([4, 7, 1])
  np.testing.assert_allclose(
    subgoals.rarity(z.reshape(3, 4, 32, 8), 0.7).reshape(-1),
    subgoals.rarity(z, 0.7),
    rtol=1e-5,
  )


def test_rarity_is_no_way_to_change_states():
  gradient = jax.grad(lambda z: subgoals.rarity(z, 1.0)[0])(places([3, 1]))
  assert not np.any(gradient)


def test_practice_goes_to_all_places_alike_if_told_to():
  """Nine of ten states are the same; each has the code of its place."""
  counts = [90, 5, 5]
  place = np.repeat(np.arange(3), counts).reshape(5, 20)
  z = places(counts).reshape((5, 20, 32, 8))

  def encode(params, deter):
    one_hot = jax.nn.one_hot(deter[..., 0].astype(jnp.int32), 3)
    return jnp.where(one_hot == 1, 0.0, -1e9)[..., None, :]

  own = subgoals.Autoencoder(init=None, encode=encode, decode=None)
  h = jnp.asarray(place[..., None], jnp.float32)
  starts = np.zeros((5, 20), bool)

  def drawn(balance):
    weight = subgoals.rarity(z, balance)
    codes = jax.vmap(
      lambda key: subgoals.practice(own, {}, key, h, weight, starts, 1)
    )(jax.random.split(jax.random.PRNGKey(0), 200))
    return np.asarray(codes.mean((0, 1, 2)))

  # Half are states that came next; of the others 1/3 or as many as there are.
  share = np.array(counts) / 100
  np.testing.assert_allclose(drawn(0.0), share, atol=0.02)
  np.testing.assert_allclose(drawn(1.0), 0.5 * share + 0.5 / 3, atol=0.03)


def test_practice_has_near_states_of_the_episode_and_any_of_the_batch():
  """Each state has a code of its own, which says where it is in the batch."""
  batch, length, duration, draws = 2, 6, 3, 4000
  count = batch * length

  def encode(params, deter):
    one_hot = jax.nn.one_hot(deter[..., 0].astype(jnp.int32), count)
    return jnp.where(one_hot == 1, 0.0, -1e9)[..., None, :]

  own = subgoals.Autoencoder(init=None, encode=encode, decode=None)
  deter = jnp.arange(count).reshape((batch, length, 1))
  # The second sequence has the ends of two episodes within.
  starts = np.zeros((batch, length), bool)
  starts[0, 0] = starts[1, 2] = starts[1, 3] = True
  lasts = [[5] * 6, [1, 1, 2, 5, 5, 5]]

  codes = jax.vmap(
    lambda key: subgoals.practice(
      own, {}, key, deter, jnp.ones((batch, length)), starts, duration
    )
  )(jax.random.split(jax.random.PRNGKey(0), draws))
  assert codes.shape == (draws, batch, length, count)
  np.testing.assert_array_equal(codes.sum(-1), 1)
  drawn = np.asarray(codes.sum(0))
  for row in range(batch):
    for time in range(length):
      chance = np.full(count, 0.5 / count)
      for ahead in range(1, duration + 1):
        reached = min(time + ahead, lasts[row][time])
        chance[row * length + reached] += 0.5 / duration
      found = scipy.stats.chisquare(drawn[row, time], draws * chance)
      assert found.pvalue > 1e-4, (row, time)
