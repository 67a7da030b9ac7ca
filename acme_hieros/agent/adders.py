"""The hierarchical adder: every level's steps, each to its own Reverb table."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from acme import types
from acme.adders import base
from acme.adders.reverb import base as reverb_base
import dm_env
import numpy as np
import reverb
import tree

from acme_hieros.config import HierosConfig
from acme_hieros.models import hierarchy
from acme_hieros.replay import etbs, tables


class Extras(NamedTuple):
  """What the actor tells the adder beside the environment's step.

  steps: of each level, at the observation that the action was chosen for.
  end: of each upper level, its window at the episode's last observation; None
    unless the next timestep is that last one.
  """

  steps: Sequence[hierarchy.LevelStep]
  end: Sequence[hierarchy.Window] | None = None


class HierarchicalAdder(base.Adder):
  """Writes each level's ticks as Acme steps into the level's own table.

  (docs/algorithm.md, 2.5.) A level's step lasts from one of its ticks to the
  next. It holds what the level saw and chose at its tick, and what came of it:
  the mean (or sum) of the environment's rewards and the product of its
  discounts until the next tick. A window that an episode's end cuts short is
  filled up with zeros for the mean: a reward is not to count for more because
  it came right after a tick. An episode ends with one more step of every level,
  which holds the last observation and, as in Acme's own adders, zeros.

  Sequences run on across episodes; `start_of_episode` marks the first steps.
  From the T-th step on every step completes one sequence.
  """

  def __init__(
    self,
    client: reverb.Client,
    config: HierosConfig,
    limit_ratio: bool = False,
  ):
    """Creates an adder.

    Args:
      client: of the server that holds the tables `level_0`, `level_1`, ...
      config: depth, sequence length and reward aggregation.
      limit_ratio: report every step to the table `steps`, which blocks an actor
        that is ahead of the learner.
    """
    self._levels = [
      _LevelWriter(client, i, config) for i in range(config.depth)
    ]
    self._steps = None
    if limit_ratio:
      # A replay that was restored can serve the learner already.
      size = client.server_info()[tables.table_name(0)].current_size
      filled = size >= config.replay.min_size
      self._steps = _StepWriter(client, None if filled else self._levels[0])
    self._observation = None
    self._first = False

  def add_first(self, timestep: dm_env.TimeStep):
    """Starts an episode; one that was left unfinished is cut where it is."""
    if not timestep.first():
      raise ValueError('add_first takes the first timestep of an episode.')
    self.reset()
    self._observation = _copy(timestep.observation)
    self._first = True

  def add(
    self,
    action: types.NestedArray,
    next_timestep: dm_env.TimeStep,
    extras: Extras,
  ):
    """Adds an environment step.

    Args:
      action: the environment's action, nested or not.
      next_timestep: what it led to.
      extras: every level's step. At an episode's last step `extras.end` must
        hold what the upper levels see at its last observation.

    Raises:
      ValueError: the call does not follow `add_first`, or `extras.end` is
        missing.
    """
    if self._observation is None:
      raise ValueError('add_first must be called before add.')
    if next_timestep.last() and extras.end is None:
      raise ValueError("An episode's last step needs extras.end.")
    for i, (level, step) in enumerate(zip(self._levels, extras.steps)):
      if step.ticked:
        level.start(
          observation=step.observation if i else self._observation,
          # The action that was really taken: a wrapper may have changed it.
          action=step.action if i else action,
          start_of_episode=self._first,
          extras=step.extras,
        )
      level.receive(next_timestep.reward, next_timestep.discount)
      if next_timestep.last():
        level.finish(extras.end[i - 1] if i else next_timestep.observation)
    self._observation = (
      None if next_timestep.last() else _copy(next_timestep.observation)
    )
    self._first = False
    if self._steps:
      self._steps.add()

  def reset(self):
    """Forgets steps that have begun and not ended."""
    self._observation = None
    for level in self._levels:
      level.reset()

  def flush(self):
    """Blocks until all complete sequences are in their tables."""
    for level in self._levels:
      level.flush()

  def close(self):
    """Flushes, and lets go of the server; nothing can be added after that."""
    for level in self._levels:
      level.close()
    if self._steps:
      self._steps.close()


def _copy(values: types.NestedArray) -> types.NestedArray:
  # A step is written when it ends; by then its environment may have put other
  # values into the same arrays.
  return tree.map_structure(np.array, values)


class _LevelWriter:
  """One level's open step, and the writer of its closed ones."""

  def __init__(self, client: reverb.Client, level: int, config: HierosConfig):
    self._table = table = tables.table_name(level)
    self._length = config.sequence_length
    self._chunk_length = config.chunk_length(level)
    self._divisor = config.reward_divisor(level)
    # Only the stand-in for the native ETBS sampler reads priorities.
    self._priority = etbs.InsertionOrder(client, table)
    self._writer = client.trajectory_writer(
      num_keep_alive_refs=self._length, get_signature_timeout_ms=300_000
    )
    self._written = self._flushed = 0
    self.reset()

  @property
  def sequences(self) -> int:
    """In the table so far; below 1 if there is none yet."""
    return self._flushed - self._length + 1

  def start(self, **step: Any):
    """Closes the open step and opens the next, at a tick."""
    self._close()
    self._step = _copy(step)

  def receive(self, reward: float, discount: float):
    """Takes in what an environment step brought."""
    self._reward += reward
    self._discount *= discount

  def finish(self, observation: types.NestedArray):
    """Closes the open step, and adds the one of the last observation."""
    last = dict(
      self._step,
      observation=observation,
      action=tree.map_structure(np.zeros_like, self._step['action']),
      start_of_episode=np.asarray(False),
      extras=dict(self._step['extras'], log_prob=np.float32(0.0)),
    )
    self._close()
    self._append(last, reward=0.0, discount=0.0)
    self.reset()

  def reset(self):
    self._step = None
    self._reward, self._discount = 0.0, 1.0

  def flush(self):
    self._writer.flush()
    self._flushed = self._written

  def close(self):
    self.flush()
    self._writer.close()

  def _close(self):
    if self._step is None:
      return
    self._append(self._step, self._reward / self._divisor, self._discount)
    self.reset()

  def _append(self, step: types.NestedArray, reward: float, discount: float):
    row = reverb_base.Step(
      reward=np.float32(reward), discount=np.float32(discount), **step
    )
    if not self._written:
      for path, _ in tree.flatten_with_path(row):
        self._writer.configure(
          path,
          num_keep_alive_refs=self._length,
          max_chunk_length=self._chunk_length,
        )
    self._writer.append(row)
    self._written += 1
    if self._written < self._length:
      return
    trajectory = tree.map_structure(
      lambda column: column[-self._length :], self._writer.history
    )
    self._writer.create_item(
      self._table, priority=self._priority(), trajectory=trajectory
    )
    # Items wait for their last chunk to be full. Then they are all in the table
    # when this returns, so that what a table holds depends on nothing else.
    if self._written - self._flushed >= self._chunk_length:
      self.flush()


class _StepWriter:
  """Reports environment steps.

  While the learner waits for its first sequences, no step is reported before
  level 0 has one for it.
  """

  def __init__(self, client: reverb.Client, level: _LevelWriter | None):
    self._level = level
    self._writer = client.trajectory_writer(
      num_keep_alive_refs=1, get_signature_timeout_ms=300_000
    )
    self._steps = 0
    self._sent = 0

  def add(self):
    """Counts a step; blocks while the learner is too far behind."""
    self._steps += 1
    allowed = self._steps
    if self._level:
      allowed = min(allowed, self._level.sequences)
    if allowed <= self._sent:
      return
    for _ in range(allowed - self._sent):
      self._writer.append(np.True_)
      self._writer.create_item(
        tables.STEP_TABLE, 1.0, self._writer.history[-1:]
      )
    self._sent = allowed
    self._writer.flush()

  def close(self):
    self._writer.close()
