"""Encoders and decoders: observations by name to numbers, and z and h back.

Images go through convolutions that halve their sides, vectors through an MLP.
What an image always shows is taken off it: both sides see and say only by how
much it differs from its running mean.
"""

from collections.abc import Callable, Mapping
import functools
import math
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.config import WorldModelConfig
from acme_hieros.models import mlp, shares, spaces
from acme_hieros.models.ops import (
  convolution,
  linear,
  normalization,
  reductions,
)

Array = jax.Array
Observation = Mapping[str, Array]
Spaces = Mapping[str, spaces.ObservationSpace]

# Least share of a batch in the running means: some hundred batches.
_LEAST_RATE = 1e-3

# Least difference of a pixel that has changed, of 255.
_CHANGE = 12.0

# A side of an image has so many cells, where its own length leaves the choice.
_CELLS = 4


def images(observation: Spaces) -> dict[str, spaces.Image]:
  """The images, in a fixed order."""
  return {
    name: space
    for name, space in sorted(observation.items())
    if isinstance(space, spaces.Image)
  }


def vectors(observation: Spaces) -> dict[str, spaces.Vector | spaces.OneHot]:
  """All that is no image, in a fixed order."""
  return {
    name: space
    for name, space in sorted(observation.items())
    if not isinstance(space, spaces.Image)
  }


class Fit(NamedTuple):
  """How images of one shape become cells, of which each is a vector.

  patch: side of the squares that they are cut into first; 1 where they are not.
  depths: of patches, if there are any, and of each halving after them.
  cells: rows and columns of what the last of these makes.
  size: height and width that it takes; what an image lacks of them is filled
    up below and at the right.
  """

  patch: int
  depths: tuple[int, ...]
  cells: tuple[int, int]
  size: tuple[int, int]


def fit(config: WorldModelConfig, space: spaces.Image) -> Fit:
  """The encoder for images of a shape, whatever it is.

  It is the configured one where that needs no filling up. Elsewhere, as for
  small boards, patches are so small and halvings so few that some four cells a
  side are left, of as many numbers as those of other images.
  """
  sides, patch = space.shape[:2], config.patch_size
  has_patches = patch > 1
  halvings = most = len(config.cnn_depths) - has_patches
  if any(side % (patch * 2**most) for side in sides):
    shorter = min(sides)
    patch = min(patch, -(-shorter // _CELLS))
    halvings = 0 if has_patches else 1
    while halvings < most and -(-shorter // (patch << halvings + 1)) >= _CELLS:
      halvings += 1
  stride = patch << halvings
  rows, columns = (-(-side // stride) for side in sides)
  return Fit(
    patch,
    config.cnn_depths[-(halvings + has_patches) :],
    (rows, columns),
    (rows * stride, columns * stride),
  )


class ImageMeans:
  """Running means of images, which no gradient changes.

  They are kept among the parameters, so that whoever acts has them.
  """

  def __init__(self, observation: Spaces):
    self._modules = {
      name: _Mean(space, name=f'image_mean_{i}')
      for i, (name, space) in enumerate(images(observation).items())
    }

  def __call__(self, name: str) -> Array:
    """That of an image as its space encodes it: [height, width, channels]."""
    return self._modules[name]()


def track_means(
  params: hk.Params, observation: Observation, space: Spaces, steps: Array
) -> hk.Params:
  """Moves the means of images towards those of a batch.

  Args:
    params: of a world model.
    observation: [B, T, ...] by name.
    space: of the observations, by name.
    steps: batches that are in the means already.
  """
  rate = jnp.maximum(1.0 / (steps + 1.0), _LEAST_RATE)
  params = dict(params)
  for i, name in enumerate(images(space)):
    module = f'world_model/~/image_mean_{i}'
    mean = params[module]['mean']
    image = jnp.mean(_mean_over_time(observation[name]), 0)
    new = shares.mean(space[name].encode(image))
    params[module] = {'mean': mean + rate * (new - mean)}
  return params


def _mean_over_time(image: Array) -> Array:
  """uint8 [B, T, height, width, channels] to float32 [B, ...]."""
  return reductions.sums_over_time(image) / image.shape[1]


def is_mean(module: str) -> bool:
  """Whether a module of a world model holds the running mean of an image."""
  return module.split('/')[-1].startswith('image_mean_')


class _Mean(hk.Module):
  def __init__(self, space: spaces.Image, name: str):
    super().__init__(name)
    self._shape = space.shape

  def __call__(self) -> Array:
    mean = hk.get_parameter('mean', self._shape, init=jnp.zeros)
    return jax.lax.stop_gradient(mean)


def change_weights(image: Array, share: float) -> Array:
  """Weights of pixels by which what moves is worth a share of the whole image.

  A pixel has changed where it differs from its mean over the sequence. What an
  agent steers and meets is often a hundredth of an image: by its squared error
  alone the rest would be learned long before. (EASimulus, 2601.19336, predicts
  such a mask instead.)

  Args:
    image: uint8 [B, T, height, width, channels].
    share: of all changed pixels of an image together, beside 1 of all pixels.

  Returns:
    [B, T, height, width], 1 where nothing has changed.
  """
  mean = _mean_over_time(image)[:, None]
  is_far = jnp.abs(image.astype(jnp.float32) - mean) > _CHANGE
  # Channel by channel: XLA's `any` over so few takes five times as long.
  channels = [is_far[..., i] for i in range(image.shape[-1])]
  changed = functools.reduce(jnp.logical_or, channels).astype(jnp.float32)
  part = jnp.mean(changed, (-2, -1), keepdims=True)
  return 1.0 + changed * share / jnp.maximum(part, 1e-3)


class Encoder(hk.Module):
  """Observations [..., *shape] by name to numbers."""

  def __init__(
    self,
    config: WorldModelConfig,
    observation: Spaces,
    means: ImageMeans,
    dtype: jnp.dtype,
  ):
    super().__init__('encoder')
    self._means = means
    self._dtype = dtype
    self._has_patches = config.patch_size > 1
    self._images, self._vectors = images(observation), vectors(observation)
    self._fits = {n: fit(config, space) for n, space in self._images.items()}
    self._patches = {
      name: linear.Linear(fitted.depths[0])
      for name, fitted in self._fits.items()
    }
    self._layers = {
      name: [
        (convolution.Downsample(depth), normalization.LayerNorm(silu=True))
        for depth in fitted.depths[self._has_patches :]
      ]
      for name, fitted in self._fits.items()
    }
    self._mlp = mlp.MLP(config.mlp_layers, config.mlp_units, dtype=dtype)

  def __call__(self, observation: Observation) -> tuple[Array, list[Array]]:
    """An embedding [..., E], and of each image its cells [..., cells, depth].

    A cell is what the last convolution makes of one part of the image, row by
    row. The embedding has them all, and the vectors.
    """
    embeddings, cells = [], []
    for name in self._images:
      image = observation[name]
      x = self._convolve(name, image.reshape((-1,) + image.shape[-3:]))
      batch = image.shape[:-3]
      cells.append(x.reshape(batch + (-1, x.shape[-1])))
      embeddings.append(x.reshape(batch + (-1,)))
    if self._vectors:
      inputs = [x.inputs(observation[n]) for n, x in self._vectors.items()]
      embeddings.append(self._mlp(tuple(inputs)))
    return jnp.concatenate(embeddings, -1), cells

  def _convolve(self, name: str, image: Array) -> Array:
    """uint8 [N, height, width, channels] to [N, h, w, depth]."""
    mean, fitted = self._means(name), self._fits[name]

    def prepare(x):
      difference = _difference(x, self._images[name], mean, fitted)
      return difference.astype(self._dtype)

    x = image
    if self._has_patches:
      x = self._patches[name](prepare(x))
      prepare = normalization.LayerNorm(silu=True)
    for convolve, normalize in self._layers[name]:
      x = convolution.in_pieces(_layer(prepare, convolve), x.shape[1:], x)
      prepare = normalize
    return prepare(x).astype(jnp.float32)


class Decoder(hk.Module):
  """The mirror of `Encoder`: z and h to observations by name."""

  def __init__(
    self,
    config: WorldModelConfig,
    observation: Spaces,
    means: ImageMeans,
    dtype: jnp.dtype,
  ):
    super().__init__('decoder')
    self._means = means
    self._dtype = dtype
    self._has_patches = config.patch_size > 1
    self._images, self._vectors = images(observation), vectors(observation)
    self._fits = {n: fit(config, space) for n, space in self._images.items()}
    self._starts = {}
    self._layers = {}
    self._patches = {}
    for name, fitted in self._fits.items():
      channels = self._images[name].shape[-1]
      start = (*fitted.cells, fitted.depths[-1])
      self._starts[name] = start, linear.Linear(math.prod(start))
      outputs = list(fitted.depths[-2::-1])
      if self._has_patches:
        self._patches[name] = (
          normalization.LayerNorm(silu=True),
          linear.Linear(channels * fitted.patch**2),
        )
      else:
        outputs.append(channels)
      self._layers[name] = [
        (
          normalization.LayerNorm(silu=True),
          # Layer normalisation follows all but an image.
          convolution.Upsample(
            depth, with_bias=not self._has_patches and i == len(outputs) - 1
          ),
        )
        for i, depth in enumerate(outputs)
      ]
    self._sizes = [space.size for space in self._vectors.values()]
    self._mlp = mlp.MLP(
      config.mlp_layers, config.mlp_units, sum(self._sizes), dtype=dtype
    )

  def __call__(self, latent: tuple[linear.OneHots, Array]) -> dict[str, Array]:
    decoded = {}
    batch = latent[1].shape[:-1]
    for name, space in self._images.items():
      x = self._deconvolve(name, latent, lambda x: x)
      x = from_patches(x, self._fits[name].patch)
      height, width, _ = space.shape
      x = x[:, :height, :width] + self._means(name)
      decoded[name] = x.reshape(batch + space.shape)
    if self._vectors:
      parts = jnp.split(self._mlp(latent), np.cumsum(self._sizes)[:-1], -1)
      decoded.update(zip(self._vectors, parts))
    return decoded

  def losses(
    self,
    latent: tuple[linear.OneHots, Array],
    observation: Observation,
    weights: Mapping[str, Array],
  ) -> dict[str, Array]:
    """Squared errors [...], summed over pixels and numbers, of each kind.

    Args:
      latent, observation: [...].
      weights: of the pixels of each image, [..., height, width].
    """
    losses: dict[str, Array] = {}
    batch = latent[1].shape[:-1]
    for name, space in self._images.items():
      mean, fitted = self._means(name), self._fits[name]

      # Of each piece: neither images nor errors are ever there as a whole.
      def error(x, target, weight, space=space, mean=mean, fitted=fitted):
        # As patches: of the prediction, and of its gradient, none is moved.
        target = _difference(target, space, mean, fitted)
        weight = _to_patches(jnp.sqrt(weight)[..., None], fitted)
        error = (x - target) * jnp.repeat(weight, space.shape[-1], -1)
        # By rows: channels may be too few for a vector.
        return _squares(error.reshape(error.shape[:2] + (-1,)))

      target = observation[name].reshape((-1,) + space.shape)
      weight = weights[name].reshape((-1,) + space.shape[:2])
      errors = self._deconvolve(name, latent, error, target, weight)
      losses['image'] = losses.get('image', 0.0) + errors.reshape(batch)
    if self._vectors:
      target = _encode_vectors(self._vectors, observation)
      errors = _squares(
        (self._mlp(latent) - target).reshape(-1, sum(self._sizes))
      )
      losses['vector'] = errors.reshape(batch)
    return losses

  def _deconvolve(
    self,
    name: str,
    latent: tuple[linear.OneHots, Array],
    finish: Callable[..., Array],
    *inputs: Array,
  ) -> Array:
    """z and h to what `finish` makes of images' differences from their mean.

    Args:
      name: of the images.
      latent: [..., any], N of them.
      finish: takes float32 [n, rows, columns, channels * patch^2], as
        `_difference` has them, and as many inputs.
      *inputs: [N, ...].

    Returns:
      [N, ...].
    """
    shape, project = self._starts[name]
    x = project(linear.cast(latent, self._dtype)).reshape((-1,) + shape)
    layers = self._layers[name]
    if not self._has_patches:
      *layers, last_layer = layers
    for normalize, upsample in layers:
      image = (2 * x.shape[1], 2 * x.shape[2], upsample.channels)
      x = convolution.in_pieces(_layer(normalize, upsample), image, x)
    if self._has_patches:
      normalize, project = self._patches[name]
      return finish(project(normalize(x)).astype(jnp.float32), *inputs)

    def last(x, *inputs):
      return finish(_layer(*last_layer)(x).astype(jnp.float32), *inputs)

    image = (*self._fits[name].size, self._images[name].shape[-1])
    return convolution.in_pieces(last, image, x, *inputs)


def _difference(
  image: Array, space: spaces.Image, mean: Array, fitted: Fit
) -> Array:
  """By how much images differ from their mean, patch by patch.

  Args:
    image: uint8 [N, height, width, channels].
    space: theirs.
    mean: [height, width, channels].
    fitted: to their shape; where it fills them up, they do not differ.

  Returns:
    float32 [N, rows, columns, channels * patch^2].
  """
  # Images are moved as bytes.
  encoded = space.encode(_to_patches(image, fitted))
  black = space.encode(jnp.zeros((), space.dtype))
  return encoded - (_to_patches(mean[None] - black, fitted) + black)


def _to_patches(image: Array, fitted: Fit) -> Array:
  """[N, H, W, any], filled up with zeros, to [N, rows, columns, any]."""
  return to_patches(_fill_up(image, fitted.size), fitted.patch)


def _fill_up(x: Array, size: tuple[int, int]) -> Array:
  """Zeros below and at the right of [N, H, W, C], up to this size."""
  height, width = size
  missing = (height - x.shape[1], width - x.shape[2])
  if not any(missing):
    return x
  return jnp.pad(x, ((0, 0), *((0, n) for n in missing), (0, 0)))


def to_patches(x: Array, size: int) -> Array:
  """Cuts [N, H, W, C] into squares: [N, H / size, W / size, C size^2]."""
  n, height, width, channels = x.shape
  x = x.reshape(n, height // size, size, width // size, size, channels)
  return x.swapaxes(2, 3).reshape(n, height // size, width // size, -1)


def from_patches(x: Array, size: int) -> Array:
  """The inverse of `to_patches`."""
  n, rows, columns, _ = x.shape
  x = x.reshape(n, rows, columns, size, size, -1).swapaxes(2, 3)
  return x.reshape(n, rows * size, columns * size, -1)


def _layer(
  prepare: Callable[[Array], Array], convolve: Callable[[Array], Array]
) -> Callable[[Array], Array]:
  """One after the other; for the gradient only its input is kept."""
  return hk.remat(lambda x: convolve(prepare(x)), prevent_cse=False)


def _squares(x: Array) -> Array:
  """Sum of squares of each of [N, ...]: [N]."""
  x = jnp.square(x)
  while x.ndim > 1:
    x = reductions.row_sums(x)
  return x


def _encode_vectors(space: Spaces, observation: Observation) -> Array:
  return jnp.concatenate(
    [x.encode(observation[n]) for n, x in space.items()], -1
  )
