"""Environments by name, for example `make_environment('atari/Krull')`."""

from collections.abc import Callable
import importlib
from typing import Any

import dm_env

from acme_hieros.environments import base, own
from acme_hieros.environments.foreign import checked
from acme_hieros.environments.own import environment_name

# Families are imported when they are asked for: the emulator and Gymnasium take
# a while. Each module has `make(rest_of_name, seed, options)` and `names()`.
_FAMILIES = {
  'atari': 'acme_hieros.environments.atari',
  'bsuite': 'acme_hieros.environments.bsuite',
  'crafter': 'acme_hieros.environments.crafter',
  'debug': 'acme_hieros.environments.debug',
  'dmc': 'acme_hieros.environments.dmc',
  'gym': 'acme_hieros.environments.gym',
  'memory_maze': 'acme_hieros.environments.memory_maze',
  'minatar': 'acme_hieros.environments.minatar',
  'minigrid': 'acme_hieros.environments.minigrid',
  'popgym': 'acme_hieros.environments.popgym',
  'sparse': 'acme_hieros.environments.sparse',
}


def make_environment(
  name: str | Callable[..., Any], /, seed: int = 0, **options: Any
) -> dm_env.Environment:
  """Makes an environment.

  Rewards and discounts are float32; the discount is 0 where an episode
  terminated and 1 where it was truncated. What it returns is checked
  (`checking.UnfitValueError`); `checked` does that for environments of others.

  Args:
    name: One of
      - 'atari/<Game>', with the games' names as in `ALE/<Game>-v5`;
      - 'gym/<Id>', with any id of Gymnasium, 'gym/ALE/Pong-v5' included;
        'gym/<module>:<Id>' imports the module that registers the id first;
      - 'minatar/<Game>', MinAtar's games under their names among Atari's;
      - 'bsuite/<experiment>/<n>', 'crafter/<reward or noreward>',
        'dmc/<domain>_<task>', 'memory_maze/<size>', 'minigrid/<Id>' and
        'popgym/<Task><Difficulty>', of the packages of these names;
      - 'debug/<name>', small environments to test agents with;
      - 'sparse/<name>', small tasks whose reward is rare;
      - '<package.module>:<function>', a function that returns a
        `dm_env.Environment` or a `gymnasium.Env`, or that function itself: it
        is called with the options, and with `seed` if it takes one.
    seed: A non-negative integer; the same seed and actions give the same
      episodes.
    **options: The options of the environment: see the class in the module of
      its family, as `atari.Atari`, those of `debug` and `sparse`,
      `bsuite.load`, and `gymnasium.make`; and those of all environments:
      `image_size`, see `checked`, and those of `wrappers.wrap`.

  Returns:
    The environment.

  Raises:
    ValueError: The environment or an option is unknown, an option has a value
      that will not do, or a package that the environment needs is missing.
  """
  base.check_integer('seed', seed, 0)
  is_file = isinstance(name, str) and '.py:' in name
  if own.is_own(name) and not is_file:
    return own.make(name, seed, options)
  family, slash, rest = name.partition('/')
  if family not in _FAMILIES:
    if ':' in name or ('.' in name and not slash):
      raise ValueError(
        f'Unknown environment {name!r}: a function of your own is called '
        'package.module:function, without .py and with dots between.'
      )
    raise base.unknown_environment(name, environment_names())
  return importlib.import_module(_FAMILIES[family]).make(rest, seed, options)


def foreign_module(name: str) -> str | None:
  """The module that an environment's name has imported, but for our own."""
  if own.is_own(name):
    return own.module_of(name)
  family, _, rest = name.partition('/')
  module = rest.rpartition(':')[0]
  known = module.partition('.')[0] in ('ale_py', 'gymnasium', 'minatar')
  return module if family == 'gym' and not known and module else None


def families() -> list[str]:
  """What may stand before the / of a name."""
  return list(_FAMILIES)


def environment_names() -> list[str]:
  """All names that `make_environment` knows, sorted by family."""
  return [
    name
    for module in _FAMILIES.values()
    for name in importlib.import_module(module).names()
  ]


__all__ = (
  'checked',
  'environment_name',
  'environment_names',
  'families',
  'foreign_module',
  'make_environment',
)
