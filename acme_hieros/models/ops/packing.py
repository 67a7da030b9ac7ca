"""Trees in few arrays: a jitted call needs some microseconds for each array."""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

Array = jax.Array

# Numbers of an array that is worth an argument of its own, and not a copy.
_LARGE = 4096


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
  """Parameters.

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
  """Copies float32 arrays into fewer."""
  named = [
    (module, name, array)
    for module in sorted(params)
    for name, array in sorted(params[module].items())
  ]
  # An empty one makes a copy even of a single array.
  small = [jnp.zeros(0), *(x.reshape(-1) for *_, x in named if x.size < _LARGE)]
  return Packed(
    large=tuple(jnp.copy(x) for *_, x in named if x.size >= _LARGE),
    small=jnp.concatenate(small),
    layout=tuple((module, name, x.shape) for module, name, x in named),
  )


def unpack(packed: Packed) -> hk.Params:
  """What was packed; to be called where it is used, under `jit`."""
  large = iter(packed.large)
  params: dict[str, dict[str, Array]] = {}
  start = 0
  for module, name, shape in packed.layout:
    size = math.prod(shape)
    if size >= _LARGE:
      array = next(large)
    else:
      array = packed.small[start : start + size].reshape(shape)
      start += size
    params.setdefault(module, {})[name] = array
  return params


class Rows:
  """Trees of arrays [N, ...] as float32 [N, n], a row for each of N.

  Numbers of other types come back as they were if float32 can hold them, as it
  can all bytes and integers below 2^24.
  """

  def __init__(self, example: Any):
    """Takes structure, shapes and types of a tree of arrays [N, ...]."""
    # JAX has no types for what a structure can do.
    self._structure: Any
    leaves, self._structure = jax.tree.flatten(example)
    self._leaves: Sequence[tuple[tuple[int, ...], jnp.dtype]] = [
      (x.shape[1:], x.dtype) for x in leaves
    ]

  def pack(self, tree: Any) -> Array:
    """[N, ...] to [N, n]."""
    return jnp.concatenate(
      [
        x.reshape(x.shape[0], -1).astype(jnp.float32)
        for x in self._structure.flatten_up_to(tree)
      ],
      1,
    )

  def unpack(self, rows: Array) -> Any:
    """What was packed; of NumPy's arrays if the rows are."""
    leaves, start = [], 0
    for shape, dtype in self._leaves:
      end = start + math.prod(shape)
      x = rows[:, start:end].reshape((rows.shape[0], *shape))
      leaves.append(x.astype(dtype))
      start = end
    return self._structure.unflatten(leaves)
