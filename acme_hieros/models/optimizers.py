"""The optimizers of a level's parts."""

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from acme_hieros.config import OptimizerConfig

Array = jax.Array

# The least and the greatest that a weight is moved to.
_WEIGHTS = (1e-5, 1e2)


def make(config: OptimizerConfig) -> optax.GradientTransformation:
  """Adam after clipping; decay as AdamW has it (1711.05101), of weights alone.

  Norms, biases and what a state space layer is made of do not decay: zero means
  nothing there.
  """
  # One long vector: a few kernels to compile and run, where every array of the
  # parameters would have its own.
  adam = optax.flatten(
    optax.chain(
      optax.clip_by_global_norm(config.clip_norm),
      optax.adam(config.learning_rate, eps=config.epsilon),
    )
  )
  if not config.weight_decay:
    return adam
  decay = optax.add_decayed_weights(
    -config.learning_rate * config.weight_decay, _weights
  )
  return optax.chain(adam, decay)


def _weights(params: hk.Params) -> hk.Params:
  """Whether each parameter multiplies what a layer is given."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key.startswith('w'), params
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


def hold(weight: Array, value: Array, target: float, raises: bool) -> Array:
  """A loss's weight, moved towards what holds a value at its target.

  By a tenth where the value is off by more (Director, 2206.04114, section 2.3:
  the KL weight of goals).

  Args:
    weight: of the loss, [].
    value: what was measured, [].
    target: where it is to be, greater than 0.
    raises: whether more weight makes the value greater, or else smaller.
  """
  ratio = target / value if raises else value / target
  step = jnp.where(ratio > 1.1, 1.1, jnp.where(ratio < 1 / 1.1, 1 / 1.1, 1.0))
  return jnp.clip(weight * step, *_WEIGHTS)
