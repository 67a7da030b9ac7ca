"""What a level sees and does, free of any environment library.

Observations are dicts of named arrays; each name has one of the spaces `Image`,
`Vector` or `OneHot`. Actions are `Discrete` or `Continuous`. The upper levels
use the same spaces as the environment, so a level cannot tell which it is.
"""

from collections.abc import Mapping
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.models import distributions, images
from acme_hieros.models.ops import linear

Array = jax.Array


class Image(NamedTuple):
  """uint8 [height, width, channels]."""

  shape: tuple[int, int, int]

  @property
  def dtype(self) -> np.dtype:
    return np.dtype(np.uint8)

  def encode(self, x: Array) -> Array:
    """uint8 to float32 in [-0.5, 0.5]."""
    return x.astype(jnp.float32) / 255.0 - 0.5


class Vector(NamedTuple):
  """Numbers of any shape; flattened, and compressed by symlog."""

  shape: tuple[int, ...]
  dtype: np.dtype = np.dtype(np.float32)

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  def encode(self, x: Array) -> Array:
    """[..., *shape] to float32 [..., size] in symlog space."""
    x = x.reshape(x.shape[: x.ndim - len(self.shape)] + (self.size,))
    return distributions.symlog(x.astype(jnp.float32))

  def inputs(self, x: Array) -> Array:
    """What a network takes in: `encode`."""
    return self.encode(x)


class OneHot(NamedTuple):
  """Indices in 0..classes-1, of any shape; index `classes` encodes as zeros."""

  shape: tuple[int, ...]
  classes: int
  dtype: np.dtype = np.dtype(np.int32)

  @property
  def size(self) -> int:
    return math.prod(self.shape) * self.classes

  def encode(self, x: Array) -> Array:
    """Indices [..., *shape] to float32 one-hot [..., size]."""
    value = self.inputs(x).value
    return value.reshape(value.shape[:-2] + (self.size,))

  def inputs(self, x: Array) -> linear.OneHots:
    """What a network takes in: choices [..., number of indices]."""
    batch = x.shape[: x.ndim - len(self.shape)]
    count = math.prod(self.shape)
    return linear.one_hots(x.reshape(batch + (count,)), self.classes)


class Discrete(NamedTuple):
  """One choice, or an array of choices, each among `classes`."""

  shape: tuple[int, ...]
  classes: int
  dtype: np.dtype = np.dtype(np.int32)

  @property
  def num_choices(self) -> int:
    return math.prod(self.shape)

  @property
  def size(self) -> int:
    return self.num_choices * self.classes

  def encode(self, action: Array) -> Array:
    """Indices [..., *shape] to float32 one-hot [..., size]."""
    return OneHot(self.shape, self.classes).encode(action)

  def decode(self, onehot: Array) -> Array:
    """One-hot [..., size] to indices [..., *shape]."""
    onehot = onehot.reshape(onehot.shape[:-1] + self.shape + (self.classes,))
    return jnp.argmax(onehot, -1).astype(
      jax.dtypes.canonicalize_dtype(self.dtype)
    )


class Continuous(NamedTuple):
  """A box; the actor works in [-1, 1], the environment within its bounds.

  Where the environment has no finite bounds its actions are taken as they are.
  """

  shape: tuple[int, ...]
  minimum: tuple[float, ...]
  maximum: tuple[float, ...]
  dtype: np.dtype = np.dtype(np.float32)

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  def _centre_and_scale(self) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.asarray(self.minimum), np.asarray(self.maximum)
    # The largest float also stands for no bound.
    finite = (np.abs(low) < 1e6) & (np.abs(high) < 1e6) & (high > low)
    low, high = np.where(finite, low, -1.0), np.where(finite, high, 1.0)
    return ((high + low) / 2).astype(np.float32), ((high - low) / 2).astype(
      np.float32
    )

  def encode(self, action: Array) -> Array:
    """Environment actions [..., *shape] to float32 [..., size] in [-1, 1]."""
    centre, scale = self._centre_and_scale()
    batch = action.shape[: action.ndim - len(self.shape)]
    action = action.astype(jnp.float32).reshape(batch + (self.size,))
    return (action - centre) / scale

  def decode(self, action: Array) -> Array:
    """The inverse of `encode`, clipped to the environment's bounds."""
    centre, scale = self._centre_and_scale()
    action = jnp.clip(
      action * scale + centre,
      np.asarray(self.minimum),
      np.asarray(self.maximum),
    )
    return action.reshape(action.shape[:-1] + self.shape).astype(
      jax.dtypes.canonicalize_dtype(self.dtype)
    )


ObservationSpace = Image | Vector | OneHot
ActionSpace = Discrete | Continuous

# The name of an observation that is a single array rather than a dict.
SINGLE = 'observation'


def observation_spaces(
  spec: Any, name: str = ''
) -> dict[str, ObservationSpace]:
  """Reads a (nested) dm_env observation spec as named spaces.

  Args:
    spec: an array spec (`shape`, `dtype`, `num_values` if discrete), or a
      mapping or sequence of such specs.
    name: path of `spec` within the whole observation.

  Returns:
    One space for each array, named by its path, 'a/b'.

  Raises:
    ValueError: no encoder fits one of the arrays.
  """
  if isinstance(spec, Mapping) or isinstance(spec, (list, tuple)):
    items = spec.items() if isinstance(spec, Mapping) else enumerate(spec)
    spaces: dict[str, ObservationSpace] = {}
    for key, child in items:
      found = observation_spaces(child, f'{name}/{key}' if name else str(key))
      if found.keys() & spaces.keys():
        raise ValueError(
          f'Two observations are named {min(found.keys() & spaces.keys())!r}.'
        )
      spaces.update(found)
    if not spaces:
      raise ValueError('The observation is empty: it has no array to encode.')
    return spaces
  name = name or SINGLE
  shape, dtype = tuple(spec.shape), np.dtype(spec.dtype)
  if hasattr(spec, 'num_values'):
    if spec.num_values > np.iinfo(np.int32).max:
      raise ValueError(
        f'No encoder fits the observation {name!r} of {spec.num_values} '
        'choices, each of which is an input; give it as numbers.'
      )
    return {name: OneHot(shape, int(spec.num_values), dtype)}
  if dtype == np.uint8 and 0 not in shape and _looks_like_an_image(spec):
    if images.laid_out(shape) != shape:
      raise ValueError(
        f'No encoder fits the observation {name!r} of shape {shape}, an image '
        'that is not [height, width, channels], here '
        f'{images.laid_out(shape)}, as acme_hieros.environments.checked makes '
        'it.'
      )
    return {name: Image(shape)}
  if dtype.kind in 'biuf' and len(shape) < 3 and 0 not in shape:
    return {name: Vector(shape, dtype)}
  raise ValueError(
    f'No encoder fits the observation {name!r} of shape {shape} and type '
    f'{dtype}: images are uint8 [height, width, channels], or have finite '
    'bounds and go through acme_hieros.environments.checked; anything else is '
    'a number, a vector or a matrix of numbers.'
  )


def _looks_like_an_image(spec: Any) -> bool:
  """Of a spec of uint8: whether it is no vector and no matrix."""
  if len(spec.shape) == 2:
    whole = np.all(np.asarray(getattr(spec, 'maximum', 255)) == 255)
    return images.may_be_gray(spec.shape) and bool(whole)
  return len(spec.shape) in (3, 4)


def flatten_observation(observation: Any, name: str = '') -> dict[str, Any]:
  """Names the arrays of an observation as `observation_spaces` does."""
  if isinstance(observation, Mapping) or isinstance(observation, (list, tuple)):
    items = (
      observation.items()
      if isinstance(observation, Mapping)
      else enumerate(observation)
    )
    flat = {}
    for key, child in items:
      flat.update(
        flatten_observation(child, f'{name}/{key}' if name else str(key))
      )
    return flat
  return {name or SINGLE: observation}


def action_space(spec: Any) -> ActionSpace:
  """Reads a dm_env action spec; raises ValueError if no actor fits it."""
  if isinstance(spec, (Mapping, list, tuple)):
    raise ValueError(
      'Nested action specs are not supported: the actor needs one array of '
      'choices or of numbers; flatten the action in an environment wrapper.'
    )
  shape, dtype = tuple(spec.shape), np.dtype(spec.dtype)
  if hasattr(spec, 'num_values'):
    return Discrete(shape, int(spec.num_values), dtype)
  if np.issubdtype(dtype, np.floating):
    minimum, maximum = (
      tuple(float(v) for v in np.broadcast_to(b, shape).ravel())
      for b in (
        getattr(spec, 'minimum', -np.inf),
        getattr(spec, 'maximum', np.inf),
      )
    )
    return Continuous(shape, minimum, maximum, dtype)
  if (
    np.issubdtype(dtype, np.integer)
    and hasattr(spec, 'maximum')
    and len(set(np.ravel(spec.maximum))) == 1
    and not np.any(spec.minimum)
  ):
    return Discrete(shape, int(np.ravel(spec.maximum)[0]) + 1, dtype)
  raise ValueError(
    f'No actor fits actions of shape {shape} and type {dtype}: they must be '
    'discrete (all choices from 0 and of equal number) or floating-point.'
  )
