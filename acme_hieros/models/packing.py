"""Parameters in few arrays, which a call of a jitted function takes faster."""

import dataclasses
import math

import haiku as hk
import jax
import jax.numpy as jnp

Array = jax.Array

# Numbers of an array that is worth an argument of its own, and not a copy.
_LARGE = 4096


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
  """Parameters; each argument of a call costs some microseconds.

  large: the large arrays.
  small: all others, one after the other, [n].
  layout: module, name and shape of each array, in order.
  """

  large: tuple[Array, ...]
  small: Array
  # Nothing of JAX, which would not survive the way to another process.
  layout: tuple[tuple[str, str, tuple[int, ...]], ...] = dataclasses.field(
    metadata={'static': True}
  )


def pack(params: hk.Params) -> Packed:
  """Copies arrays into fewer."""
  named = [
    (module, name, array)
    for module in sorted(params)
    for name, array in sorted(params[module].items())
  ]
  small = [x.reshape(-1) for *_, x in named if x.size < _LARGE]
  return Packed(
    large=tuple(jnp.copy(x) for *_, x in named if x.size >= _LARGE),
    small=jnp.concatenate(small) if small else jnp.zeros(0),
    layout=tuple((module, name, x.shape) for module, name, x in named),
  )


def unpack(packed: Packed) -> hk.Params:
  """What was packed; to be called where it is used, under `jit`."""
  large = iter(packed.large)
  params, start = {}, 0
  for module, name, shape in packed.layout:
    size = math.prod(shape)
    if size >= _LARGE:
      array = next(large)
    else:
      array = packed.small[start : start + size].reshape(shape)
      start += size
    params.setdefault(module, {})[name] = array
  return params
