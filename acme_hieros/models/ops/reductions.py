"""Sums and maxima over rows and columns, in forms that are fast on a CPU.

There XLA's own take ten times what the memory needs: sums become products with
a vector or are written out, maxima are taken half against half.
"""

import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.models.ops import backend

Array = jax.Array

# Of a sum that is written out, since each is compiled.
_MOST_TERMS = 128


def row_sums(x: Array, weights: Array | np.ndarray | float = 1.0) -> Array:
  """Sums of x * weights over the last axis.

  Args:
    x: [..., C].
    weights: [C] or [].

  Returns:
    [...].
  """
  if not backend.on_cpu():
    return jnp.sum(x * weights, -1)
  return x @ jnp.broadcast_to(weights, x.shape[-1:])


def column_sums(x: Array) -> Array:
  """[..., C] to [C]."""
  x = x.reshape(-1, x.shape[-1])
  if not backend.on_cpu():
    return jnp.sum(x, 0)
  # Two rows: with one XLA would compute x anew within a slow product of its own
  # where N is below 4096.
  return (jnp.ones((2, x.shape[0]), x.dtype) @ x)[0]


def sums_over_time(x: Array) -> Array:
  """[B, T, ...], of any type, to float32 [B, ...]."""
  if not backend.on_cpu() or x.shape[1] > _MOST_TERMS:
    return jnp.sum(x, 1, dtype=jnp.float32)

  def total(x):
    y = x[0].astype(jnp.float32)
    for i in range(1, len(x)):
      y += x[i]
    return y

  # One sequence after the other: what XLA need not run in steps it would merge
  # into every loop that uses the sums, and compute them anew there.
  return jax.lax.map(total, x)


def row_max(x: Array) -> Array:
  """Largest of each row, without a gradient: [..., C] to [..., 1]."""
  x = jax.lax.stop_gradient(x)
  # The rest is left to XLA, which would compute it anew for each use of it.
  while backend.on_cpu() and x.shape[-1] > 16:
    half = (x.shape[-1] + 1) // 2
    x = jnp.maximum(x[..., :half], x[..., -half:])
  return jnp.max(x, -1, keepdims=True)
