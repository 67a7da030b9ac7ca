"""Symlog, two-hot, and categoricals with a uniform share. Pure functions."""

from collections.abc import Callable, Mapping, Sequence
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.models import shares
from acme_hieros.models.ops import linear, placement, reductions

Array = jax.Array

# The outermost two-hot bins are at plus and minus symexp of this, 3.3 million.
# In DreamerV3 it is 20; what rounding leaves there of weights that cancel out,
# times 485 million, is larger than many rewards.
TWO_HOT_LIMIT = 15.0

# The log-probability of what cannot be. Times a probability of 0 it is 0, as
# that of minus infinity would not be.
NEVER = -1e9


def symlog(x: Array) -> Array:
  """sign(x) log(1 + |x|) (DreamerV3, eq. 9)."""
  sign = _sign(x)
  return sign * jnp.log1p(sign * x)


def symexp(x: Array) -> Array:
  """The inverse of `symlog`."""
  sign = _sign(x)
  return sign * jnp.expm1(sign * x)


def _sign(x: Array) -> Array:
  # Not 0 at 0, where it would take the gradient away.
  return jnp.where(x < 0, -1.0, 1.0)


def two_hot_bins(num_bins: int) -> np.ndarray:
  """The numbers that bins stand for, float32: even in symlog space."""
  # The middle bin is exactly 0, and bins are symmetric about it.
  half = np.arange(num_bins // 2 + 1) * (2 * TWO_HOT_LIMIT / (num_bins - 1))
  bins = np.expm1(half).astype(np.float32)
  return np.concatenate([-bins[:0:-1], bins])


def two_hot(x: Array, num_bins: int) -> Array:
  """Encodes numbers as weights of the two bins they lie between.

  Their mean is taken where the numbers are, not in symlog space: a return of
  100 that comes once in 100 times is worth 1, not 0.05. (DreamerV3, "Critic
  learning", in its later form of exponentially spaced bins.)

  Args:
    x: [...]; clipped to the outermost bins.
    num_bins: an odd number of bins.

  Returns:
    [..., num_bins], not negative, summing to 1, whose mean bin is x.
  """
  bins = two_hot_bins(num_bins)
  x = jnp.clip(x, bins[0], bins[-1])
  width = 2 * TWO_HOT_LIMIT / (num_bins - 1)
  below = jnp.floor(symlog(x) / width).astype(jnp.int32) + num_bins // 2
  # Rounding may have found a neighbour; the share is then 0 or 1.
  below = jnp.clip(below, 0, num_bins - 2)
  low, high = jnp.asarray(bins)[below], jnp.asarray(bins)[below + 1]
  share = jnp.clip((x - low) / (high - low), 0.0, 1.0)
  return _beside(below + share, num_bins)


def two_hot_loss(logits: Array, target: Array) -> Array:
  """Cross entropy of two-hot logits and a target.

  Args:
    logits: [..., bins].
    target: [...].

  Returns:
    [...] in nats.
  """
  return _cross_entropy(logits, two_hot(target, logits.shape[-1]))


def two_hot_mean(logits: Array) -> Array:
  """The mean bin of two-hot logits [..., bins]: [...]."""
  return _mean_bin(logits, two_hot_bins(logits.shape[-1]))


def symlog_two_hot(x: Array, num_bins: int) -> Array:
  """As `two_hot`, by where x lies between its bins in symlog space.

  There its mean is taken, too (DreamerV3, 2301.04104v1, "Critic learning"):
  what is rare and large counts for less than it is worth, and what is learned
  varies less.
  """
  half = num_bins // 2
  place = symlog(x) * (half / TWO_HOT_LIMIT)
  return _beside(jnp.clip(place, -half, half) + half, num_bins)


def symlog_two_hot_loss(logits: Array, target: Array) -> Array:
  """As `two_hot_loss`."""
  return _cross_entropy(logits, symlog_two_hot(target, logits.shape[-1]))


def symlog_two_hot_mean(logits: Array) -> Array:
  """What the mean bin in symlog space of logits [..., bins] is: [...]."""
  bins = np.linspace(-TWO_HOT_LIMIT, TWO_HOT_LIMIT, logits.shape[-1])
  return symexp(_mean_bin(logits, bins.astype(np.float32)))


def _beside(place: Array, num_bins: int) -> Array:
  """Weights [..., bins] of the two bins beside a place in [0, bins - 1]."""
  return jnp.maximum(
    0.0, 1.0 - jnp.abs(place[..., None] - jnp.arange(num_bins))
  )


def _cross_entropy(logits: Array, weights: Array) -> Array:
  shifted, odds = _odds(logits)
  return jnp.log(reductions.row_sums(odds)) - reductions.row_sums(
    weights * shifted
  )


def _mean_bin(logits: Array, bins: np.ndarray) -> Array:
  _, odds = _odds(logits)
  # Symmetric pairs are added first, so that equal weights give exactly 0.
  half = (len(bins) + 1) // 2
  odd = odds[..., -half:] - odds[..., :half][..., ::-1]
  return reductions.row_sums(odd, bins[-half:]) / reductions.row_sums(odds)


class ScalarHead(NamedTuple):
  """How a network's last numbers tell one number.

  size: bins -> how many they are.
  mean: [..., size] to [...].
  loss: ([..., size], target [...]) to [...] in nats, up to a constant.
  """

  size: Callable[[int], int]
  mean: Callable[[Array], Array]
  loss: Callable[[Array, Array], Array]


def _normal_loss(out: Array, target: Array) -> Array:
  return 0.5 * jnp.square(out[..., 0] - target)


# 'normal': the mean of a normal distribution of variance 1 (DreamerV2).
SCALAR_HEADS: Mapping[str, ScalarHead] = types.MappingProxyType(
  {
    'two_hot': ScalarHead(lambda bins: bins, two_hot_mean, two_hot_loss),
    'symlog_two_hot': ScalarHead(
      lambda bins: bins, symlog_two_hot_mean, symlog_two_hot_loss
    ),
    'normal': ScalarHead(lambda _: 1, lambda out: out[..., 0], _normal_loss),
  }
)


def _odds(logits: Array) -> tuple[Array, Array]:
  """Logits [..., classes] with 0 for the largest, and their exponentials."""
  logits = placement.out_of_place(logits)
  shifted = logits - reductions.row_max(logits)
  return shifted, jnp.exp(shifted)


def mix_uniform(logits: Array, share: float) -> Array:
  """Log-probabilities [..., classes] of softmax(logits) with a uniform share.

  Keeps every probability at or above share / classes, so that KL and
  REINFORCE stay finite (DreamerV3, "World model learning").
  """
  if share == 0.0:
    return jax.nn.log_softmax(logits)
  _, odds = _odds(logits)
  scale = (1.0 - share) / jnp.sum(odds, -1, keepdims=True)
  odds = placement.out_of_place(odds)
  return jnp.log(odds * scale + share / logits.shape[-1])


def mix_uniform_among(
  logits: Array, share: float, sizes: Sequence[int]
) -> Array:
  """`mix_uniform` of choices of which each has its own number of classes.

  Args:
    logits: [..., count, classes].
    share: uniform, among the classes that there are.
    sizes: of the choices, from 1 to classes; the first ones are there.

  Returns:
    Log-probabilities [..., count, classes], `NEVER` for all others.
  """
  size = np.asarray(sizes)[:, None]
  there = np.arange(logits.shape[-1]) < size
  logits = jnp.where(there, logits, NEVER)
  if share == 0.0:
    return jnp.where(there, jax.nn.log_softmax(logits), NEVER)
  _, odds = _odds(logits)
  odds = (1.0 - share) * odds / jnp.sum(odds, -1, keepdims=True)
  # What is not there has a logarithm and a gradient, which nobody sees.
  return jnp.where(there, jnp.log(odds + share / size), NEVER)


def sample_index(
  key: Array, log_probs: Array, rows: shares.Rows = shares.FIRST
) -> Array:
  """Draws indices [...] (int32) from log-probabilities [..., classes].

  Inverts the cumulative distribution: one random number a draw, where the
  Gumbel trick needs one a class. The cumulative sum is a product with a
  triangular matrix, which every backend does fast.

  Args:
    key: random key.
    log_probs: of the classes.
    rows: where those are that devices may share.
  """
  classes = log_probs.shape[-1]
  # In full precision, or the reduced one of some accelerators biases the draw.
  cumulative = jnp.matmul(
    jnp.exp(placement.out_of_place(log_probs)),
    jnp.triu(jnp.ones((classes, classes))),
    precision=jax.lax.Precision.HIGHEST,
  )
  u = shares.draw(jax.random.uniform, key, log_probs.shape[:-1] + (1,), rows)
  # Scaled by the last sum, so that rounding cannot push u beyond it.
  below = cumulative[..., :-1] <= u * cumulative[..., -1:]
  return jnp.sum(below, -1, dtype=jnp.int32)


def straight_through(index: Array, log_probs: Array) -> Array:
  """One-hot [..., classes] of `index`, with the gradient of the probabilities.

  (DreamerV2, "Straight-Through Gradients".)
  """
  probs = jnp.exp(log_probs)
  onehot = jax.nn.one_hot(index, log_probs.shape[-1])
  return onehot + (probs - jax.lax.stop_gradient(probs))


def sample_onehot(
  key: Array, log_probs: Array, rows: shares.Rows = shares.FIRST
) -> linear.OneHots:
  """A straight-through sample of log-probabilities [..., count, classes].

  Args: as of `sample_index`.
  """
  index = sample_index(key, jax.lax.stop_gradient(log_probs), rows)
  return linear.OneHots(index, straight_through(index, log_probs))


def entropy(log_probs: Array) -> Array:
  """Entropy in nats, [..., count, classes] to [...], summed over the count."""
  return -jnp.sum(jnp.exp(log_probs) * log_probs, (-2, -1))


def mutual_information(log_probs: Array, weight: Array | float = 1.0) -> Array:
  """Between categoricals and what they are conditioned on, in nats: [].

  The entropy of the mean distribution less the mean of the entropies (Gomes et
  al. 2010, regularized information maximization).

  Args:
    log_probs: [..., count, classes], of all the inputs in a batch.
    weight: how much each input counts, [...]; its mean is 1.
  """
  weight = jnp.broadcast_to(weight, log_probs.shape[:-2])
  probs = shares.mean(
    jnp.mean(
      weight[..., None, None] * jnp.exp(log_probs),
      tuple(range(log_probs.ndim - 2)),
    )
  )
  marginal = -jnp.sum(jax.scipy.special.xlogy(probs, probs))
  return marginal - jnp.mean(weight * entropy(log_probs))


def kl_divergence(p: Array, q: Array) -> Array:
  """KL(p || q) in nats of log-probabilities [..., count, classes]: [...]."""
  return jnp.sum(jnp.exp(p) * (p - q), (-2, -1))
