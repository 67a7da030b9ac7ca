"""What replay costs: its memory, and how long a learner waits for a batch.

  python -m benchmarks.replay
  python -m benchmarks.replay --env=atari/Pong --preset=small

An untrained agent plays into tables in a process of their own, whose memory is
what counts. Then its learner learns, and what counts is the part of the time
that it spends in getting batches: prefetched, as with actors in other
processes, and drawn when it asks, as where one process does all. Last comes one
JSON line.
"""

import json
import time

from absl import app, flags
import acme
from acme.utils import counting, loggers
import jax
import numpy as np
import psutil
import tqdm

from acme_hieros import command_line, process
from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import networks as networks_lib
from benchmarks import served

_ENV = flags.DEFINE_string('env', 'atari/Krull', 'Environment.')
_PRESET = flags.DEFINE_string('preset', 'atari100k', 'Configuration.')
_STEPS = flags.DEFINE_integer(
  'steps', 20_000, 'Of the environment.', lower_bound=4000
)
# Fewer than come before the first diagnosis of a level, which compiles.
_UPDATES = flags.DEFINE_integer(
  'updates', 16, 'Learner steps, timed.', lower_bound=1, upper_bound=20
)

# Steps between two looks at the memory.
_PERIOD = 500
_QUOTED_STEPS = 100_000


class Stopwatch:
  """Iterates over `iterator`, and adds up the time that it takes."""

  iterator = None
  seconds = 0.0

  def __next__(self):
    start = time.perf_counter()
    value = next(self.iterator)
    self.seconds += time.perf_counter() - start
    return value


def main(argv):
  command_line.refuse_arguments(argv)
  process.tune_process()
  config, environment, spec, networks = served.prepare(
    _ENV.value, _PRESET.value, _STEPS.value, {}
  )
  drawn = builder_lib.HierosBuilder(config, served.no_logger, seed=0)
  prefetched = builder_lib.HierosBuilder(config, served.no_logger)
  replay, client = served.serve_apart(drawn, spec)
  watch = Stopwatch()
  learner = drawn.make_learner(jax.random.PRNGKey(0), networks, watch)
  actor = drawn.make_actor(
    jax.random.PRNGKey(1),
    networks_lib.make_policy(networks),
    drawn.make_adder(client),
    learner,
  )
  gib = fill(environment, actor, psutil.Process(replay.pid))
  print(f'{_QUOTED_STEPS} steps would need {gib:.2f} GiB of replay')
  result = {'replay_gib': gib}
  for name, builder in {'prefetched': prefetched, 'drawn': drawn}.items():
    watch.iterator = builder.make_dataset_iterator(client)
    result[f'waiting_{name}'] = waiting = measure_waiting(learner, watch)
    print(f'{name}: the learner waits {100 * waiting:.2f} % of its time')
  print(json.dumps(result))


def fill(environment, actor, replay: psutil.Process) -> float:
  """Plays; returns the GiB that _QUOTED_STEPS steps would take."""
  counter = counting.Counter()
  loop = acme.EnvironmentLoop(
    environment, actor, counter, logger=loggers.NoOpLogger()
  )
  steps, memory = [0], []
  with tqdm.tqdm(total=_STEPS.value, unit='step') as bar:
    while True:
      memory.append(replay.memory_info().rss)
      if steps[-1] >= _STEPS.value:
        break
      loop.run(num_steps=_PERIOD)  # And to the end of the episode.
      steps.append(counter.get_counts()['steps'])
      bar.update(steps[-1] - steps[-2])
  # What is there once, as the threads of the server, comes in the first half.
  half = len(steps) // 2
  slope, _ = np.polyfit(steps[half:], memory[half:], 1)
  return _QUOTED_STEPS * slope / 2**30


def measure_waiting(learner, watch: Stopwatch) -> float:
  """The part of the learner's time that it spends in getting batches."""
  learner.step()  # Compiles, and opens the iterators: every level is due.
  watch.seconds, start = 0.0, time.perf_counter()
  for _ in tqdm.trange(_UPDATES.value, unit='update'):
    learner.step()
  return watch.seconds / (time.perf_counter() - start)


if __name__ == '__main__':
  app.run(main)
