"""A batch whose rows several devices share.

Each device runs a level's update on its own rows, under `jax.shard_map` with
the axis `AXIS`, and a mean of losses is a mean of the devices' means. What is
not told by rows alone, but by the whole batch, comes from here: its means and
sums, what is drawn for it, its gradients. Outside of such an axis one device
has all rows, and nothing is exchanged.

Devices wait for each other at each exchange, so there are few: gradients go as
one vector. None is in a loop.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
from jax import flatten_util
import jax.numpy as jnp

Array = jax.Array
Tree = TypeVar('Tree')

# Over which devices share rows.
AXIS = 'batch'


def number() -> int:
  """How many devices share the batch."""
  try:
    return jax.lax.axis_size(AXIS)
  except NameError:
    return 1


def mean(means: Tree) -> Tree:
  """The mean over all devices of what each has of its own rows.

  The gradient is that of the own rows, by which the mean of all devices'
  gradients is that of the whole batch.

  Args:
    means: a tree of arrays.
  """
  if number() == 1:
    return means
  own, restore = flatten_util.ravel_pytree(means)
  return restore(_mean(own))


@jax.custom_jvp
def _mean(own: Array) -> Array:
  return jax.lax.pmean(own, AXIS)


_mean.defjvp(lambda own, tangents: (_mean(*own), *tangents))


def total(sums: Array) -> Array:
  """The sum over all devices; it has no gradient."""
  if number() == 1:
    return sums
  return jax.lax.psum(jax.lax.stop_gradient(sums), AXIS)


def gather(x: Array) -> Array:
  """What all devices have, beside each other: [devices, ...], or one's [...].

  It has no gradient.
  """
  if number() == 1:
    return x
  return jax.lax.all_gather(jax.lax.stop_gradient(x), AXIS)


class Rows(NamedTuple):
  """Where an array has the rows of a batch.

  axis: along which they come.
  groups: so many times all of them, one time after another.
  """

  axis: int = 0
  groups: int = 1


def draw(
  sample: Callable[[Array, Sequence[int]], Array],
  key: Array,
  shape: Sequence[int],
  rows: Rows = Rows(),
) -> Array:
  """What of random numbers for the whole batch is for this device's rows.

  Args:
    sample: (key, shape) -> random numbers, as those of `jax.random`.
    key: random key.
    shape: of those for the own rows.
    rows: where these are in it.
  """
  if number() == 1:
    return sample(key, shape)
  axis, groups = rows
  own = shape[axis] // groups
  whole = (*shape[:axis], groups, own * number(), *shape[axis + 1 :])
  first = own * jax.lax.axis_index(AXIS)
  drawn = jax.lax.dynamic_slice_in_dim(sample(key, whole), first, own, axis + 1)
  return drawn.reshape(shape)
