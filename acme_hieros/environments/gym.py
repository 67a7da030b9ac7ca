"""The environments of Gymnasium's registry, `gym/<Id>`."""

from collections.abc import Callable
from typing import Any

import ale_py
import dm_env
import gymnasium

from acme_hieros.environments import (
  base,
  construction,
  modules,
  wrappers,
)
from acme_hieros.environments.gymnasium_adapter import GymnasiumAdapter

# Importing ale_py only offers its games; this puts them into the registry.
gymnasium.register_envs(ale_py)

# Options of `gymnasium.make` itself.
_MAKE_OPTIONS = ('max_episode_steps', 'disable_env_checker')

# How environments say that a package they need is missing.
MISSING = (ImportError, gymnasium.error.DependencyNotInstalled)


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
      modules.import_module(name, module)
    if registered not in gymnasium.registry:
      raise base.unknown_environment(f'gym/{registered}', names())
    own, image_size, common = construction.split(
      name, options, _creator(registered), more=_MAKE_OPTIONS
    )
    environment = _make(name, registered, own)
  except MISSING as error:
    raise modules.not_installed(name, error) from error
  return wrappers.wrap(
    GymnasiumAdapter(environment, seed, image_size), **common
  )


def _creator(env_id: str) -> Callable[..., gymnasium.Env]:
  """What makes an environment of the registry."""
  creator = gymnasium.registry[env_id].entry_point
  if callable(creator):
    return creator
  return gymnasium.envs.registration.load_env_creator(creator)


def _make(name: str, env_id: str, options: dict[str, Any]) -> gymnasium.Env:
  """Calls `gymnasium.make`; whatever it holds against options is ValueError."""
  # The checker is for those who write environments, and slows steps down.
  arguments = {'disable_env_checker': True, **options}
  try:
    return gymnasium.make(env_id, **arguments)
  except MISSING:
    raise
  except Exception as error:  # Each constructor has its own way to refuse.
    if not options:
      raise
    raise ValueError(
      f'Environment {name!r} refuses the options {options}: '
      f'{modules.sentence(error)}'
    ) from error


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'gym/{env_id}' for env_id in gymnasium.registry]
