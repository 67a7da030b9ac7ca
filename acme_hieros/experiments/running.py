"""Trains Hieros in one process: act, store, learn, log, save."""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import math
import os
import signal
import sys
import time
from typing import Any

from absl import logging
from acme import specs
from acme.utils import counting
import dm_env
import jax
import numpy as np
import reverb
import tqdm

from acme_hieros import config as config_lib
from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import learning
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment
from acme_hieros.experiments import arrays, checkpoints, workdirs
from acme_hieros.models import level as level_lib

# The mean return is over so many of the last episodes.
RECENT_EPISODES = 100


@dataclasses.dataclass(frozen=True)
class Run:
  """What to run.

  environment: a name that `make_environment` knows, with its options.
  config: of the agent.
  num_steps: environment steps in all, those before a resume included.
  seed: of environment, parameters, actions and updates.
  workdir: where everything is written.
  resume: continue the run in `workdir`.
  checkpoint_minutes: time between two checkpoints.
  keep_checkpoints: of so many the newest stay.
  """

  environment: str
  config: config_lib.HierosConfig
  num_steps: int
  workdir: str
  seed: int = 0
  environment_options: Mapping[str, Any] = dataclasses.field(
    default_factory=dict
  )
  resume: bool = False
  checkpoint_minutes: float = 10.0
  keep_checkpoints: int = 2

  def identity(self) -> Mapping[str, Any]:
    """What two runs must share for one to continue the other."""
    return {
      'environment': self.environment,
      'environment_options': dict(self.environment_options),
      'seed': self.seed,
      'agent': config_lib.to_dict(self.config),
    }

  def replace(self, **changes: Any) -> 'Run':
    return dataclasses.replace(self, **changes)


def read_run(workdir: str) -> Run:
  """The run that lives in a work directory, to be resumed.

  Raises:
    ValueError: there is none, or its configuration cannot be read.
  """
  found = workdirs.Workdir(workdir).read_config()
  if found is None:
    raise ValueError(f'{workdir} holds no run to resume.')
  for field, kind in (
    ('environment', str),
    ('environment_options', dict),
    ('agent', dict),
    ('num_steps', int),
    ('seed', int),
  ):
    if type(found.get(field)) is not kind:
      raise ValueError(
        f'{workdir} holds no run of this version: its config.json has no '
        f'{field!r} that could be used.'
      )
  return Run(
    environment=found['environment'],
    environment_options=found['environment_options'],
    config=config_lib.from_dict(found['agent']),
    num_steps=found['num_steps'],
    seed=found['seed'],
    workdir=workdir,
    resume=True,
  )


@dataclasses.dataclass(frozen=True)
class Summary:
  """What came of a run.

  mean_return: over the last RECENT_EPISODES episodes; None without episodes.
  seconds: those before a resume included.
  interrupted: whether it was stopped before its last step.
  """

  steps: int
  episodes: int
  updates: int
  mean_return: float | None
  best_return: float | None
  seconds: float
  interrupted: bool
  workdir: str

  def __str__(self) -> str:
    lines = [
      f'{"Interrupted after" if self.interrupted else "Finished"} '
      f'{self.steps} steps, {self.episodes} episodes and {self.updates} '
      f'updates in {datetime.timedelta(seconds=round(self.seconds))}.'
    ]
    if self.mean_return is not None:
      recent = min(self.episodes, RECENT_EPISODES)
      lines.append(
        f'Mean return of the last {recent} episodes: '
        f'{self.mean_return:.4g}; best: {self.best_return:.4g}.'
      )
    lines.append(f'Configuration, logs and checkpoint: {self.workdir}')
    lines.append(f'Curves: tensorboard --logdir={self.workdir}')
    if self.interrupted:
      lines.append(f'Continue with: --resume --workdir={self.workdir}')
    return '\n'.join(lines)


class Trainer:
  """One run. Construction checks everything that can be checked in advance.

  Raises:
    ValueError: a sentence about an environment, configuration, work directory
      or checkpoint that cannot be used. Nothing has been overwritten then.
  """

  def __init__(self, run: Run):
    if run.num_steps < 1:
      raise ValueError(f'num_steps={run.num_steps} must be at least 1.')
    if not 0 <= run.seed < 2**32:
      raise ValueError(f'seed={run.seed} must lie in 0..{2**32 - 1}.')
    if not run.checkpoint_minutes > 0:
      raise ValueError(
        f'checkpoint_minutes={run.checkpoint_minutes} must be positive.'
      )
    if run.keep_checkpoints < 1:
      raise ValueError(
        f'keep_checkpoints={run.keep_checkpoints} must be at least 1.'
      )
    self._run = run
    config = run.config
    config.check_fillable(run.num_steps)
    learning.check_devices(config.batch_size)
    self._environment = self._make_environment(run.seed)
    environment_spec = specs.make_environment_spec(self._environment)
    self._networks = networks_lib.make_networks(config, environment_spec)
    learner_key, actor_key = jax.random.split(jax.random.PRNGKey(run.seed))
    self._shapes = jax.eval_shape(self._networks.init, learner_key)
    self._workdir = workdirs.Workdir(run.workdir)
    self._checkpoints = checkpoints.Checkpoints(
      self._workdir.checkpoints, run.keep_checkpoints
    )
    restored = None
    if run.resume:
      self._workdir.check(run.identity(), run.resume)
      self._workdir.lock()
      restored = self._checkpoints.restore(self._shapes)
    self._workdir.open(run.identity(), run.num_steps, run.resume)
    if not run.resume:
      self._workdir.lock()

    # Counts are wanted as they are at each step, whatever the clock says.
    self._counter = counting.Counter(time_delta=-math.inf)
    self._counter.increment(actor_steps=0, actor_episodes=0, learner_steps=0)
    if restored:
      for skipped in restored.skipped:
        logging.warning('%s The one before is used.', skipped)
      self._counter.restore(
        {'counts': restored.metadata['counts'], 'cache': {}}
      )
    if run.resume:
      self._workdir.cut_logs(self.steps)
    # Another stretch of the same run must not repeat its randomness.
    if self.steps:
      self._environment.close()
      sequence = np.random.SeedSequence((run.seed, self.steps))
      self._environment = self._make_environment(
        int(sequence.generate_state(1)[0])
      )
    actor_key = jax.random.fold_in(actor_key, self.steps)
    builder = builder_lib.HierosBuilder(
      config,
      self._workdir.make_learner_logger,
      seed=run.seed + (self.steps << 32),
    )
    self._server = reverb.Server(
      builder.make_replay_tables(environment_spec),
      port=None,
      checkpointer=self._checkpoints.replay_checkpointer(restored),
    )
    self._client = reverb.Client(f'localhost:{self._server.port}')
    self._dataset = builder.make_dataset_iterator(self._client)
    self._learner = builder.make_learner(
      learner_key,
      self._networks,
      self._dataset,
      self._client,
      counting.Counter(self._counter, 'learner', time_delta=-math.inf),
    )
    self._returns = collections.deque(maxlen=RECENT_EPISODES)
    self._best_return = None
    self._seconds_before = 0.0
    self._owed = 0.0  # Learner steps that are due.
    if restored:
      self._restore(restored.state, restored.metadata)
    self._adder = builder.make_adder(self._client)
    self._actor = builder.make_actor(
      actor_key,
      networks_lib.make_policy(self._networks),
      self._adder,
      variable_source=self._learner,
    )
    self._episode_logger = self._workdir.make_logger('episodes')
    self._start = time.time()

  def _make_environment(self, seed: int) -> dm_env.Environment:
    return make_environment(
      self._run.environment, seed, **self._run.environment_options
    )

  @property
  def steps(self) -> int:
    """Environment steps so far."""
    return self._counter.get_counts()['actor_steps']

  @property
  def _seconds(self) -> float:
    return self._seconds_before + time.time() - self._start

  def parameter_counts(self) -> Sequence[int]:
    """Parameters of each level, slow critics included, as the paper counts."""
    return [
      level_lib.parameter_count((level.params, level.slow_critics))
      for level in self._shapes
    ]

  def train(self) -> Summary:
    """Runs to the last step or to Ctrl-C, and saves, whatever happens.

    Only a second Ctrl-C, which may come in the midst of a step, saves nothing.
    The trainer is closed then, and cannot be used again.

    Raises:
      learning.NonFiniteLossError: after saving state and batch.
      checkpoints.CheckpointError: the last one could not be written.
    """
    self._start = time.time()
    with _Interruption() as interruption:
      try:
        self._loop(interruption)
        self.save()
      except (KeyboardInterrupt, checkpoints.CheckpointError):
        raise
      except BaseException as error:
        if isinstance(error, learning.NonFiniteLossError):
          self._save_failure(error)
        try:
          self.save()
        except checkpoints.CheckpointError as second:
          logging.warning('%s', second)  # The first is what is to be told.
        raise
      finally:
        self._close()
    summary = self._summarise()
    workdirs.write_json(self._workdir.summary, dataclasses.asdict(summary))
    return summary

  def save(self):
    """Writes a checkpoint; raises CheckpointError if that is not possible."""
    self._checkpoints.save(
      self._learner.save(),
      {
        'counts': self._counter.get_counts(),
        'owed_updates': self._owed,
        'recent_returns': list(self._returns),
        'best_return': self._best_return,
        'seconds': self._seconds,
      },
      self._client,
    )

  def _close(self):
    self._workdir.close()
    self._adder.close()
    self._server.stop()
    self._environment.close()

  def _restore(
    self, state: learning.TrainingState, metadata: Mapping[str, Any]
  ):
    self._learner.restore(state)
    self._dataset.step = metadata['counts']['learner_steps']
    self._owed = metadata['owed_updates']
    self._returns.extend(metadata['recent_returns'])
    self._best_return = metadata['best_return']
    self._seconds_before = metadata['seconds']

  def _loop(self, interruption: '_Interruption'):
    run = self._run
    saved = time.time()
    learning_started = False
    timestep = None
    with _progress_bar(run.num_steps, self.steps) as bar:
      while self.steps < run.num_steps and not interruption.requested:
        if timestep is None or timestep.last():
          timestep = self._environment.reset()
          self._actor.observe_first(timestep)
          episode_return, episode_length = 0.0, 0
        action = self._actor.select_action(timestep.observation)
        timestep = self._environment.step(action)
        self._actor.observe(action, timestep)
        self._actor.update(wait=True)
        self._counter.increment(actor_steps=1)
        episode_return += float(timestep.reward)
        episode_length += 1
        if timestep.last():
          self._end_episode(timestep, episode_return, episode_length)

        learning_started = learning_started or self._dataset.ready()
        if learning_started:
          self._owed += run.config.updates_per_step
        while self._owed >= 1.0 and not interruption.requested:
          self._owed -= 1.0
          self._learner.step()
        self._show(bar, learning_started)
        if time.time() - saved > 60 * run.checkpoint_minutes:
          saved = time.time()
          try:
            self.save()
          except checkpoints.CheckpointError as error:
            # There may be room again by the next time.
            bar.write(f'Warning: {error}', file=sys.stderr)

  def _end_episode(
    self, timestep: dm_env.TimeStep, episode_return: float, length: int
  ):
    self._returns.append(episode_return)
    self._best_return = max(
      episode_return,
      episode_return if self._best_return is None else self._best_return,
    )
    counts = self._counter.increment(actor_episodes=1)
    self._episode_logger.write(
      {
        'actor_steps': counts['actor_steps'],
        'actor_episodes': counts['actor_episodes'],
        'episode_return': episode_return,
        'episode_length': length,
        'terminated': float(timestep.discount == 0.0),
        'walltime': self._seconds,
      }
    )

  def _show(self, bar: tqdm.tqdm, learning_started: bool):
    shown = {}
    if learning_started:
      shown['updates'] = self._counter.get_counts()['learner_steps']
    else:
      shown['updates'] = 'filling replay'
    if self._returns:
      shown['return'] = f'{self._returns[-1]:.4g}'
    bar.set_postfix(shown, refresh=False)
    bar.update()

  def _summarise(self) -> Summary:
    counts = self._counter.get_counts()
    return Summary(
      steps=counts['actor_steps'],
      episodes=counts['actor_episodes'],
      updates=counts['learner_steps'],
      mean_return=float(np.mean(self._returns)) if self._returns else None,
      best_return=self._best_return,
      seconds=self._seconds,
      interrupted=counts['actor_steps'] < self._run.num_steps,
      workdir=self._workdir.path,
    )

  def _save_failure(self, error: learning.NonFiniteLossError):
    directory = self._workdir.failure
    os.makedirs(directory, exist_ok=True)
    metadata = {
      'level': error.level,
      'names': list(error.names),
      'counts': self._counter.get_counts(),
    }
    arrays.save(
      os.path.join(directory, 'state.npz'), self._learner.save(), metadata
    )
    arrays.save(os.path.join(directory, 'batch.npz'), error.batch, metadata)


class _Interruption:
  """Turns the first Ctrl-C or termination into a request, to save in peace.

  The second one interrupts at once.
  """

  def __init__(self):
    self.requested = False
    self._handlers = {}

  def __enter__(self) -> '_Interruption':
    for number in (signal.SIGINT, signal.SIGTERM):
      try:
        self._handlers[number] = signal.signal(number, self._request)
      except ValueError:
        pass  # Not the main thread: signals are somebody else's.
    return self

  def __exit__(self, *unused_error):
    self._restore()

  def _request(self, *unused_arguments):
    self.requested = True
    self._restore()
    print(
      '\nStopping: saving after this step; again to stop at once.',
      file=sys.stderr,
    )

  def _restore(self):
    for number, handler in self._handlers.items():
      signal.signal(number, handler)


def _progress_bar(total: int, initial: int) -> tqdm.tqdm:
  # Where no terminal rewrites the line, a line now and then is enough.
  interval = 0.5 if sys.stderr.isatty() else 30.0
  return tqdm.tqdm(
    total=total,
    initial=initial,
    unit='step',
    mininterval=interval,
    maxinterval=interval,
    dynamic_ncols=True,
    smoothing=0.05,
  )
