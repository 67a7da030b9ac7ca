"""Convolutions of stride 2 over 4x4 pixels with 9/16 of the multiplications.

Cut into blocks of 2x2 pixels, with a margin of one pixel, an image is convolved
with stride 1 and a kernel of 2x2 blocks. Then two neighbouring outputs on an
axis, of blocks b and kernels k, need three products instead of four:

  y0 = b0 k0 + b1 k1 = (b0 - b1) k0 + b1 (k0 + k1)
  y1 = b1 k0 + b2 k1 =                b1 (k0 + k1) + (b2 - b1) k1

and four in a square nine instead of sixteen: F(2x2, 2x2) of Lavin and Gray
(1509.09308, section 4.1). Here are the linear maps around the products; each
comes with its adjoint, which is its gradient.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Array = jax.Array

# XLA concatenates for a CPU number by number, instead of run by run, what has
# fewer channels (jaxlib 0.6).
_COPIED_CHANNELS = 128


def make_adjoint(
  function: Callable, other: Callable
) -> tuple[Callable, Callable]:
  """Two linear functions of one argument, each the gradient of the other."""
  function, other = jax.custom_vjp(function), jax.custom_vjp(other)
  function.defvjp(lambda x: (function(x), None), lambda _, g: (other(g),))
  other.defvjp(lambda x: (other(x), None), lambda _, g: (function(g),))
  return function, other


def columns_at_a_time(width: int, channels: int) -> int:
  """With how many of its columns an array is fast to concatenate."""
  enough = [
    n
    for n in range(1, width + 1)
    if width % n == 0 and n * channels >= _COPIED_CHANNELS
  ]
  return min(enough, default=width)


def block_kernels(kernel: Array) -> list[Array]:
  """What the nine products of a tile take: [4, 4, C, D] to nine [4C, D]."""
  _, _, channels, depth = kernel.shape
  # By row of blocks, row of pixels, column of blocks, column and channel.
  blocks = kernel.reshape(2, 2, 2, 2 * channels, depth)
  return [
    column.reshape(4 * channels, depth)
    for row in _spread(blocks[0], blocks[1])
    for column in _spread(row[:, 0], row[:, 1])
  ]


def _spread(first, second):
  return first, first + second, second


def _collect(first, second, third):
  return first + second, second + third


def _differences(first, second, third):
  return first - second, second, third - second


def _tile(x: Array) -> tuple[Array, ...]:
  """Combines blocks of images: [N, 4h, 4w, C] to nine [N, h, w, 4C].

  Those that are multiplied for the four outputs of each tile of 4x4 pixels,
  ordered (row, column) as the kernels are.
  """
  n, height, width, channels = x.shape
  h, w, size = height // 4, width // 4, 2 * channels
  x = jnp.pad(x, ((0, 0), (1, 3), (1, 3), (0, 0)))
  # Tile, block and pixel of the row; tile and block of the column.
  x = x.reshape(n, h + 1, 2, 2, w + 1, 2, size)
  combined = [
    column
    for row in _differences(x[:, :-1, 0], x[:, :-1, 1], x[:, 1:, 0])
    for column in _differences(
      row[..., :-1, 0, :], row[..., :-1, 1, :], row[..., 1:, 0, :]
    )
  ]
  # A block's upper pixels beside its lower ones.
  columns = columns_at_a_time(w, 2 * size)
  tiles = []
  for x in combined:
    x = x.reshape(n, h, 2, w // columns, columns, size)
    runs = [x[:, :, row, :, i] for i in range(columns) for row in range(2)]
    tiles.append(jnp.concatenate(runs, -1).reshape(n, h, w, 2 * size))
  return tuple(tiles)


def _untile(tiles: Sequence[Array]) -> Array:
  """The adjoint of `tile`: nine [N, h, w, 4C] to [N, 4h, 4w, C]."""
  n, h, w, size = tiles[0].shape
  channels = size // 4
  rows = [_undo_differences(tiles[i : i + 3], axis=2) for i in (0, 3, 6)]
  blocks = [_undo_differences(column, axis=1) for column in zip(*rows)]
  x = jnp.concatenate(
    [
      jnp.concatenate(row, -1).reshape(n, h + 1, 1, 2 * (w + 1) * size)
      for row in zip(*blocks)
    ],
    axis=2,
  )
  x = x.reshape(n, 2 * h + 2, 2 * w + 2, 2, 2, channels)
  x = x.transpose(0, 1, 3, 2, 4, 5).reshape(n, 4 * h + 4, 4 * w + 4, channels)
  return x[:, 1:-3, 1:-3]


def _undo_differences(
  combined: Sequence[Array], axis: int
) -> tuple[Array, Array]:
  """Even and odd blocks on an axis, one of each more than there are tiles."""

  def pad(x, before):
    margins = [(0, 0)] * x.ndim
    margins[axis] = (before, 1 - before)
    return jnp.pad(x, margins)

  first, second, third = combined
  return pad(first, 0) + pad(third, 1), pad(second - first - third, 0)


def _spread_tiles(y: Array) -> tuple[Array, ...]:
  """The adjoint of `collect`: [N, 2h, 2w, D] to nine [N, h, w, D]."""
  n, height, width, depth = y.shape
  y = y.reshape(n, height // 2, 2, width // 2, 2, depth)
  return tuple(
    column
    for row in _spread(y[:, :, 0], y[:, :, 1])
    for column in _spread(row[..., 0, :], row[..., 1, :])
  )


def _collect_tiles(products: Sequence[Array]) -> Array:
  """Adds products up: nine [N, h, w, D], by tile, to [N, 2h, 2w, D]."""
  n, h, w, depth = products[0].shape
  rows = [_collect(*products[i : i + 3]) for i in (0, 3, 6)]
  outputs = [_collect(*column) for column in zip(*rows)]
  y = jnp.stack([jnp.stack(row, 3) for row in zip(*outputs)], 2)
  return y.reshape(n, 2 * h, 2 * w, depth)


tile, untile = make_adjoint(_tile, _untile)
spread, collect = make_adjoint(_spread_tiles, _collect_tiles)
