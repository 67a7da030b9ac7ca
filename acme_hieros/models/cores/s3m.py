"""S3M, the memory of Recall to Imagine (2403.04253, section 4).

Layers x = LN(x + W1 g * sigmoid(W2 g)), g = GELU(SSM x): norms behind, gated
linear units, bilinear discretisation, whose Lambda is not kept from growing in
the released code, as it is here (see `ssm`). h = SiLU(W y). Its memory starts
from zero and not from a learned state: a sequence in mid-episode is no start.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from acme_hieros.config import WorldModelConfig
from acme_hieros.models.cores import base, ssm
from acme_hieros.models.ops import linear, normalization

Array = jax.Array
# Of each layer.
Memory = tuple[ssm.State, ...]


class S3M(base.Core):
  """A stack of gated state space layers."""

  def __init__(self, config: WorldModelConfig, dtype: jnp.dtype):
    self.width = config.s3m.width
    self._config = config
    self._dtype = dtype

  def initial_state(self, batch_size: int) -> Memory:
    return tuple(
      ssm.initial_state(self._config.s3m, batch_size)
      for _ in range(self._config.s3m.layers)
    )

  def summary(self, memory: Memory, deter: Array) -> Array:
    del deter
    return jnp.concatenate(memory, -1)

  def eigenvalues(self, params: hk.Params) -> dict[str, Array]:
    return ssm.discrete_eigenvalues(params, ssm.bilinear)

  def make_module(self, name: str) -> base.CoreModule:
    return _Stack(self._config, self._dtype, name)


class _Stack(base.Stack):
  def __init__(self, config, dtype, name):
    super().__init__(name)
    self._config = config.s3m
    self._dtype = dtype
    self._deter = linear.Linear(config.deter_size, name='deter')

  def _apply(self, x: Array, before: Memory, advance) -> tuple[Array, Memory]:
    width = self._config.width
    memory = []
    for own in before:
      layer = ssm.SSMLayer(self._config, ssm.bilinear)
      y, own = advance(layer, x, own)
      memory.append(own)
      g = jax.nn.gelu(y)
      gate = jax.nn.sigmoid(linear.Linear(width)(g))
      x = normalization.LayerNorm()(x + linear.Linear(width)(g) * gate)
    return x, tuple(memory)

  def deter(self, output: Array, memory: Memory) -> Array:
    del memory
    deter = self._deter(output.astype(self._dtype)).astype(jnp.float32)
    return jax.nn.silu(deter)
