"""What holds for actor, critics and returns (DreamerV3)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from acme_hieros.config import ActorCriticConfig
from acme_hieros.models import actor_critic, spaces

CONFIG = ActorCriticConfig(layers=1, units=8, min_std=0.2, max_std=0.7)
HORIZON = 5


@pytest.fixture
def trajectory():
  rng = np.random.default_rng(0)
  reward, value = rng.normal(size=(2, HORIZON, 3))
  return reward, rng.uniform(0.3, 1.0, (HORIZON, 3)), value


@pytest.mark.parametrize('share', [0.0, 0.3, 0.95, 1.0])
def test_lambda_returns_equal_their_recursion(trajectory, share):
  def expected(t):
    reward, discount, value = (x[t] for x in trajectory)
    following = expected(t + 1) if t + 1 < HORIZON else value
    return reward + discount * ((1 - share) * value + share * following)

  returns = actor_critic.lambda_returns(
    *(jnp.asarray(x) for x in trajectory), share
  )
  np.testing.assert_allclose(
    returns, [expected(t) for t in range(HORIZON)], rtol=1e-5, atol=1e-6
  )


def test_lambda_0_is_one_step_and_lambda_1_the_discounted_sum(trajectory):
  reward, discount, value = trajectory
  arrays = [jnp.asarray(x) for x in trajectory]
  np.testing.assert_allclose(
    actor_critic.lambda_returns(*arrays, 0.0),
    reward + discount * value,
    rtol=1e-5,
  )
  for t in range(HORIZON):
    products = np.cumprod(discount[t:], 0)
    before = np.concatenate([np.ones((1, 3)), products[:-1]])
    total = np.sum(before * reward[t:], 0) + products[-1] * value[-1]
    np.testing.assert_allclose(
      actor_critic.lambda_returns(*arrays, 1.0)[t], total, rtol=1e-4, atol=1e-6
    )


def test_weights_are_the_product_of_all_discounts_before_a_state():
  start = jnp.array([1.0, 0.5, 0.0])
  discount = jnp.array([[0.9, 0.9, 0.9], [0.0, 0.5, 0.5], [0.8, 0.8, 0.8]])
  np.testing.assert_allclose(
    actor_critic.trajectory_weights(start, discount),
    [[1.0, 0.5, 0.0], [0.9, 0.45, 0.0], [0.0, 0.225, 0.0]],
    rtol=1e-6,
  )


# Rows of replay: what came with the states, and imagined returns from them.
#   0: in mid-episode, which terminates at step 2; another one starts at 3.
#   1: from an episode's start, which is truncated at step 3.
#   2: in mid-episode, to the end.
#   3: episodes of two steps, the first of which is cut; the last one starts at
#      the last step.
STARTS = np.zeros((4, 7), bool)
STARTS[0, 3] = STARTS[1, [0, 4]] = STARTS[3, [2, 4, 6]] = True
TERMINALS = np.zeros((4, 7), bool)
TERMINALS[0, 2] = TERMINALS[3, 3] = True


@pytest.fixture
def replayed():
  """Rewards, discounts and bootstraps [B, T], as they come with states."""
  rng = np.random.default_rng(1)
  reward, bootstrap = rng.normal(size=(2, *STARTS.shape))
  reward[STARTS] = 0.0
  discount = rng.uniform(0.3, 1.0, STARTS.shape) * ~TERMINALS
  return reward, discount, bootstrap


def replay_returns(replayed, share):
  reward, discount, bootstrap = (jnp.asarray(x) for x in replayed)
  return actor_critic.replay_returns(
    reward, discount, jnp.asarray(STARTS), bootstrap, share
  )


@pytest.mark.parametrize('share', [0.0, 0.3, 0.95, 1.0])
def test_replay_returns_equal_their_recursion(replayed, share):
  reward, discount, bootstrap = replayed
  rows, length = STARTS.shape

  def expected(b, t):
    if t + 1 == length or STARTS[b, t + 1]:
      return bootstrap[b, t]
    following = expected(b, t + 1)
    return reward[b, t + 1] + discount[b, t + 1] * (
      (1 - share) * bootstrap[b, t + 1] + share * following
    )

  np.testing.assert_allclose(
    replay_returns(replayed, share),
    [[expected(b, t) for t in range(length)] for b in range(rows)],
    rtol=1e-5,
    atol=1e-6,
  )


def test_replay_returns_know_nothing_beyond_an_end(replayed):
  reward, discount, bootstrap = replayed
  returns = replay_returns(replayed, 1.0)
  # Before a terminal state only the reward counts, before a truncated one also
  # what was imagined from there.
  np.testing.assert_allclose(returns[0, 1], reward[0, 2], rtol=1e-6)
  np.testing.assert_allclose(
    returns[1, 2], reward[1, 3] + discount[1, 3] * bootstrap[1, 3], rtol=1e-6
  )
  np.testing.assert_allclose(returns[1, 3], bootstrap[1, 3], rtol=1e-6)
  # What another episode brings changes nothing.
  other = [np.array(x) for x in replayed]
  for x in other:
    x[0, 3:] += 1.0
  changed = replay_returns(other, 1.0)
  np.testing.assert_array_equal(changed[0, :3], returns[0, :3])
  assert np.all(changed[0, 3:] != returns[0, 3:])


def test_the_replayed_policy_gradient_is_that_of_its_formula():
  rng = np.random.default_rng(2)
  log_prob, behaviour = np.log(rng.uniform(0.1, 0.9, (2, *STARTS.shape)))
  advantage = rng.normal(size=STARTS.shape) * 3.0 + 1.0
  alive = rng.uniform(0.2, 1.0, STARTS.shape) * ~TERMINALS

  def loss(log_prob, advantage=advantage, floor=0.1):
    return actor_critic.replay_policy_loss(
      jnp.asarray(log_prob),
      jnp.asarray(behaviour),
      jnp.asarray(advantage),
      jnp.asarray(alive),
      jnp.asarray(STARTS),
      floor,
    )

  # What the last action led to is not known, nor what came of one after which
  # another episode starts.
  known = np.zeros(STARTS.shape)
  known[:, :-1] = ~STARTS[:, 1:]
  weight = alive * known
  mean = np.average(advantage, weights=weight)
  deviation = np.sqrt(np.average((advantage - mean) ** 2, weights=weight))
  assert deviation > 1.0
  ratio = np.minimum(1.0, np.exp(log_prob - behaviour))
  assert 0 < np.mean(ratio < 1) < 1
  expected = -weight * ratio * (advantage - mean) / deviation
  gradient = jax.grad(loss)(jnp.asarray(log_prob))
  np.testing.assert_allclose(
    gradient, expected / log_prob.size, rtol=1e-4, atol=1e-7
  )
  np.testing.assert_allclose(
    loss(log_prob), np.mean(expected * log_prob), rtol=1e-4
  )
  # Where the floor is higher it counts.
  np.testing.assert_allclose(
    loss(log_prob, floor=2 * deviation), loss(log_prob) / 2, rtol=1e-4
  )
  assert not np.any(jax.grad(loss, 1)(log_prob, jnp.asarray(advantage)))


def test_the_percentile_range_is_that_of_numpy():
  returns = np.random.default_rng(0).normal(size=(4, 100)) * 7
  low, high = np.percentile(returns, [5, 95])
  np.testing.assert_allclose(
    actor_critic.percentile_range(jnp.asarray(returns)), high - low, rtol=1e-5
  )


def test_moments_are_the_weighted_mean_and_standard_deviation():
  rng = np.random.default_rng(0)
  advantage, weight = rng.normal(size=(4, 9)) + 2.0, rng.random((4, 9))
  weight[2:, 5:] = 0.0
  mean = np.average(advantage, weights=weight)
  variance = np.average((advantage - mean) ** 2, weights=weight)
  moments = actor_critic.moments(jnp.asarray(advantage), jnp.asarray(weight))
  np.testing.assert_allclose(moments, [mean, np.sqrt(variance)], rtol=1e-5)
  # What has no weight is not looked at.
  advantage[2:, 5:] = 100.0
  np.testing.assert_array_equal(
    actor_critic.moments(jnp.asarray(advantage), jnp.asarray(weight)), moments
  )


def test_where_every_episode_is_over_the_moments_are_0():
  moments = actor_critic.moments(jnp.ones((4, 9)), jnp.zeros((4, 9)))
  np.testing.assert_array_equal(moments, 0.0)


def test_categoricals_agree_with_scipy():
  rng = np.random.default_rng(0)
  probs = rng.dirichlet(np.ones(4), (5, 2))
  policy = actor_critic.Categoricals(jnp.log(probs))
  action = policy.sample(jax.random.PRNGKey(0))
  assert action.shape == (5, 8)
  index = np.argmax(np.reshape(action, (5, 2, 4)), -1)
  np.testing.assert_array_equal(np.eye(4)[index].reshape(5, 8), action)
  chosen = np.take_along_axis(probs, index[..., None], -1)
  np.testing.assert_allclose(
    policy.log_prob(action), np.log(chosen).sum((1, 2)), rtol=1e-5
  )
  np.testing.assert_allclose(
    policy.entropy(), scipy.stats.entropy(probs, axis=-1).sum(-1), rtol=1e-5
  )
  np.testing.assert_array_equal(
    policy.mode(), np.eye(4)[probs.argmax(-1)].reshape(5, 8)
  )


def test_gaussian_agrees_with_scipy():
  rng = np.random.default_rng(0)
  mean, std = rng.uniform(-1, 1, (5, 3)), rng.uniform(0.1, 1, (5, 3))
  action = rng.normal(size=(5, 3))
  policy = actor_critic.Gaussian(jnp.asarray(mean), jnp.asarray(std))
  normal = scipy.stats.norm(mean, std)
  np.testing.assert_allclose(
    policy.log_prob(jnp.asarray(action)), normal.logpdf(action).sum(-1), 1e-4
  )
  np.testing.assert_allclose(
    policy.entropy(), normal.entropy().sum(-1), rtol=1e-4
  )
  np.testing.assert_array_equal(policy.mode(), policy.mean)
  # Reparameterised: the sample moves with the mean.
  gradient = jax.grad(
    lambda m: policy._replace(mean=m).sample(jax.random.PRNGKey(0)).sum()
  )(policy.mean)
  np.testing.assert_array_equal(gradient, 1.0)


def extreme(network, seed=0):
  """A network of large random parameters and the features to try it on."""
  features = jax.random.normal(jax.random.PRNGKey(seed), (200, 5))
  params = jax.jit(network.init)(jax.random.PRNGKey(seed), features)
  noise = np.random.default_rng(seed)
  params = jax.tree.map(
    lambda x: x + jnp.asarray(noise.normal(size=x.shape) * 30, x.dtype), params
  )
  return jax.jit(network.apply)(params, features)


def test_a_discrete_policy_starts_uniform_and_keeps_its_uniform_share():
  network = actor_critic.make_actor(CONFIG, spaces.Discrete((2,), 4))
  params = jax.jit(network.init)(jax.random.PRNGKey(0), jnp.zeros((1, 5)))
  start = network.apply(params, jnp.ones((3, 5))).log_probs
  assert start.shape == (3, 2, 4)
  np.testing.assert_allclose(np.exp(start), 0.25, rtol=1e-5)
  probs = np.exp(extreme(network).log_probs)
  assert probs.min() < 0.01 / 4 * 1.01
  assert probs.min() >= 0.01 / 4 * 0.999
  np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-5)


def test_a_continuous_policy_keeps_mean_and_deviation_within_their_bounds():
  network = actor_critic.make_actor(
    CONFIG, spaces.Continuous((2,), (-1.0,) * 2, (1.0,) * 2)
  )
  policy = extreme(network)
  assert policy.mean.shape == policy.std.shape == (200, 2)
  assert np.all(np.abs(policy.mean) <= 1.0)
  assert np.all((policy.std >= 0.2) & (policy.std <= 0.7 + 1e-6))
  assert policy.std.min() < 0.21 and policy.std.max() > 0.69


def test_independent_policies_are_each_of_their_own_part():
  rng = np.random.default_rng(0)
  choices = actor_critic.Categoricals(
    jnp.log(rng.dirichlet(np.ones(3), (4, 2))).astype(jnp.float32)
  )
  numbers = actor_critic.Gaussian(
    jnp.asarray(rng.uniform(-1, 1, (4, 2))), jnp.full((4, 2), 0.3)
  )
  policy = actor_critic.Independent((choices, numbers, choices))
  key = jax.random.PRNGKey(0)
  action = policy.sample(key)
  assert action.shape == (4, 6 + 2 + 6)
  parts = action[:, :6], action[:, 6:8], action[:, 8:]
  assert not np.array_equal(parts[0], parts[2])
  np.testing.assert_array_equal(parts[0].reshape(4, 2, 3).sum(-1), 1.0)
  log_probs = [p.log_prob(x) for p, x in zip(policy.parts, parts)]
  np.testing.assert_allclose(policy.log_prob(action), sum(log_probs), rtol=1e-6)
  np.testing.assert_allclose(
    policy.log_prob_of_choices(action), log_probs[0] + log_probs[2], rtol=1e-6
  )
  np.testing.assert_allclose(
    policy.entropy(), 2 * choices.entropy() + numbers.entropy(), rtol=1e-6
  )
  np.testing.assert_array_equal(policy.mode()[:, 6:8], numbers.mean)
  np.testing.assert_array_equal(policy.mode()[:, 8:], choices.mode())

  # A sample moves with the numbers' mean; that of choices has no gradient.
  def moved(policy):
    return jnp.sum(policy.sample(key) * jnp.arange(1.0, 15.0))

  gradient = jax.grad(moved)(policy)
  np.testing.assert_array_equal(gradient.parts[0].log_probs, 0.0)
  np.testing.assert_allclose(gradient.parts[1].mean, [[7.0, 8.0]] * 4)


def test_a_joint_policy_starts_uniform_within_the_bounds_of_its_parts():
  some = spaces.Discrete((2,), 4, sizes=(4, 2))
  box = spaces.Continuous((2,), (-1.0,) * 2, (1.0,) * 2)
  network = actor_critic.make_actor(
    CONFIG, spaces.Joint({'go': some, 'to': box}, ('go', 'to'))
  )
  params = jax.jit(network.init)(jax.random.PRNGKey(0), jnp.zeros((1, 5)))
  policy = network.apply(params, jnp.ones((3, 5)))
  probs = np.exp(policy.parts[0].log_probs)
  np.testing.assert_allclose(
    probs, [[[0.25] * 4, [0.5, 0.5, 0.0, 0.0]]] * 3, rtol=1e-5
  )
  assert np.all(np.abs(policy.parts[1].mean) > 0.0)
  policy = extreme(network)
  probs = np.exp(policy.parts[0].log_probs)
  floors = 0.01 / np.array([[4.0], [2.0]])
  there = np.arange(4) < np.array([[4], [2]])
  assert np.all(np.where(there, probs >= floors * 0.999, probs == 0.0))
  assert np.all(np.abs(policy.parts[1].mean) <= 1.0)


def test_a_single_choice_is_certain():
  network = actor_critic.make_actor(CONFIG, spaces.Discrete((), 1))
  policy = extreme(network)
  np.testing.assert_allclose(policy.log_probs, 0.0, atol=1e-6)
  np.testing.assert_allclose(policy.entropy(), 0.0, atol=1e-6)
  np.testing.assert_array_equal(policy.sample(jax.random.PRNGKey(0)), 1.0)


def test_a_critic_starts_at_0():
  network = actor_critic.make_critic(CONFIG)
  params = jax.jit(network.init)(jax.random.PRNGKey(0), jnp.zeros((1, 5)))
  logits = network.apply(params, jnp.ones((3, 5)))
  assert logits.shape == (3, CONFIG.value_bins)
  np.testing.assert_array_equal(logits, 0.0)
