"""Encoders and decoders: observations by name to numbers, and z and h back.

Images go through convolutions that halve their sides, vectors through an MLP.
What an image always shows is taken off it: both sides see and say only by how
much it differs from its running mean.
"""

from collections.abc import Callable, Mapping
import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.config import WorldModelConfig
from acme_hieros.models import mlp, spaces
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


def halvings(config: WorldModelConfig) -> int:
  """How often the encoder halves an image's sides, after cutting patches."""
  return len(config.cnn_depths) - (config.patch_size > 1)


def cell_count(config: WorldModelConfig, space: spaces.Image) -> int:
  """Parts of an image of which the last convolution makes one vector each."""
  stride = config.patch_size * 2 ** halvings(config)
  return math.prod(side // stride for side in space.shape[:2])


def check_images(config: WorldModelConfig, observation: Spaces):
  """Raises ValueError, in one sentence, where an image does not fit."""
  stride = config.patch_size * 2 ** halvings(config)
  for name, space in images(observation).items():
    shape = space.shape
    if any(side % stride for side in shape[:2]):
      patches = ''
      if config.patch_size > 1:
        patches = f'patches of {config.patch_size} pixels and '
      height, width = (
        max(1, round(side / stride)) * stride for side in shape[:2]
      )
      raise ValueError(
        f'No encoder fits the observation {name!r} of shape {shape}, [height, '
        f'width, channels]: {patches}{halvings(config)} halvings '
        f'(world_model.cnn_depths) need sides that are multiples of {stride}; '
        f'resize it, for example to {height} x {width}.'
      )
    cells = cell_count(config, space)
    if config.cell_latents and config.categoricals % cells:
      raise ValueError(
        f'The observation {name!r} of shape {shape} is encoded as {cells} '
        f'cells: cell_latents needs world_model.categoricals='
        f'{config.categoricals} to be a multiple of that.'
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
    new = jnp.mean(space[name].encode(observation[name]), (0, 1))
    params[module] = {'mean': mean + rate * (new - mean)}
  return params


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
  image = image.astype(jnp.float32)
  distance = jnp.abs(image - jnp.mean(image, 1, keepdims=True))
  changed = (jnp.max(distance, -1) > _CHANGE).astype(jnp.float32)
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
    self._spaces = observation
    self._means = means
    self._dtype = dtype
    self._patch_size = config.patch_size
    self._images, self._vectors = images(observation), vectors(observation)
    first, depths = config.cnn_depths[0], config.cnn_depths
    if config.patch_size > 1:
      depths = depths[1:]
    self._patches = {name: linear.Linear(first) for name in self._images}
    self._layers = {
      name: [
        (convolution.Downsample(depth), normalization.LayerNorm(silu=True))
        for depth in depths
      ]
      for name in self._images
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
    mean = self._means(name)

    def prepare(x):
      return (self._spaces[name].encode(x) - mean).astype(self._dtype)

    x = image
    if self._patch_size > 1:
      x = self._patches[name](to_patches(prepare(x), self._patch_size))
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
    self._spaces = observation
    self._means = means
    self._dtype = dtype
    self._patch_size = config.patch_size
    self._images, self._vectors = images(observation), vectors(observation)
    depths = config.cnn_depths
    scale = config.patch_size * 2 ** halvings(config)
    self._starts = {}
    self._layers = {}
    self._patches = {}
    for name, space in self._images.items():
      height, width, channels = space.shape
      start = (height // scale, width // scale, depths[-1])
      self._starts[name] = start, linear.Linear(math.prod(start))
      outputs = list(depths[-2::-1])
      if self._patch_size == 1:
        outputs.append(channels)
      else:
        self._patches[name] = (
          normalization.LayerNorm(silu=True),
          linear.Linear(channels * self._patch_size**2),
        )
      self._layers[name] = [
        (
          normalization.LayerNorm(silu=True),
          # Layer normalisation follows all but an image.
          convolution.Upsample(
            depth, with_bias=self._patch_size == 1 and i == len(outputs) - 1
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
    for name in self._images:
      x = self._deconvolve(name, latent, lambda x: x)
      decoded[name] = x.reshape(batch + self._spaces[name].shape)
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
    for name in self._images:
      # Of each piece: neither images nor errors are ever there as a whole.
      def error(x, target, weight, name=name):
        target = self._spaces[name].encode(target)
        error = (x - target) * jnp.sqrt(weight)[..., None]
        # By rows of pixels: channels may be too few for a vector.
        return _squares(error.reshape(error.shape[:2] + (-1,)))

      shape = self._spaces[name].shape
      target = observation[name].reshape((-1,) + shape)
      weight = weights[name].reshape((-1,) + shape[:2])
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
    """z and h to what `finish` makes of images.

    Args:
      name: of the images.
      latent: [..., any], N of them.
      finish: takes float32 [n, height, width, channels] and as many inputs.
      *inputs: [N, ...].

    Returns:
      [N, ...].
    """
    shape, project = self._starts[name]
    mean = self._means(name)
    x = project(linear.cast(latent, self._dtype)).reshape((-1,) + shape)
    layers = self._layers[name]
    if self._patch_size == 1:
      *layers, last_layer = layers
    for normalize, upsample in layers:
      image = (2 * x.shape[1], 2 * x.shape[2], upsample.channels)
      x = convolution.in_pieces(_layer(normalize, upsample), image, x)

    if self._patch_size > 1:
      normalize, project = self._patches[name]
      x = from_patches(project(normalize(x)), self._patch_size)
      return finish(x.astype(jnp.float32) + mean, *inputs)

    def last(x, *inputs):
      return finish(_layer(*last_layer)(x).astype(jnp.float32) + mean, *inputs)

    return convolution.in_pieces(last, self._spaces[name].shape, x, *inputs)


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
