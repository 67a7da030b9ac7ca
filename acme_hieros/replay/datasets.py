"""Batches of every level's table, for one learner step after another."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

from collections.abc import Callable, Iterator
from concurrent import futures
import threading
import time
from typing import Any

from absl import logging
from acme.adders.reverb import base as reverb_base
import numpy as np
import reverb
import tree

from acme_hieros.config import HierosConfig
from acme_hieros.replay import etbs, notices, tables

# What a learner step gets: a batch [B, T, ...] of each level, or None where the
# level is not due or its table still too small.
LevelBatches = tuple[reverb_base.Step | None, ...]

# How long to pause while no level can learn. Long enough that a learner of its
# own does not spin, short enough for an actor in the same thread not to mind.
_IDLE_SECONDS = 0.01

# How long a learner waits for its actors before it looks around. Every time
# costs a new iterator.
_PATIENCE_MS = 1000

# What a table has is drawn at once; so long there is nothing only where
# somebody has emptied it.
_MOST_SECONDS = 10.0


class LevelDataset(Iterator[LevelBatches]):
  """What each learner step needs from the tables of all levels.

  Level l is due at every `update_period`-th step, the first one included
  (docs/algorithm.md, 6.3). A table that is still too small, or again, since
  somebody has emptied it, is skipped and never waited for: an actor in the same
  thread could not fill it meanwhile. While level 0 cannot learn, every batch is
  None and no step is counted.
  """

  def __init__(
    self,
    client: reverb.Client,
    config: HierosConfig,
    prefetch: bool = True,
    limit_ratio: bool = False,
  ):
    """Creates the dataset.

    Args:
      client: of the server that holds the tables.
      config: batch size, update periods and least table size.
      prefetch: draw the next batch while the learner works on the last one,
        which takes it from the table as it happens to be then. Without it a
        batch is drawn when it is asked for, so that a run can be repeated.
      limit_ratio: have the table of `tables.make_step_table` hold the replay
        ratio. While it does not allow a step, every batch is None.
    """
    self._client = client
    self._tables = [tables.table_name(i) for i in range(config.depth)]
    self._config = config
    self._prefetch = prefetch
    self._limit_ratio = limit_ratio
    self._allowed = None  # Iterator over the steps that the limiter allows.
    self._iterators = [None] * config.depth
    # Of the learner, those before a restart included; decides who is due.
    self.step = 0

  def __next__(self) -> LevelBatches:
    due = [
      self.step % self._config.update_period(level) == 0
      for level in range(len(self._tables))
    ]
    if not self.ready():
      time.sleep(_IDLE_SECONDS)
      return (None,) * len(self._tables)
    if self._limit_ratio and not self._wait_for_permission():
      return (None,) * len(self._tables)
    batches = tuple(
      self._take(level) if due[level] and self._ready(level) else None
      for level in range(len(self._tables))
    )
    if batches[0] is None:
      return (None,) * len(self._tables)
    self.step += 1
    return batches

  def ready(self) -> bool:
    """Whether level 0 can learn; it stays so unless its table is emptied."""
    return self._ready(0)

  def _take(self, level: int) -> reverb_base.Step | None:
    try:
      return next(self._iterators[level])
    except (StopIteration, futures.TimeoutError):  # TensorFlow's, and ours.
      logging.warning(
        'The replay table %s was emptied by another program; its level learns '
        'on when it is filled again.',
        self._tables[level],
      )
      self._iterators[level] = None
      return None

  def _wait_for_permission(self) -> bool:
    """Whether the replay ratio allows a step; waits for it for a while."""
    if self._allowed is None:
      self._allowed = reverb.TrajectoryDataset.from_table_signature(
        server_address=self._client.server_address,
        table=tables.STEP_TABLE,
        max_in_flight_samples_per_worker=1,
        num_workers_per_iterator=1,
        rate_limiter_timeout_ms=_PATIENCE_MS,
      ).as_numpy_iterator()
    if next(self._allowed, None) is not None:
      return True
    self._allowed = None  # A timeout ends the iteration.
    return False

  def _ready(self, level: int) -> bool:
    """Opens the level's iterator once its table can serve it."""
    if self._iterators[level] is None:
      table = self._tables[level]
      size = self._client.server_info()[table].current_size
      if size < self._config.least_sequences(level):
        return False
      self._iterators[level] = self._open(table)
    return True

  def _open(self, table: str) -> Iterator[reverb_base.Step]:
    replay = self._config.replay
    # The stand-in for the native ETBS sampler filters a stream.
    native = replay.sampler != 'etbs' or etbs.BACKEND == 'native'
    if not self._prefetch and native:
      return self._draw(table)
    settings = dict(
      server_address=self._client.server_address,
      table=table,
      max_in_flight_samples_per_worker=self._config.batch_size,
      num_workers_per_iterator=1,
      rate_limiter_timeout_ms=int(1000 * _MOST_SECONDS),
    )
    if replay.sampler == 'etbs':
      sampler = etbs.Etbs(replay.temperature)
      dataset = etbs.make_dataset(sampler=sampler, **settings)
    else:
      dataset = reverb.TrajectoryDataset.from_table_signature(**settings)
    dataset = dataset.batch(self._config.batch_size, drop_remainder=True)
    # One batch is decoded while the learner works on another.
    samples = dataset.prefetch(1).as_numpy_iterator()
    return (sample.data for sample in samples)

  def _draw(self, table: str) -> Iterator[reverb_base.Step]:
    while True:
      with notices.sampler_made():
        samples = _within(
          _MOST_SECONDS,
          lambda: list(
            self._client.sample(
              table,
              self._config.batch_size,
              emit_timesteps=False,
              unpack_as_table_signature=True,
            )
          ),
        )
      yield tree.map_structure(
        lambda *columns: np.stack(columns), *(sample.data for sample in samples)
      )


def _within(seconds: float, function: Callable[[], Any]) -> Any:
  """What a function returns that may wait in C++ for ever, deaf to signals.

  Raises:
    futures.TimeoutError: it waits still, in a thread that dies with the
      process.
  """
  future = futures.Future()

  def call():
    try:
      future.set_result(function())
    except Exception as error:
      future.set_exception(error)

  threading.Thread(target=call, daemon=True).start()
  return future.result(seconds)


def foreign_batches(
  samples: Iterator[reverb.ReplaySample],
) -> Iterator[LevelBatches]:
  """Batches for a Hieros of depth 1 from sequences that any Acme agent wrote.

  What such steps lack, the windows and subgoals of upper levels, needs Hieros'
  own actor; what they have beyond (`extras`) is left out. Nor is it known how
  likely their actions were, so that no actor learns from what came of them. The
  sequences must run on across episodes,
  `SequenceAdder(end_of_episode_behavior=CONTINUE)`: steps that only fill up a
  sequence would be taken for observations.

  Args:
    samples: batches of Acme `Step`s [B, T, ...].

  Yields:
    What `HierosLearner` takes.

  Raises:
    ValueError: a sequence was filled up.
  """
  for sample in samples:
    step = sample.data
    # An episode's last step, which is its last observation, has no discount,
    # and after a termination neither has the one before. Then one must start.
    ended = step.discount == 0
    goes_on = ~step.start_of_episode
    if np.any(
      ended[:, :-2] & ended[:, 1:-1] & goes_on[:, 1:-1] & goes_on[:, 2:]
    ):
      raise ValueError(
        'Sequences are filled up with zeros at the end of an episode: write '
        'them with SequenceAdder(end_of_episode_behavior='
        'EndBehavior.CONTINUE).'
      )
    yield (step._replace(extras={}),)
