"""S5 layers with some layers of attention among them.

Attention finds again what was seen exactly, state space layers carry along what
there is of everything. Where few layers attend, they are best spread over the
middle of the stack, and need no positions, which the layers below tell
(2510.04800; Jamba, 2403.19887).
"""

import jax.numpy as jnp

from acme_hieros.config import WorldModelConfig
from acme_hieros.models.cores import attention, base, s5


def make(
  config: WorldModelConfig, context_length: int, dtype: jnp.dtype
) -> base.Core:
  """The stack of S5 with the layers of `hybrid.pattern`."""
  return s5.S5Core(
    config,
    dtype,
    kinds=config.hybrid.kinds,
    window=attention.window(config, context_length),
  )
