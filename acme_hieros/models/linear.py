"""Matrix products over rows, with the gradient in the form that is fast."""

import haiku as hk
import jax
import jax.numpy as jnp

Array = jax.Array


@jax.custom_vjp
def matmul(x: Array, weights: Array) -> Array:
  """[N, K] times [K, M], in the type of x. Derivatives in reverse mode only."""
  return x @ weights.astype(x.dtype)


def _forward(x, weights):
  return matmul(x, weights), (x, weights)


def _backward(saved, gradient):
  x, weights = saved
  d_x = gradient @ weights.astype(x.dtype).T
  on_cpu = jax.default_backend() == 'cpu'
  if on_cpu and x.shape[1] > gradient.shape[1]:
    # There up to three times as fast as x.T @ gradient, to which XLA would
    # bring it back without the barrier.
    d_weights = jax.lax.optimization_barrier(gradient.T @ x).T
  else:
    d_weights = x.T @ gradient
  return d_x, d_weights.astype(weights.dtype)


matmul.defvjp(_forward, _backward)


class Linear(hk.Module):
  """Linear map, [..., any] to [..., size].

  Args:
    size: numbers that come out.
    with_bias: whether a bias is added, which starts at 0.
    w_init: of the weights; by default of variance 1 / inputs.
  """

  def __init__(
    self,
    size: int,
    with_bias: bool = True,
    w_init: hk.initializers.Initializer | None = None,
    name: str | None = None,
  ):
    super().__init__(name)
    self._size = size
    self._with_bias = with_bias
    self._w_init = w_init

  def __call__(self, x: Array) -> Array:
    inputs = x.shape[-1]
    init = self._w_init or hk.initializers.TruncatedNormal(inputs**-0.5)
    weights = hk.get_parameter('w', (inputs, self._size), init=init)
    # Over several axes XLA would first transpose all of x for the gradient.
    y = matmul(x.reshape(-1, inputs), weights)
    if self._with_bias:
      bias = hk.get_parameter('b', (self._size,), init=jnp.zeros)
      # Its gradient is a sum over all rows: too long for bfloat16.
      y = (y.astype(jnp.float32) + bias).astype(y.dtype)
    return y.reshape(x.shape[:-1] + (self._size,))
