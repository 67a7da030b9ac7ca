"""World models that are trained alone, on steps that were played before."""

from collections.abc import Callable
from typing import Any

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from acme_hieros.models import encoders, spaces, world_model
from acme_hieros.models import level as level_lib


def play(
  environment: dm_env.Environment,
  choose: Callable[[Any, bool], Any],
  number: int,
) -> world_model.Sequence:
  """Steps [number, ...], without episodes' last observations.

  Args:
    environment: to play in.
    choose: (observation by name, whether an episode starts) -> action.
    number: of steps.
  """
  action_space = spaces.action_space(environment.action_spec())
  rows = []
  timestep = environment.reset()
  for _ in tqdm.trange(number, desc='playing', leave=False):
    # Environments may write the next one into the same array.
    seen = jax.tree.map(
      np.array, spaces.flatten_observation(timestep.observation)
    )
    chosen = choose(seen, timestep.first())
    following = environment.step(chosen)
    rows.append(
      (seen, chosen, following.reward, following.discount, timestep.first())
    )
    timestep = environment.reset() if following.last() else following
  seen, chosen, reward, discount, start = zip(*rows)
  return world_model.Sequence(
    jax.tree.map(lambda *x: np.stack(x), *seen),
    np.stack(chosen).astype(action_space.dtype),
    np.array(reward, np.float32),
    np.array(discount, np.float32),
    np.array(start),
  )


def take(
  steps: world_model.Sequence, start: np.ndarray, length: int
) -> world_model.Sequence:
  """Sequences [N, length, ...] of steps, which begin at [N] of them."""
  index = start[:, None] + np.arange(length)
  return jax.tree.map(lambda x: jnp.asarray(x[index]), steps)


def update(
  level: level_lib.Level,
  params: Any,
  optimizer: Any,
  number: jax.Array,
  key: jax.Array,
  sequence: world_model.Sequence,
) -> tuple[Any, Any, dict[str, jax.Array]]:
  """One update of a level's world model, as `Level.update` makes it.

  Args:
    level: whose world model it is.
    params: of the world model.
    optimizer: its state.
    number: of updates before.
    key: random key.
    sequence: [B, T, ...].

  Returns:
    Parameters, the optimizer's state, and metrics.
  """
  params = encoders.track_means(
    params, sequence.observation, level.observation_spaces, number
  )
  gradient, (*_, metrics) = jax.grad(level.world_model.loss, has_aux=True)(
    params, key, sequence
  )
  change, optimizer = level.optimizers.world_model.update(
    gradient, optimizer, params
  )
  return optax.apply_updates(params, change), optimizer, metrics
