"""Memories of world models, by name; see `base` for what they are."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from acme_hieros.config import WorldModelConfig
from acme_hieros.models.cores import attention, base, gru, hybrid, s3m, s5

# (configuration of a world model, most steps that its memory holds while it
# acts, type of the arithmetic) -> its core.
Maker = Callable[[WorldModelConfig, int, jnp.dtype], base.Core]

_MAKERS: dict[str, Maker] = {
  's5': lambda config, _, dtype: s5.S5Core(config, dtype),
  'gru': lambda config, _, dtype: gru.GRU(config, dtype),
  'block_gru': lambda config, _, dtype: gru.BlockGRU(config, dtype),
  's3m': lambda config, _, dtype: s3m.S3M(config, dtype),
  'attention': attention.Transformer,
  'hybrid': hybrid.make,
}


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


def make(
  config: WorldModelConfig, context_length: int, dtype: jnp.dtype
) -> base.Core:
  """The core that a configuration names.

  Raises:
    ValueError: there is none, or it cannot be as it is configured.
  """
  if config.core not in _MAKERS:
    raise ValueError(
      f'Unknown world_model.core={config.core!r}; known cores: '
      f'{", ".join(names())}; one of your own has to be registered first, by '
      'acme_hieros.models.cores.register.'
    )
  return _MAKERS[config.core](config, context_length, dtype)
