"""How well a run's world model knows what it learned from, by its age.

  hieros sweep studies/sampling.toml --variant=laptop
  python -m benchmarks.ages --name=sampling --plot=ages.png \\
      runs/sampling-laptop/runs/*

Splits the sequences in a run's replay into tenths, oldest first, and has the
world model of level 0 foresee the second half of some of each from the first,
without looking. A row of `benchmarks/results/<name>-ages.csv` is one run, tenth
and horizon:

  draws: how often a sequence of the tenth was drawn, as a share of the mean
  sequences: that were asked about
  observation, reward, continuation: squared error as a share of the mean over
    tenths of the variance in each; nothing is there where nothing varies

It asks about what was learned from: a world model that has learned old steps by
heart is good at them. What is newer may be harder, since who plays better sees
more: compare runs, not tenths. Replay that dropped sequences holds the newest
alone. `--plot` draws the means over runs by sampler.
"""

from collections.abc import Mapping, Sequence
import os
import sys
import tempfile
from typing import Any, NamedTuple

try:
  from acme_hieros import compat  # noqa: F401  Before what may be absent.
except ImportError as error:
  sys.exit(f'ages: {error}')

from absl import app, flags
import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np
import reverb
from reverb.cc.checkpointing import checkpoint_pb2
import tensorflow as tf
import tqdm
import tree

from acme_hieros.agent import learning
from acme_hieros.experiments import runs
from acme_hieros.replay import tables as replay_tables
import benchmarks
from benchmarks import tables, world_models

_NAME = flags.DEFINE_string('name', None, 'Of the table in benchmarks/results.')
_PLOT = flags.DEFINE_string('plot', None, 'A PNG to draw of the table.')

# Sequences of each tenth that are asked about, so many at once.
_SEQUENCES, _BATCH = 128, 32
_TENTHS = 10
# Steps ahead, as far as the second half of a sequence reaches.
_HORIZONS = (1, 2, 5, 10)
# Draws from the replay for each sequence that is wanted, at most.
_PATIENCE = 20
_TABLE = replay_tables.table_name(0)

_COLUMNS = (
  'run',
  'environment',
  'sampler',
  'seed',
  'steps',
  'updates',
  'tenth',
  'draws',
  'sequences',
  'horizon',
  'observation',
  'reward',
  'continuation',
)


def main(argv: Sequence[str]):
  try:
    path = tables.table_path(benchmarks.RESULTS, _NAME.value)
    table = tables.Table(f'{path}-ages.csv', _COLUMNS)
    for workdir in tqdm.tqdm(argv[1:], desc='runs', leave=False):
      run = os.path.basename(os.path.normpath(workdir))
      learned = runs.read_learned(workdir)
      table.put(measure(run, learned), without=table.of(run=run))
    if not table.rows:
      raise ValueError('Name the work directories of runs to look into.')
    print(summarise(table.rows))
    if _PLOT.value:
      plot(table.rows, _PLOT.value)
  except (ValueError, OSError) as error:
    sys.exit(f'ages: {error}')


class Ages(NamedTuple):
  """The sequences of a table, oldest first, as a checkpoint has them.

  tenth: of each by its key, 0 the oldest.
  draws: mean number of draws of each tenth's, [10].
  """

  tenth: Mapping[int, int]
  draws: np.ndarray


def read_ages(replay: str) -> Ages:
  """Reads the ages of level 0's sequences from a Reverb checkpoint.

  Raises:
    ValueError: it holds too few of them, or none that can be read.
  """
  path = os.path.join(replay, 'tables.tfrecord')
  try:
    found = [
      checkpoint_pb2.PriorityTableCheckpoint.FromString(record)
      for record in tf.data.TFRecordDataset(path).as_numpy_iterator()
    ]
  except tf.errors.OpError as error:
    raise ValueError(f'{path} cannot be read ({error.message}).') from error
  items = [
    item for one in found if one.table_name == _TABLE for item in one.items
  ]
  if len(items) < _TENTHS:
    raise ValueError(
      f'{replay} holds {len(items)} sequences of level 0; {_TENTHS} are needed.'
    )
  items.sort(key=lambda item: item.inserted_at.ToNanoseconds())
  tenths = np.arange(len(items)) * _TENTHS // len(items)
  draws = np.array([item.times_sampled for item in items], float)
  return Ages(
    dict(zip((item.key for item in items), tenths.tolist())),
    np.bincount(tenths, draws) / np.bincount(tenths),
  )


def draw(learned: runs.Learned, ages: Ages) -> list[list[Any]]:
  """Some sequences of each tenth, no two the same: Acme steps [T, ...]."""
  found = [{} for _ in range(_TENTHS)]
  sizes = np.bincount(list(ages.tenth.values()))
  wanted = np.minimum(_SEQUENCES, sizes)
  config = learned.run.config
  with tempfile.TemporaryDirectory() as directory:
    server = reverb.Server(
      # The levels above are restored with it.
      replay_tables.make_tables(
        config, learned.networks, learned.environment_spec
      ),
      checkpointer=reverb.platform.checkpointers_lib.DefaultCheckpointer(
        directory, fallback_checkpoint_path=learned.replay
      ),
    )
    try:
      samples = reverb.Client(f'localhost:{server.port}').sample(
        _TABLE,
        num_samples=_PATIENCE * _TENTHS * _SEQUENCES,
        emit_timesteps=False,
        unpack_as_table_signature=True,
      )
      for sample in samples:
        tenth = ages.tenth[int(sample.info.key)]
        if len(found[tenth]) < wanted[tenth]:
          found[tenth][int(sample.info.key)] = sample.data
        if all(len(one) == n for one, n in zip(found, wanted)):
          break
    finally:
      server.stop()
  return [list(one.values()) for one in found]


def measure(run: str, learned: runs.Learned) -> list[dict[str, Any]]:
  """The rows of a run."""
  config, level = learned.run.config, learned.networks.levels[0]
  params = jax.device_put(learned.state[0].params.world_model)
  context = config.sequence_length // 2
  horizons = [h for h in _HORIZONS if h <= config.sequence_length - context]

  @jax.jit
  def ask(key, sequence):
    return (
      jnp.sum(world_models.foreseeable(sequence, context), 0),
      world_models.errors(level, params, key, sequence, context),
    )

  ages = read_ages(learned.replay)
  judged, sums, numbers = [], [], []
  for tenth, sequences in enumerate(draw(learned, ages)):
    key = jax.random.PRNGKey(tenth)
    # Equal shapes, so that it is compiled once.
    batches = [
      sequences[i : i + _BATCH]
      for i in range(0, len(sequences) - _BATCH + 1, _BATCH)
    ] or [sequences]
    asked = [
      ask(
        jax.random.fold_in(key, i),
        learning.to_batch(
          tree.map_structure(lambda *x: np.stack(x), *batch)
        ).sequence,
      )
      for i, batch in enumerate(batches)
    ]
    count, found = jax.tree.map(
      lambda *x: np.sum(x, 0, dtype=float), *jax.device_get(asked)
    )
    judged.append(np.maximum(count, 1))
    sums.append(found)
    numbers.append(sum(map(len, batches)))
  # One for all, so that a tenth in which little happens has no large errors.
  variance = {
    name: sum(one[name][1] for one in sums) / sum(judged) for name in sums[0]
  }
  shared = {
    'run': run,
    'environment': learned.run.environment_name,
    'sampler': config.replay.sampler,
    'seed': learned.run.seed,
    'steps': learned.steps,
    'updates': learned.updates,
  }
  rows = []
  for tenth, (count, one) in enumerate(zip(judged, sums)):
    for horizon in horizons:
      row = {
        **shared,
        'tenth': tenth,
        'draws': f'{ages.draws[tenth] / ages.draws.mean():.3f}',
        'sequences': numbers[tenth],
        'horizon': horizon,
      }
      for name, (error, _) in one.items():
        of = variance[name][horizon - 1]
        mean = error[horizon - 1] / count[horizon - 1]
        row[name] = f'{mean / of:.4f}' if of > 1e-6 else None
      rows.append(row)
  return rows


def by_sampler(
  rows: Sequence[tables.Row], environment: str, column: str, horizon: int = 1
) -> dict[str, np.ndarray]:
  """Means over runs of a column in an environment, oldest tenth first, [10]."""
  found = {}
  for row in rows:
    if row['environment'] == environment and int(row['horizon']) == horizon:
      tenths = found.setdefault(row['sampler'], [[] for _ in range(_TENTHS)])
      if row[column]:
        tenths[int(row['tenth'])].append(float(row[column]))
  return {
    sampler: np.array([np.mean(x) if x else np.nan for x in tenths])
    for sampler, tenths in found.items()
  }


def summarise(rows: Sequence[tables.Row]) -> str:
  """A line for each environment and sampler: the oldest and newest tenths."""
  lines = []
  for environment in dict.fromkeys(row['environment'] for row in rows):
    errors = by_sampler(rows, environment, 'observation')
    draws = by_sampler(rows, environment, 'draws')
    lines += [
      f'{environment}, {sampler}: drawn {draws[sampler][0]:.2f} times the mean '
      f'when oldest and {draws[sampler][-1]:.2f} when newest; error one step '
      f'ahead {error[0]:.3f} and {error[-1]:.3f}, {np.mean(error):.3f} over all'
      for sampler, error in errors.items()
    ]
  return '\n'.join(lines)


def plot(rows: Sequence[tables.Row], picture: str):
  """Draws the means over runs by sampler: errors and draws by tenth."""
  panels = [
    ('draws', 'draws, of their mean', 1),
    ('observation', 'error of observation one ahead', 1),
    ('observation', 'error of observation ten ahead', 10),
    ('reward', 'error of reward one ahead', 1),
  ]
  environments = list(dict.fromkeys(row['environment'] for row in rows))
  figure = Figure(
    figsize=(3.4 * len(panels), 2.8 * len(environments)), layout='constrained'
  )
  grid = figure.subplots(len(environments), len(panels), squeeze=False)
  for line, environment in zip(grid, environments):
    for axes, (column, title, horizon) in zip(line, panels):
      found = by_sampler(rows, environment, column, horizon)
      if np.all(np.isnan(list(found.values()))):
        axes.set_axis_off()  # Episodes are shorter, or nothing varies.
        continue
      for sampler, values in found.items():
        axes.plot(range(_TENTHS), values, marker='.', label=sampler)
      axes.set_title(f'{environment}: {title}', fontsize=9)
      axes.set_ylim(bottom=0)
    line[0].legend(fontsize=8)
  for axes in grid[-1]:
    axes.set_xlabel('tenth of the replay, oldest first', fontsize=8)
  figure.savefig(picture, dpi=100)


if __name__ == '__main__':
  app.run(main)
