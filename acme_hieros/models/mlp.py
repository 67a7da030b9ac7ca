"""The multi-layer perceptron that heads, actors and encoders are made of."""

import haiku as hk
import jax
import jax.numpy as jnp

from acme_hieros.models.ops import linear, normalization

Array = jax.Array


class Dense(hk.Module):
  """Linear map without bias, LayerNorm, SiLU: inputs to [..., units]."""

  def __init__(self, units: int, name: str | None = None):
    super().__init__(name)
    self._units = units

  def __call__(self, inputs: linear.Inputs) -> Array:
    x = linear.Linear(self._units, with_bias=False)(inputs)
    return normalization.LayerNorm(silu=True)(x)


class MLP(hk.Module):
  """`layers` times Dense, then a linear map to `output_size` numbers.

  Args:
    layers: number of hidden layers.
    units: their width.
    output_size: numbers that come out; None leaves out the linear map.
    output_scale: of the linear map's first weights. With 0 a two-hot head first
      predicts 0 and a policy is first uniform.
    dtype: of the arithmetic; what comes out is float32.
  """

  def __init__(
    self,
    layers: int,
    units: int,
    output_size: int | None = None,
    output_scale: float = 1.0,
    dtype: jnp.dtype = jnp.float32,
    name: str | None = None,
  ):
    super().__init__(name)
    self._hidden = [units] * layers
    self._output_size = output_size
    self._dtype = dtype
    self._output_init = (
      hk.initializers.VarianceScaling(output_scale**2)
      if output_scale
      else jnp.zeros
    )

  def __call__(self, inputs: linear.Inputs) -> Array:
    x: linear.Inputs = linear.cast(inputs, self._dtype)
    for units in self._hidden:
      x = Dense(units)(x)
    if self._output_size is not None:
      x = linear.Linear(self._output_size, w_init=self._output_init)(x)
    assert not isinstance(x, tuple), 'an MLP without any layer'
    return x.astype(jnp.float32)
