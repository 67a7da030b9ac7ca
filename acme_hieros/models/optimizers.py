"""The optimizers of a level's parts."""

import jax
import optax

from acme_hieros.config import OptimizerConfig


def make(config: OptimizerConfig) -> optax.GradientTransformation:
  """AdamW after clipping, as a part's configuration says."""
  # One long vector: a few kernels to compile and run, where every array of the
  # parameters would have its own.
  return optax.flatten(
    optax.chain(
      optax.clip_by_global_norm(config.clip_norm),
      optax.adamw(
        config.learning_rate,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
      ),
    )
  )


def scale_core(scale: float) -> optax.GradientTransformation:
  """Scales the steps of the core's parameters."""

  def scaled(path, step):
    parts = path[0].key.split('/')
    # Not how h is read, which is to keep up.
    return step * scale if 'core' in parts and 'deter' not in parts else step

  return optax.stateless(
    lambda steps, _: jax.tree_util.tree_map_with_path(scaled, steps)
  )
