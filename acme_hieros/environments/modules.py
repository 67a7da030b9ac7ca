"""Modules that the names of environments ask for."""

import importlib
import os
import sys
import types

from acme_hieros import extras


def import_module(name: str, module: str) -> types.ModuleType:
  """Imports a module, from the current directory too.

  That is looked in last, so that nothing that was found before is found there,
  and for as long as the process lives: a module may import others when it is
  used.

  Args:
    name: the environment's full name, for the error.
    module: what to import.

  Raises:
    ValueError: it is not found.
  """
  here = os.getcwd()
  if here not in sys.path:
    sys.path.append(here)
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as error:
    if error.name is None or not f'{module}.'.startswith(f'{error.name}.'):
      raise  # Something that it needs.
    raise ValueError(
      f'Environment {name!r}: Python finds no module {error.name!r}; install '
      'it, or go to the directory that has it, or put that into PYTHONPATH.'
    ) from error


def import_extra(
  name: str, module: str, package: str, extra: str
) -> types.ModuleType:
  """Imports a module of a package that is not always there.

  Args:
    name: the environment's full name, for the error.
    module: what to import.
    package: what it belongs to.
    extra: of this package, which installs it.

  Raises:
    ValueError: it is missing.
  """
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as error:
    raise ValueError(
      f'Environment {name!r}: {extras.missing(package, extra)}'
    ) from error


def not_installed(name: str, error: Exception) -> ValueError:
  """The error for an environment that needs what is not there."""
  return ValueError(
    f'Environment {name!r} needs something that is not installed: '
    f'{sentence(error)}'
  )


def sentence(error: Exception) -> str:
  """What an error says, on one line."""
  return ' '.join(str(error).split()).rstrip('.') + '.'
