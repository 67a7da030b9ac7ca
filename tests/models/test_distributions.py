"""What holds for symlog, two-hot and categoricals (DreamerV2, DreamerV3)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from acme_hieros.models import distributions

BINS = 255
LIMIT = 20.0


def test_symlog_and_symexp_are_inverse_odd_and_exact():
  x = np.concatenate([-np.logspace(-6, 8, 50), [0.0], np.logspace(-6, 8, 50)])
  y = distributions.symlog(jnp.asarray(x, jnp.float32))
  np.testing.assert_allclose(y, np.sign(x) * np.log1p(np.abs(x)), rtol=1e-5)
  np.testing.assert_allclose(distributions.symexp(y), x, rtol=1e-4)
  np.testing.assert_array_equal(y, -distributions.symlog(-x))


@pytest.mark.parametrize(
  'f', [distributions.symlog, distributions.symexp], ids=['symlog', 'symexp']
)
@pytest.mark.parametrize(
  'x',
  [
    -3.0,
    -1e-6,
    0.0,
    1e-6,
    2.0,
  ],
)
def test_symlog_and_symexp_have_their_derivatives(f, x):
  power = -1 if f is distributions.symlog else None
  expected = (1 + abs(x)) ** power if power else np.exp(abs(x))
  np.testing.assert_allclose(jax.grad(f)(x), expected, rtol=1e-5)


def test_two_hot_weighs_two_neighbours_whose_mean_is_the_number():
  x = np.random.default_rng(0).uniform(-LIMIT, LIMIT, 500)
  x = np.concatenate([x, [-LIMIT, 0.0, LIMIT]])
  weights = np.asarray(distributions.two_hot(jnp.asarray(x), BINS), np.float64)
  assert weights.shape == (503, BINS)
  assert np.all(weights >= 0)
  np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-4)
  np.testing.assert_allclose(
    weights @ np.linspace(-LIMIT, LIMIT, BINS), x, atol=1e-4
  )
  for row in weights:
    (used,) = np.nonzero(row)
    assert used.size <= 2 and np.ptp(used) <= 1
  assert weights[-2, BINS // 2] == 1.0


def test_two_hot_clips_what_lies_outside_its_bins():
  weights = distributions.two_hot(jnp.array([-1e9, 1e9]), BINS)
  np.testing.assert_allclose(weights[0], np.eye(BINS)[0], atol=1e-6)
  np.testing.assert_allclose(weights[1], np.eye(BINS)[-1], atol=1e-6)


def test_two_hot_loss_is_a_cross_entropy_with_its_minimum_at_the_target():
  rng = np.random.default_rng(0)
  target = np.array([-130.0, -1.0, 0.0, 0.3, 1e4])
  logits = rng.normal(size=(5, BINS))
  weights = np.maximum(
    0.0,
    1
    - np.abs(
      np.sign(target[:, None]) * np.log1p(np.abs(target[:, None]))
      - np.linspace(-LIMIT, LIMIT, BINS)
    )
    / (2 * LIMIT / (BINS - 1)),
  )
  expected = -np.sum(weights * scipy.special.log_softmax(logits, -1), -1)
  loss = distributions.two_hot_loss(jnp.asarray(logits), jnp.asarray(target))
  np.testing.assert_allclose(loss, expected, rtol=1e-4)

  # At the minimum the loss is the entropy of the two-hot weights and the mean
  # is the target.
  best = jnp.log(jnp.asarray(weights) + 1e-12)
  np.testing.assert_allclose(
    distributions.two_hot_loss(best, jnp.asarray(target)),
    scipy.stats.entropy(weights, axis=-1),
    atol=1e-3,
  )
  np.testing.assert_allclose(
    distributions.symexp(distributions.two_hot_mean(best)),
    target,
    rtol=1e-3,
    atol=1e-5,
  )


@pytest.mark.parametrize('bins', [3, 41, 255])
def test_two_hot_mean_is_the_expectation_and_exactly_0_for_equal_logits(bins):
  equal = distributions.two_hot_mean(jnp.full((4, bins), 0.7))
  np.testing.assert_array_equal(equal, 0.0)
  logits = np.random.default_rng(0).normal(size=(6, bins))
  np.testing.assert_allclose(
    distributions.two_hot_mean(jnp.asarray(logits)),
    scipy.special.softmax(logits, -1) @ np.linspace(-LIMIT, LIMIT, bins),
    rtol=1e-4,
    atol=1e-4,
  )


@pytest.mark.parametrize('share', [0.0, 0.01, 1.0])
def test_mix_uniform_keeps_every_probability_above_its_floor(share):
  logits = np.array([[1e4, 0.0, -1e4], [0.3, 0.1, -2.0]])
  log_probs = distributions.mix_uniform(jnp.asarray(logits), share)
  expected = (1 - share) * scipy.special.softmax(logits, -1) + share / 3
  np.testing.assert_allclose(np.exp(log_probs), expected, atol=1e-6)
  assert np.all(np.exp(log_probs) >= share / 3 * (1 - 1e-5))
  gradient = jax.grad(
    lambda x: jnp.sum(
      distributions.entropy(distributions.mix_uniform(x, share)[None])
    )
  )(jnp.asarray(logits))
  assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
  'probs',
  [
    [0.25, 0.25, 0.25, 0.25],
    [0.7, 0.2, 0.0999, 0.0001],
    [0.001, 0.002, 0.003, 0.994],
  ],
)
def test_samples_follow_the_probabilities(probs):
  draws = 100_000
  log_probs = jnp.log(jnp.broadcast_to(jnp.array(probs), (draws, 4)))
  index = distributions.sample_index(jax.random.PRNGKey(0), log_probs)
  assert index.dtype == jnp.int32
  counts = np.bincount(index, minlength=4)
  expected = np.array(probs) / np.sum(probs) * draws
  assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize('certain', range(5))
def test_an_impossible_class_is_never_drawn(certain):
  log_probs = jnp.where(jnp.arange(5) == certain, 0.0, -jnp.inf)
  index = distributions.sample_index(
    jax.random.PRNGKey(0), jnp.broadcast_to(log_probs, (50_000, 5))
  )
  np.testing.assert_array_equal(index, certain)


def test_samples_of_different_categoricals_are_independent():
  log_probs = jnp.full((50_000, 2, 2), jnp.log(0.5))
  index = distributions.sample_index(jax.random.PRNGKey(0), log_probs)
  counts = np.bincount(np.asarray(index[:, 0] * 2 + index[:, 1]))
  assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_straight_through_is_one_hot_with_the_gradient_of_the_probabilities():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(3, 4, 5)), jnp.float32)
  weights = rng.normal(size=logits.shape)
  key = jax.random.PRNGKey(1)

  def sample(logits):
    return distributions.sample_onehot(key, jax.nn.log_softmax(logits)).value

  onehot = sample(logits)
  index = distributions.sample_onehot(key, jax.nn.log_softmax(logits)).index
  np.testing.assert_array_equal(index, np.argmax(onehot, -1))
  assert set(np.unique(onehot)) == {0.0, 1.0}
  np.testing.assert_array_equal(onehot.sum(-1), 1.0)
  through = jax.grad(lambda x: jnp.sum(weights * sample(x)))(logits)
  direct = jax.grad(lambda x: jnp.sum(weights * jax.nn.softmax(x)))(logits)
  assert np.abs(direct).max() > 0.01
  np.testing.assert_allclose(through, direct, rtol=1e-4, atol=1e-6)


def test_entropy_and_kl_sum_over_the_categoricals():
  rng = np.random.default_rng(0)
  p, q = rng.dirichlet(np.ones(4), (2, 6, 3))
  np.testing.assert_allclose(
    distributions.entropy(jnp.log(p)),
    scipy.stats.entropy(p, axis=-1).sum(-1),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    distributions.kl_divergence(jnp.log(p), jnp.log(q)),
    scipy.stats.entropy(p, q, axis=-1).sum(-1),
    rtol=1e-4,
  )
