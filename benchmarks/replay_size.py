"""How replay grows: memory, insertion, sampling and checkpoints by its size.

  python -m benchmarks.replay_size
  python -m benchmarks.replay_size --sizes=10000,100000 --env=atari/Krull

An untrained agent plays some steps, which are stored again and again until the
tables, in a process of their own, hold as many as are wanted. At each size is
measured what storing a step has taken since the size before, and what drawing
the batches of a learner step takes, both in seconds of waiting; then the tables
are written to a directory, and read by another process. Last comes one JSON
line.
"""

from collections.abc import Iterator, Sequence
import itertools
import json
import pathlib
import sys
import tempfile
import time

from absl import app, flags
import acme
from acme import adders
from acme.utils import counting, loggers
import jax
import numpy as np
import psutil
import tqdm

from acme_hieros import command_line, process
from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import networks as networks_lib
from benchmarks import served

_ENV = flags.DEFINE_string('env', 'sparse/pads', 'Environment.')
_PRESET = flags.DEFINE_string('preset', 'atari100k', 'Configuration.')
_SIZES = flags.DEFINE_list(
  'sizes', ['10000', '100000', '1000000'], 'Steps, ascending.'
)

_PLAYED_STEPS = 2000
_DRAWS = 64


class Recorder(adders.Adder):
  """Keeps what it is told, to tell it another adder."""

  def __init__(self):
    self._calls = []

  def add_first(self, timestep):
    self._calls.append(lambda adder: adder.add_first(timestep))

  def add(self, action, next_timestep, extras=()):
    action, extras = jax.tree.map(np.array, (action, extras))
    self._calls.append(lambda adder: adder.add(action, next_timestep, extras))

  def reset(self):
    pass

  def tell(self, adder: adders.Adder) -> Iterator[None]:
    """Tells it for ever, a step at a time."""
    while True:
      for call in self._calls:
        call(adder)
        yield


def main(argv):
  command_line.refuse_arguments(argv)
  process.tune_process(learns=False)
  try:
    sizes = sorted(map(int, _SIZES.value))
  except ValueError as error:
    sys.exit(str(error))
  config, environment, spec, networks = served.prepare(
    _ENV.value, _PRESET.value, sizes[0], {'replay.capacity': sizes[-1]}
  )
  builder = builder_lib.HierosBuilder(config, served.no_logger, seed=0)
  recorder = play(environment, builder, networks)
  with tempfile.TemporaryDirectory() as directory:
    replay, client = served.serve_apart(builder, spec, directory)
    rows = grow(
      recorder.tell(builder.make_adder(client)),
      builder.make_dataset_iterator(client),
      sizes,
      psutil.Process(replay.pid),
    )
    start = time.perf_counter()
    path = client.checkpoint()
    saved = time.perf_counter() - start
    written = sum(
      file.stat().st_size
      for file in pathlib.Path(path).rglob('*')
      if file.is_file()
    )
    # It would save again when it is asked to end.
    replay.kill()
    replay.join()
    start = time.perf_counter()
    again, _ = served.serve_apart(builder, spec, directory)
    restored = time.perf_counter() - start
    again.kill()
  print(
    f'{sizes[-1]:,} steps: {written / 2**30:.2f} GiB written in {saved:.0f} s, '
    f'restored in {restored:.0f} s'
  )
  print(
    json.dumps(
      {
        'rows': rows,
        'checkpoint_gib': written / 2**30,
        'checkpoint_seconds': saved,
        'restore_seconds': restored,
      }
    )
  )


def play(environment, builder, networks) -> Recorder:
  """Some episodes of an untrained agent."""
  recorder = Recorder()
  learner = builder.make_learner(jax.random.PRNGKey(0), networks, iter(()))
  actor = builder.make_actor(
    jax.random.PRNGKey(1),
    networks_lib.make_policy(networks),
    recorder,
    learner,
  )
  loop = acme.EnvironmentLoop(
    environment, actor, counting.Counter(), logger=loggers.NoOpLogger()
  )
  loop.run(num_steps=_PLAYED_STEPS)  # And to the end of the episode.
  return recorder


def grow(
  steps: Iterator[None], dataset, sizes: Sequence[int], replay: psutil.Process
) -> list[dict[str, float]]:
  """Fills the tables; returns what each size has cost."""
  rows = []
  print(f'{"steps":>10}{"GiB":>8}{"ms a step":>11}{"ms of batches":>15}')
  with tqdm.tqdm(total=sizes[-1], unit='step') as bar:
    for before, size in zip([0, *sizes], sizes):
      start = time.perf_counter()
      for _ in itertools.islice(steps, size - before):
        bar.update()
      inserting = (time.perf_counter() - start) / (size - before)
      next(dataset)  # Opens the iterators.
      start = time.perf_counter()
      for _ in range(_DRAWS):
        next(dataset)
      drawing = (time.perf_counter() - start) / _DRAWS
      row = {
        'steps': size,
        'gib': replay.memory_info().rss / 2**30,
        'insert_ms': 1000 * inserting,
        'batches_ms': 1000 * drawing,
      }
      rows.append(row)
      bar.write(
        f'{size:10,}{row["gib"]:8.2f}{row["insert_ms"]:11.2f}'
        f'{row["batches_ms"]:15.1f}',
        file=sys.stdout,
      )
  return rows


if __name__ == '__main__':
  app.run(main)
