"""A run from its beginning to its summary, from programs and from Python."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import datetime
import os
import re
from typing import Any

import jax

from acme_hieros import config as config_lib
from acme_hieros.agent import learning
from acme_hieros.experiments import launching, runs, training
from acme_hieros.storage import workdirs

# Environment steps of a run that is not told how many, by its preset.
STEPS = {'tiny': 3_000}
_MOST_STEPS = 100_000

# Where runs are that name no work directory.
_RUNS = 'runs'

Trainer = training.Trainer | launching.Launcher


def train(
  environment: str | Callable[..., Any],
  *,
  preset: str | None = None,
  system: str = 'hieros',
  num_steps: int | None = None,
  workdir: str = '',
  resume: bool = False,
  seed: int = 0,
  environment_options: Mapping[str, Any] | None = None,
  launch: str = 'local',
  ray: str = 'auto',
  num_actors: int = 1,
  num_evaluators: int = 0,
  envs_per_actor: int = 1,
  cpu_minutes: float = 0.0,
  checkpoint_minutes: float = 10.0,
  keep_checkpoints: int = 2,
  picture_minutes: float = 30.0,
  track: str = '',
  logger_factory: learning.LoggerFactory | None = None,
  **overrides: Any,
) -> runs.Summary:
  """Trains an agent, as `hieros train` does.

  A live line tells how far it is; Ctrl-C saves and ends earlier. The work
  directory is what `acme_hieros.load` reads.

  Example:
    acme_hieros.train('debug/catch', preset='tiny', batch_size=16)

  Args:
    environment: its name, as 'atari/Krull'; or a function that returns a
      `dm_env.Environment` or a `gymnasium.Env`, see `make_environment`.
    preset: the size, of `config.PRESETS`; by default 'atari100k' on an
      accelerator and 'small' elsewhere.
    system: what is computed, of `config.SYSTEMS`.
    num_steps: environment steps in all; by default 100,000, and 3,000 with the
      preset 'tiny'.
    workdir: where everything is written; by default a new directory in runs/.
    resume: go on with the run in `workdir`, if there is one.
    seed: of environments, parameters, actions and updates.
    environment_options: of the environment.
    launch, ray, num_actors, num_evaluators, envs_per_actor, cpu_minutes,
      checkpoint_minutes, keep_checkpoints, picture_minutes, track,
      logger_factory: see `runs.Run`.
    **overrides: fields of the configuration, with two underscores for a dot:
      `world_model__deter_size=128`.

  Returns:
    What came of it.

  Raises:
    ValueError: one sentence about what cannot be run.
    learning.NonFiniteLossError, environment_loop.BrokenEnvironmentError,
      checkpoints.CheckpointError, launching.LaunchError: what ended it early;
      what could be saved is.
  """
  if resume and not workdir:
    raise ValueError('resume=True needs the workdir of the run to go on with.')
  run = make_run(
    environment,
    preset,
    system,
    {name.replace('__', '.'): value for name, value in overrides.items()},
    num_steps,
    workdir=workdir,
    resume=resume and workdirs.Workdir(workdir).read_config() is not None,
    seed=seed,
    environment_options=environment_options or {},
    launch=launch,
    ray=ray,
    num_actors=num_actors,
    num_evaluators=num_evaluators,
    envs_per_actor=envs_per_actor,
    cpu_minutes=cpu_minutes,
    checkpoint_minutes=checkpoint_minutes,
    keep_checkpoints=keep_checkpoints,
    picture_minutes=picture_minutes,
    track=track,
    logger_factory=logger_factory,
  )
  summary = begin(run).train()
  print(summary)
  if summary.interrupted:
    print(
      'Continue with: acme_hieros.train(..., resume=True, '
      f'workdir={summary.workdir!r})'
    )
  return summary


def make_run(
  environment: str | Callable[..., Any],
  preset: str | None,
  system: str,
  overrides: Mapping[str, Any],
  num_steps: int | None,
  **fields: Any,
) -> runs.Run:
  """A new run, with what was not chosen chosen for this machine.

  Args: as of `train`.
    overrides: by dotted names.
    **fields: other fields of `runs.Run`.
  """
  if preset is None:
    learning.check_platforms()
    preset = 'small' if jax.default_backend() == 'cpu' else 'atari100k'
    if preset == 'small':
      print(
        'No accelerator was found, so the preset is small; name one to have '
        'another.'
      )
  if num_steps is None:
    num_steps = STEPS.get(preset, _MOST_STEPS)
  return runs.Run(
    environment=environment,
    config=config_lib.override(config_lib.preset(preset, system), overrides),
    num_steps=num_steps,
    **fields,
  )


def begin(run: runs.Run) -> Trainer:
  """Makes all that a run needs, and prints what will be run.

  A run without a work directory gets a new one; nothing is left where the run
  is refused.

  Raises:
    ValueError: a sentence about what cannot be run.
  """
  launched = run.launch != 'local'
  with _new_workdir(run) as run:
    trainer = (launching.Launcher if launched else training.Trainer)(run)
  length = f'{run.num_steps} steps'
  if run.cpu_minutes:
    length += f' or {run.cpu_minutes:g} CPU minutes'
  print(f'{run.environment_name}: {length}, everything in {run.workdir}')
  if run.resume:
    by = f', saved by {trainer.written_by}' if trainer.written_by else ''
    print(f'Continuing after {trainer.steps} steps{by}.')
  for note in trainer.notes:
    print(note)
  for level, count in enumerate(trainer.parameter_counts):
    print(f'level {level}: {count / 1e6:.2f} M parameters')
  return trainer


@contextlib.contextmanager
def _new_workdir(run: runs.Run) -> Iterator[runs.Run]:
  """The run in a directory of its own, if it names none."""
  if run.workdir:
    yield run
    return
  now = datetime.datetime.now().strftime('%Y%m%d-%H%M%S')
  name = re.sub(r'[^\w.-]+', '_', run.environment_name) + f'-{now}'
  new = not os.path.exists(_RUNS)
  workdir = workdirs.make_new(_RUNS, name)
  try:
    yield run.replace(workdir=workdir)
  except BaseException:
    with contextlib.suppress(OSError):  # It holds something.
      os.rmdir(workdir)
      if new:
        os.rmdir(_RUNS)
    raise
