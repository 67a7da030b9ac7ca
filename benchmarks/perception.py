"""What level 0's world model learns to see and foresee, without an actor.

  python -m benchmarks.perception --updates=500
  python -m benchmarks.perception --override=world_model.change_share=0

Plays a game at random, trains the world model alone on most of it, and asks it
about the rest. That takes minutes where a run takes an hour, and what is not
seen here cannot be acted on there. What actions do needs many steps to be
learned from: --steps=50000 --updates=1200 for the last two columns. Every row
is one measurement:

  updates, cpu_seconds: so far, compilation apart
  changed: squared error of pixels that differ from their mean over the
    sequence, as a share of their distance from it; 1 is as good as that mean
  ahead_4: the same four steps ahead, not looking
  reward: correlation of predicted and real reward
  kl: nats that the prior did not know of z, in training
  action_nats: by how many more the prior of another's action is off
  actions: correlation of what 12 actions are believed to be worth, beside
    those of others, and the rewards that came

It needs an environment whose observation is one image.
"""

from collections.abc import Sequence
import functools
import json
import sys
import time
from typing import NamedTuple

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros import command_line
from acme_hieros import config as config_lib
from acme_hieros.environments import make_environment
from acme_hieros.models import (
  diagnostics,
  distributions,
  encoders,
  hierarchy,
  spaces,
  world_model,
)
from acme_hieros.models import level as level_lib
from benchmarks import world_models

_ENV = flags.DEFINE_string('env', 'atari/Krull', 'What is played at random.')
_PRESET = flags.DEFINE_string('preset', 'small', 'Configuration.')
_SYSTEM = flags.DEFINE_string('system', 'hieros', 'What is computed.')
_OVERRIDE = flags.DEFINE_multi_string(
  'override', [], 'A field of the configuration, as name=value.'
)
_STEPS = flags.DEFINE_integer(
  'steps', 10_000, 'Steps to play.', lower_bound=1000
)
_UPDATES = flags.DEFINE_integer('updates', 500, 'To train.', lower_bound=1)
_EVERY = flags.DEFINE_integer(
  'every', 100, 'Updates between two rows.', lower_bound=1
)
_SEED = flags.DEFINE_integer('seed', 0, 'Random seed.')

# Of the steps, at the end, that are not trained on.
_HELD_OUT = 0.25
# Batches of sequences of them.
_BATCHES, _SEQUENCES = 50, 32
# Steps ahead at which images are judged, and over which actions are.
_IMAGE_AHEAD, _AHEAD = 4, 12
# Sequences whose actions stand beside a sequence's own.
_OTHERS = 8


def main(argv: Sequence[str]):
  command_line.refuse_arguments(argv)
  try:
    overrides = command_line.read_pairs(_OVERRIDE)
    config = config_lib.override(
      config_lib.preset(_PRESET.value, _SYSTEM.value), {**overrides, 'depth': 1}
    )
    if config.sequence_length < 2 * _AHEAD:
      raise ValueError(
        f'sequence_length={config.sequence_length} is too short to look '
        f'{_AHEAD} steps ahead from its middle: {2 * _AHEAD} at least.'
      )
    steps, action = play(_STEPS.value, _SEED.value)
    level = hierarchy.Hierarchy(
      config, spaces_of(steps.observation), action
    ).levels[0]
  except ValueError as error:
    sys.exit(f'perception: {error}')
  for row in train(level, config, steps):
    print(json.dumps(row), flush=True)


def spaces_of(observation) -> dict[str, spaces.ObservationSpace]:
  return {'image': spaces.Image(observation['image'].shape[1:])}


def play(
  number: int, seed: int
) -> tuple[world_model.Sequence, spaces.Discrete]:
  """Steps [number, ...] of random play.

  Raises:
    ValueError: the environment is none that this is for.
  """
  environment = make_environment(_ENV.value, seed)
  space = spaces.observation_spaces(environment.observation_spec())
  action = spaces.action_space(environment.action_spec())
  if not (
    [type(s) for s in space.values()] == [spaces.Image]
    and isinstance(action, spaces.Discrete)
    and action.num_choices == 1
  ):
    raise ValueError(
      f'{_ENV.value} will not do: one image and discrete actions are needed.'
    )
  steps = world_models.play(
    environment, world_models.play_randomly(action, seed), number
  )
  (image,) = steps.observation.values()
  return steps._replace(observation={'image': image}), action


def train(level: level_lib.Level, config, steps: world_model.Sequence):
  """Trains and yields a row of numbers now and then."""
  length = config.sequence_length
  split = int(len(steps.reward) * (1 - _HELD_OUT))
  rng = np.random.default_rng(_SEED.value)

  def take(start: np.ndarray) -> world_model.Sequence:
    return world_models.take(steps, start, length)

  last = len(steps.reward) - length
  held_out = rng.integers(split, last, (_BATCHES, _SEQUENCES))
  state = level_lib.draw(level.init, jax.random.PRNGKey(_SEED.value))
  params, optimizer = state.params.world_model, state.optimizers.world_model
  update = jax.jit(
    functools.partial(world_models.update, level), donate_argnums=(0, 1)
  )
  judge = jax.jit(functools.partial(_judge, level))
  seconds, kl = 0.0, []
  for i in range(_UPDATES.value):
    batch = take(rng.integers(0, split - length, config.batch_size))
    begun = time.process_time()
    key = jax.random.PRNGKey(i)
    params, optimizer, metrics = update(
      params, optimizer, jnp.asarray(i), key, batch
    )
    kl.append(float(metrics['kl']))
    if i:
      seconds += time.process_time() - begun
    if (i + 1) % _EVERY.value == 0:
      judged = jax.device_get(
        [judge(params, key, take(start)) for start in held_out]
      )
      judged = jax.tree.map(lambda *x: np.stack(x), *judged)
      row = {name: float(np.mean(x)) for name, x in judged.means.items()}
      with np.errstate(invalid='ignore'):
        # Where all are worth the same there is none: 0.
        correlation = np.corrcoef(judged.worth.ravel(), judged.came.ravel())
      row['actions'] = float(np.nan_to_num(correlation[0, 1]))
      yield {
        'updates': i + 1,
        'cpu_seconds': round(seconds, 1),
        **{name: round(value, 3) for name, value in row.items()},
        'kl': round(float(np.mean(kl[-_EVERY.value :])), 2),
      }


class Judgement(NamedTuple):
  """Of N sequences that were not trained on.

  means: numbers by name.
  worth: what their next actions add to rewards, as the model sees it, [N].
  came: the rewards, as the model learns them, [N].
  """

  means: dict[str, jax.Array]
  worth: jax.Array
  came: jax.Array


def _judge(level, params, key, sequence) -> Judgement:
  sequence = level.as_learned(sequence)
  came = world_model.arrivals(sequence, level.action_space)
  model = level.world_model
  state = model.observe(
    params,
    key,
    sequence.observation,
    came.previous_action,
    sequence.start_of_episode,
  )
  image = sequence.observation['image']
  changed = encoders.change_weights(image, 1.0) > 1.0
  real = level.observation_spaces['image'].encode(image)
  mean = jnp.mean(real, 1, keepdims=True)

  def share(expected, real, changed):
    def total(x):
      return jnp.sum(changed[..., None] * jnp.square(x - real))

    return total(expected) / jnp.maximum(
      total(jnp.broadcast_to(mean, real.shape)), 1e-6
    )

  middle = image.shape[1] // 2
  before = model.starts(state, slice(middle - 1, middle), _AHEAD)
  then = came.previous_action[:, middle : middle + _AHEAD]

  def forecast(i, action):
    return diagnostics.forecast(
      level, params, jax.random.fold_in(key, i), before, action
    )

  def rewards(shift):
    # Under the actions of the sequence that is so many rows further.
    def one(i):
      return jnp.sum(forecast(i, jnp.roll(then, shift * i, 0)).reward, 1)

    return jnp.mean(jax.vmap(one)(jnp.arange(1, _OTHERS + 1)), 0)

  def surprise(action):
    foreseen = model.imagine_step(params, key, before, action[:, 0])
    return jnp.mean(
      distributions.kl_divergence(
        state.log_probs[:, middle], foreseen.log_probs
      )
    )

  last = middle + _IMAGE_AHEAD - 1
  foreseen = forecast(0, then).observation['image'][:, _IMAGE_AHEAD - 1]
  predicted = model.predict(params, state).reward
  correlation = jnp.corrcoef(predicted.ravel(), came.reward.ravel())[0, 1]
  means = {
    'changed': share(model.decode(params, state)['image'], real, changed),
    'ahead_4': share(
      foreseen[:, None],
      real[:, last : last + 1],
      changed[:, last : last + 1],
    ),
    'reward': jnp.nan_to_num(correlation),
    'action_nats': surprise(jnp.roll(then, 1, 0)) - surprise(then),
  }
  return Judgement(
    means,
    worth=rewards(0) - rewards(1),
    came=jnp.sum(came.reward[:, middle : middle + _AHEAD], 1),
  )


if __name__ == '__main__':
  app.run(main)
