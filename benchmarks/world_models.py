"""World models that are trained alone, on steps that were played before."""

from collections.abc import Callable, Mapping
import json
from typing import Any, NamedTuple

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from acme_hieros.models import diagnostics, encoders, spaces, world_model
from acme_hieros.models import level as level_lib
from acme_hieros.storage import files

_SPACES = {
  space.__name__: space
  for space in (
    spaces.Image,
    spaces.Vector,
    spaces.OneHot,
    spaces.Discrete,
    spaces.Continuous,
  )
}


class DataSet(NamedTuple):
  """Steps that were played.

  environment: its name.
  steps: [number, ...]; an episode's last observation has a row, as in replay.
  observation: spaces, by name.
  action: its space.
  """

  environment: str
  steps: world_model.Sequence
  observation: Mapping[str, spaces.ObservationSpace]
  action: spaces.ActionSpace


def save(path: str, data: DataSet):
  """Writes a data set as an .npz file, which is complete or absent."""
  steps = data.steps._asdict()
  observation = steps.pop('observation')
  about = {
    'environment': data.environment,
    'observation': {k: _describe(v) for k, v in data.observation.items()},
    'action': _describe(data.action),
  }
  with files.replacing(path, 'wb') as file:
    np.savez_compressed(
      file,
      about=json.dumps(about),
      **steps,
      **{f'observation/{name}': x for name, x in observation.items()},
    )


def load(path: str) -> DataSet:
  """Reads a data set.

  Raises:
    OSError: the file cannot be read.
    ValueError: it is something else.
  """
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = dict(file)
    about = json.loads(str(arrays.pop('about')))
    observation = {
      name: _space(text) for name, text in about['observation'].items()
    }
    seen = {name: arrays.pop(f'observation/{name}') for name in observation}
    steps = world_model.Sequence(seen, **arrays)
    return DataSet(
      about['environment'], steps, observation, _space(about['action'])
    )
  except OSError:
    raise
  except Exception as error:  # A damaged archive raises nearly anything.
    raise ValueError(
      f'{path} is no data set of benchmarks.data_set ({error}).'
    ) from error


def _describe(space: spaces.ObservationSpace | spaces.ActionSpace):
  return {
    'kind': type(space).__name__,
    **space._asdict(),
    'dtype': np.dtype(space.dtype).name,
  }


def _space(values: Mapping[str, Any]):
  kind = _SPACES[values['kind']]
  fields = {
    name: tuple(values[name])
    if isinstance(values[name], list)
    else values[name]
    for name in kind._fields
    if name in values  # Spaces once had fewer fields.
  }
  if 'dtype' in fields:
    fields['dtype'] = np.dtype(fields['dtype'])
  return kind(**fields)


def play(
  environment: dm_env.Environment,
  choose: Callable[[Any, bool], Any],
  number: int,
) -> world_model.Sequence:
  """Steps [number, ...], as replay has them (docs/algorithm.md, 2.3).

  Args:
    environment: to play in.
    choose: (observation by name, whether an episode starts) -> action.
    number: of steps, those of episodes' last observations included.
  """
  action_space = spaces.action_space(environment.action_spec())
  nothing = action_space.to_numpy(action_space.zeros(()))
  rows = []
  timestep = environment.reset()
  for _ in tqdm.trange(number, desc='playing', leave=False):
    # Environments may write the next one into the same array.
    seen = jax.tree.map(
      np.array, spaces.flatten_observation(timestep.observation)
    )
    if timestep.last():
      # What came with it would be lost without a row of its own.
      rows.append((seen, nothing, 0.0, 0.0, False))
      timestep = environment.reset()
      continue
    chosen = choose(seen, timestep.first())
    following = environment.step(chosen)
    rows.append(
      (seen, chosen, following.reward, following.discount, timestep.first())
    )
    timestep = following
  seen, chosen, reward, discount, start = zip(*rows)
  return world_model.Sequence(
    jax.tree.map(lambda *x: np.stack(x), *seen),
    np.stack(chosen).astype(action_space.dtype),
    np.array(reward, np.float32),
    np.array(discount, np.float32),
    np.array(start),
  )


def play_randomly(
  action: spaces.ActionSpace, seed: int
) -> Callable[[Any, bool], np.ndarray]:
  """For `play`: actions of which all are alike likely.

  Raises:
    ValueError: they are nested.
  """
  rng = np.random.default_rng(seed)
  if isinstance(action, spaces.Joint):
    raise ValueError('Nested actions will not do: one array of them is needed.')
  if isinstance(action, spaces.Discrete):
    zero = np.zeros(action.shape, int)
    least = np.reshape(action.minimum, action.shape) if action.minimum else zero
    most = zero + (
      np.reshape(action.sizes, action.shape) if action.sizes else action.classes
    )
    return lambda *_: least + rng.integers(0, most, action.shape)
  low, high = (
    np.reshape(bound, action.shape)
    for bound in (action.minimum, action.maximum)
  )
  return lambda *_: rng.uniform(low, high).astype(np.float32)


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
    params, key, level.as_learned(sequence)
  )
  change, optimizer = level.optimizers.world_model.update(
    gradient, optimizer, params
  )
  return optax.apply_updates(params, change), optimizer, metrics


def foreseeable(sequence: world_model.Sequence, context: int) -> jax.Array:
  """Whether steps ahead, bool [B, H], are of the episode that was seen."""
  return jnp.cumsum(sequence.start_of_episode[:, context:], 1) == 0


def errors(
  level: level_lib.Level,
  params: Any,
  key: jax.Array,
  sequence: world_model.Sequence,
  context: int,
) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Sums of squared errors, and of squared distances from the mean, [H] each.

  What is not `foreseeable` is left out.

  Args:
    level: whose world model it is.
    params: of its world model.
    key: random key.
    sequence: [B, context + H, ...].
    context: steps that are seen.
  """
  model = level.world_model
  sequence = level.as_learned(sequence)
  came = world_model.arrivals(sequence, level.action_space)
  seen = jax.tree.map(
    lambda x: x[:, :context],
    (sequence.observation, came.previous_action, sequence.start_of_episode),
  )
  state = model.observe(params, key, *seen)
  ahead = sequence.reward.shape[1] - context
  foreseen = diagnostics.forecast(
    level,
    params,
    key,
    model.starts(state, slice(context - 1, context), ahead),
    came.previous_action[:, context:],
  )
  known = foreseeable(sequence, context)

  def compare(expected, real):
    expected, real = (
      x.reshape((*x.shape[:2], -1)) for x in (expected, real[:, context:])
    )
    weight = known[..., None]
    mean = jnp.sum(weight * real, (0, 1)) / jnp.maximum(jnp.sum(known), 1)
    return jnp.stack(
      [jnp.sum(weight * jnp.square(x - real), (0, 2)) for x in (expected, mean)]
    )

  observation = sum(
    compare(
      foreseen.observation[name], space.encode(sequence.observation[name])
    )
    for name, space in level.observation_spaces.items()
  )
  return {
    'observation': tuple(observation),
    'reward': tuple(compare(foreseen.reward, came.reward)),
    'continuation': tuple(compare(foreseen.continuation, came.continuation)),
  }
