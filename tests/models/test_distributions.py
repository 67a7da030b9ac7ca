"""What holds for symlog, two-hot and categoricals (DreamerV2, DreamerV3)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats

from acme_hieros.models import distributions

BINS = 255

NUM_BINS = pytest.mark.parametrize('num_bins', [3, 11, 41, BINS])


def symlog(x):
  return np.sign(x) * np.log1p(np.abs(x))


def even_bins(num_bins):
  """Bins that are even in symlog space, from minus to plus 15, in float64."""
  position = np.linspace(-15.0, 15.0, num_bins)
  return np.sign(position) * np.expm1(np.abs(position))


def weights_between(x, bins):
  """Two-hot weights of numbers [N], one after the other, in float64."""
  weights = np.zeros((len(x), len(bins)))
  for row, number in zip(weights, np.clip(x, bins[0], bins[-1])):
    above = np.clip(np.searchsorted(bins, number), 1, len(bins) - 1)
    share = (number - bins[above - 1]) / (bins[above] - bins[above - 1])
    row[above - 1 : above + 1] = 1.0 - share, share
  return weights


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


@NUM_BINS
def test_bins_are_symmetric_and_even_in_symlog_space(num_bins):
  bins = distributions.two_hot_bins(num_bins)
  assert bins.shape == (num_bins,) and bins.dtype == np.float32
  np.testing.assert_array_equal(bins, -bins[::-1])
  assert bins[num_bins // 2] == 0.0
  np.testing.assert_allclose(
    np.diff(symlog(bins.astype(np.float64))), 30.0 / (num_bins - 1), rtol=1e-4
  )
  np.testing.assert_allclose(bins[-1], np.expm1(15.0), rtol=1e-6)


def some_numbers(num_bins):
  """Numbers of all sizes and signs, bins, and what is just beside bins."""
  bins = even_bins(num_bins).astype(np.float32)
  sizes = np.logspace(-6, np.log10(bins[-1]), 100)
  return np.concatenate(
    [
      -sizes,
      sizes,
      bins,
      np.nextafter(bins, np.float32(-np.inf)),
      np.nextafter(bins, np.float32(np.inf)),
    ]
  ).astype(np.float32)


@NUM_BINS
def test_the_mean_of_two_hot_weights_is_the_number(num_bins):
  x = some_numbers(num_bins)
  weights = np.asarray(distributions.two_hot(jnp.asarray(x), num_bins))
  assert weights.shape == (len(x), num_bins)
  assert np.all(weights >= 0)
  np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-6)
  bins = even_bins(num_bins)
  np.testing.assert_allclose(weights, weights_between(x, bins), atol=1e-4)
  # What float32 weights can miss is a share of the distance of their bins.
  above = np.clip(np.searchsorted(bins, x), 1, num_bins - 1)
  distance = bins[above] - bins[above - 1]
  assert np.max(np.abs(weights.astype(float) @ bins - x) / distance) < 1e-4
  if num_bins == BINS:
    assert np.max(distance / (1.0 + np.abs(x))) < 0.13


@NUM_BINS
def test_at_most_two_neighbours_have_weight(num_bins):
  x = some_numbers(num_bins)
  for row in np.asarray(distributions.two_hot(jnp.asarray(x), num_bins)):
    (used,) = np.nonzero(row)
    assert 1 <= used.size <= 2 and np.ptp(used) <= 1


@NUM_BINS
def test_a_bin_has_all_the_weight_of_its_own_number(num_bins):
  bins = distributions.two_hot_bins(num_bins)
  weights = distributions.two_hot(jnp.asarray(bins), num_bins)
  np.testing.assert_allclose(weights, np.eye(num_bins), atol=1e-4)
  assert weights[num_bins // 2, num_bins // 2] == 1.0


def test_two_hot_clips_what_lies_outside_its_bins():
  x = jnp.array([-np.inf, -1e9, -3.3e6, 3.3e6, 1e9, np.inf])
  weights = distributions.two_hot(x, BINS)
  for outside, edge in ((0, 0), (1, 0), (4, -1), (5, -1)):
    np.testing.assert_array_equal(weights[outside], np.eye(BINS)[edge])
  # symexp(15) is 3.27 million.
  for at in (2, 3):
    np.testing.assert_array_equal(weights[at], weights[at * 3 - 5])


def test_a_number_that_is_none_shows():
  assert np.isnan(distributions.two_hot(jnp.array([np.nan]), BINS)).any()


def test_two_hot_loss_is_a_cross_entropy_with_its_minimum_at_the_target():
  rng = np.random.default_rng(0)
  target = np.array([-130.0, -1.0, 0.0, 0.3, 1e4, 1e9])
  logits = rng.normal(size=(6, BINS)) * 3
  weights = weights_between(target, even_bins(BINS))
  expected = -np.sum(weights * scipy.special.log_softmax(logits, -1), -1)
  loss = distributions.two_hot_loss(jnp.asarray(logits), jnp.asarray(target))
  np.testing.assert_allclose(loss, expected, rtol=1e-4)

  # At the minimum the loss is the entropy of the two-hot weights and the mean
  # is the target.
  best = jnp.log(jnp.asarray(weights) + 1e-30)
  np.testing.assert_allclose(
    distributions.two_hot_loss(best, jnp.asarray(target)),
    scipy.stats.entropy(weights, axis=-1),
    atol=1e-3,
  )
  np.testing.assert_allclose(
    distributions.two_hot_mean(best)[:-1], target[:-1], rtol=1e-4, atol=1e-6
  )


@NUM_BINS
def test_two_hot_mean_is_the_expectation_of_the_bins(num_bins):
  rng = np.random.default_rng(0)
  # Of all sizes: about some bin or other, and wide or narrow.
  position = np.linspace(-1.0, 1.0, num_bins)
  centre, width = rng.uniform(-1, 1, (40, 1)), rng.uniform(0.05, 1, (40, 1))
  logits = -0.5 * ((position - centre) / width) ** 2
  logits += rng.normal(size=logits.shape)
  probs = scipy.special.softmax(logits.astype(np.float32).astype(float), -1)
  bins = even_bins(num_bins)
  mean = distributions.two_hot_mean(jnp.asarray(logits, jnp.float32))
  # Rounding shows where large bins cancel out.
  error = np.abs(mean - probs @ bins)
  assert np.all(error < 1e-5 * (probs @ np.abs(bins)))


@NUM_BINS
@pytest.mark.parametrize('logit', [-7.3, 0.0, 0.7, 40.0])
def test_equal_logits_have_a_mean_of_exactly_0(num_bins, logit):
  logits = jnp.full((4, num_bins), logit)
  np.testing.assert_array_equal(distributions.two_hot_mean(logits), 0.0)
  jitted = jax.jit(distributions.two_hot_mean)
  np.testing.assert_array_equal(jitted(logits), 0.0)


@pytest.mark.parametrize('sign', [-1.0, 1.0])
def test_a_rare_large_return_is_worth_its_probability(sign):
  rare, often = distributions.two_hot(jnp.array([sign * 100.0, 0.0]), BINS)
  logits = jnp.log(0.01 * rare + 0.99 * often + 1e-30)
  mean = distributions.two_hot_mean(logits)
  np.testing.assert_allclose(mean, sign, rtol=1e-3)


@NUM_BINS
def test_symlog_two_hot_is_a_two_hot_of_the_symlog(num_bins):
  x = some_numbers(num_bins)
  weights = np.asarray(distributions.symlog_two_hot(jnp.asarray(x), num_bins))
  even = np.linspace(-15.0, 15.0, num_bins)
  expected = weights_between(symlog(x.astype(float)), even)
  np.testing.assert_allclose(weights, expected, atol=1e-4)
  assert np.isnan(
    distributions.symlog_two_hot(jnp.array([np.nan]), num_bins)
  ).any()

  rng = np.random.default_rng(0)
  logits = rng.normal(size=weights.shape) * 2
  probs = scipy.special.softmax(logits.astype(np.float32).astype(float), -1)
  # A mean in symlog space that is wrong by e is a number wrong by its part e.
  np.testing.assert_allclose(
    symlog(np.asarray(distributions.symlog_two_hot_mean(logits), float)),
    probs @ even,
    atol=1e-4,
  )
  np.testing.assert_allclose(
    distributions.symlog_two_hot_loss(logits, x),
    -np.sum(expected * np.log(probs), -1),
    rtol=1e-3,
  )
  zero = distributions.symlog_two_hot_mean(jnp.full((1, num_bins), 0.7))
  np.testing.assert_array_equal(zero, 0.0)


def test_a_rare_large_return_counts_for_less_in_symlog_space():
  rare, often = distributions.symlog_two_hot(jnp.array([100.0, 0.0]), BINS)
  logits = jnp.log(0.01 * rare + 0.99 * often + 1e-30)
  mean = distributions.symlog_two_hot_mean(logits)
  np.testing.assert_allclose(mean, 101**0.01 - 1, rtol=1e-3)


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


@pytest.mark.parametrize('share', [0.0, 0.01, 1.0])
def test_classes_that_are_not_there_have_no_part_in_anything(share):
  logits = np.random.default_rng(0).normal(size=(6, 3, 4)) * 3
  logits[0, 0] = [1e4, -1e4, 0.0, 1e5]
  sizes = (3, 1, 4)

  def mix(x):
    return distributions.mix_uniform_among(x, share, sizes)

  log_probs = mix(jnp.asarray(logits))
  entropy = 0.0
  for i, size in enumerate(sizes):
    alone = distributions.mix_uniform(jnp.asarray(logits[:, i, :size]), share)
    np.testing.assert_allclose(
      log_probs[:, i, :size], alone, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(np.exp(log_probs[:, i, size:]), 0.0)
    entropy += distributions.entropy(alone[:, None])
  np.testing.assert_allclose(
    distributions.entropy(log_probs), entropy, rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(log_probs[:, 1, 0], 0.0, atol=1e-6)
  gradient = jax.grad(lambda x: jnp.sum(distributions.entropy(mix(x))))(
    jnp.asarray(logits)
  )
  assert np.all(np.isfinite(gradient))
  for i, size in enumerate(sizes):
    np.testing.assert_array_equal(gradient[:, i, size:], 0.0)
  index = distributions.sample_index(
    jax.random.PRNGKey(0), jnp.broadcast_to(log_probs[3], (20_000, 3, 4))
  )
  assert np.all(index.max(0) < np.array(sizes))


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
  index = distributions.sample_onehot(key, jax.nn.log_softmax(logits)).chosen
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


def test_mutual_information_is_that_of_the_joint_distribution():
  """Of which of N equally likely inputs it was, and each categorical."""
  rng = np.random.default_rng(0)
  probs = rng.dirichlet(np.full(4, 0.3), (2, 5, 3))
  rows = probs.reshape(10, 3, 4)
  expected = 0.0
  for i in range(3):
    joint = rows[:, i] / 10
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    expected += scipy.stats.entropy(joint.ravel(), independent.ravel())
  assert expected > 0.3
  np.testing.assert_allclose(
    distributions.mutual_information(jnp.log(probs)), expected, rtol=1e-4
  )
  same = jnp.log(jnp.broadcast_to(probs[:1, :1], probs.shape))
  np.testing.assert_allclose(
    distributions.mutual_information(same), 0.0, atol=1e-5
  )
