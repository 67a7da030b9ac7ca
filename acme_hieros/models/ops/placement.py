"""Keeps XLA from computing in place where that is slow."""

import jax
import jax.numpy as jnp

from acme_hieros.models.ops import backend

Array = jax.Array


def out_of_place(x: Array) -> Array:
  """x [..., C], which XLA will not overwrite with what is computed from it.

  On a CPU XLA writes the result of elementwise functions over their operand
  where nobody needs it any more. LLVM then has to take loads and stores for
  dependent and does one number at a time: exponentials and logarithms take ten
  times as long (jaxlib 0.6). XLA does not do that where an operand is also
  broadcast, here as a zero.
  """
  if not backend.on_cpu() or x.ndim == 0:
    return x
  first = jax.lax.stop_gradient(x[..., :1])
  # Also where it is infinite.
  return x + jnp.minimum(jnp.maximum(first, 0.0), 0.0)
