"""How the agent sees the arrays that an environment shows.

Whatever looks like an image becomes one: uint8 [height, width, channels], no
larger than it has to be. All else stays, but for integers beyond 32 bits.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from dm_env import specs
import numpy as np

from acme_hieros.environments import resize
from acme_hieros.models import images

# An `image_size` that shrinks nothing.
NATIVE = 'native'

# Longest side without an `image_size`: what the presets were made for.
_SIDE = 64

# JAX makes these of integers of 64 bits.
_NARROW = {np.dtype(np.int64): np.int32, np.dtype(np.uint64): np.uint32}

# Bounds of images lie within it; what is far beyond stands for none.
_MOST = 1e6


class Look(NamedTuple):
  """How the agent sees an array.

  spec: of what it sees.
  dtype: of the values that `see` takes.
  see: array to array; None where the agent sees the values themselves.
  note: what a user should know of it, to follow the array's name; or ''.
  """

  spec: specs.Array
  dtype: np.dtype
  see: Callable[[np.ndarray], np.ndarray] | None = None
  note: str = ''


def check_image_size(value: Any) -> int | str | None:
  """Returns an `image_size`, or raises ValueError if it will not do."""
  if value is None or value == NATIVE:
    return value
  is_integer = isinstance(value, (int, np.integer))
  if is_integer and not isinstance(value, bool) and value >= 1:
    return int(value)
  raise ValueError(
    f'image_size={value!r} will not do: it has to be the longest side of '
    f'images in pixels, an integer of at least 1, or {NATIVE!r}.'
  )


def as_it_is(spec: specs.Array) -> Look:
  """For what is as the agent wants it already."""
  return Look(spec, np.dtype(spec.dtype))


def as_agents_want(
  spec: specs.Array, image_size: int | str | None = None
) -> Look:
  """For what an environment of somebody else shows.

  Images are found by shape, type and bounds. They may have no channels, or
  these first, or be stacked, [count, height, width, channels]; frames of a
  stack become channels. Numbers of other types that have finite bounds become
  256 shades between these.

  Args:
    spec: of the array.
    image_size: longest side of an image in pixels; longer ones are shrunk to
      it. NATIVE for any; None for 64.
  """
  look = _narrow(spec)
  if not _is_image(spec):
    return look._replace(note=_note_of_matrix(spec))
  steps, notes = [], []
  if spec.dtype != np.uint8:
    look, step = _shade(spec)
    steps.append(step)
    low, high = _bounds(spec)
    if look.dtype.kind == 'f' or np.max(high - low) > 255:
      notes.append(
        f'of type {spec.dtype} becomes an image of 256 shades, from '
        f'{np.min(low):g} to {np.max(high):g}'
      )
  shape = tuple(look.spec.shape)
  if images.laid_out(shape) != shape:
    steps.append(_lay)
    look = look._replace(spec=_change(look.spec, _lay))
  height, width, channels = look.spec.shape
  side = {None: _SIDE, NATIVE: max(height, width)}.get(image_size, image_size)
  size = min(height, side), min(width, side)
  if size != (height, width):
    steps.append(resize.AreaResize((height, width), size))
    look = look._replace(
      spec=specs.BoundedArray(
        (*size, channels), np.uint8, 0, 255, look.spec.name
      )
    )
    notes.append(
      f'of {height} x {width} pixels is shrunk to {size[0]} x {size[1]} (the '
      f'option image_size={NATIVE} leaves it, image_size=N makes N the longest '
      'side)'
    )
  if not steps:
    return look

  def see(array):
    for step in steps:
      array = step(array)
    return array

  return look._replace(see=see, note=' and '.join(notes))


def _note_of_matrix(spec: specs.Array) -> str:
  """Of what is no image: whether it might have been one."""
  if len(spec.shape) != 2:
    return ''
  if images.may_be_gray(spec.shape):
    why = 'bounds'
  elif spec.dtype == np.uint8 and min(spec.shape) >= images.LEAST_SIDE:
    why = 'sides'
  else:
    return ''
  return f'of shape {spec.shape} is no image by its {why}, but a vector'


def _is_image(spec: specs.Array) -> bool:
  shape, dtype = tuple(spec.shape), np.dtype(spec.dtype)
  if dtype.kind not in 'biuf' or 0 in shape:
    return False
  low, high = _bounds(spec)
  if len(shape) == 2:
    # Most matrices are none.
    shades = (1.0, 255.0) if dtype.kind == 'f' else (255.0,)
    return (
      images.may_be_gray(shape)
      and (low == 0).all()
      and any((high == most).all() for most in shades)
    )
  bounded = dtype == np.uint8 or bool((np.maximum(-low, high) < _MOST).all())
  return len(shape) in (3, 4) and bounded


def _bounds(spec: specs.Array) -> tuple[np.ndarray, np.ndarray]:
  dtype = np.dtype(spec.dtype)
  if hasattr(spec, 'minimum'):
    return np.asarray(spec.minimum, float), np.asarray(spec.maximum, float)
  # Of the others nobody can know how much of their range is used.
  low, high = {'bool': (0, 1), 'uint8': (0, 255)}.get(
    dtype.name, (-np.inf, np.inf)
  )
  return np.asarray(low, float), np.asarray(high, float)


def _narrow(spec: specs.Array) -> Look:
  """Integers that need more than JAX's 32 bits are seen as float32."""
  limits = _NARROW.get(np.dtype(spec.dtype))
  if limits is None or (
    hasattr(spec, 'minimum')
    and np.iinfo(limits).min <= np.min(spec.minimum)
    and np.max(spec.maximum) <= np.iinfo(limits).max
  ):
    return as_it_is(spec)
  dtype = np.dtype(np.float32)
  if not hasattr(spec, 'minimum'):
    return Look(specs.Array(spec.shape, dtype, spec.name), dtype)
  return Look(_change(spec, lambda x: x.astype(dtype)), dtype)


def _shade(
  spec: specs.Array,
) -> tuple[Look, Callable[[np.ndarray], np.ndarray]]:
  """Numbers within finite bounds as whole ones from 0 to 255."""
  dtype = np.dtype(spec.dtype)
  if dtype.kind == 'f':
    dtype = np.dtype(np.float32)
  low, high = (x.astype(np.float32) for x in _bounds(spec))
  if (low == low.flat[0]).all() and (high == high.flat[0]).all():
    low, high = low.flat[0], high.flat[0]
  scale = np.float32(255) / np.where(high > low, high - low, np.float32(np.inf))

  def shade(array):
    array = np.clip(array.astype(np.float32), low, high) - low
    return np.rint(array * scale).astype(np.uint8)

  seen = specs.BoundedArray(spec.shape, np.uint8, 0, 255, spec.name)
  return Look(seen, dtype), shade


def _lay(array: np.ndarray) -> np.ndarray:
  """[height, width, channels] of an image of any form, uint8 or another."""
  axes = images.axes(array.shape)
  others = [i for i in range(array.ndim) if i not in axes]
  shape = images.laid_out(array.shape)
  return np.ascontiguousarray(array.transpose((*axes, *others)).reshape(shape))


def _change(
  spec: specs.Array, change: Callable[[np.ndarray], np.ndarray]
) -> specs.Array:
  """The spec of what a change of form or type makes of arrays."""
  changed = change(np.empty(spec.shape, spec.dtype))
  if not hasattr(spec, 'minimum'):
    return specs.Array(changed.shape, changed.dtype, spec.name)
  low, high = (
    change(np.broadcast_to(bound, spec.shape))
    for bound in (spec.minimum, spec.maximum)
  )
  return specs.BoundedArray(changed.shape, changed.dtype, low, high, spec.name)
