"""Options of environments: each has its own, and all have some in common."""

from collections.abc import Callable
import inspect
from typing import Any

import dm_env

from acme_hieros.environments import foreign, seeing, wrappers

# What every environment can be told, unless it means something else by it.
_COMMON = ('image_size', *wrappers.OPTIONS)

# Of parameters that take any number of arguments.
_ANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_NAMELESS = (*_ANY, inspect.Parameter.POSITIONAL_ONLY)


def construct(
  constructor: Callable[..., dm_env.Environment],
  name: str,
  options: dict[str, Any],
  **given: Any,
) -> dm_env.Environment:
  """Calls `constructor(**given, **options)`, having checked the options' names.

  Args:
    constructor: An environment class; its other parameters are its options.
    name: The environment's full name, for the error.
    options: What the user chose; `image_size` (see `foreign.checked`) and those
      of `wrappers.wrap` that are none of the constructor's are for all.
    **given: The parameters that are not for the user to choose.

  Returns:
    The environment.

  Raises:
    ValueError: There is no such option, or an option has a value that will not
      do.
  """
  own, image_size, common = split(name, options, constructor, given)
  made = foreign.checked(constructor(**given, **own), image_size)
  return wrappers.wrap(made, **common)


def split(
  name: str,
  options: dict[str, Any],
  constructor: Callable[..., Any],
  reserved: Any = (),
  more: tuple[str, ...] = (),
) -> tuple[dict[str, Any], int | str | None, dict[str, Any]]:
  """Tells an environment's own options from those of all environments.

  Args:
    name: The environment's full name, for the error.
    options: What the user chose.
    constructor: Its parameters are the environment's own options.
    reserved: Those of its parameters that are not for the user to choose.
    more: Own options that are no parameters.

  Returns:
    The environment's own, the `image_size` of all, and those for
    `wrappers.wrap`.

  Raises:
    ValueError: There is no such option.
  """
  parameters = parameters_of(constructor)
  takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
  accepted = [
    *more,
    *(p for p in parameters if parameters[p].kind not in _NAMELESS),
  ]
  accepted = [option for option in accepted if option not in reserved]
  common = [option for option in _COMMON if option not in accepted]
  for option in options:
    unknown = option not in (*accepted, *common) and not takes_all
    if unknown or option in reserved:
      raise ValueError(
        f'Environment {name!r} has no option {option!r}: '
        f'its options are {", ".join(accepted + common)}.'
      )
  own = {o: value for o, value in options.items() if o not in common}
  shared = {o: value for o, value in options.items() if o in common}
  return own, seeing.check_image_size(shared.pop('image_size', None)), shared


def parameters_of(
  function: Callable[..., Any],
) -> dict[str, inspect.Parameter]:
  """By name; of a function that does not tell, that it takes all."""
  try:
    return dict(inspect.signature(function).parameters)
  except (TypeError, ValueError):  # It is not written in Python.
    any_option = inspect.Parameter('options', inspect.Parameter.VAR_KEYWORD)
    return {'options': any_option}
