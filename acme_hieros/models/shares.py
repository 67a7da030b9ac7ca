"""A batch whose rows several devices share.

Each device runs a level's update on its own rows, under `jax.shard_map` with
the axis `AXIS`, and a mean of losses is a mean of the devices' means. What is
not told by rows alone, but by the whole batch, comes from here: its means and
sums, what is drawn for it, its gradients. Outside of such an axis one device
has all rows, and nothing is exchanged.

Devices wait for each other at each exchange, so there are few: gradients go as
one vector. None may be in a loop: XLA's CPU client has each device begin all
that it exchanges in the order of the program, but a loop only begins in that
order, and what it exchanges in later rounds may come before or after what the
program exchanges behind it. One device would wait in the one and another in the
other, for ever (jaxlib 0.6.2).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
from jax import flatten_util
from jax.sharding import (
  Mesh,
  NamedSharding,
  PartitionSpec,
  Sharding,
  SingleDeviceSharding,
)
import numpy as np

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


FIRST = Rows()


def draw(
  sample: Callable[[Array, Sequence[int]], Array],
  key: Array,
  shape: Sequence[int],
  rows: Rows = FIRST,
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


def place(
  devices: Sequence[jax.Device],
) -> tuple[Sharding, Callable[..., Callable[..., Any]]]:
  """Has devices share updates.

  Args:
    devices: those of `share_devices`.

  Returns:
    Where the learning state lies, and what makes of a level's `update` a jitted
    one of the same arguments, batches as NumPy arrays; it overwrites the state
    that it is given, and takes XLA's options by name.
  """
  if len(devices) == 1:

    def alone(update, **options):
      return jax.jit(update, donate_argnums=0, compiler_options=options or None)

    return SingleDeviceSharding(devices[0]), alone
  mesh = Mesh(np.array(devices), (AXIS,))
  everywhere, by_rows = PartitionSpec(), PartitionSpec(AXIS)
  placement = NamedSharding(mesh, everywhere)
  # Each is a core, and the threads of one would be in the way of others.
  of_cores = {'xla_cpu_multi_thread_eigen': False}

  def together(update, **options):
    if devices[0].platform == 'cpu':
      options |= of_cores
    return jax.jit(
      jax.shard_map(
        update,
        mesh=mesh,
        in_specs=(everywhere, by_rows, everywhere),
        out_specs=everywhere,
        # All compute the same of what was exchanged.
        check_vma=False,
      ),
      donate_argnums=0,
      in_shardings=(placement, NamedSharding(mesh, by_rows), placement),
      out_shardings=placement,
      compiler_options=options or None,
    )

  return placement, together


def share_devices(
  batch_size: int, devices: Sequence[jax.Device] | None = None
) -> Sequence[jax.Device]:
  """Returns the devices that are to share batches of `batch_size` sequences.

  Args:
    batch_size: of the whole batch.
    devices: all of these; by default all accelerators that JAX has for this
      process, or as many of the CPU's devices as can share equally.

  Raises:
    ValueError: the shares would not be equal.
  """
  if devices is None:
    devices = jax.local_devices()
    if devices[0].platform == 'cpu':
      devices = devices[: fitting_cores(batch_size, len(devices))]
  if batch_size % len(devices):
    raise ValueError(
      f'batch_size={batch_size} cannot be shared equally by {len(devices)} '
      f'devices: make it a multiple of {len(devices)}, or show JAX fewer '
      'devices, for example with CUDA_VISIBLE_DEVICES.'
    )
  return devices


def fitting_cores(batch_size: int, cores: int) -> int:
  """The most of so many cores that can share a batch equally."""
  return max(n for n in range(1, cores + 1) if batch_size % n == 0)
