"""How well world models foresee, by their core.

  python -m benchmarks.data_set --env=minatar/Breakout --path=breakout.npz
  python -m benchmarks.accuracy --data=breakout.npz --name=breakout
  python -m benchmarks.accuracy --data=recall.npz --name=recall --preset=tiny \\
      --cores=s5,attention,hybrid --override=sequence_length=64

Trains the world model of level 0 alone with each core on most of the steps that
`benchmarks.data_set` played, and has it foresee the rest without looking. All
cores get so many parameters as the configuration's own, by their width (or a
few per cent more, where the least width has more), and train for the same time
(--minutes) or number of updates (--updates). A row of
`benchmarks/results/<name>-accuracy.csv` is one core, seed, context and horizon:

  configuration: what is the same for all, and how long they are trained
  parameters, updates, seconds: of the world model and its training
  context, horizon: steps that it has seen, and steps ahead
  observation, reward, continuation: squared error as a share of the variance;
    1 is as good as the mean, and nothing is there where nothing varies
  update_ms, scan_ms, step_ms: of an update, of a scan over a batch without its
    gradient, and of an imagined step of a batch

All times are those of a CPU's cores, or of waiting for another device. `--plot`
draws what is in the table, and trains nothing. It needs no part of Acme, and
goes on where it was stopped.
"""

import bisect
from collections.abc import Sequence
import dataclasses
import functools
import math
import sys
from typing import Any, NamedTuple

from absl import app, flags
import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np
import tqdm

from acme_hieros import command_line
from acme_hieros import config as config_lib
from acme_hieros.models import cores, hierarchy, world_model
from acme_hieros.models import level as level_lib
import benchmarks
from benchmarks import tables, timing, world_models

_DATA = flags.DEFINE_string('data', None, 'What benchmarks.data_set wrote.')
_PRESET = flags.DEFINE_string('preset', 'small', 'Sizes of everything else.')
_OVERRIDE = flags.DEFINE_multi_string(
  'override', [], 'A field of the configuration, as name=value.'
)
_CORES = flags.DEFINE_list('cores', [], 'Cores; default: all.')
_UPDATES = flags.DEFINE_integer(
  'updates', None, 'To train; default: as many as --minutes allow.', 1
)
_MINUTES = flags.DEFINE_float(
  'minutes', None, 'To train at most; default: 5, or no limit with --updates.'
)
_SEEDS = flags.DEFINE_integer('seeds', 2, 'Of each core.', lower_bound=1)
_NAME = flags.DEFINE_string('name', None, 'Of the table in benchmarks/results.')
_PLOT = flags.DEFINE_string('plot', None, 'The PNG to draw, and no more.')

# Of the steps, at the end, that are not trained on, and sequences of them.
_HELD_OUT, _BATCHES, _SEQUENCES = 0.25, 8, 32
# Steps ahead, and steps seen before; more than a memory holds are left out.
_HORIZONS, _CONTEXTS = (1, 2, 5, 10, 20, 50), (4, 16, 64)
_COLUMNS = (
  'environment',
  'configuration',
  'core',
  'seed',
  'parameters',
  'updates',
  'device',
  'seconds',
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
    path = tables.table_path(benchmarks.RESULTS, _NAME.value)
    table = tables.Table(f'{path}-accuracy.csv', _COLUMNS)
    if _PLOT.value:
      plot(table, _PLOT.value)
      return
    if not _DATA.value:
      raise ValueError('--data has to name what benchmarks.data_set wrote.')
    for core in _CORES.value:
      if core not in cores.names():
        raise ValueError(
          f'Unknown core {core!r} in --cores; known cores: '
          f'{", ".join(cores.names())}.'
        )
    config = config_lib.override(
      config_lib.preset(_PRESET.value),
      {**command_line.read_pairs(_OVERRIDE), 'depth': 1},
    )
    data = world_models.load(_DATA.value)
    needed = config.sequence_length + _HORIZONS[-1]
    if _HELD_OUT * len(data.steps.reward) < 2 * needed:
      raise ValueError(
        f'{_DATA.value} has {len(data.steps.reward)} steps; '
        f'{int(2 * needed / _HELD_OUT)} are needed at least.'
      )
    limit = Limit.of(_MINUTES.value, _UPDATES.value)
    same = {
      'environment': data.environment,
      'configuration': f'{config_lib.describe(config)}, {limit}',
    }
    if len(table.of(**same)) < len(table.rows):
      raise ValueError(
        f'{table.path} has rows of another environment or of other flags; '
        'choose another --name.'
      )
    levels = {
      core: hierarchy.Hierarchy(
        match(config, core, data), data.observation, data.action
      ).levels[0]
      for core in _CORES.value or cores.names()
    }
  except ValueError as error:
    sys.exit(f'accuracy: {error}')
  except OSError as error:
    sys.exit(f'accuracy: {error.filename} cannot be used: {error.strerror}.')
  for core, level in levels.items():
    trainer = Trainer(level, config, data, limit)
    for seed in range(_SEEDS.value):
      if table.of(core=core, seed=seed):
        continue
      rows = trainer.measure(seed)
      table.put([{**same, 'core': core, 'seed': seed, **row} for row in rows])
      found = summarise(table.of(core=core, seed=seed))
      print(f'{core}, seed {seed}: {found}', flush=True)


class Limit(NamedTuple):
  """How long is trained: until one of these is over."""

  minutes: float
  updates: float

  @classmethod
  def of(cls, minutes: float | None, updates: int | None) -> 'Limit':
    """As the flags of these names say; without both, five minutes."""
    if minutes is None:
      minutes = math.inf if updates else 5.0
    return cls(minutes, updates or math.inf)

  def __str__(self) -> str:
    return ' or '.join(
      f'{value:g} {name}'
      for name, value in self._asdict().items()
      if value < math.inf
    )

  def share(self, seconds: float, updates: int) -> float:
    """Of it, that is over."""
    return max(seconds / 60 / self.minutes, updates / self.updates)


def count(config: config_lib.HierosConfig, data: world_models.DataSet) -> int:
  """The parameters of a configuration's world model."""
  model = world_model.make_world_model(
    config.world_model, data.observation, data.action, config.sequence_length
  )
  return level_lib.parameter_count(
    jax.eval_shape(model.init, jax.random.PRNGKey(0))
  )


def match(
  config: config_lib.HierosConfig, core: str, data: world_models.DataSet
) -> config_lib.HierosConfig:
  """The configuration with a core, of a width that gives as many parameters."""
  if core == config.world_model.core:
    return config
  chosen = config_lib.override(config, {'world_model.core': core})
  # Of a hybrid the width is that of its S5 layers.
  part = 's5' if core == 'hybrid' else core
  if not hasattr(config.world_model, part):  # One from outside, as it is.
    return chosen
  target = count(config, data)

  def sized(width: int) -> config_lib.HierosConfig:
    return config_lib.override(chosen, {f'world_model.{part}.width': width})

  @functools.cache
  def distance(width: int) -> int:
    return count(sized(width), data) - target

  # More width is more parameters: the first with as many, or the one before.
  widths = range(16, 513, 16)
  found = bisect.bisect_left(widths, 0, key=distance)
  near = widths[max(found - 1, 0) : found + 1]
  return sized(min(near, key=lambda width: abs(distance(width))))


class Trainer:
  """Trains a level's world model on most of some steps, and asks it."""

  def __init__(
    self,
    level: level_lib.Level,
    config: config_lib.HierosConfig,
    data: world_models.DataSet,
    limit: Limit,
  ):
    self._level = level
    self._config = config
    self._limit = limit
    self._steps = jax.device_put(data.steps)
    self._split = int(len(data.steps.reward) * (1 - _HELD_OUT))
    # They are compiled once for all seeds.
    self._observe = jax.jit(level.world_model.observe)
    self._imagine = jax.jit(level.world_model.imagine_step)
    self._update = jax.jit(self._take_and_update, donate_argnums=(0, 1))
    self._ask = jax.jit(self._take_and_ask, static_argnums=3)

  def _take_and_update(self, params, optimizer, number, key, steps, start):
    batch = world_models.take(steps, start, self._config.sequence_length)
    return world_models.update(
      self._level, params, optimizer, number, key, batch
    )

  def _take_and_ask(self, params, steps, start, context):
    sequence = world_models.take(steps, start, context + _HORIZONS[-1])
    return world_models.errors(
      self._level, params, jax.random.PRNGKey(0), sequence, context
    )

  def measure(self, seed: int) -> list[dict[str, Any]]:
    """Trains from a seed; rows of the table, but for core and seed."""
    state = level_lib.draw(self._level.init, jax.random.PRNGKey(seed))
    params, optimizer = state.params.world_model, state.optimizers.world_model
    parameters = level_lib.parameter_count(params)
    rng = np.random.default_rng(seed)
    batch_size, length = self._config.batch_size, self._config.sequence_length
    seconds, updates = 0.0, 0
    with tqdm.tqdm(total=100, unit='%', leave=False) as bar:
      while (share := self._limit.share(seconds, updates)) < 1:
        bar.update(int(100 * share) - bar.n)
        start = rng.integers(0, self._split - length, batch_size)
        key = jax.random.fold_in(jax.random.PRNGKey(seed), updates)
        begun = timing.now()
        params, optimizer, _ = jax.block_until_ready(
          self._update(
            params, optimizer, jnp.asarray(updates), key, self._steps, start
          )
        )
        if updates:  # The first compiles.
          seconds += timing.now() - begun
        updates += 1
    sequence = world_models.take(self._steps, np.arange(batch_size), length)
    shared = {
      'parameters': parameters,
      'updates': updates,
      'device': jax.devices()[0].device_kind,
      'seconds': f'{seconds:.1f}',
      'update_ms': f'{1000 * seconds / max(updates - 1, 1):.3f}',
      **self._time_parts(params, sequence),
    }
    contexts = [context for context in _CONTEXTS if context <= length]
    return [
      shared | row
      for context in contexts
      for row in self._judge(params, context, contexts[-1])
    ]

  def _time_parts(
    self, params: Any, sequence: world_model.Sequence
  ) -> dict[str, str]:
    """Milliseconds of a scan over a batch, and of an imagined step of it."""
    came = world_model.arrivals(sequence, self._level.action_space)
    key = jax.random.PRNGKey(0)
    seen = (
      sequence.observation,
      came.previous_action,
      sequence.start_of_episode,
    )
    state = self._observe(params, key, *seen)
    starts = self._level.world_model.starts(state, slice(None), 1)
    action = came.previous_action.reshape((-1, came.previous_action.shape[-1]))

    def timed(function, *args) -> str:
      jax.block_until_ready(function(*args))
      begun = timing.now()
      for _ in range(10):
        jax.block_until_ready(function(*args))
      return f'{100 * (timing.now() - begun):.3f}'

    return {
      'scan_ms': timed(self._observe, params, key, *seen),
      'step_ms': timed(self._imagine, params, key, starts, action),
    }

  def _judge(
    self, params: Any, context: int, longest: int
  ) -> list[dict[str, Any]]:
    """A row a horizon, of its errors.

    All cores, seeds and contexts are asked about the same steps, which come
    after the longest context.
    """
    rng = np.random.default_rng(0)
    last = len(self._steps.reward) - longest - _HORIZONS[-1]
    found = [
      self._ask(
        params,
        self._steps,
        rng.integers(self._split, last, _SEQUENCES) + longest - context,
        context,
      )
      for _ in range(_BATCHES)
    ]
    sums = jax.tree.map(lambda *x: np.sum(x, 0), *jax.device_get(found))
    rows = []
    for horizon in _HORIZONS:
      row = {'context': context, 'horizon': horizon}
      for name, (error, variance) in sums.items():
        of = variance[horizon - 1]
        row[name] = f'{error[horizon - 1] / of:.4f}' if of > 1e-6 else ''
      rows.append(row)
    return rows


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
    _Panel('horizon', 'context', longest, 'continuation'),
    _Panel('context', 'horizon', 5, 'observation'),
  ]
  lines = [(panel, _lines(rows, panel)) for panel in panels]
  # Of what is known at one place alone, or nowhere, nothing is drawn.
  lines = [x for x in lines if any(len(line) > 1 for line in x[1].values())]
  if not lines:
    raise ValueError(f'{table.path} holds nothing to draw a line of.')
  figure = Figure(figsize=(4.0 * len(lines), 3.6), layout='constrained')
  for i, (panel, by_core) in enumerate(lines):
    axes = figure.add_subplot(1, len(lines), i + 1)
    for core, line in by_core.items():
      axes.plot(*zip(*sorted(line.items())), marker='.', label=core)
    axes.set_xscale('log')
    axes.set_xlabel(f'{panel.x} ({panel.fixed} {panel.at})')
    axes.set_title(f'error of {panel.y}, share of its variance', fontsize=10)
    axes.axhline(1.0, color='#999999', lw=0.8)
    # Where ends are rare one that is foreseen too soon is ten of them.
    axes.set_ylim(0.0, min(2.0, axes.get_ylim()[1]))
  axes.legend(fontsize=8)
  figure.savefig(picture, dpi=100)


def _lines(
  rows: Sequence[tables.Row], panel: _Panel
) -> dict[str, dict[int, float]]:
  """Means over seeds by x, by core."""
  found = {}
  for row in rows:
    if int(row[panel.fixed]) == panel.at and row[panel.y]:
      line = found.setdefault(row['core'], {})
      line.setdefault(int(row[panel.x]), []).append(float(row[panel.y]))
  return {
    core: {x: float(np.mean(values)) for x, values in line.items()}
    for core, line in found.items()
  }


if __name__ == '__main__':
  app.run(main)
