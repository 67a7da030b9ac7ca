"""What a level sees and does, free of any environment library.

Observations are dicts of named arrays; each name has one of the spaces `Image`,
`Vector` or `OneHot`. Actions are `Discrete`, `Continuous` or a `Joint` of such.
The upper levels use the same spaces as the environment, so a level cannot tell
which it is.
"""

from collections.abc import Callable, Mapping
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
  """One choice, or an array of choices, each among `classes`.

  sizes: of how many each really is, where that differs; no more than `classes`.
  minimum: the least value of each, where that is not 0.
  """

  shape: tuple[int, ...]
  classes: int
  dtype: np.dtype = np.dtype(np.int32)
  sizes: tuple[int, ...] = ()
  minimum: tuple[int, ...] = ()

  @property
  def has_choices(self) -> bool:
    """Whether an actor learns anything of it by how it turned out."""
    return True

  @property
  def has_numbers(self) -> bool:
    """Whether it learns anything of it through what follows from it."""
    return False

  @property
  def num_choices(self) -> int:
    return math.prod(self.shape)

  @property
  def size(self) -> int:
    return self.num_choices * self.classes

  @property
  def most_entropy(self) -> float:
    """That of uniform choices, in nats."""
    if self.sizes:
      return sum(map(math.log, self.sizes))
    return self.num_choices * math.log(self.classes)

  def encode(self, action: Array) -> Array:
    """Values [..., *shape] to float32 one-hot [..., size]."""
    if self.minimum:
      action = action.astype(np.int32) - np.reshape(self.minimum, self.shape)
    return OneHot(self.shape, self.classes).encode(action)

  def decode(self, onehot: Array) -> Array:
    """One-hot [..., size] to values [..., *shape]."""
    onehot = onehot.reshape(onehot.shape[:-1] + self.shape + (self.classes,))
    index = jnp.argmax(onehot, -1)
    if self.sizes:
      # Rounding could have drawn a class that there is not.
      index = jnp.minimum(index, np.reshape(self.sizes, self.shape) - 1)
    if self.minimum:
      index += np.reshape(self.minimum, self.shape)
    return index.astype(jax.dtypes.canonicalize_dtype(self.dtype))

  def zeros(self, batch: tuple[int, ...]) -> Array:
    """Actions [*batch, *shape] that stand for none."""
    dtype = jax.dtypes.canonicalize_dtype(self.dtype)
    return jnp.zeros(batch + self.shape, dtype)

  def to_numpy(self, action: Array) -> np.ndarray:
    """A copy as the environment wants it: JAX has no 64 bits."""
    return np.array(action, self.dtype)


class Continuous(NamedTuple):
  """A box; the actor works in [-1, 1], the environment within its bounds.

  Where there is but one bound, [-1, 1] lies beside it; where there is none,
  actions are taken as they are.
  """

  shape: tuple[int, ...]
  minimum: tuple[float, ...]
  maximum: tuple[float, ...]
  dtype: np.dtype = np.dtype(np.float32)

  @property
  def has_choices(self) -> bool:
    return False

  @property
  def has_numbers(self) -> bool:
    return True

  @property
  def most_entropy(self) -> float:
    """0: that of numbers has no end, and is not held."""
    return 0.0

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  def _centre_and_scale(self) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.asarray(self.minimum), np.asarray(self.maximum)
    above, below = _is_bound(low), _is_bound(high)
    low, high = (
      np.where(above, low, np.where(below, high - 2.0, -1.0)),
      np.where(below, high, np.where(above, low + 2.0, 1.0)),
    )
    low, high = np.where(high > low, (low, high), ((-1.0,), (1.0,)))
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

  def zeros(self, batch: tuple[int, ...]) -> Array:
    """Actions [*batch, *shape] that stand for none."""
    dtype = jax.dtypes.canonicalize_dtype(self.dtype)
    return jnp.zeros(batch + self.shape, dtype)

  def to_numpy(self, action: Array) -> np.ndarray:
    """A copy as the environment wants it: JAX has no 64 bits."""
    return np.array(action, self.dtype)


def _is_bound(x: Any) -> np.ndarray:
  # The largest float also stands for none, and DM Control's 1e10.
  return np.abs(x) < 1e9


class Joint(NamedTuple):
  """Several actions at once.

  parts: what they are of, by their paths, 'a/b'.
  nest: dicts, lists and tuples of these paths, as the environment nests what
    they stand for.
  """

  parts: Mapping[str, Discrete | Continuous]
  nest: Any

  @property
  def has_choices(self) -> bool:
    return any(part.has_choices for part in self.parts.values())

  @property
  def has_numbers(self) -> bool:
    return any(part.has_numbers for part in self.parts.values())

  @property
  def size(self) -> int:
    return sum(part.size for part in self.parts.values())

  @property
  def most_entropy(self) -> float:
    """That of uniform choices, in nats; 0 if there are numbers as well."""
    if self.has_numbers:
      return 0.0
    return sum(part.most_entropy for part in self.parts.values())

  def encode(self, action: Any) -> Array:
    """Nested arrays [..., *shape] to float32 [..., size]."""
    flat = flatten_observation(action)
    encoded = [part.encode(flat[name]) for name, part in self.parts.items()]
    return jnp.concatenate(encoded, -1)

  def decode(self, action: Array) -> Any:
    """The inverse of `encode`, clipped to the environment's bounds."""
    ends = np.cumsum([part.size for part in self.parts.values()])
    encoded = jnp.split(action, ends[:-1], -1)
    decoded = [
      part.decode(x)
      for part, x in zip(self.parts.values(), encoded, strict=True)
    ]
    return self.nested(dict(zip(self.parts, decoded)))

  def zeros(self, batch: tuple[int, ...]) -> Any:
    """Actions [*batch, ...] that stand for none."""
    return self.nested(
      {name: part.zeros(batch) for name, part in self.parts.items()}
    )

  def to_numpy(self, action: Any) -> Any:
    """A copy as the environment wants it: JAX has no 64 bits."""
    flat = flatten_observation(action)
    return self.nested(
      {name: part.to_numpy(flat[name]) for name, part in self.parts.items()}
    )

  def nested(self, values: Mapping[str, Any]) -> Any:
    """Something of each part by its path, nested as actions are."""
    return _map_nest(values.__getitem__, self.nest)


def _map_nest(function: Callable[[Any], Any], nest: Any) -> Any:
  """The same nest with what a function makes of all in it."""
  if isinstance(nest, Mapping):
    return {key: _map_nest(function, child) for key, child in nest.items()}
  if isinstance(nest, (list, tuple)):
    make = getattr(type(nest), '_make', type(nest))
    return make([_map_nest(function, child) for child in nest])
  return function(nest)


ObservationSpace = Image | Vector | OneHot
ActionSpace = Discrete | Continuous | Joint


def is_unbounded(action: ActionSpace) -> bool:
  """Whether any of its numbers lacks a bound."""
  parts = action.parts.values() if isinstance(action, Joint) else (action,)
  return any(
    not np.all(_is_bound((part.minimum, part.maximum)))
    for part in parts
    if isinstance(part, Continuous)
  )


# Together at most; integers up to there are float32 as they are.
_MOST_CHOICES = 2**20

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
  """Reads a (nested) dm_env action spec; ValueError if no actor fits it."""
  if not isinstance(spec, (Mapping, list, tuple)):
    return _single_action(spec, 'action')
  parts: dict[str, Discrete | Continuous] = {}

  def read(spec, name):
    def below(key, child):
      return read(child, f'{name}/{key}' if name else str(key))

    if isinstance(spec, Mapping):
      return {key: below(key, child) for key, child in spec.items()}
    if isinstance(spec, (list, tuple)):
      make = getattr(type(spec), '_make', type(spec))
      return make([below(i, child) for i, child in enumerate(spec)])
    path = name or SINGLE  # As `flatten_observation` has it.
    if path in parts:
      raise ValueError(f'Two actions are named {path!r}: rename one.')
    parts[path] = _single_action(spec, path)
    return path

  nest = read(spec, '')
  if not parts:
    raise ValueError('The action is empty: there is nothing to choose.')
  return Joint(parts, nest)


def _single_action(spec: Any, name: str) -> Discrete | Continuous:
  shape, dtype = tuple(spec.shape), np.dtype(spec.dtype)
  if hasattr(spec, 'num_values'):
    _check_choices(name, int(spec.num_values), math.prod(shape))
    return Discrete(shape, int(spec.num_values), dtype)
  if 0 in shape:
    raise ValueError(
      f'The action {name!r} of shape {shape} is empty: leave it out in a '
      'wrapper of the environment.'
    )
  if np.issubdtype(dtype, np.floating):
    minimum, maximum = (
      tuple(float(v) for v in np.broadcast_to(b, shape).ravel())
      for b in (
        getattr(spec, 'minimum', -np.inf),
        getattr(spec, 'maximum', np.inf),
      )
    )
    return Continuous(shape, minimum, maximum, dtype)
  if dtype.kind == 'b':
    return Discrete(shape, 2, dtype)
  if dtype.kind in 'iu' and hasattr(spec, 'maximum'):
    low, high = (
      [int(v) for v in np.broadcast_to(b, shape).ravel()]
      for b in (spec.minimum, spec.maximum)
    )
    sizes = tuple(most - least + 1 for least, most in zip(low, high))
    _check_choices(name, max(sizes), len(sizes))
    if max(map(abs, low)) < _MOST_CHOICES:
      return Discrete(
        shape,
        max(sizes),
        dtype,
        sizes if len(set(sizes)) > 1 else (),
        tuple(low) if any(low) else (),
      )
  raise ValueError(
    f'No actor fits the action {name!r} of shape {shape} and type {dtype}: '
    'actions are numbers of a floating-point type, or choices between whole '
    f'numbers, whose bounds have to be known and less than {_MOST_CHOICES}.'
  )


def _check_choices(name: str, classes: int, count: int):
  if classes * count > _MOST_CHOICES:
    raise ValueError(
      f'No actor fits the action {name!r} of {count} times {classes} choices, '
      'each of which is an output: give it as floating-point numbers, which a '
      'wrapper of the environment rounds, or as several digits.'
    )
