"""Memories of world models, by name."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from acme_hieros.config import WorldModelConfig
from acme_hieros.models.cores import base, s5

# (configuration of a world model, type of the arithmetic) -> its core.
Maker = Callable[[WorldModelConfig, jnp.dtype], base.Core]

_MAKERS: dict[str, Maker] = {'s5': s5.S5}


def register(name: str, maker: Maker):
  """Adds a core, which `WorldModelConfig.core` then can name.

  Raises:
    ValueError: there is one of that name.
  """
  if name in _MAKERS:
    raise ValueError(f'There is a core {name!r} already.')
  _MAKERS[name] = maker


def names() -> Sequence[str]:
  """Of all cores."""
  return tuple(_MAKERS)


def make(config: WorldModelConfig, dtype: jnp.dtype) -> base.Core:
  """The core that a configuration names; ValueError if there is none."""
  if config.core not in _MAKERS:
    raise ValueError(
      f'Unknown world_model.core={config.core!r}; known cores: '
      f'{", ".join(names())}.'
    )
  return _MAKERS[config.core](config, dtype)
