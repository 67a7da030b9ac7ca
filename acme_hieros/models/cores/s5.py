"""The memory of Hieros: a stack of S5 layers (docs/algorithm.md, 3.2).

Some of its layers can be of another kind, see `hybrid`.
"""

from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.config import WorldModelConfig
from acme_hieros.models import distributions
from acme_hieros.models.cores import attention, base, ssm
from acme_hieros.models.ops import linear, normalization, placement

Array = jax.Array
# Of each layer its own.
Memory = tuple[base.Memory, ...]

S5, ATTENTION = 's5', 'attention'


class S5Core(base.Core):
  """A stack of layers of the kinds `S5` and `ATTENTION`."""

  def __init__(
    self,
    config: WorldModelConfig,
    dtype: jnp.dtype,
    kinds: Sequence[str] | None = None,
    window: int = 0,
  ):
    """Creates a core.

    Args:
      config: of the world model.
      dtype: of the arithmetic; states and h are float32.
      kinds: of each layer; two S5 layers a block by default.
      window: most steps that attention looks back on.
    """
    self.width = config.s5.width
    self._config = config
    self._dtype = dtype
    self._kinds = tuple(kinds or [S5] * (2 * config.s5.num_blocks))
    self._window = window

  def initial_state(self, batch_size: int) -> Memory:
    return tuple(
      ssm.initial_state(self._config.s5, batch_size)
      if kind == S5
      else attention.initial_ring(self.width, self._window, batch_size)
      for kind in self._kinds
    )

  def starts(self, trace: Memory, times: slice, horizon: int) -> Memory:
    return tuple(
      base.rows(own, times)
      if kind == S5
      else attention.starts(own, times, horizon)
      for kind, own in zip(self._kinds, trace)
    )

  def summary(self, memory: Memory, deter: Array) -> Array:
    if ATTENTION in self._kinds:
      return deter
    return jnp.concatenate(memory, -1)

  def eigenvalues(self, params: hk.Params) -> dict[str, Array]:
    return ssm.discrete_eigenvalues(params)

  def make_module(self, name: str) -> base.CoreModule:
    return _Stack(self._config, self._dtype, self._kinds, self._window, name)


class _Stack(base.Stack):
  """Double blocks: x += GELU(W layer(LN x)) twice, x += LN x."""

  def __init__(self, config, dtype, kinds, window, name):
    super().__init__(name)
    self._config = config
    self._dtype = dtype
    self._kinds = kinds
    self._window = window
    self._deter = linear.Linear(
      config.deter_size, w_init=self._deter_init, name='deter'
    )

  def _apply(self, x: Array, before: Memory, advance) -> tuple[Array, Memory]:
    width = self._config.s5.width
    memory = []
    for i, (kind, own) in enumerate(zip(self._kinds, before)):
      u = normalization.LayerNorm()(x)
      y, own = advance(_make_layer(self._config, kind, self._window), u, own)
      memory.append(own)
      y = linear.Linear(width)(y)
      x = placement.out_of_place(x)
      x += jax.nn.gelu(placement.out_of_place(y))
      if i % 2:
        x += normalization.LayerNorm(name=f'norm_{i // 2}')(x)
    return x, tuple(memory)

  def deter(self, output: Array, memory: Memory) -> Array:
    parts = [output]
    if self._config.s5.deter_from == 'state':
      parts = [
        ssm.real_parts(own)
        for kind, own in zip(self._kinds, memory)
        if kind == S5
      ]
      # What attention has found is in the output alone.
      if ATTENTION in self._kinds:
        parts.append(output.astype(jnp.float32))
    read = jnp.concatenate(parts, -1).astype(self._dtype)
    deter = self._deter(read).astype(jnp.float32)
    return distributions.symlog(placement.out_of_place(deter))

  def _deter_init(self, shape, dtype) -> Array:
    """Reads each S5 state in units of its response to a constant input.

    Slow states add up whatever is the same at every step, until what differs is
    a tenth of it; heads then take many thousand updates to find a cue given
    some steps ago. The response of x_t = Abar x_{t-1} + Bbar u to a constant u
    is |B / Lambda| u, and the rows of B have about unit length.
    """
    weights = hk.initializers.Orthogonal()(shape, dtype)
    if self._config.s5.deter_from == 'output':
      return weights
    magnitude = np.abs(ssm.initial_eigenvalues(self._config.s5))
    scale = np.ones(shape[0])
    states = self._kinds.count(S5) * len(magnitude)
    scale[:states] = np.tile(magnitude, self._kinds.count(S5))
    return weights * scale[:, None]


def _make_layer(
  config: WorldModelConfig, kind: str, window: int
) -> ssm.SSMLayer | attention.Attention:
  if kind == S5:
    return ssm.SSMLayer(config.s5)
  return attention.Attention(
    config.s5.width, config.attention.heads, window, rotary=False
  )
