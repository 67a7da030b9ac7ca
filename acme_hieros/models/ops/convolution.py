"""Convolutions of kernel 4, stride 2 and padding 1, and their transposes.

On an accelerator they are XLA's. On a CPU they are matrix products, which with
their gradients take less than a tenth of the time of XLA's there, as long as a
batch is taken in pieces that stay in the cache.
"""

from collections.abc import Callable, Sequence
import math

import haiku as hk
import jax
import jax.numpy as jnp

from acme_hieros.models.ops import backend, linear, tiling

Array = jax.Array

# With fewer channels it costs more to combine blocks, and with fewer tiles to
# combine kernels, than the products that are saved.
_TILED_CHANNELS = 16
_LEAST_TILES = 128
# What is gathered of a piece takes 4 MiB.
_GATHERED_AT_A_TIME = 2**20


def in_pieces(
  function: Callable[..., Array], image: Sequence[int], *inputs: Array
) -> Array:
  """Applies `function` to some images at a time on a CPU.

  Args:
    function: may use Haiku modules that were made outside of it; its output
      keeps the first axis.
    image: height, width and channels of the larger side of its convolution.
    *inputs: [N, ...].

  Returns:
    What function(*inputs) would.
  """
  number = len(inputs[0])
  # Of each pixel 9 combinations of 4 blocks, or the 4 neighbourhoods it is in.
  times = 9 / 4 if _is_tiled(number, *image) else 4
  most = max(1, int(_GATHERED_AT_A_TIME / (times * math.prod(image))))
  if not backend.on_cpu() or number <= most:
    return function(*inputs)
  size = max(n for n in range(1, most + 1) if number % n == 0)
  pieces = [x.reshape((-1, size) + x.shape[1:]) for x in inputs]
  out = hk.map(lambda piece: function(*piece), tuple(pieces))
  return out.reshape((number,) + out.shape[2:])


def downsample(x: Array, kernel: Array) -> Array:
  """A 4x4 convolution of stride 2 and padding 1.

  Args:
    x: [N, 2h, 2w, C].
    kernel: [4, 4, C, D].

  Returns:
    [N, h, w, D].
  """
  if not backend.on_cpu():
    return _convolve(x, kernel)
  if _is_tiled(*x.shape):
    kernels = tiling.block_kernels(kernel)
    return tiling.collect(tuple(map(linear.matmul, tiling.tile(x), kernels)))
  return linear.matmul(unfold(x), kernel.reshape(-1, kernel.shape[-1]))


def upsample(x: Array, kernel: Array) -> Array:
  """The transpose of `downsample` with the same kernel.

  Args:
    x: [N, h, w, D].
    kernel: [4, 4, C, D].

  Returns:
    [N, 2h, 2w, C].
  """
  if not backend.on_cpu():
    return _convolve_back(x, kernel)
  n, h, w, depth = x.shape
  if _is_tiled(n, 2 * h, 2 * w, kernel.shape[2]):
    kernels = [k.T for k in tiling.block_kernels(kernel)]
    return tiling.untile(tuple(map(linear.matmul, tiling.spread(x), kernels)))
  return fold(linear.matmul(x, kernel.reshape(-1, depth).T))


def _convolve(x: Array, kernel: Array) -> Array:
  """`downsample` by XLA's convolution."""
  return jax.lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    (2, 2),
    ((1, 1), (1, 1)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


@jax.custom_vjp
def _convolve_back(x: Array, kernel: Array) -> Array:
  """`upsample` by XLA's convolution."""
  n, h, w, _ = x.shape
  images = jax.ShapeDtypeStruct((n, 2 * h, 2 * w, kernel.shape[2]), x.dtype)
  transpose = jax.linear_transpose(lambda y: _convolve(y, kernel), images)
  return transpose(x)[0]


def _pull_back(saved, gradient: Array) -> tuple[Array, Array]:
  """Gradients by x and the kernel, as <upsample(x), y> = <x, downsample(y)>.

  Those that JAX derives are the same, but the kernel's is a convolution by
  kernels as large as the image, which was half of all that a GPU had to do.
  """
  x, kernel = saved
  down, pull_back = jax.vjp(lambda k: _convolve(gradient, k), kernel)
  return down, pull_back(x)[0]


_convolve_back.defvjp(
  lambda *inputs: (_convolve_back(*inputs), inputs), _pull_back
)


def _is_tiled(number: int, height: int, width: int, channels: int) -> bool:
  return (
    height % 4 == width % 4 == 0
    and channels >= _TILED_CHANNELS
    and number * height * width >= 16 * _LEAST_TILES
  )


def _unfold(x: Array) -> Array:
  """Gathers neighbourhoods: [N, 2h, 2w, C] to [N, h, w, 16C].

  Those of 4x4 pixels, two apart, over the image and a margin of one pixel. They
  are ordered (row, column, channel).
  """
  n, height, width, channels = x.shape
  h, w, size = height // 2, width // 2, 2 * channels
  columns = tiling.columns_at_a_time(w, 16 * channels)
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 2 * columns - 1), (0, 0)))
  x = x.reshape(n, height + 2, w // columns + 1, columns * size)
  # The pairs of pixels that so many neighbourhoods take of each row.
  pairs = [x[:, :, :-1, i * size : (i + 1) * size] for i in range(columns)]
  pairs.append(x[:, :, 1:, :size])
  runs = [
    pair[:, row : row + height : 2]
    for i in range(columns)
    for row in range(4)
    for pair in pairs[i : i + 2]
  ]
  return jnp.concatenate(runs, -1).reshape(n, h, w, 16 * channels)


def _fold(x: Array) -> Array:
  """Adds neighbourhoods up where they overlap; the adjoint of `unfold`."""
  n, h, w, size = x.shape
  channels = size // 16
  # By row of 2x2 blocks, row of pixels, column of blocks, column and channel.
  x = x.reshape(n, h, w, 2, 2, 2, 2 * channels)
  margin = [(0, 1), (1, 0)]

  def add_up(row):
    return sum(
      jnp.pad(x[:, :, :, i, row, j], ((0, 0), margin[i], margin[j], (0, 0)))
      for i in range(2)
      for j in range(2)
    )

  # Beside each other, as XLA then computes them before anything that follows.
  rows = [add_up(row).reshape(n, h + 1, -1) for row in range(2)]
  x = jnp.concatenate(rows, -1).reshape(n, 2 * h + 2, -1)
  x = x[:, 1:-1, channels:-channels]
  return x.reshape(n, 2 * h, 2 * w, channels)


unfold, fold = tiling.make_adjoint(_unfold, _fold)


class Downsample(hk.Module):
  """`downsample` with a learned kernel: [N, 2h, 2w, C] to [N, h, w, D]."""

  def __init__(self, depth: int, name: str | None = None):
    super().__init__(name)
    self._depth = depth

  def __call__(self, x: Array) -> Array:
    channels = x.shape[-1]
    kernel = hk.get_parameter(
      'w',
      (4, 4, channels, self._depth),
      init=hk.initializers.TruncatedNormal((16 * channels) ** -0.5),
    )
    return downsample(x, kernel)


class Upsample(hk.Module):
  """`upsample` with a learned kernel: [N, h, w, D] to [N, 2h, 2w, C].

  With a bias what comes out is float32.
  """

  def __init__(
    self, channels: int, with_bias: bool = False, name: str | None = None
  ):
    super().__init__(name)
    self.channels = channels
    self._with_bias = with_bias

  def __call__(self, x: Array) -> Array:
    # Each output pixel sums over 4 of the 16 kernel positions.
    depth = x.shape[-1]
    kernel = hk.get_parameter(
      'w',
      (4, 4, self.channels, depth),
      init=hk.initializers.TruncatedNormal((4 * depth) ** -0.5),
    )
    x = upsample(x, kernel)
    if self._with_bias:
      bias = hk.get_parameter('b', (self.channels,), init=jnp.zeros)
      # By rows of pixels: channels may be too few for a vector.
      rows = x.reshape(x.shape[:2] + (-1,)).astype(jnp.float32)
      rows = linear.add_bias(rows, jnp.tile(bias, x.shape[2]))
      x = rows.reshape(x.shape)
    return x
