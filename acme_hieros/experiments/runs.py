"""What is run, what can be known before it starts, and what came of it."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import datetime
import os
import shlex
import signal
from typing import Any, NamedTuple

from absl import logging
from acme import specs
import cloudpickle
import dm_env
import jax
import numpy as np

from acme_hieros import config as config_lib
from acme_hieros import version
from acme_hieros.agent import learning
from acme_hieros.agent import networks as networks_lib
from acme_hieros.command_line import counted
from acme_hieros.environments import (
  environment_name,
  foreign_module,
  make_environment,
)
from acme_hieros.experiments import (
  checkpoints,
  environment_loop,
  provenance,
  tracking,
  trust,
)
from acme_hieros.models import hierarchy, shares, spaces
from acme_hieros.models import level as level_lib
from acme_hieros.replay import etbs
from acme_hieros.scores import statistics
from acme_hieros.storage import workdirs

# One process; a program of threads, of processes, of those on a Ray cluster.
LAUNCHES = ('local', 'local_mt', 'local_mp', 'ray')

# Those in which nodes have processes of their own.
PROCESSES = ('local_mp', 'ray')

# Before the first step.
NO_COUNTS = {'actor_steps': 0, 'actor_episodes': 0, 'learner_steps': 0}


@dataclasses.dataclass(frozen=True)
class Run:
  """What to run.

  environment: a name that `make_environment` knows, with its options, or a
    function that makes environments. Processes get the function from this one;
    config.json has its name alone.
  config: of the agent.
  num_steps: environment steps in all, those before a resume included.
  cpu_minutes: after which the run ends as at its last step, those before a
    resume included; 0 for no such end. Each start counts from the end of its
    first update on: what comes before is loading and compiling.
  seed: of environments, parameters, actions and updates.
  workdir: where everything is written.
  launch: one of LAUNCHES.
  ray: address of the cluster of launch='ray', or 'auto' for this machine's.
  num_actors: that fill the replay; one where there is one process.
  num_evaluators: that only play; none where there is one process.
  envs_per_actor: environments that each actor acts in.
  resume: continue the run in `workdir`.
  checkpoint_minutes: time between two checkpoints.
  keep_checkpoints: of so many the newest stay.
  picture_minutes: time between two drawings of the agent; 0 for none. Of a
    program the first evaluator draws, from checkpoints.
  track: what else is told all that is logged: 'wandb' (Weights & Biases) or
    nothing.
  logger_factory: makes the loggers of the user's own: 'episodes', 'level_0',
    'level_0_diagnostics', ..., 'evaluation' to an `acme.utils.loggers.Logger`,
    which is told what the file of that name is.
  """

  environment: str | Callable[..., Any]
  config: config_lib.HierosConfig
  num_steps: int
  workdir: str
  cpu_minutes: float = 0.0
  seed: int = 0
  environment_options: Mapping[str, Any] = dataclasses.field(
    default_factory=dict
  )
  launch: str = 'local'
  ray: str = 'auto'
  num_actors: int = 1
  num_evaluators: int = 0
  envs_per_actor: int = 1
  resume: bool = False
  checkpoint_minutes: float = 10.0
  keep_checkpoints: int = 2
  picture_minutes: float = 0.0
  track: str = ''
  logger_factory: learning.LoggerFactory | None = None

  def __post_init__(self):
    config_lib.make_plain(self)

  def identity(self) -> Mapping[str, Any]:
    """What two runs must share for one to continue the other."""
    return {
      'environment': self.environment_name,
      'environment_options': dict(self.environment_options),
      'seed': self.seed,
      'agent': config_lib.to_dict(self.config),
    }

  def extent(self) -> Mapping[str, Any]:
    """What a resumed run may change, and the version that wrote it."""
    return {
      **{name: getattr(self, name) for name in _EXTENT},
      'version': version.VERSION,
      # Shows later whose run it is, where that matters.
      'signature': foreign_module(self.environment_name)
      and trust.sign(self.environment_name),
    }

  def hyperparameters(self) -> dict[str, str | bool | int | float]:
    """All that says how it came out, by name, for those who compare runs."""
    values = {
      'environment': self.environment_name,
      **{f'environment.{n}': x for n, x in self.environment_options.items()},
      'seed': self.seed,
      **{name: getattr(self, name) for name in _EXTENT if name != 'track'},
      **config_lib.fields_by_name(self.config),
    }
    return {
      name: value if isinstance(value, (bool, int, float)) else str(value)
      for name, value in values.items()
    }

  def is_over(self, steps: int, cpu_seconds: float) -> bool:
    """Whether so many steps, or so much CPU time, are all there is to be."""
    return steps >= self.num_steps or 0 < 60 * self.cpu_minutes <= cpu_seconds

  @property
  def environment_name(self) -> str:
    return environment_name(self.environment)

  @property
  def num_environments(self) -> int:
    """That fill the replay."""
    return self.num_actors * self.envs_per_actor

  def make_environment(self, seed: int) -> dm_env.Environment:
    return make_environment(self.environment, seed, **self.environment_options)

  def replace(self, **changes: Any) -> 'Run':
    return dataclasses.replace(self, **changes)


_EXTENT = {
  'num_steps': int,
  'cpu_minutes': (float, int),
  'launch': str,
  'num_actors': int,
  'num_evaluators': int,
  'envs_per_actor': int,
  'track': str,
}


def read_run(
  workdir: str, environment: str | Callable[..., Any] | None = None
) -> Run:
  """The run that lives in a work directory, as it would be resumed.

  Args:
    workdir: of the run.
    environment: its environment, if the user has named it. Some name a module,
      whose code is run: a work directory of somebody else must not decide that.
      Or the function that makes it, which has to be given where it has no name
      that leads to it.

  Raises:
    ValueError: there is none, its configuration cannot be read, or the user has
      to name its environment.
  """
  directory = workdirs.Workdir(workdir)
  if not os.path.exists(directory.path):
    raise ValueError(f'{workdir} does not exist.')
  found = directory.read_config()
  if found is None:
    raise ValueError(f'{workdir} holds no run: it has no config.json.')
  # Runs once had no such end, and were not tracked.
  found = {'cpu_minutes': 0.0, 'track': '', **found}
  kinds = {
    'environment': str,
    'environment_options': dict,
    'agent': dict,
    'seed': int,
    **_EXTENT,
  }
  for field, kind in kinds.items():
    value = found.get(field)
    if not isinstance(value, kind) or isinstance(value, bool):
      raise ValueError(
        f'{_other_version(workdir, found)}: its config.json has no '
        f'{field!r} that could be used.'
      )
  try:
    config = config_lib.from_dict(found['agent'])
  except ValueError as error:
    raise ValueError(f'{_other_version(workdir, found)}: {error}') from error
  named = found['environment']
  module = foreign_module(named)
  if not (
    module is None
    or callable(environment)
    or named == environment
    or trust.is_own(named, found.get('signature'))
  ):
    raise ValueError(
      f'{workdir} was run by somebody else, on {named}: the code of the module '
      f'{module!r} would be run here. If you trust it, name it, by '
      f'--env={named} or, from Python, environment={named!r}.'
    )
  return Run(
    environment=environment if callable(environment) else named,
    environment_options=found['environment_options'],
    config=config,
    seed=found['seed'],
    workdir=workdir,
    resume=True,
    **{name: found[name] for name in _EXTENT},
  )


def _other_version(workdir: str, found: Mapping[str, Any]) -> str:
  """The beginning of a sentence; before 0.2.0 no version was written."""
  wrote = found.get('version', '0.1.0')
  if wrote == version.VERSION:
    return f'{workdir} holds no run of this version'
  return (
    f'{workdir} was written by version {wrote} of acme_hieros and cannot be '
    f'read by this one, {version.VERSION}'
  )


@dataclasses.dataclass(frozen=True)
class Summary:
  """What came of a run.

  mean_return: over the last `statistics.RECENT` episodes; None without any.
  seconds: those before a resume included.
  cpu_seconds: of them, as `Run.cpu_minutes` counts; None of several processes.
  interrupted: whether it was stopped before its last step, or the end of its
    CPU time.
  signal: by which it was asked to stop, as 'SIGTERM'; None if it was not.
  """

  steps: int
  episodes: int
  updates: int
  mean_return: float | None
  best_return: float | None
  seconds: float
  cpu_seconds: float | None
  interrupted: bool
  signal: str | None
  workdir: str

  def __str__(self) -> str:
    lines = [
      f'{"Interrupted after" if self.interrupted else "Finished"} '
      f'{counted(self.steps, "step")}, {counted(self.episodes, "episode")} '
      f'and {counted(self.updates, "update")} in {_duration(self.seconds)}'
      + (
        '.'
        if self.cpu_seconds is None
        else f'; {_duration(self.cpu_seconds)} of CPU time, start and '
        'compilation apart.'
      )
    ]
    if self.mean_return is not None:
      recent = min(self.episodes, statistics.RECENT)
      lines.append(
        f'Mean return of the last {counted(recent, "episode")}: '
        f'{self.mean_return:.4g}; best: {self.best_return:.4g}.'
      )
    lines.append(f'Configuration, logs and checkpoint: {self.workdir}')
    # As a shell reads it.
    path = shlex.quote(self.workdir)
    lines.append(f'Curves: tensorboard --logdir={path}')
    return '\n'.join(lines)


def _duration(seconds: float) -> datetime.timedelta:
  return datetime.timedelta(seconds=round(seconds))


def summarise(
  run: Run,
  workdir: workdirs.Workdir,
  counts: Mapping[str, int],
  seconds: float,
  mean_return: float | None,
  best_return: float | None,
  last_return: float | None,
  cpu_seconds: float | None = None,
  stop: signal.Signals | None = None,
) -> Summary:
  """What came of a run, from its counts and its `EpisodeLog.summary`."""
  del last_return  # One episode says nothing.
  return Summary(
    steps=counts['actor_steps'],
    episodes=counts['actor_episodes'],
    updates=counts['learner_steps'],
    mean_return=mean_return,
    best_return=best_return,
    seconds=seconds,
    cpu_seconds=cpu_seconds,
    interrupted=not run.is_over(counts['actor_steps'], cpu_seconds or 0.0),
    signal=stop and stop.name,
    workdir=workdir.path,
  )


class Learned(NamedTuple):
  """What a run has learned so far, to be looked at.

  state: of every level, as NumPy arrays; acting needs
    `level.policy_params(state[i].params)` of them.
  steps, updates: of actors and learner, until the checkpoint.
  checkpoint: its number, as '000012'.
  replay: path of the Reverb checkpoint that belongs to it.
  written_by: the version that wrote it, its commit and the date.
  skipped: a sentence on each newer checkpoint that cannot be used.
  """

  run: Run
  environment_spec: specs.EnvironmentSpec
  networks: hierarchy.Hierarchy
  state: learning.TrainingState
  steps: int
  updates: int
  checkpoint: str
  replay: str
  written_by: str
  skipped: list[str]


def read_learned(
  workdir: str,
  checkpoint: int | None = None,
  environment: str | Callable[..., Any] | None = None,
) -> Learned:
  """Reads what a run has learned; the run may be at work, and is not disturbed.

  Args:
    workdir: of the run.
    checkpoint: its number; None for the newest that can be used.
    environment: see `read_run`.

  Raises:
    ValueError: a sentence about a directory, configuration, environment or
      checkpoint that cannot be used.
  """
  run = read_run(workdir, environment)
  try:
    environment_spec, _ = _look_at_environment(run)
    networks = networks_lib.make_networks(run.config, environment_spec)
  except ValueError as error:
    raise ValueError(
      f'What {workdir} was run on cannot be made here: {error}'
    ) from error
  restored = checkpoints.read_learner(
    workdirs.Workdir(workdir).checkpoints,
    jax.eval_shape(networks.init, jax.random.PRNGKey(0)),
    checkpoint,
  )
  counts = restored.metadata.get('counts')
  if not (isinstance(counts, dict) and NO_COUNTS.keys() <= counts.keys()):
    raise ValueError(
      f'{restored.path} belongs to another version: it does not say how many '
      'steps were made.'
    )
  return Learned(
    run=run,
    environment_spec=environment_spec,
    networks=networks,
    state=restored.state,
    steps=counts['actor_steps'],
    updates=counts['learner_steps'],
    checkpoint=restored.name,
    replay=restored.replay,
    written_by=restored.written_by,
    skipped=restored.skipped,
  )


class Preparation(NamedTuple):
  """What is known of a run before it starts.

  restored: the checkpoint that it continues, if there is one.
  shapes: of the learner's state.
  notes: sentences on how the agent sees and acts, where a user might expect
    something else.
  """

  workdir: workdirs.Workdir
  checkpoints: checkpoints.Checkpoints
  restored: checkpoints.Restored | None
  environment_spec: specs.EnvironmentSpec
  networks: hierarchy.Hierarchy
  shapes: learning.TrainingState
  notes: Sequence[str]

  @property
  def written_by(self) -> str | None:
    """Who wrote the checkpoint that is continued, if there is one."""
    return self.restored.written_by if self.restored else None

  def parameter_counts(self) -> list[int]:
    """Parameters of each level, slow critics included, as the paper counts."""
    return [
      level_lib.parameter_count((level.params, level.slow_critics))
      for level in self.shapes
    ]


def prepare(run: Run) -> Preparation:
  """Checks everything that can be checked, and makes the work directory ready.

  The directory is locked until it is closed. The logs of a resumed run are cut
  back to its checkpoint.

  Raises:
    ValueError: a sentence about a number, environment, configuration, work
      directory or checkpoint that cannot be used. Nothing is overwritten then.
  """
  check(run)
  environment_spec, notes = _look_at_environment(run)
  networks = networks_lib.make_networks(run.config, environment_spec)
  shapes = jax.eval_shape(networks.init, jax.random.PRNGKey(0))
  workdir = workdirs.Workdir(run.workdir)
  store = make_checkpoints(run)
  restored = None
  try:
    if run.resume:
      workdir.check(run.identity(), run.extent(), run.resume)
      workdir.lock()
      restored = store.restore(shapes)
      if restored:
        _check_launch(run, restored)
      steps = restored.metadata['counts']['actor_steps'] if restored else 0
      for damaged in workdir.cut_logs(steps):
        logging.warning('%s', damaged)
      for skipped in restored.skipped if restored else ():
        logging.warning('%s The one before is used.', skipped)
      _warn_of_another_configuration(run, restored)
    workdir.open(run.identity(), run.extent(), run.resume)
  except BaseException:
    workdir.close()
    raise
  if spaces.is_unbounded(networks.action_space):
    notes = (*notes, _UNBOUNDED)
  notes = (*notes, *_note_cores(run.config.batch_size))
  return Preparation(
    workdir, store, restored, environment_spec, networks, shapes, notes
  )


def make_checkpoints(run: Run) -> checkpoints.Checkpoints:
  """The checkpoints of a run, which say what was run by what code."""
  workdir = workdirs.Workdir(run.workdir)
  return checkpoints.Checkpoints(
    workdir.checkpoints,
    run.keep_checkpoints,
    origin={
      **provenance.of_code(),
      'config': {**run.identity(), **run.extent()},
    },
    logs=(workdir.logs, workdir.evaluation),
  )


def _warn_of_another_configuration(
  run: Run, restored: checkpoints.Restored | None
):
  config = restored.origin.get('config') if restored else None
  if config is None:
    return
  identity = run.identity()
  differing = workdirs.differences(
    {name: config.get(name) for name in identity}, identity
  )
  if differing:
    logging.warning(
      'The checkpoint %s was written under another configuration, which '
      'differs in %s; it is continued under that of config.json.',
      restored.path,
      ', '.join(differing),
    )


_UNBOUNDED = (
  'The action has numbers without bounds: the agent chooses them from about -1 '
  'to 1, or as near to the one bound that there is; where others are needed, '
  'give the action bounds.'
)


def _note_cores(batch_size: int) -> Sequence[str]:
  """How many cores of the CPU learn, where there are several."""
  devices = jax.local_devices()
  if devices[0].platform != 'cpu' or len(devices) == 1:
    return ()
  sharing = len(shares.share_devices(batch_size))
  note = f'Each batch is shared by {sharing} of {len(devices)} cores'
  if sharing < len(devices):
    note += f', since batch_size={batch_size} is no multiple of more'
  return (f'{note}.',)


def _look_at_environment(run: Run) -> tuple[specs.EnvironmentSpec, list[str]]:
  """Its spec, and its notes on how the agent sees it."""
  try:
    environment = run.make_environment(run.seed)
  except SystemExit as error:
    raise ValueError(
      f'The environment {run.environment_name} ended the program instead of '
      f'being made ({environment_loop.in_one_line(error)}); see what it has '
      'said.'
    ) from error
  environment_spec = specs.make_environment_spec(environment)
  notes = list(getattr(environment, 'notes', ()))
  environment_loop.close(environment, logging.warning)
  return environment_spec, notes


def seed_sequence(run: Run, steps: int, *names: int) -> np.random.SeedSequence:
  """Randomness for one part of a run.

  Args:
    run: the run.
    steps: after which the part starts: a resumed run does not repeat itself.
    names: numbers that tell the part from others.
  """
  return np.random.SeedSequence((run.seed, steps, *names))


def check(run: Run):
  """Raises ValueError if a field of the run will not do."""
  for name, least in (
    ('num_steps', 1),
    ('keep_checkpoints', 1),
    ('num_actors', 1),
    ('num_evaluators', 0),
    ('envs_per_actor', 1),
  ):
    value = getattr(run, name)
    _check_whole(name, value)
    if value < least:
      raise ValueError(f'{name}={value} must be at least {least}.')
  _check_whole('seed', run.seed)
  if not 0 <= run.seed < 2**32:
    raise ValueError(f'seed={run.seed} must lie in 0..{2**32 - 1}.')
  if not run.checkpoint_minutes > 0:
    raise ValueError(
      f'checkpoint_minutes={run.checkpoint_minutes} must be positive.'
    )
  if not run.picture_minutes >= 0:
    raise ValueError(
      f'picture_minutes={run.picture_minutes} must not be negative; 0 is never.'
    )
  if not run.cpu_minutes >= 0:
    raise ValueError(
      f'cpu_minutes={run.cpu_minutes} must not be negative; 0 is no limit.'
    )
  if run.launch not in LAUNCHES:
    raise ValueError(
      f'launch={run.launch!r} is unknown; known: {", ".join(LAUNCHES)}.'
    )
  if run.launch != 'local' and run.cpu_minutes:
    raise ValueError(
      f'cpu_minutes={run.cpu_minutes} needs launch=local: the time of several '
      'processes is not counted.'
    )
  if run.launch == 'local' and (run.num_actors, run.num_evaluators) != (1, 0):
    raise ValueError(
      f'num_actors={run.num_actors} and num_evaluators={run.num_evaluators} '
      'need launch=local_mt, local_mp or ray: one process has one actor and '
      'no evaluator.'
    )
  if (
    run.num_environments > 1
    and run.config.replay.sampler == 'etbs'
    and etbs.BACKEND != 'native'
  ):
    raise ValueError(
      'Without its native sampler ETBS takes one environment: build it with a '
      'C++ compiler, or use num_actors=1 and envs_per_actor=1, or '
      'replay.sampler=uniform.'
    )
  if 'seed' in run.environment_options:
    raise ValueError(
      'The environment option seed will not do: the seed of the run decides '
      'the seeds of its environments.'
    )
  tracking.check(run.track)
  if not (run.logger_factory is None or callable(run.logger_factory)):
    raise ValueError(
      f'logger_factory={run.logger_factory!r} must be a function that makes a '
      "logger for a name, as 'episodes'."
    )
  if run.launch in PROCESSES:
    _check_is_sent(f'The environment {run.environment_name}', run.environment)
    _check_is_sent('logger_factory', run.logger_factory)
  for name, value in run.environment_options.items():
    if not _is_plain(value):
      raise ValueError(
        f'The environment option {name}={value!r} cannot be kept in '
        'config.json: use numbers, words, True, False, None, and lists of them '
        'or dicts of them by words.'
      )
  run.config.check_fillable(run.num_steps, run.num_environments)
  learning.check_platforms()
  shares.share_devices(run.config.batch_size)


def _check_is_sent(what: str, value: Any):
  """Raises ValueError if other processes cannot get what the user gave."""
  try:
    cloudpickle.dumps(value)
  except Exception as error:  # Each type has its own way to refuse.
    raise ValueError(
      f'{what} cannot be sent to other '
      f'processes ({environment_loop.in_one_line(error)}): let the function '
      'make all that it needs, or use launch=local or local_mt.'
    ) from error


def _is_plain(value: Any) -> bool:
  """Whether JSON gives it back, with lists for tuples."""
  if isinstance(value, Mapping):
    return all(isinstance(n, str) and _is_plain(value[n]) for n in value)
  if isinstance(value, (list, tuple)):
    return all(map(_is_plain, value))
  return value is None or isinstance(value, (bool, int, float, str))


def _check_whole(name: str, value: Any):
  if type(value) is not int:
    raise ValueError(f'{name}={value!r} must be a whole number.')


def _check_launch(run: Run, restored: checkpoints.Restored):
  """Raises ValueError if the replay is not one of this kind of launch."""
  before = restored.metadata['launch']
  if (run.launch == 'local') != (before == 'local'):
    raise ValueError(
      f'{run.workdir} holds a run that was launched with {before}, whose '
      f'replay launch={run.launch} cannot continue; resume it with '
      + ('launch=local.' if before == 'local' else 'local_mt, local_mp or ray.')
    )
