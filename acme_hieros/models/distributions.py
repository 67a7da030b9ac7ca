"""Symlog, two-hot, and categoricals with a uniform share. Pure functions."""

import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.models import linear, placement, reductions

Array = jax.Array

# Range of the two-hot bins, in symlog space (DreamerV3, "Critic learning").
TWO_HOT_LIMIT = 20.0


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


def two_hot(x: Array, num_bins: int) -> Array:
  """Encodes numbers as weights of the two nearest of `num_bins` even bins.

  Args:
    x: [...] in symlog space; clipped to [-TWO_HOT_LIMIT, TWO_HOT_LIMIT].
    num_bins: number of bins.

  Returns:
    [..., num_bins], not negative, summing to 1, whose mean bin is x.
  """
  position = (jnp.clip(x, -TWO_HOT_LIMIT, TWO_HOT_LIMIT) + TWO_HOT_LIMIT) * (
    (num_bins - 1) / (2 * TWO_HOT_LIMIT)
  )
  return jnp.maximum(
    0.0, 1.0 - jnp.abs(position[..., None] - jnp.arange(num_bins))
  )


def two_hot_loss(logits: Array, target: Array) -> Array:
  """Cross entropy of symlog two-hot logits and a target in plain space.

  Args:
    logits: [..., bins].
    target: [...].

  Returns:
    [...] in nats.
  """
  shifted, odds = _odds(logits)
  weights = two_hot(symlog(target), logits.shape[-1])
  return jnp.log(reductions.row_sums(odds)) - reductions.row_sums(
    weights * shifted
  )


def two_hot_mean(logits: Array) -> Array:
  """The mean bin of two-hot logits [..., bins], in symlog space: [...]."""
  bins = np.linspace(
    -TWO_HOT_LIMIT, TWO_HOT_LIMIT, logits.shape[-1], dtype=np.float32
  )
  _, odds = _odds(logits)
  # Symmetric pairs are added first, so that equal weights give exactly 0.
  half = (len(bins) + 1) // 2
  odd = odds[..., -half:] - odds[..., :half][..., ::-1]
  return reductions.row_sums(odd, bins[-half:]) / reductions.row_sums(odds)


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


def sample_index(key: Array, log_probs: Array) -> Array:
  """Draws indices [...] (int32) from log-probabilities [..., classes].

  Inverts the cumulative distribution: one random number a draw, where the
  Gumbel trick needs one a class. The cumulative sum is a product with a
  triangular matrix, which every backend does fast.
  """
  classes = log_probs.shape[-1]
  # In full precision, or the reduced one of some accelerators biases the draw.
  cumulative = jnp.matmul(
    jnp.exp(placement.out_of_place(log_probs)),
    jnp.triu(jnp.ones((classes, classes))),
    precision=jax.lax.Precision.HIGHEST,
  )
  u = jax.random.uniform(key, log_probs.shape[:-1] + (1,))
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


def sample_onehot(key: Array, log_probs: Array) -> linear.OneHots:
  """A straight-through sample of log-probabilities [..., count, classes]."""
  index = sample_index(key, jax.lax.stop_gradient(log_probs))
  return linear.OneHots(index, straight_through(index, log_probs))


def entropy(log_probs: Array) -> Array:
  """Entropy in nats, [..., count, classes] to [...], summed over the count."""
  return -jnp.sum(jnp.exp(log_probs) * log_probs, (-2, -1))


def kl_divergence(p: Array, q: Array) -> Array:
  """KL(p || q) in nats of log-probabilities [..., count, classes]: [...]."""
  return jnp.sum(jnp.exp(p) * (p - q), (-2, -1))
