"""Gated recurrent units: the cores of RSSM.

x is u; h is all that they carry, and what they put out.
"""

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp

from acme_hieros.config import WorldModelConfig
from acme_hieros.models.cores import base
from acme_hieros.models.ops import linear, normalization

Array = jax.Array


class _Core(base.Core):
  """h is the memory, and the output."""

  def __init__(self, width: int, size: int, dtype: jnp.dtype):
    self.width = width
    self._size = size
    self._dtype = dtype

  @property
  def output_size(self) -> int:
    return self._size

  def initial_state(self, batch_size: int) -> Array:
    return jnp.zeros((batch_size, self._size))


class GRU(_Core):
  """One whose three gates share a LayerNorm (DreamerV2, 2010.02193)."""

  def __init__(self, config: WorldModelConfig, dtype: jnp.dtype):
    super().__init__(config.gru.width, config.deter_size, dtype)

  def make_module(self, name: str) -> base.CoreModule:
    return _GRU(self._size, self._dtype, name)


class BlockGRU(_Core):
  """One of several blocks, of which each sees all of x (DreamerV3, 2025).

  h goes through a layer of its own, and its output and u to every block beside
  the block's part of h. In the released code z and the action have layers of
  their own as well, where u comes from one, and RMSNorm stands for LayerNorm.
  """

  def __init__(self, config: WorldModelConfig, dtype: jnp.dtype):
    super().__init__(config.block_gru.width, config.deter_size, dtype)
    self._blocks = config.block_gru.blocks

  def make_module(self, name: str) -> base.CoreModule:
    return _BlockGRU(self._size, self.width, self._blocks, self._dtype, name)


class _Recurrent(base.CoreModule):
  """A cell that is run step by step; h is float32."""

  def __init__(self, size: int, dtype: jnp.dtype, name: str):
    super().__init__(name)
    self._size = size
    self._dtype = dtype

  def _cell(self, u: Array) -> tuple[Array, Callable[[Array, Array], Array]]:
    """What of u [..., width] needs no h, and the cell: (of u, h) -> h."""
    raise NotImplementedError

  def scan(self, u: Array, reset: Array, memory: Array) -> tuple[Array, Array]:
    prepared, cell = self._cell(u)

    def step(h, inputs):
      prepared, reset = inputs
      h = cell(prepared, jnp.where(reset[:, None], 0.0, h))
      return h, h

    _, trace = jax.lax.scan(
      step, memory, (prepared.swapaxes(0, 1), reset.swapaxes(0, 1))
    )
    trace = trace.swapaxes(0, 1)
    return trace.astype(u.dtype), trace

  def step(
    self, u: Array, reset: Array | None, memory: Array
  ) -> tuple[Array, Array]:
    prepared, cell = self._cell(u)
    if reset is not None:
      memory = jnp.where(reset[:, None], 0.0, memory)
    h = cell(prepared, memory)
    return h.astype(u.dtype), h

  def deter(self, output: Array, memory: Array) -> Array:
    del output
    return memory


def _gate(parts: Array, h: Array) -> Array:
  """h after (reset, candidate, update) [..., 3, size].

  The reset gate multiplies what the candidate is made of, after the linear map;
  the bias of -1 has a new unit keep what it has.
  """
  reset, candidate, update = (x[..., 0, :] for x in jnp.split(parts, 3, -2))
  candidate = jnp.tanh(jax.nn.sigmoid(reset) * candidate)
  update = jax.nn.sigmoid(update - 1.0)
  return update * candidate + (1.0 - update) * h


class _GRU(_Recurrent):
  """parts = LN(W u + U h)."""

  def _cell(self, u):
    width, size = u.shape[-1], self._size
    init = hk.initializers.TruncatedNormal((width + size) ** -0.5)
    of_u = hk.get_parameter('w_u', (width, 3 * size), init=init)
    of_h = hk.get_parameter('w_h', (size, 3 * size), init=init)
    scale = hk.get_parameter('scale', (3 * size,), init=jnp.ones)
    offset = hk.get_parameter('offset', (3 * size,), init=jnp.zeros)

    def cell(prepared, h):
      x = prepared + linear.matmul(h.astype(self._dtype), of_h)
      x = normalization.layer_norm(x, scale, offset, False)
      parts = x.astype(jnp.float32).reshape((*x.shape[:-1], 3, size))
      return _gate(parts, h)

    return linear.matmul(u, of_u), cell


class _BlockGRU(_Recurrent):
  """parts = V_b SiLU(LN(W_b [h_b, SiLU(LN(W h)), u])) in each block b."""

  def __init__(self, size, width, blocks, dtype, name):
    super().__init__(size, dtype, name)
    self._width = width
    self._blocks = blocks

  def _cell(self, u):
    blocks, own, width = self._blocks, self._size // self._blocks, self._width
    inputs = own + width + u.shape[-1]

    def weights(name, inputs, *shape):
      init = hk.initializers.TruncatedNormal(inputs**-0.5)
      return hk.get_parameter(name, shape, init=init)

    def norm(name, size):
      return (
        hk.get_parameter(f'{name}_scale', (size,), init=jnp.ones),
        hk.get_parameter(f'{name}_offset', (size,), init=jnp.zeros),
      )

    look = weights('w_down', self._size, self._size, width)
    of_h = weights('w_h', inputs, blocks, own, own)
    of_look = weights('w_look', inputs, width, self._size)
    of_u = weights('w_u', inputs, u.shape[-1], self._size)
    gates = weights('w_gates', own, blocks, own, 3 * own)
    look_norm, hidden_norm = norm('look', width), norm('hidden', self._size)

    def by_block(x, weights):
      x = x.reshape((-1, blocks, own))
      return jnp.einsum('ngi,gio->ngo', x, weights.astype(x.dtype))

    def cell(prepared, h):
      narrow = h.astype(self._dtype)
      seen = linear.matmul(narrow, look)
      seen = normalization.layer_norm(seen, *look_norm, True)
      x = by_block(narrow, of_h).reshape(h.shape)
      x += linear.matmul(seen, of_look) + prepared
      x = normalization.layer_norm(x, *hidden_norm, True)
      parts = by_block(x, gates).astype(jnp.float32)
      parts = parts.reshape((-1, blocks, 3, own))
      return _gate(parts, h.reshape((-1, blocks, own))).reshape(h.shape)

    return linear.matmul(u, of_u), cell
