"""Trains Hieros in one process: act, store, learn, log, save.

While a learner step is under way, the actor takes the steps up to the next, by
what the step before it has learned: the lag does not depend on the clock, so
that a run can be repeated.
"""

import contextlib
import dataclasses
import functools
import math
import time

from acme.utils import counting
import jax
import psutil
import reverb

from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import learning
from acme_hieros.agent import networks as networks_lib
from acme_hieros.experiments import (
  checkpoints,
  console,
  environment_loop,
  episodes,
  loggers,
  loopback,
  periodic_pictures,
  runs,
)
from acme_hieros.machines import memory, ports
from acme_hieros.replay import notices
from acme_hieros.storage import workdirs


class Trainer:
  """One run. Construction checks everything that can be checked in advance.

  parameter_counts: of each level. notes: on how the agent sees and acts, to be
  told. written_by: who wrote the checkpoint that is continued, if there is one.

  Raises:
    ValueError: see `runs.prepare`.
  """

  def __init__(self, run: runs.Run):
    self._run = run
    config = run.config
    prepared = runs.prepare(run)
    self._workdir = prepared.workdir
    self._checkpoints = prepared.checkpoints
    self._warnings = []
    self._loggers = loggers.RunLoggers(
      run, self._workdir, self._warnings.append
    )
    self._loggers.log_hyperparameters(run)
    self.notes = prepared.notes
    self.parameter_counts = prepared.parameter_counts()
    restored = prepared.restored
    self.written_by = prepared.written_by
    # Counts are wanted as they are at each step, whatever the clock says.
    self._counter = counting.Counter(time_delta=-math.inf)
    self._counter.increment(**runs.NO_COUNTS)
    if restored:
      self._counter.restore(
        {'counts': restored.metadata['counts'], 'cache': {}}
      )
    learner_key, actor_key = jax.random.split(jax.random.PRNGKey(run.seed))
    builder = builder_lib.HierosBuilder(
      config,
      self._loggers.make_learner_logger,
      seed=run.seed + (self.steps << 32),
    )
    self._port = ports.hold()
    with loopback.only(), notices.hidden():
      self._server = reverb.Server(
        builder.make_replay_tables(prepared.environment_spec),
        port=self._port.getsockname()[1],
        checkpointer=self._checkpoints.replay_checkpointer(
          restored.replay if restored else None
        ),
      )
    self._client = reverb.Client(f'localhost:{self._server.port}')
    if restored:
      restored.check_replay(self._client)
    self._dataset = builder.make_dataset_iterator(self._client)
    self._learner = builder.make_learner(
      learner_key,
      prepared.networks,
      self._dataset,
      self._client,
      counting.Counter(self._counter, 'learner', time_delta=-math.inf),
    )
    self._episodes = episodes.EpisodeLog(self._loggers.make_logger('episodes'))
    self._seconds_before = 0.0
    self._cpu_seconds = 0.0
    # Those of this process that do not count; None as long as none do.
    self._uncounted: float | None = None
    self._owed = 0.0  # Learner steps that are due.
    if restored:
      self._learner.restore(restored.state)
      self._dataset.step = restored.metadata['counts']['learner_steps']
      self._owed = restored.metadata['owed_updates']
      self._episodes.restore(restored.metadata)
      self._seconds_before = restored.metadata['seconds']
      # Once, nobody counted.
      self._cpu_seconds = restored.metadata.get('cpu_seconds', 0.0)
    self._adders = [
      builder.make_adder(self._client) for _ in range(run.envs_per_actor)
    ]
    actor = builder.make_batch_actor(
      jax.random.fold_in(actor_key, self.steps),
      networks_lib.make_batch_policy(prepared.networks),
      self._adders,
      variable_source=self._learner,
    )
    self._environments = environment_loop.EnvironmentLoop(
      actor,
      run.make_environment,
      run.envs_per_actor,
      runs.seed_sequence(run, self.steps),
      functools.partial(actor.update, wait=True),
      self._warnings.append,
    )
    self._pictures = periodic_pictures.PeriodicPictures(
      run, prepared.networks, self._warnings.append
    )
    # As much as it will hold, and what the process has that does.
    self._memory = memory.Forecast(
      min(config.replay.capacity, run.num_steps),
      functools.partial(memory.used, psutil.Process()),
      memory.free,
    )
    self._start = time.monotonic()

  @property
  def steps(self) -> int:
    """Environment steps so far."""
    return self._counter.get_counts()['actor_steps']

  @property
  def _seconds(self) -> float:
    return self._seconds_before + time.monotonic() - self._start

  def train(self) -> runs.Summary:
    """Runs to its end or until it is asked to stop, and saves in any case.

    Only a second Ctrl-C (`console.Interruption`), which may come in the midst
    of a step, saves nothing. The trainer is closed then, and cannot be used
    again.

    Raises:
      learning.NonFiniteLossError: after saving state and batch.
      environment_loop.BrokenEnvironmentError: after saving.
      checkpoints.CheckpointError: the last one could not be written.
    """
    self._start = time.monotonic()
    run = self._run
    with console.Interruption() as interruption:
      with console.LiveLine(run.num_steps, self.steps) as line:
        self._learner.announce = line.write
        try:
          self._loop(interruption, line)
          self.save()
          if run.picture_minutes and not interruption.requested:
            line.write('Saved; drawing what the agent sees and believes.')
            with contextlib.suppress(KeyboardInterrupt), self._beside_the_run():
              self._pictures.draw(self._read_learned)
            self._write_warnings(line)
        except (KeyboardInterrupt, checkpoints.CheckpointError):
          raise
        except BaseException as error:
          if isinstance(error, learning.NonFiniteLossError):
            checkpoints.save_failure(self._workdir, self._learner, error)
          try:
            self.save(emergency=True)
          except checkpoints.CheckpointError as second:
            line.write(str(second))  # The first is what is to be told.
          raise
        finally:
          self._close()
          self._write_warnings(line)
      summary = runs.summarise(
        run,
        self._workdir,
        self._counter.get_counts(),
        self._seconds,
        cpu_seconds=self._cpu_seconds,
        stop=interruption.signal,
        **self._episodes.summary(),
      )
      workdirs.write_json(self._workdir.summary, dataclasses.asdict(summary))
      return summary

  def save(self, emergency: bool = False):
    """Writes a checkpoint; raises CheckpointError if that is not possible.

    Args:
      emergency: see `Checkpoints.save`.
    """
    removed = self._workdir.make_again()
    if removed:
      self._warnings.append(removed)
    if emergency:  # One loss is not to cost the rest.
      with contextlib.suppress(learning.NonFiniteLossError):
        self._learner.finish()
    self._checkpoints.save(
      self._learner.save(),
      lambda: {
        'launch': self._run.launch,
        'counts': self._counter.get_counts(),
        'owed_updates': self._owed,
        'seconds': self._seconds,
        'cpu_seconds': self._cpu_seconds,
        **self._episodes.save(),
      },
      self._client,
      emergency,
    )

  def _close(self):
    self._loggers.log_results(self._episodes.summary(), self.steps)
    self._loggers.close()
    self._workdir.close()
    for adder in self._adders:
      adder.close()
    with notices.hidden():
      self._server.stop()
    self._port.close()
    self._environments.close()

  def _loop(self, interruption: console.Interruption, line: console.LiveLine):
    run = self._run
    saved = time.monotonic()
    learning_started = False
    has_begun = False
    while not (
      run.is_over(self.steps, self._cpu_seconds) or interruption.requested
    ):
      steps, ended = self._environments.step()
      self._counter.increment(actor_steps=steps)
      for episode in ended:
        counts = self._counter.increment(actor_episodes=1)
        self._episodes.add(episode, counts, self._seconds)
      learning_started = learning_started or self._dataset.ready()
      if learning_started:
        self._owed += steps * run.config.updates_per_step
      while self._owed >= 1.0 and not interruption.requested:
        self._owed -= 1.0
        if has_begun and self._uncounted is None:
          # All before the first step's end was starting and compiling.
          self._learner.finish()
          self._uncounted = time.process_time() - self._cpu_seconds
        self._learner.begin()
        has_begun = True
      self._count_cpu_seconds()
      if has_begun and (told := self._memory.look(self.steps)):
        self._warnings.append(told)
      self._show(line, learning_started)
      if time.monotonic() - saved > 60 * run.checkpoint_minutes:
        saved = time.monotonic()
        try:
          self.save()
        except checkpoints.CheckpointError as error:
          # There may be room again by the next time.
          line.write(f'Warning: {error}')
      if self._pictures.is_due:
        self._learner.finish()
        with self._beside_the_run():
          self._pictures.draw(self._read_learned)
    self._learner.finish()
    self._count_cpu_seconds()

  def _count_cpu_seconds(self):
    """What is saved and told is what ends the run."""
    if self._uncounted is not None:
      self._cpu_seconds = time.process_time() - self._uncounted

  @contextlib.contextmanager
  def _beside_the_run(self):
    """For what takes time that does not count."""
    start, cpu_start = time.monotonic(), time.process_time()
    try:
      yield
    finally:
      self._start += time.monotonic() - start
      if self._uncounted is not None:
        self._uncounted += time.process_time() - cpu_start

  def _read_learned(self):
    return [state.params for state in self._learner.save()], self.steps

  def _show(self, line: console.LiveLine, learning_started: bool):
    counts = self._counter.get_counts()
    line.show(
      counts['actor_steps'],
      counts['learner_steps'] if learning_started else None,
      self._episodes.last,
      (self._cpu_seconds / 60, self._run.cpu_minutes),
    )
    self._write_warnings(line)

  def _write_warnings(self, line: console.LiveLine):
    while self._warnings:
      line.write(f'Warning: {self._warnings.pop(0)}')
