"""The multi-layer perceptron that heads, actors and encoders are made of."""

import haiku as hk
import jax
import jax.numpy as jnp

Array = jax.Array


class Dense(hk.Module):
  """Linear map without bias, LayerNorm, SiLU: [..., any] to [..., units]."""

  def __init__(self, units: int, name: str | None = None):
    super().__init__(name)
    self._units = units

  def __call__(self, x: Array) -> Array:
    x = hk.Linear(self._units, with_bias=False)(x)
    return jax.nn.silu(hk.LayerNorm(-1, True, True)(x))


class MLP(hk.Module):
  """`layers` times Dense, then a linear map to `output_size` numbers.

  Args:
    layers: number of hidden layers.
    units: their width.
    output_size: numbers that come out; None leaves out the linear map.
    zero_output: the linear map starts at zero, so that a two-hot head first
      predicts 0 and a policy is first uniform.
  """

  def __init__(
    self,
    layers: int,
    units: int,
    output_size: int | None = None,
    zero_output: bool = False,
    name: str | None = None,
  ):
    super().__init__(name)
    self._hidden = [units] * layers
    self._output_size = output_size
    self._output_init = jnp.zeros if zero_output else None

  def __call__(self, x: Array) -> Array:
    for units in self._hidden:
      x = Dense(units)(x)
    if self._output_size is None:
      return x
    return hk.Linear(self._output_size, w_init=self._output_init)(x)
