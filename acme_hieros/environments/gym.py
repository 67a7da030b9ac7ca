"""The environments of Gymnasium's registry, `gym/<Id>`."""

from collections.abc import Mapping
import importlib
import inspect
import os
from typing import Any

import ale_py
import dm_env
import gymnasium

from acme_hieros.environments import base, seeing
from acme_hieros.environments.gymnasium_adapter import GymnasiumAdapter

# Importing ale_py only offers its games; this puts them into the registry.
gymnasium.register_envs(ale_py)

# Options of `gymnasium.make` itself.
_MAKE_OPTIONS = ('max_episode_steps', 'disable_env_checker')

# How environments say that a package they need is missing.
_MISSING = (ImportError, gymnasium.error.DependencyNotInstalled)


def make(env_id: str, seed: int, options: dict[str, Any]) -> dm_env.Environment:
  """Makes `gym/<env_id>`.

  Args:
    env_id: An id of the registry with its version, 'CartPole-v1', perhaps with
      a module in front that registers it, 'my_package:MyEnv-v0'.
    seed: The seed of the first reset.
    options: Handed to `gymnasium.make`: `max_episode_steps`, and the parameters
      of the environment's constructor. `image_size` is the longest side of
      images, unless the constructor has a parameter of that name.

  Returns:
    The environment.

  Raises:
    ValueError: The id or an option is unknown, an option's value was refused, a
      package is missing, or a space is not supported.
  """
  name = f'gym/{env_id}'
  module, _, registered = env_id.rpartition(':')
  try:
    if module:
      _import(name, module)
    if registered not in gymnasium.registry:
      raise base.unknown_environment(f'gym/{registered}', names())
    parameters = _parameters(registered)
    image_size = None
    if 'image_size' not in parameters:
      options = dict(options)
      image_size = seeing.check_image_size(options.pop('image_size', None))
    _check_options(name, parameters, options)
    environment = _make(name, registered, options)
  except _MISSING as error:
    raise ValueError(
      f'Environment {name!r} needs something that is not '
      f'installed: {_sentence(error)}'
    ) from error
  return GymnasiumAdapter(environment, seed, image_size)


def _import(name: str, module: str):
  """Imports what registers an environment; ValueError if it is not found."""
  try:
    importlib.import_module(module)
  except ModuleNotFoundError as error:
    if error.name is None or not f'{module}.'.startswith(f'{error.name}.'):
      raise  # Something that it needs.
    top = module.partition('.')[0]
    here = [p for p in (f'{top}.py', top) if os.path.exists(p)]
    raise ValueError(
      f'Environment {name!r}: Python finds no module {error.name!r}; '
      + (
        f'{here[0]} is in this directory, where it does not look: set '
        'PYTHONPATH=. to have it look here.'
        if here
        else 'install it, or put the directory that has it into PYTHONPATH.'
      )
    ) from error


def _make(name: str, env_id: str, options: dict[str, Any]) -> gymnasium.Env:
  """Calls `gymnasium.make`; whatever it holds against options is ValueError."""
  # The checker is for those who write environments, and slows steps down.
  arguments = {'disable_env_checker': True, **options}
  try:
    return gymnasium.make(env_id, **arguments)
  except _MISSING:
    raise
  except Exception as error:  # Each constructor has its own way to refuse.
    if not options:
      raise
    raise ValueError(
      f'Environment {name!r} refuses the options {options}: {_sentence(error)}'
    ) from error


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'gym/{env_id}' for env_id in gymnasium.registry]


def _parameters(env_id: str) -> Mapping[str, inspect.Parameter]:
  """Those of an environment's constructor."""
  creator = gymnasium.registry[env_id].entry_point
  if not callable(creator):
    creator = gymnasium.envs.registration.load_env_creator(creator)
  return inspect.signature(creator).parameters


def _check_options(
  name: str,
  parameters: Mapping[str, inspect.Parameter],
  options: dict[str, Any],
) -> None:
  """Raises ValueError for an option that the environment does not have."""
  if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
    return
  accepted = (*_MAKE_OPTIONS, 'image_size', *parameters)
  for option in options:
    if option not in accepted:
      raise ValueError(
        f'Environment {name!r} has no option {option!r}: '
        f'its options are {", ".join(accepted)}.'
      )


def _sentence(error: Exception) -> str:
  return ' '.join(str(error).split()).rstrip('.') + '.'
