"""Parameters in few arrays, which a call of a jitted function takes faster."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array

# Numbers of an array that is worth an argument of its own, and not a copy.
_LARGE = 4096


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
  """A tree of float32 arrays; each argument of a call costs some microseconds.

  large: its large arrays.
  small: all others, one after the other, [n].
  shapes, structure: of all of its arrays.
  """

  large: tuple[Array, ...]
  small: Array
  shapes: tuple[tuple[int, ...], ...] = dataclasses.field(
    metadata={'static': True}
  )
  structure: Any = dataclasses.field(metadata={'static': True})


def pack(tree: Any) -> Packed:
  """Copies the arrays of a tree into fewer."""
  arrays, structure = jax.tree.flatten(tree)
  small = [x.reshape(-1) for x in arrays if x.size < _LARGE]
  return Packed(
    large=tuple(jnp.copy(x) for x in arrays if x.size >= _LARGE),
    small=jnp.concatenate(small) if small else jnp.zeros(0),
    shapes=tuple(x.shape for x in arrays),
    structure=structure,
  )


def unpack(packed: Packed) -> Any:
  """The tree that was packed; to be called where it is used, under `jit`."""
  large = iter(packed.large)
  arrays, start = [], 0
  for shape in packed.shapes:
    size = math.prod(shape)
    if size >= _LARGE:
      arrays.append(next(large))
    else:
      arrays.append(packed.small[start : start + size].reshape(shape))
      start += size
  return jax.tree.unflatten(packed.structure, arrays)
