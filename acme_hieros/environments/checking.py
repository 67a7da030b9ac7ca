"""What environments return, checked against their specs where it enters.

One number that is none spoils a replay for good, and NumPy's casts lose what
does not fit without a word. So nothing is cast here but what keeps its meaning:
floats are rounded, whole numbers get another type that holds them.
"""

from collections.abc import Callable, Mapping
from typing import Any
import warnings

from dm_env import specs
import numpy as np

from acme_hieros.environments import seeing

# The largest number; beyond it float32 says infinity.
_MOST = float(np.finfo(np.float32).max)

# How agents call an observation that is a single array.
_SINGLE = 'observation'

# Truth values, integers and floats.
_NUMBERS = 'biuf'

# Of a value that is shown.
_MOST_CHARACTERS = 60


class UnfitValueError(ValueError):
  """An environment returned what it should not; the message says what."""


# How the agent sees what has a spec.
Looking = Callable[[specs.Array], seeing.Look]
# The same of an array that has a name, of which a note is kept.
_Noted = Callable[[specs.Array, str], seeing.Look]


class Checker:
  """Checks everything that one environment returns.

  observation_spec: of checked observations, as the agent sees them.
  changes: whether it sees any array otherwise than the environment shows it.
  notes: a sentence on each array that it sees otherwise than a user might
    expect.
  """

  def __init__(
    self,
    name: str | None,
    observation_spec: Any,
    look: Looking = seeing.as_it_is,
  ):
    """Creates a checker.

    Args:
      name: of the environment, for the messages; None if nobody knows it.
      observation_spec: of what the environment returns, nested or not.
      look: how the agent sees each array of it.
    """
    who = 'The environment' if name is None else f'Environment {name!r}'
    self._who = f'{who} returned'
    self.notes: list[str] = []
    self.changes = False
    self._observation = _part(observation_spec, '', self._who, self._look(look))
    self.observation_spec = self._observation.spec

  def _look(self, look: Looking) -> _Noted:
    def noted(spec, what):
      found = look(spec)
      self.changes |= found.spec is not spec
      if found.note:
        self.notes.append(f'T{what[1:]} {found.note}.')
      return found

    return noted

  def observation(self, value: Any) -> Any:
    """A copy that is as `observation_spec` says.

    Numbers that are out of a float's bounds, which many environments overstep,
    and keys that the spec does not have, are worth one warning each.

    Raises:
      UnfitValueError: anything else is not as the spec says.
    """
    return self._observation.check(value)

  def reward(self, value: Any) -> np.float32:
    """The reward; raises UnfitValueError unless it is one finite number."""
    return self._number(value, 'reward')

  def discount(self, value: Any) -> np.float32:
    """The discount; raises UnfitValueError unless it lies in 0..1."""
    number = self._number(value, 'discount')
    if not 0 <= number <= 1:
      raise UnfitValueError(
        f'{self._who} the discount {number}: it has to lie between 0 and 1.'
      )
    return number

  def flag(self, value: Any, name: str) -> bool:
    """A truth value; raises UnfitValueError if it is none."""
    if value is True or value is False:
      return value
    array = _as_array(value)
    if array.size == 1 and array.dtype.kind in 'biu' and array.item() in (0, 1):
      return bool(array.item())
    raise UnfitValueError(
      f'{self._who} {name}={_brief(value)}: it has to be True or False.'
    )

  def _number(self, value: Any, what: str) -> np.float32:
    array = _as_array(value)
    if (
      array.shape == ()
      and array.dtype.kind in _NUMBERS
      and not _hides(value)
      and abs(float(array)) <= _MOST
    ):
      return np.float32(array)
    about = _brief(value)
    if array.shape:
      about += f' of shape {array.shape}'
    raise UnfitValueError(
      f'{self._who} the {what} {about}: it has to be one finite number.'
    )


class _Array:
  """One array of an observation."""

  def __init__(self, spec: specs.Array, name: str, who: str, look: _Noted):
    self._what = f'the observation {name or _SINGLE!r}'
    self._who = who
    found = look(spec, self._what)
    self.spec, self._see = found.spec, found.see
    self._shape, self._dtype = tuple(spec.shape), found.dtype
    self._is_float = self._dtype.kind == 'f'
    self._bounds = _bounds(spec, self._dtype)

  def check(self, value: Any) -> np.ndarray:
    array = _as_array(value)
    same = array.dtype == self._dtype
    if _hides(value) or not (same or array.dtype.kind in _NUMBERS):
      raise UnfitValueError(
        f'{self._who} {self._what} with values of type {array.dtype}, '
        f'{_brief(value)}, where {self._dtype} is wanted and all have to be '
        'there.'
      )
    if array.shape != self._shape:
      raise UnfitValueError(
        f'{self._who} {self._what} with the shape {array.shape}, where its '
        f'spec says {self._shape}.'
      )
    if not same:
      array = self._cast(array)
    if self._is_float and not _all_finite(array):
      raise UnfitValueError(
        f'{self._who} {self._what} with {_not_finite(_as_array(value))} in it: '
        'all numbers have to be finite.'
      )
    if self._bounds is not None:
      self._check_bounds(array)
    return array if self._see is None else self._see(array)

  def _cast(self, array: np.ndarray) -> np.ndarray:
    if self._is_float:
      with np.errstate(over='ignore'):  # It is found to be infinite later.
        return array.astype(self._dtype)
    # Nobody can know what 0.0 and 1.0 are meant to be among 256 shades.
    if self._dtype == np.uint8 and array.dtype.kind == 'f':
      raise UnfitValueError(
        f'{self._who} {self._what} as {array.dtype}{_range(array)}, where its '
        'spec says uint8: return pictures as whole numbers from 0 to 255, of '
        'type uint8, and declare anything else as float32.'
      )
    with np.errstate(invalid='ignore'):
      cast = array.astype(self._dtype)
    if not (cast == array).all():
      raise UnfitValueError(
        f'{self._who} {self._what} as {array.dtype}{_range(array)}, which '
        f'{self._dtype} of its spec cannot hold.'
      )
    return cast

  def _check_bounds(self, array: np.ndarray):
    low, high = self._bounds
    if (array >= low).all() and (array <= high).all():
      return
    bounds = f'from {_brief(low.min())} to {_brief(high.max())}'
    if not self._is_float:
      raise UnfitValueError(
        f'{self._who} {self._what}{_range(array)}, out of its bounds {bounds}.'
      )
    self._bounds = None
    taken = 'taken as it is' if self._see is None else 'cut off there'
    warnings.warn(
      f'{self._who} {self._what} out of its bounds {bounds}; it is {taken}.',
      stacklevel=3,
    )


class _Dict:
  """Parts of an observation by their keys."""

  def __init__(
    self, spec: Mapping[Any, Any], name: str, who: str, look: _Noted
  ):
    self._name, self._who = name, who
    self._parts = {key: _child(spec[key], name, key, who, look) for key in spec}
    self._dropped = False
    self.spec = {key: part.spec for key, part in self._parts.items()}

  def check(self, value: Any) -> dict[Any, Any]:
    missing = self._parts
    if isinstance(value, Mapping):
      missing = [key for key in self._parts if key not in value]
    if missing:
      raise UnfitValueError(
        f'{self._who} {_group(self._name)} without '
        f'{", ".join(repr(key) for key in missing)}: it has to be a dict of '
        f'{", ".join(repr(key) for key in self._parts)}.'
      )
    if len(value) > len(self._parts) and not self._dropped:
      self._dropped = True
      more = [repr(key) for key in value if key not in self._parts]
      warnings.warn(
        f'{self._who} {_group(self._name)} with {", ".join(more)}, which its '
        'spec does not have; the agent does not see it.',
        stacklevel=3,
      )
    return {key: part.check(value[key]) for key, part in self._parts.items()}


class _Sequence:
  """Parts of an observation in their order: a list, a tuple, a named one."""

  def __init__(self, spec: Any, name: str, who: str, look: _Noted):
    self._name, self._who = name, who
    self._parts = [
      _child(part, name, i, who, look) for i, part in enumerate(spec)
    ]
    self._make = getattr(type(spec), '_make', type(spec))
    self.spec = self._make([part.spec for part in self._parts])

  def check(self, value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != len(self._parts):
      raise UnfitValueError(
        f'{self._who} {_group(self._name)} as {_brief(value)}: it has to be a '
        f'tuple of {len(self._parts)}.'
      )
    return self._make(
      [part.check(v) for part, v in zip(self._parts, value, strict=True)]
    )


def _part(
  spec: Any, name: str, who: str, look: _Noted
) -> _Array | _Dict | _Sequence:
  if isinstance(spec, Mapping):
    return _Dict(spec, name, who, look)
  if isinstance(spec, (list, tuple)):
    return _Sequence(spec, name, who, look)
  return _Array(spec, name, who, look)


def _child(spec: Any, name: str, key: Any, who: str, look: _Noted):
  # As `spaces.observation_spaces` names them.
  return _part(spec, f'{name}/{key}' if name else str(key), who, look)


def _group(name: str) -> str:
  return f'the observation {name!r}' if name else 'an observation'


def _bounds(
  spec: specs.Array, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray] | None:
  """Bounds of what has been cast; None where nothing can be beyond them."""
  if not hasattr(spec, 'minimum') or dtype.kind not in 'iuf':
    return None
  low, high = np.asarray(spec.minimum, dtype), np.asarray(spec.maximum, dtype)
  least, most = -np.inf, np.inf
  if dtype.kind != 'f':
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
  if (low == least).all() and (high == most).all():
    return None
  return low, high


def _as_array(value: Any) -> np.ndarray:
  """A copy, since some environments reuse their buffers."""
  try:
    return np.array(value)
  except Exception:  # Rows of several lengths, or an array on a device.
    array = np.empty((), object)
    array[()] = value
    return array


def _hides(value: Any) -> bool:
  """Whether it is a masked array with masked entries."""
  return isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value)


def _all_finite(array: np.ndarray) -> bool:
  if array.dtype.itemsize <= 4:
    return bool(np.isfinite(array).all())
  return bool((np.abs(array) <= _MOST).all())


def _not_finite(array: np.ndarray) -> str:
  """Which number of an array is none."""
  if np.isnan(array).any():
    return 'nan'
  largest = array.flat[np.argmax(np.abs(array))]
  return f'{largest}' if np.isinf(largest) else f'{largest:.3g} (for float32)'


def _range(array: np.ndarray) -> str:
  if not array.size:
    return ''
  return f' from {_brief(array.min())} to {_brief(array.max())}'


def _brief(value: Any) -> str:
  if isinstance(value, np.generic) or getattr(value, 'shape', None) == ():
    text = str(value)
  else:
    text = repr(value)
  text = ' '.join(text.split())
  if len(text) <= _MOST_CHARACTERS:
    return text
  return text[: _MOST_CHARACTERS - 3] + '...'
