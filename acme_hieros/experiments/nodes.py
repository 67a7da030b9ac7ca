"""The nodes of a Launchpad program: replay, coordinator, learner, actors.

They are what `training.Trainer` does in one process, taken apart. Reverb holds
the replay ratio between them (`HierosBuilder(limit_ratio=True)`).
"""

import collections
from collections.abc import Mapping, Sequence
import contextlib
import functools
import math
import os
import signal
import sys
import threading
import time
from typing import Any

from absl import logging
from acme import core, specs
from acme.utils import counting
import jax
import launchpad as lp
import numpy as np
import reverb

from acme_hieros.agent import acting, learning
from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import networks as networks_lib
from acme_hieros.experiments import (
  checkpoints,
  console,
  environment_loop,
  episodes,
  evaluation,
  loggers,
  loopback,
  periodic_pictures,
  runs,
)
from acme_hieros.experiments import progress as progress_lib
from acme_hieros.machines import memory
from acme_hieros.storage import workdirs

# How often actors report and the progress is written.
_REPORT_SECONDS = 0.5

# So many of the last warnings are kept to be shown.
_MOST_WARNINGS = 100

# Set in the environment of a process that is there for one node.
OWN_PROCESS = 'ACME_HIEROS_OWN_PROCESS'

REPLAY, COORDINATOR, LEARNER = 'replay', 'coordinator', 'learner'
ACTOR, EVALUATOR = 'actor', 'evaluator'

# Whoever asks all processes to end means that the learner is to save first; it
# needs these two for that.
STOP_SIGNALS = {REPLAY: signal.SIGUSR2, COORDINATOR: signal.SIGUSR2}


def make_program(
  run: runs.Run,
  environment_spec: specs.EnvironmentSpec,
  restored: checkpoints.Restored | None = None,
) -> lp.Program:
  """Builds the program of a run whose work directory is open.

  The learner ends when the last step is made and learned from, and with it the
  program has done its work: whoever launches it stops the other nodes then, as
  `launching.Launcher` does.

  Args:
    run: what to run. All nodes need its work directory, at the same path.
    environment_spec: of its environment.
    restored: the checkpoint that is continued.
  """
  program = lp.Program('hieros')
  replay = program.add_node(
    _ReplayNode(
      functools.partial(_make_tables, run, environment_spec),
      functools.partial(
        _replay_checkpointer, run, restored.replay if restored else None
      ),
    ),
    label=REPLAY,
  )
  coordinator = program.add_node(
    _CourierNode(Coordinator, run, restored.metadata if restored else None),
    label=COORDINATOR,
  )
  learner = program.add_node(
    _CourierNode(LearnerNode, run, environment_spec, replay, coordinator),
    label=LEARNER,
  )
  with program.group(ACTOR):
    for i in range(run.num_actors):
      program.add_node(
        lp.PyNode(
          run_actor, run, environment_spec, i, replay, learner, coordinator
        )
      )
  if run.num_evaluators:
    with program.group(EVALUATOR):
      for i in range(run.num_evaluators):
        program.add_node(
          lp.PyNode(
            run_evaluator, run, environment_spec, i, learner, coordinator
          )
        )
  return program


class _ReplayNode(lp.ReverbNode):
  """A Reverb server that is gone when the node has ended."""

  def run(self):
    with _servers(self.reverb_address):
      super().run()
    self._server.stop()
    _leave_process()


class _CourierNode(lp.CourierNode):
  """An object that other nodes call."""

  def run(self):
    with _servers(self.courier_address):
      super().run()


def _make_tables(
  run: runs.Run, environment_spec: specs.EnvironmentSpec
) -> Sequence[reverb.Table]:
  with _node(run, REPLAY):
    return _make_builder(run).make_replay_tables(environment_spec)


def _replay_checkpointer(run: runs.Run, replay: str | None):
  return runs.make_checkpoints(run).replay_checkpointer(replay)


def _make_builder(
  run: runs.Run, logger_fn: learning.LoggerFactory | None = None
) -> builder_lib.HierosBuilder:
  return builder_lib.HierosBuilder(run.config, logger_fn, limit_ratio=True)


class Coordinator:
  """Counts for all nodes, logs episodes, and says how far the run is.

  It is the counter of Acme's other nodes, too (`acme.utils.counting`).
  """

  def __init__(self, run: runs.Run, metadata: Mapping[str, Any] | None):
    """Creates the coordinator; metadata are those of a checkpoint."""
    with _node(run, COORDINATOR):
      self._run = run
      self._workdir = workdirs.Workdir(run.workdir)
      # Held by whoever changes anything, from the first change to the last.
      self._lock = threading.RLock()
      self._warnings = collections.deque(maxlen=_MOST_WARNINGS)
      self._num_warnings = 0
      self._loggers = loggers.RunLoggers(
        run, self._workdir, self.warn, COORDINATOR
      )
      self._loggers.log_hyperparameters(run)
      self._counts = dict(runs.NO_COUNTS)
      self._episodes = episodes.EpisodeLog(
        self._loggers.make_logger('episodes')
      )
      self._evaluations = None
      if run.num_evaluators:
        self._evaluations = evaluation.EvaluatorLog(
          run, self._workdir, self._loggers.make_evaluator_logger()
        )
      self._seconds_before = 0.0
      if metadata:
        self._counts.update(metadata['counts'])
        self._episodes.restore(metadata)
        self._seconds_before = metadata['seconds']
      self._saved = None
      # Replay is among the nodes on this machine, or grows elsewhere.
      self._memory = memory.Forecast(
        min(run.config.replay.capacity, run.num_steps),
        lambda: memory.used(*memory.siblings()),
        memory.free,
      )
      self._start = time.monotonic()
      self._heard = {}  # When, of those that have something to do.
      self._hear(LEARNER)

  def increment(self, **counts: int) -> Mapping[str, int]:
    """Adds to counts; returns all of them."""
    with self._lock:
      if 'learner_steps' in counts:
        self._hear(LEARNER)
      for name, count in counts.items():
        self._counts[name] = self._counts.get(name, 0) + count
      return dict(self._counts)

  def get_counts(self) -> Mapping[str, int]:
    return self.increment()

  def add_steps(
    self, actor: int, steps: int, ended: Sequence[episodes.Episode]
  ) -> bool:
    """An actor has taken steps; returns whether it is to go on."""
    with self._lock:
      if steps:
        self._hear(f'{ACTOR}_{actor}')
      counts = self.increment(actor_steps=steps)
      for episode in ended:
        counts = self.increment(actor_episodes=1)
        with self._full_disk_is_a_warning():
          self._episodes.add(episodes.Episode(*episode), counts, self._seconds)
      return not self.done()

  def add_evaluation(
    self, evaluator: int, counts: Mapping[str, int], episode: episodes.Episode
  ) -> bool:
    """An evaluator has played; returns whether it is to go on.

    Args:
      evaluator: its index.
      counts: when it got the parameters that it played by.
      episode: that it played.
    """
    with self._lock, self._full_disk_is_a_warning():
      self._evaluations.add(
        episodes.Episode(*episode), evaluator, counts, self._seconds
      )
    return not self.done()

  def evaluated(self, evaluator: int) -> int:
    """The updates before the policy that an evaluator played by last."""
    with self._lock:
      return self._evaluations.played(evaluator)

  @contextlib.contextmanager
  def _full_disk_is_a_warning(self):
    try:
      yield
    except OSError as error:
      self.warn(f'An episode could not be logged ({error.strerror}).')

  def warn(self, message: str):
    """Has a sentence shown to the user."""
    with self._lock:
      self._warnings.append(message)
      self._num_warnings += 1

  def done(self) -> bool:
    """Whether all steps are made."""
    return self.get_counts()['actor_steps'] >= self._run.num_steps

  def save(self) -> Mapping[str, Any]:
    """Plain values for a checkpoint."""
    with self._lock:
      self._saved = self._summary()
      return {
        'counts': dict(self._counts),
        'seconds': self._seconds,
        **self._episodes.save(),
      }

  def run(self):
    """Writes the progress until the program is stopped."""
    with _node(self._run, COORDINATOR):
      while not lp.wait_for_stop(_REPORT_SECONDS):
        self._look_at_memory()
        self._write_progress()
      self._write_progress()
      with self._lock:
        self._loggers.log_results(
          self._episodes.summary(), self._counts['actor_steps']
        )
      self._loggers.close()
    _leave_process()

  def _look_at_memory(self):
    counts = self.get_counts()
    if counts['learner_steps']:
      told = self._memory.look(counts['actor_steps'])
      if told:
        self.warn(told)

  def _hear(self, node: str):
    self._heard[node] = time.monotonic()

  @property
  def _seconds(self) -> float:
    return self._seconds_before + time.monotonic() - self._start

  def _summary(self) -> Mapping[str, Any]:
    return {
      'counts': dict(self._counts),
      'seconds': self._seconds,
      **self._episodes.summary(),
    }

  def _write_progress(self):
    with self._lock:
      progress = progress_lib.Progress(
        now=self._summary(),
        saved=self._saved,
        warnings=list(self._warnings),
        num_warnings=self._num_warnings,
        silent={
          name: time.monotonic() - heard for name, heard in self._heard.items()
        },
      )
    # Where there is no room the progress is not shown; saving says more.
    with contextlib.suppress(OSError):
      progress.write(self._workdir.progress)


class LearnerNode(core.VariableSource):
  """Learns, saves and gives actors their parameters."""

  def __init__(
    self,
    run: runs.Run,
    environment_spec: specs.EnvironmentSpec,
    replay: reverb.Client,
    coordinator: Coordinator,
  ):
    """Creates the learner, from the last checkpoint if there is one.

    Args:
      run: what to run.
      environment_spec: of its environment.
      replay: a client of the replay node.
      coordinator: a client of the coordinator.
    """
    with _node(run, LEARNER):
      self._run = run
      self._replay = replay
      self._coordinator = coordinator
      self._workdir = workdirs.Workdir(run.workdir)
      self._loggers = loggers.RunLoggers(
        run, self._workdir, coordinator.warn, LEARNER
      )
      self._checkpoints = runs.make_checkpoints(run)
      builder = _make_builder(run, self._loggers.make_learner_logger)
      self._dataset = builder.make_dataset_iterator(replay)
      learner_key, _ = jax.random.split(jax.random.PRNGKey(run.seed))
      networks = networks_lib.make_networks(run.config, environment_spec)
      self._learner = builder.make_learner(
        learner_key,
        networks,
        self._dataset,
        replay,
        counting.Counter(coordinator, 'learner', time_delta=-math.inf),
      )
      if run.resume:
        restored = self._checkpoints.restore(
          jax.eval_shape(networks.init, learner_key)
        )
        if restored:
          restored.check_replay(replay)
          self._learner.restore(restored.state)
          self._dataset.step = restored.metadata['counts']['learner_steps']

  def get_variables(self, names: Sequence[str]) -> list[Any]:
    return jax.device_get(self._learner.get_variables(names))

  def run(self):
    """Learns until all is learned, or the program is stopped; then saves."""
    with _node(self._run, LEARNER):
      try:
        self._learn()
      except Exception as error:
        if isinstance(error, learning.NonFiniteLossError):
          checkpoints.save_failure(self._workdir, self._learner, error)
        # The first error is what is to be told.
        self._try_to_save(emergency=True)
        raise
      self._save()
      self._loggers.close()
    _leave_process()

  def _learn(self):
    saved = time.monotonic()
    while not lp.wait_for_stop(0):
      before = self._dataset.step
      self._learner.step()
      if self._dataset.step == before and self._coordinator.done():
        logging.info('All is learned.')
        return
      if time.monotonic() - saved > 60 * self._run.checkpoint_minutes:
        saved = time.monotonic()
        self._try_to_save()

  def _try_to_save(self, emergency: bool = False):
    try:
      self._save(emergency)
    except checkpoints.CheckpointError as error:
      # There may be room again by the next time.
      self._coordinator.warn(str(error))

  def _save(self, emergency: bool = False):
    self._checkpoints.save(
      self._learner.save(),
      lambda: {
        'launch': self._run.launch,
        **self._coordinator.save(),
      },
      self._replay,
      emergency,
    )


def run_actor(
  run: runs.Run,
  environment_spec: specs.EnvironmentSpec,
  index: int,
  replay: reverb.Client,
  learner: core.VariableSource,
  coordinator: Coordinator,
):
  """Fills the replay until the run is done or stopped.

  Args:
    run: what to run.
    environment_spec: of its environment.
    index: of this actor.
    replay: a client of the replay node.
    learner: gives the parameters.
    coordinator: a client of the coordinator.
  """
  with _node(run, f'{ACTOR}_{index}'):
    builder = _make_builder(run)
    adders = [builder.make_adder(replay) for _ in range(run.envs_per_actor)]
    actor, seeds = _make_actor(
      run, environment_spec, index, adders, learner, coordinator
    )
    loop = environment_loop.EnvironmentLoop(
      actor,
      run.make_environment,
      run.envs_per_actor,
      seeds,
      actor.update,
      coordinator.warn,
    )
    steps, ended, reported = 0, [], time.monotonic()
    go_on = True
    try:
      while go_on and not lp.wait_for_stop(0):
        new_steps, new_ended = loop.step()
        steps += new_steps
        ended += new_ended
        if time.monotonic() - reported > _REPORT_SECONDS:
          go_on = coordinator.add_steps(index, steps, ended)
          steps, ended, reported = 0, [], time.monotonic()
    finally:
      loop.close()
      coordinator.add_steps(index, steps, ended)
    for adder in adders:
      adder.close()
  _leave_process()


def run_evaluator(
  run: runs.Run,
  environment_spec: specs.EnvironmentSpec,
  index: int,
  learner: core.VariableSource,
  coordinator: Coordinator,
):
  """Plays with the likeliest actions, an episode for each new policy.

  Args:
    run: what to run.
    environment_spec: of its environment.
    index: of this evaluator.
    learner: gives the parameters.
    coordinator: a client of the coordinator.
  """
  with _node(run, f'{EVALUATOR}_{index}'):
    actor, seeds = _make_actor(
      run,
      environment_spec,
      run.num_actors + index,  # Its random numbers are not those of an actor.
      [None],
      learner,
      coordinator,
    )
    loop = environment_loop.EnvironmentLoop(
      actor,
      run.make_environment,
      1,
      seeds,
      lambda: None,  # An episode is played by one policy.
      coordinator.warn,
    )
    drawing = None
    if index == 0:  # One of them is enough.
      drawing = periodic_pictures.PeriodicPictures(
        run,
        networks_lib.make_networks(run.config, environment_spec),
        coordinator.warn,
      )
    # Where the run goes on it may have played this policy before.
    learned = coordinator.evaluated(index)
    go_on = True
    while go_on and not lp.wait_for_stop(0):
      counts = coordinator.get_counts()
      if counts['learner_steps'] == learned:
        go_on = not coordinator.done()
        time.sleep(_REPORT_SECONDS)
        continue
      learned, ended = counts['learner_steps'], []
      actor.fetch()
      while not ended and not lp.wait_for_stop(0):
        _, ended = loop.step()
      for episode in ended:
        go_on = coordinator.add_evaluation(index, counts, episode)
      if drawing:
        drawing.draw_if_due(functools.partial(_read_learned, run))
    loop.close()
  _leave_process()


def _read_learned(run: runs.Run):
  """All parameters in the newest checkpoint, and the steps before it."""
  learned = runs.read_learned(run.workdir, environment=run.environment)
  return [state.params for state in learned.state], learned.steps


def _make_actor(
  run: runs.Run,
  environment_spec: specs.EnvironmentSpec,
  index: int,
  adders: Sequence[Any],
  learner: core.VariableSource,
  coordinator: Coordinator,
) -> tuple[acting.BatchActor, np.random.SeedSequence]:
  """An actor with these adders, and the seeds of its environments."""
  # Several processes are not repeatable anyway, and one that is started again
  # is not to repeat what it has done.
  steps = coordinator.get_counts()['actor_steps']
  seeds = runs.seed_sequence(run, steps, index, time.time_ns())
  actor_seed, environment_seeds = seeds.spawn(2)
  actor = _make_builder(run).make_batch_actor(
    jax.random.PRNGKey(int(actor_seed.generate_state(1)[0])),
    networks_lib.make_batch_policy(
      networks_lib.make_networks(run.config, environment_spec)
    ),
    adders,
    variable_source=learner,
  )
  return actor, environment_seeds


@contextlib.contextmanager
def _node(run: runs.Run, name: str):
  """Work of a node, which leaves word why it fails."""
  if _in_own_process():
    _stop_by(STOP_SIGNALS.get(name, signal.SIGTERM))
  try:
    yield
    logging.info('%s: done.', name)
  except Exception as error:
    reason = environment_loop.in_one_line(error)
    if type(error).__module__.startswith('acme_hieros'):
      reason = reason.partition(': ')[2]  # A sentence of our own.
    path = workdirs.Workdir(run.workdir).node_file(name, 'error')
    with contextlib.suppress(OSError), open(path, 'w') as file:
      file.write(reason)
    if _in_own_process():
      logging.exception('%s: died.', name)
      _leave_process(1)
    raise


def _stop_by(number: signal.Signals):
  """Stops at this signal, however often it comes, and at no other.

  Schedulers send theirs to all processes; the launcher, which gets them too,
  knows who has to stop first.
  """
  event = lp.stop_event()
  console.ignore_requests()
  signal.signal(number, lambda *unused: event.set())


def _servers(address: lp.Address) -> contextlib.AbstractContextManager:
  """For what is served: a launcher of this package has it at its address alone.

  Other launchers decide themselves who reaches the nodes, also from elsewhere.
  """
  if not _in_own_process():
    return contextlib.nullcontext()
  return loopback.only(address.resolve().rpartition(':')[0])


def _in_own_process() -> bool:
  """Whether a launcher has started this process for one node."""
  return OWN_PROCESS in os.environ


def _leave_process(code: int = 0):
  """Ends the process, if it is the node's own.

  Left to the interpreter, the end of Courier's and Reverb's objects can take a
  minute.
  """
  if _in_own_process():
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
