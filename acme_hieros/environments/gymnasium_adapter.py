"""Gymnasium's environments as `dm_env` ones."""

from collections.abc import Callable, Mapping
import contextlib
import functools
import inspect
from typing import Any, NamedTuple

from dm_env import specs
import gymnasium
from gymnasium import spaces
import numpy as np

from acme_hieros.environments import base, checking, seeing


class GymnasiumAdapter(base.EpisodicEnvironment):
  """A Gymnasium environment with the interface of `dm_env`.

  Spaces become specs as follows, for observations and actions alike:

  - Box: BoundedArray, or Array if no float is bounded; floats are float32, and
    other dtypes stay what they are.
  - Discrete: DiscreteArray, int32, counted from 0 wherever the space starts.
  - MultiDiscrete: BoundedArray, int32, counted from 0 likewise.
  - MultiBinary: BoundedArray, int32.
  - Dict: dict, its keys as words.
  - Tuple: dict with the keys '0', '1', ...

  Actions are clipped to the bounds of a Box and cast to the space's dtype. What
  the environment returns has to be what its space says (`checking.Checker`),
  and is then made what agents want (`seeing.as_agents_want`).
  """

  def __init__(
    self,
    environment: gymnasium.Env,
    seed: int | None = None,
    image_size: int | str | None = None,
  ):
    """Wraps the environment, which it owns from now on.

    Args:
      environment: The environment to wrap.
      seed: What to seed the first reset with; later resets continue from there.
      image_size: Longest side of images; see `seeing.as_agents_want`.

    Raises:
      ValueError: One of the environment's spaces is of an unsupported kind.
    """
    for space in ('observation_space', 'action_space'):
      if not isinstance(getattr(environment, space, None), gymnasium.Space):
        raise ValueError(
          f'Environment {_name(environment)!r} has no {space}, by which agents '
          'know what it shows and takes.'
        )
    for reset in (environment.reset, environment.unwrapped.reset):
      if not _takes_seed(reset):
        raise ValueError(
          f'Environment {_name(environment)!r} has a reset() without a seed: '
          'it is written for an older interface than Gymnasium, whose '
          'reset(seed=None, options=None) returns observation and information.'
        )
    self._environment = environment
    self._seed = seed
    self._observation = _codec(environment.observation_space, 'observation')
    self._action = _codec(environment.action_space, 'action')
    self._name = _name(environment)
    self._checker = checking.Checker(
      self._name,
      self._observation.spec,
      functools.partial(seeing.as_agents_want, image_size=image_size),
    )

  def _reset(self) -> Any:
    returned = self._environment.reset(seed=self._seed)
    self._seed = None
    if not (
      isinstance(returned, tuple)
      and len(returned) == 2
      and isinstance(returned[1], Mapping | None)
    ):
      raise self._of_another_interface(
        'reset', 'the observation and a dict of information'
      )
    return self._observation.encode(returned[0])

  def _step(self, action: Any) -> base.Transition:
    returned = self._environment.step(self._action.decode(action))
    if not (isinstance(returned, tuple) and len(returned) == 5):
      raise self._of_another_interface(
        'step', 'observation, reward, terminated, truncated and information'
      )
    observation, reward, terminated, truncated, _ = returned
    return self._observation.encode(observation), reward, terminated, truncated

  def _of_another_interface(
    self, method: str, wanted: str
  ) -> checking.UnfitValueError:
    return checking.UnfitValueError(
      f'Environment {self._name!r} returned from {method}() something else '
      f'than Gymnasium wants, a tuple of {wanted}: it may be written for '
      'an older interface.'
    )

  def observation_spec(self) -> Any:
    return self._checker.observation_spec

  def action_spec(self) -> Any:
    return self._action.spec

  def close(self) -> None:
    self._environment.close()


def _name(environment: gymnasium.Env) -> str:
  """Its id; of one that was not made by an id, its class."""
  if environment.spec:
    return environment.spec.id
  return type(environment.unwrapped).__name__


def _takes_seed(reset: Callable[..., Any]) -> bool:
  parameters = inspect.signature(reset).parameters.values()
  return any(p.name == 'seed' or p.kind is p.VAR_KEYWORD for p in parameters)


class _Codec(NamedTuple):
  """How values of a Gymnasium space look to a user of `dm_env`."""

  spec: Any
  # From Gymnasium: nested as the spec is, and counted from 0. Types and shapes
  # are as they come, right or wrong.
  encode: Callable[[Any], Any]
  # To Gymnasium.
  decode: Callable[[Any], Any]


def _codec(space: spaces.Space, name: str) -> _Codec:
  """Returns the codec of a space, or raises ValueError if there is none."""
  if isinstance(space, spaces.Dict):
    return _nested_codec(dict(space.spaces), name, dict)
  if isinstance(space, spaces.Tuple):
    children = {str(i): child for i, child in enumerate(space.spaces)}
    return _nested_codec(children, name, lambda values: tuple(values.values()))
  if isinstance(space, spaces.Box):
    return _box_codec(space, name)
  if isinstance(space, spaces.Discrete):
    start = int(space.start)
    return _Codec(
      specs.DiscreteArray(int(space.n), np.int32, name=name),
      lambda value: _from_zero(value, start),
      lambda value: space.dtype.type(int(value) + start),
    )
  if isinstance(space, spaces.MultiDiscrete):
    return _Codec(
      specs.BoundedArray(space.shape, np.int32, 0, space.nvec - 1, name),
      lambda value: _from_zero(value, space.start),
      lambda value: (np.asarray(value) + space.start).astype(space.dtype),
    )
  if isinstance(space, spaces.MultiBinary):
    return _Codec(
      specs.BoundedArray(space.shape, np.int32, 0, 1, name),
      lambda value: value,
      lambda value: np.asarray(value).astype(space.dtype),
    )
  raise ValueError(
    f'The space {space} of {name!r} is not supported: use Box, Discrete, '
    'MultiDiscrete, MultiBinary, or a Dict or Tuple of them, and leave out '
    'what is none of these in a wrapper of the environment.'
  )


def _box_codec(space: spaces.Box, name: str) -> _Codec:
  is_float = np.issubdtype(space.dtype, np.floating)
  dtype = np.float32 if is_float else space.dtype
  if is_float and np.isinf(space.low).all() and np.isinf(space.high).all():
    spec = specs.Array(space.shape, dtype, name)
  else:
    # Bounds beyond float32 are infinite in it.
    with np.errstate(over='ignore'):
      spec = specs.BoundedArray(
        space.shape,
        dtype,
        space.low.astype(dtype),
        space.high.astype(dtype),
        name,
      )
  return _Codec(
    spec,
    lambda value: value,
    lambda value: np.clip(value, space.low, space.high).astype(space.dtype),
  )


def _from_zero(value: Any, start: Any) -> Any:
  """Integers that are counted from `start`, or whatever else it may be."""
  with contextlib.suppress(Exception):
    array = np.asanyarray(value)
    if array.dtype.kind in 'iu':
      # Of unsigned ones there is nothing below 0.
      return array.astype(np.int64) - start
  return value


def _nested_codec(
  children: dict[Any, spaces.Space],
  name: str,
  container: Callable[[dict[Any, Any]], Any],
) -> _Codec:
  codecs = {
    key: _codec(child, f'{name}/{key}') for key, child in children.items()
  }
  # Keys need not be words, nor anything that could be sorted.
  words = {key: str(key) for key in children}
  if len(set(words.values())) < len(words):
    raise ValueError(
      f'The keys {list(children)} of {name!r} are not all different as words: '
      'rename some in a wrapper of the environment.'
    )

  def encode(value):
    if isinstance(value, (tuple, list)) and container is not dict:
      value = {str(i): part for i, part in enumerate(value)}
    if not isinstance(value, Mapping):
      return value
    return {
      words.get(key, key): codecs[key].encode(part) if key in codecs else part
      for key, part in value.items()
    }

  def decode(value):
    return container(
      {key: codec.decode(value[words[key]]) for key, codec in codecs.items()}
    )

  return _Codec(
    {words[key]: codec.spec for key, codec in codecs.items()}, encode, decode
  )
