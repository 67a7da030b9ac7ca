"""Environments of a user's own: a function that makes them, or its name."""

from collections.abc import Callable
import difflib
import functools
import importlib
import re
import sys
from typing import Any

import dm_env

from acme_hieros.environments import (
  construction,
  foreign,
  modules,
  wrappers,
)

Factory = Callable[..., Any]

# Before the name of a function that no name leads to.
_NAMELESS = 'factory/'

_DOTTED = r'[^\W\d]\w*(?:\.[^\W\d]\w*)*'
_NAME = re.compile(f'({_DOTTED}):({_DOTTED})')


def is_own(environment: Any) -> bool:
  """Whether it is no name of a family's."""
  return (
    not isinstance(environment, str)
    or environment.startswith(_NAMELESS)
    or _NAME.fullmatch(environment) is not None
  )


def environment_name(environment: str | Factory) -> str:
  """The name of an environment, or of a function that makes environments.

  It is the one by which the function can be found again, if there is any.
  """
  if isinstance(environment, str):
    return environment
  module = getattr(environment, '__module__', None) or '__main__'
  named = environment if hasattr(environment, '__qualname__') else None
  name = f'{module}:{(named or type(environment)).__qualname__}'
  return name if _leads_to(name, environment) else _NAMELESS + name


def module_of(name: str) -> str | None:
  """The module that is imported for the name."""
  match = _NAME.fullmatch(name)
  return match and match[1]


def make(
  environment: str | Factory, seed: int, options: dict[str, Any]
) -> dm_env.Environment:
  """Makes an environment by a function, or by its name.

  Args:
    environment: 'package.module:function', or the function.
    seed: What the function gets if it has a parameter `seed`; of a Gymnasium
      environment, the seed of the first reset.
    options: For the function; and those of all (`construction.construct`).

  Raises:
    ValueError: There is no such function, it does not take these options, it
      returns something else, or a package is missing.
  """
  if not isinstance(environment, str) and not callable(environment):
    raise ValueError(
      f'environment={environment!r} will not do: it has to be a name, or a '
      'function that makes environments, of which there are several.'
    )
  name = environment_name(environment)
  try:
    factory = _find(name) if isinstance(environment, str) else environment
    parameters = construction.parameters_of(factory)
    own, image_size, common = construction.split(
      name, options, factory, ['seed']
    )
    if 'seed' in parameters:
      own['seed'] = seed
    _check_call(name, factory, own)
    made = factory(**own)
  except ImportError as error:
    raise modules.not_installed(name, error) from error
  return wrappers.wrap(_adapted(name, made, seed, image_size), **common)


def _find(name: str) -> Factory:
  if name.startswith(_NAMELESS):
    raise ValueError(
      f'Environment {name!r} comes from a function that only the program has '
      'that ran it: give it the name package.module:function, or hand over the '
      'function in that program, as in load(workdir, environment=function).'
    )
  module_name, function = _NAME.fullmatch(name).groups()
  module = modules.import_module(name, module_name)
  try:
    found = _attribute(module, function)
  except AttributeError as error:
    near = difflib.get_close_matches(function, dir(module), 1)
    raise ValueError(
      f'Environment {name!r}: the module {module_name!r} has no {function!r}'
      + (f'; did you mean {near[0]!r}?' if near else '.')
    ) from error
  if not callable(found):
    raise ValueError(
      f'Environment {name!r}: {function!r} is no function that makes '
      f'environments, but a {type(found).__name__}.'
    )
  return found


def _attribute(module: Any, path: str) -> Any:
  return functools.reduce(getattr, path.split('.'), module)


def _leads_to(name: str, factory: Factory) -> bool:
  """Whether another program would find it by the name."""
  match = _NAME.fullmatch(name)
  if match is None or match[1] == '__main__' or match[1] not in sys.modules:
    return False
  try:
    return _attribute(sys.modules[match[1]], match[2]) is factory
  except AttributeError:
    return False


def _check_call(name: str, factory: Factory, options: dict[str, Any]):
  """Raises ValueError for parameters that have to be given."""
  for parameter in construction.parameters_of(factory).values():
    needed = parameter.default is parameter.empty and parameter.kind not in (
      parameter.VAR_POSITIONAL,
      parameter.VAR_KEYWORD,
    )
    if needed and parameter.kind is parameter.POSITIONAL_ONLY:
      raise ValueError(
        f'Environment {name!r} takes {parameter.name!r} by its place alone, '
        'and options are given by name: leave out the / behind it.'
      )
    if needed and parameter.name not in options:
      raise ValueError(
        f'Environment {name!r} needs its option {parameter.name!r}: give it a '
        f'value, as by --env_option={parameter.name}=value, or by '
        f'environment_options={{{parameter.name!r}: value}} from Python.'
      )


def _adapted(
  name: str, made: Any, seed: int, image_size: int | str | None
) -> dm_env.Environment:
  if isinstance(made, dm_env.Environment):
    return foreign.checked(made, image_size)
  # Late: importing it takes a while.
  adapter = importlib.import_module(
    'acme_hieros.environments.gymnasium_adapter'
  )
  if isinstance(made, adapter.gymnasium.Env):
    return adapter.GymnasiumAdapter(made, seed, image_size)
  raise ValueError(
    f'Environment {name!r}: the function returned a {type(made).__name__}, '
    'where a dm_env.Environment or a gymnasium.Env is wanted.'
  )
