"""What ETBS costs, beside Reverb's own samplers, in one run.

  python -m benchmarks.etbs

Selectors alone, in nanoseconds a call, and whole tables, in trajectories a CPU
second (of server and dataset together) through a dataset, with `--size` items
in each. All take turns, in another order every round, so that a noisy machine
is noisy for all; the median of the rounds counts, for tables that of the ratio
to Uniform in the same round. Last comes one JSON line. Exits with 1 if ETBS
misses a mark.
"""

import json
import random
import statistics
import sys
import time

from absl import app, flags
import numpy as np
import reverb
import tensorflow as tf
import tqdm

from acme_hieros import command_line
from acme_hieros.replay import etbs

_SIZE = flags.DEFINE_integer('size', 100_000, 'Items in a table.')
_DRAWS = flags.DEFINE_integer('draws', 20_000, 'Draws from a table, a round.')
_ROUNDS = flags.DEFINE_integer('rounds', 41, 'Rounds.')

# Of a draw in nanoseconds, and of Uniform's trajectories.
_MOST_NANOSECONDS = 250
_LEAST_OF_UNIFORM = 0.9

_BATCH = 500


def make_samplers():
  return {
    'uniform': reverb.selectors.Uniform(),
    'etbs 0.3': etbs.Etbs(0.3, seed=1),
    'etbs 1.0': etbs.Etbs(1.0, seed=1),
    'prioritized': reverb.selectors.Prioritized(1.0),
  }


def time_selectors(rounds: int) -> dict[str, list[float]]:
  """Nanoseconds of one draw, and of one insertion and one removal."""
  times = {name: [] for name in make_samplers()}
  for _ in tqdm.trange(rounds, desc='selectors'):
    for name, sampler in make_samplers().items():
      if isinstance(sampler, etbs.Etbs):
        sampler = sampler.build_selector()
      times[name].append(etbs.time_selector(sampler, _SIZE.value, _SIZE.value))
  return {
    name: [statistics.median(column) for column in zip(*rows)]
    for name, rows in times.items()
  }


def time_tables(rounds: int) -> dict[str, tuple[float, float]]:
  """Trajectories of one step a CPU second, and their ratio to Uniform's."""
  tables = [
    (etbs.make_table if isinstance(sampler, etbs.Etbs) else reverb.Table)(
      name,
      sampler,
      reverb.selectors.Fifo(),
      _SIZE.value,
      reverb.rate_limiters.MinSize(1),
      signature=tf.TensorSpec([1], tf.float32),
    )
    for name, sampler in make_samplers().items()
  ]
  server = reverb.Server(tables)
  client = reverb.Client(f'localhost:{server.port}')
  with client.trajectory_writer(1) as writer:
    for i in tqdm.trange(_SIZE.value, desc='filling'):
      writer.append(np.float32(i))
      for table in tables:
        writer.create_item(table.name, 1.0, writer.history[-1:])
      if i % 1000 == 0:
        writer.flush()
  rates = {table.name: [] for table in tables}
  iterators = {
    name: iter(
      reverb.TrajectoryDataset.from_table_signature(
        client.server_address, name, max_in_flight_samples_per_worker=_BATCH
      ).batch(_BATCH)
    )
    for name in rates
  }
  names = list(iterators)
  for _ in tqdm.trange(rounds, desc='tables'):
    random.shuffle(names)
    for name in names:
      iterator = iterators[name]
      next(iterator)
      start = time.process_time()
      for _ in range(_DRAWS.value // _BATCH):
        next(iterator)
      seconds = time.process_time() - start
      rates[name].append(_DRAWS.value / seconds)
  server.stop()
  return {
    name: (
      statistics.median(values),
      statistics.median(
        value / uniform for value, uniform in zip(values, rates['uniform'])
      ),
    )
    for name, values in rates.items()
  }


def main(argv):
  command_line.refuse_arguments(argv)
  if etbs.BACKEND != 'native':
    sys.exit('benchmarks.etbs: the native sampler was not built.')
  selectors = time_selectors(_ROUNDS.value)
  tables = time_tables(_ROUNDS.value)
  print(
    f'{"":12} {"draw":>9} {"insert":>9} {"replace":>9} {"trajectories":>14} '
    f'{"ratio":>6}'
  )
  for name, (insert, draw, replace) in selectors.items():
    print(
      f'{name:12} {draw:6.0f} ns {insert:6.0f} ns {replace:6.0f} ns '
      f'{tables[name][0]:12.0f}/s {tables[name][1]:6.3f}'
    )
  missed = []
  for name in ('etbs 0.3', 'etbs 1.0'):
    insert, draw, _ = selectors[name]
    if draw > _MOST_NANOSECONDS:
      missed.append(f'{name}: a draw takes {draw:.0f} ns')
    if insert > selectors['prioritized'][0]:
      missed.append(f'{name}: inserting is slower than into Prioritized')
    if tables[name][1] < _LEAST_OF_UNIFORM:
      missed.append(f'{name}: trajectories are slower than from Uniform')
  print(json.dumps({'selectors': selectors, 'tables': tables}))
  sys.exit('\n'.join(missed) or 0)


if __name__ == '__main__':
  app.run(main)
