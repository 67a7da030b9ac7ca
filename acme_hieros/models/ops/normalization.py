"""Layer normalisation with its activation, in few passes over memory.

The gradient is written out (Ba et al., 1607.06450): XLA's own would compute the
activation anew for each of its sums.
"""

import functools

import haiku as hk
import jax
import jax.numpy as jnp

from acme_hieros.models.ops import placement, reductions

Array = jax.Array

_EPSILON = 1e-5


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x: Array, scale: Array, offset: Array, silu: bool) -> Array:
  """Normalises rows to mean 0 and variance 1, then scales and shifts them.

  Args:
    x: [..., C]; sums are in float32 whatever its type.
    scale, offset: float32 [C].
    silu: whether SiLU follows.

  Returns:
    [..., C], of the type of x. Its derivatives are in reverse mode only.
  """
  return _forward(x, scale, offset, silu)[0]


def _forward(x, scale, offset, silu):
  wide = placement.out_of_place(x.astype(jnp.float32))
  mean = _row_means(wide)
  inverse = jax.lax.rsqrt(_row_means(jnp.square(wide - mean)) + _EPSILON)
  y = (wide - mean) * inverse * scale + offset
  if silu:
    y = jax.nn.silu(y)
  return y.astype(x.dtype), (x, mean, inverse, scale, offset)


def _backward(silu, saved, gradient):
  x, mean, inverse, scale, offset = saved
  gradient = placement.out_of_place(gradient.astype(jnp.float32))
  x, kind = placement.out_of_place(x.astype(jnp.float32)), x.dtype
  normal = (x - mean) * inverse
  if silu:
    y = normal * scale + offset
    gate = jax.nn.sigmoid(y)
    gradient *= gate * (1.0 + y * (1.0 - gate))
    gradient = placement.out_of_place(gradient)
  aligned = gradient * normal
  d_offset = reductions.column_sums(gradient)
  d_scale = reductions.column_sums(aligned)
  # What would move the row's mean or change its length does not pass.
  d_x = inverse * (
    gradient * scale
    - _row_means(gradient, scale)
    - normal * _row_means(aligned, scale)
  )
  return d_x.astype(kind), d_scale, d_offset


layer_norm.defvjp(_forward, _backward)


def _row_means(x: Array, weights: Array | float = 1.0) -> Array:
  """Mean of x * weights over the columns: [..., C] to [..., 1]."""
  # Divided last: the sum of equal numbers over their number is exact.
  return reductions.row_sums(x, weights)[..., None] / x.shape[-1]


class LayerNorm(hk.Module):
  """`layer_norm` over the last axis, with learned scale and offset."""

  def __init__(self, silu: bool = False, name: str | None = None):
    super().__init__(name)
    self._silu = silu

  def __call__(self, x: Array) -> Array:
    scale = hk.get_parameter('scale', x.shape[-1:], init=jnp.ones)
    offset = hk.get_parameter('offset', x.shape[-1:], init=jnp.zeros)
    return layer_norm(x, scale, offset, self._silu)
