"""How well world models foresee, by their core.

  python -m benchmarks.accuracy --env=minatar/Breakout --name=breakout
  python -m benchmarks.accuracy --env=debug/recall --preset=tiny \\
      --env_option=delay=15 --cores=s5,attention,hybrid --name=recall

Plays an environment at random (or by a run's policy, --policy=WORKDIR), trains
the world model of level 0 alone with each core on most of it, and has it
foresee the rest without looking. All cores get so many parameters as the first
of them, by their width, and train for the same CPU time (--cpu_minutes) or
number of updates (--updates). A row of `benchmarks/results/<name>.csv` is one
core, seed, context and horizon:

  parameters, updates, cpu_seconds: of the world model and its training
  context, horizon: steps that it has seen, and steps ahead
  observation, reward, continuation: squared error as a share of the variance;
    1 is as good as the mean, and nothing is there where nothing varies
  update_ms, scan_ms, step_ms: CPU time of an update, of a scan over a batch
    without its gradient, and of an imagined step of a batch

`--plot` draws what is in the tables that it is given, and trains nothing.
"""

import bisect
from collections.abc import Mapping, Sequence
import dataclasses
import functools
import os
import sys
import time
from typing import Any

from absl import app, flags
import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np
import tqdm

from acme_hieros import command_line
from acme_hieros import config as config_lib
from acme_hieros.environments import make_environment
from acme_hieros.experiments import runs
from acme_hieros.models import (
  cores,
  diagnostics,
  hierarchy,
  spaces,
  world_model,
)
from acme_hieros.models import level as level_lib
import benchmarks
from benchmarks import tables, world_models

_ENV = flags.DEFINE_string('env', 'minatar/Breakout', 'What is played.')
_ENV_OPTION = flags.DEFINE_multi_string(
  'env_option', [], 'An option of the environment, as name=value.'
)
_POLICY = flags.DEFINE_string(
  'policy', None, 'The work directory of a run that plays; default: at random.'
)
_PRESET = flags.DEFINE_string('preset', 'small', 'Sizes of everything else.')
_OVERRIDE = flags.DEFINE_multi_string(
  'override', [], 'A field of the configuration, as name=value.'
)
_CORES = flags.DEFINE_list('cores', [], 'Cores; default: all.')
_STEPS = flags.DEFINE_integer('steps', 10_000, 'To play.', lower_bound=1000)
_UPDATES = flags.DEFINE_integer('updates', 10**9, 'To train.', lower_bound=1)
_CPU_MINUTES = flags.DEFINE_float('cpu_minutes', 5.0, 'To train at most.')
_SEEDS = flags.DEFINE_integer('seeds', 2, 'Of each core.', lower_bound=1)
_NAME = flags.DEFINE_string('name', None, 'Of the table in benchmarks/results.')
_PLOT = flags.DEFINE_string('plot', None, 'The PNG to draw, and no more.')

# Of the steps, at the end, that are not trained on, and sequences of them.
_HELD_OUT, _BATCHES, _SEQUENCES = 0.25, 8, 32
# Steps ahead, and steps seen before; more than a memory holds are left out.
_HORIZONS, _CONTEXTS = (1, 2, 5, 10, 20, 50), (2, 5, 10, 20, 32, 64)
_COLUMNS = (
  'environment',
  'core',
  'seed',
  'parameters',
  'updates',
  'cpu_seconds',
  'context',
  'horizon',
  'observation',
  'reward',
  'continuation',
  'update_ms',
  'scan_ms',
  'step_ms',
)


def main(argv: Sequence[str]):
  command_line.refuse_arguments(argv)
  try:
    if not _NAME.value or os.path.basename(_NAME.value) != _NAME.value:
      raise ValueError('--name has to name the table, and is no path.')
    path = os.path.join(
      benchmarks.ROOT, 'benchmarks', 'results', f'{_NAME.value}-accuracy.csv'
    )
    table = tables.Table(path, _COLUMNS)
    if _PLOT.value:
      plot(table, _PLOT.value)
      return
    names = _CORES.value or list(cores.names())
    config = config_lib.override(
      config_lib.preset(_PRESET.value),
      {**command_line.read_pairs(_OVERRIDE), 'depth': 1},
    )
    steps, observation, action = play(_STEPS.value)
    target = None
    models = {}
    for name in names:
      sized, target = match(config, name, observation, action, target)
      models[name] = hierarchy.Hierarchy(sized, observation, action).levels[0]
  except ValueError as error:
    sys.exit(f'accuracy: {error}')
  for seed in range(_SEEDS.value):
    for name in names:
      if table.of(core=name, seed=seed):
        continue
      table.put(measure(models[name], config, steps, name, seed))
      found = summarise(table.of(core=name, seed=seed))
      print(f'{name}, seed {seed}: {found}', flush=True)


def play(number: int) -> tuple[world_model.Sequence, Any, Any]:
  """Steps [number, ...], and the spaces of observations and actions."""
  options = command_line.read_options(_ENV_OPTION)
  environment = make_environment(_ENV.value, 0, **options)
  action = spaces.action_space(environment.action_spec())
  return (
    world_models.play(environment, _make_policy(action), number),
    spaces.observation_spaces(environment.observation_spec()),
    action,
  )


def _make_policy(action: spaces.ActionSpace):
  """(observation, whether an episode starts) -> action."""
  rng = np.random.default_rng(0)
  if _POLICY.value is None:
    if isinstance(action, spaces.Discrete):
      return lambda *_: rng.integers(0, action.classes, action.shape)
    low, high = np.array(action.low), np.array(action.high)
    return lambda *_: rng.uniform(low, high).astype(np.float32)
  learned = runs.read_learned(_POLICY.value)
  networks = learned.networks
  params = [level_lib.policy_params(p) for p in learned.params]
  step = jax.jit(networks.step)
  state = networks.initial_state(jax.random.PRNGKey(0), 1)

  def choose(observation, first):
    nonlocal state
    state = networks.reset(state, np.array([first]))
    batch = {name: x[None] for name, x in observation.items()}
    chosen, state = step(params, batch, state)
    return np.asarray(chosen[0])

  return choose


def match(
  config: config_lib.HierosConfig,
  core: str,
  observation: Mapping[str, spaces.ObservationSpace],
  action: spaces.ActionSpace,
  target: int | None,
) -> tuple[config_lib.HierosConfig, int]:
  """The configuration with a core, of a width that gives so many parameters.

  Returns:
    It, and its parameters where no target is given.
  """
  # Of a hybrid the width is that of its S5 layers.
  part = 's5' if core == 'hybrid' else core

  def sized(width: int) -> config_lib.HierosConfig:
    values = {'world_model.core': core}
    if width:
      values[f'world_model.{part}.width'] = width
    return config_lib.override(config, values)

  def count(width: int) -> int:
    own = sized(width)
    model = world_model.make_world_model(
      own.world_model, observation, action, own.sequence_length
    )
    return level_lib.parameter_count(
      jax.eval_shape(model.init, jax.random.PRNGKey(0))
    )

  if target is None:
    return sized(0), count(0)
  # More width is more parameters: the first with as many, or the one before.
  widths = range(16, 513, 16)
  found = bisect.bisect_left(widths, target, key=count)
  near = widths[max(found - 1, 0) : found + 1]
  return sized(min(near, key=lambda width: abs(count(width) - target))), target


def measure(
  level: level_lib.Level,
  config: config_lib.HierosConfig,
  steps: world_model.Sequence,
  core: str,
  seed: int,
) -> list[dict[str, Any]]:
  """Trains a world model and asks it; rows of the table."""
  split = int(len(steps.reward) * (1 - _HELD_OUT))
  rng = np.random.default_rng(seed)

  state = level_lib.draw(level.init, jax.random.PRNGKey(seed))
  params, optimizer = state.params.world_model, state.optimizers.world_model
  count = level_lib.parameter_count(params)
  update = jax.jit(functools.partial(world_models.update, level))
  seconds, updates = 0.0, 0
  last = split - config.sequence_length
  with tqdm.tqdm(total=_CPU_MINUTES.value, desc=core, leave=False) as bar:
    while seconds < 60 * _CPU_MINUTES.value and updates < _UPDATES.value:
      batch = world_models.take(
        steps,
        rng.integers(0, last, config.batch_size),
        config.sequence_length,
      )
      begun = time.process_time()
      params, optimizer, _ = jax.block_until_ready(
        update(
          params,
          optimizer,
          jnp.asarray(updates),
          jax.random.fold_in(jax.random.PRNGKey(seed), updates),
          batch,
        )
      )
      if updates:  # The first compiles.
        seconds += time.process_time() - begun
        bar.update((time.process_time() - begun) / 60)
      updates += 1
  costs = {
    'update_ms': 1000 * seconds / max(updates - 1, 1),
    **time_parts(
      level,
      params,
      world_models.take(steps, np.arange(config.batch_size), 32),
    ),
  }
  ask = jax.jit(errors, static_argnums=(0, 4))
  rows = []
  for context in _CONTEXTS:
    length = context + _HORIZONS[-1]
    if context > config.sequence_length or split + length > len(steps.reward):
      continue
    asked = np.random.default_rng(0)
    found = [
      ask(
        level,
        params,
        jax.random.PRNGKey(i),
        world_models.take(
          steps,
          asked.integers(split, len(steps.reward) - length, _SEQUENCES),
          length,
        ),
        context,
      )
      for i in range(_BATCHES)
    ]
    sums = jax.tree.map(lambda *x: np.sum(x, 0), *jax.device_get(found))
    for horizon in _HORIZONS:
      row = {
        'environment': _ENV.value,
        'core': core,
        'seed': seed,
        'parameters': count,
        'updates': updates,
        'cpu_seconds': f'{seconds:.1f}',
        'context': context,
        'horizon': horizon,
        **{name: f'{value:.3f}' for name, value in costs.items()},
      }
      for name, (error, variance) in sums.items():
        of = variance[horizon - 1]
        row[name] = f'{error[horizon - 1] / of:.4f}' if of > 1e-6 else ''
      rows.append(row)
  return rows


def errors(
  level: level_lib.Level,
  params: Any,
  key: jax.Array,
  sequence: world_model.Sequence,
  context: int,
) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Sums of squared errors, and of squared distances from the mean, [H] each.

  Args:
    level: whose world model it is.
    params: of its world model.
    key: random key.
    sequence: [B, context + H, ...].
    context: steps that are seen.
  """
  model = level.world_model
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
  # A new episode cannot be foreseen.
  known = jnp.cumsum(sequence.start_of_episode[:, context:], 1) == 0

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


def time_parts(
  level: level_lib.Level, params: Any, sequence: world_model.Sequence
) -> dict[str, float]:
  """CPU milliseconds of a scan over a batch, and of an imagined step of it."""
  model = level.world_model
  came = world_model.arrivals(sequence, level.action_space)
  key = jax.random.PRNGKey(0)
  observe = jax.jit(model.observe)
  state = observe(
    params,
    key,
    sequence.observation,
    came.previous_action,
    sequence.start_of_episode,
  )
  starts = model.starts(state, slice(None), 1)
  action = came.previous_action.reshape((-1, came.previous_action.shape[-1]))
  imagine = jax.jit(model.imagine_step)

  def timed(function, *args) -> float:
    jax.block_until_ready(function(*args))
    begun = time.process_time()
    for _ in range(10):
      jax.block_until_ready(function(*args))
    return 100 * (time.process_time() - begun)

  return {
    'scan_ms': timed(
      observe,
      params,
      key,
      sequence.observation,
      came.previous_action,
      sequence.start_of_episode,
    ),
    'step_ms': timed(imagine, params, key, starts, action),
  }


def summarise(rows: Sequence[tables.Row]) -> str:
  """The errors after the longest context, in a line."""
  context = max(int(row['context']) for row in rows)
  return ', '.join(
    f'{row["horizon"]} ahead {row["observation"]}'
    for row in rows
    if int(row['context']) == context
  )


@dataclasses.dataclass(frozen=True)
class _Panel:
  """What a part of the plot shows: errors by horizon, or by context."""

  x: str
  fixed: str
  at: int
  y: str


def plot(table: tables.Table, picture: str):
  """Draws a table: means over seeds, by core."""
  rows = table.rows
  if not rows:
    raise ValueError(f'{table.path} holds nothing to draw.')
  longest = max(int(row['context']) for row in rows)
  panels = [
    _Panel('horizon', 'context', longest, 'observation'),
    _Panel('horizon', 'context', longest, 'reward'),
    _Panel('context', 'horizon', 5, 'observation'),
  ]
  figure = Figure(figsize=(12.0, 3.6), layout='constrained')
  for i, panel in enumerate(panels):
    axes = figure.add_subplot(1, len(panels), i + 1)
    for core in dict.fromkeys(row['core'] for row in rows):
      values = {}
      for row in rows:
        if (
          row['core'] == core
          and int(row[panel.fixed]) == panel.at
          and row[panel.y]
        ):
          values.setdefault(int(row[panel.x]), []).append(float(row[panel.y]))
      points = sorted((x, np.mean(y)) for x, y in values.items())
      if points:
        axes.plot(*zip(*points), marker='.', label=core)
    axes.set_xscale('log')
    axes.set_xlabel(f'{panel.x} ({panel.fixed} {panel.at})')
    axes.set_title(f'error of {panel.y}, share of its variance', fontsize=10)
    axes.axhline(1.0, color='#999999', lw=0.8)
  axes.legend(fontsize=8)
  figure.savefig(picture, dpi=100)


if __name__ == '__main__':
  app.run(main)
