"""Trains Hieros on one environment, in one process or in many.

python launchers/run_hieros.py --env=atari/Krull
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import datetime
import os
import signal
import sys

try:
  from acme_hieros import compat  # noqa: F401  Before what may be absent.
except ImportError as error:
  sys.exit(f'run_hieros: {error}')

from absl import app, flags, logging
import jax

from acme_hieros import command_line, process
from acme_hieros import config as config_lib
from acme_hieros.agent import learning
from acme_hieros.experiments import (
  checkpoints,
  console,
  environment_loop,
  launching,
  runs,
  training,
)
from acme_hieros.storage import workdirs

_ENV = flags.DEFINE_string(
  'env',
  'atari/Krull',
  'Environment: <family>/<name>, of which README.md has the families, or '
  'package.module:function, which makes one of your own.',
)
_ENV_OPTION = flags.DEFINE_multi_string(
  'env_option',
  [],
  'An option of the environment, as name=value; may be repeated.',
)
_PRESET = flags.DEFINE_string(
  'preset',
  None,
  f'Configuration to start from: {", ".join(config_lib.PRESETS)}. Default: '
  'atari100k on an accelerator, small elsewhere.',
)
_SYSTEM = flags.DEFINE_string(
  'system',
  'hieros',
  'What is computed, in the size of the preset: '
  f'{", ".join(config_lib.SYSTEMS)}.',
)
_DEPTH = flags.DEFINE_string(
  'depth', None, 'Levels of the hierarchy. Default: as in the preset.'
)
_NUM_STEPS = flags.DEFINE_integer(
  'num_steps',
  None,
  'Environment steps in all. Default: 100,000; with the preset tiny 3,000.',
)
_CPU_MINUTES = flags.DEFINE_float(
  'cpu_minutes',
  0.0,
  'End, as at the last step, after so many CPU minutes of this process, its '
  'start and compilation apart; 0 for no such end.',
)
_SEED = flags.DEFINE_integer('seed', 0, 'Random seed.')
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Where everything is written. Default: a new directory in runs/.',
)
_OVERRIDE = flags.DEFINE_multi_string(
  'override',
  [],
  'A field of the configuration, as name=value, for example '
  'world_model.deter_size=128; may be repeated.',
)
_LAUNCH = flags.DEFINE_enum(
  'launch',
  'local',
  runs.LAUNCHES,
  'One process, or a Launchpad program of threads (mt) or processes (mp).',
)
_NUM_ACTORS = flags.DEFINE_integer(
  'num_actors', 1, 'Actors of a Launchpad program.'
)
_NUM_EVALUATORS = flags.DEFINE_integer(
  'num_evaluators', 0, 'Actors that only play, as well as they can.'
)
_ENVS_PER_ACTOR = flags.DEFINE_integer(
  'envs_per_actor', 1, 'Environments that each actor acts in at once.'
)
_CHECKPOINT_MINUTES = flags.DEFINE_float(
  'checkpoint_minutes', 10.0, 'Minutes between two checkpoints.'
)
_KEEP_CHECKPOINTS = flags.DEFINE_integer(
  'keep_checkpoints', 2, 'Of so many checkpoints the newest stay.'
)
_PICTURE_MINUTES = flags.DEFINE_float(
  'picture_minutes',
  30.0,
  'Minutes between two drawings of what the agent sees and believes; 0 for '
  'none. One process also draws at its end; a program needs an evaluator.',
)
_RESUME = flags.DEFINE_bool(
  'resume',
  False,
  'Continue the run in --workdir; the other flags may then be left out.',
)
_AUTO_RESUME = flags.DEFINE_bool(
  'auto_resume',
  False,
  'Continue the run in --workdir if there is one, or else begin it: the same '
  'command for the first start of a job and all others.',
)


def main(argv: Sequence[str]):
  command_line.refuse_arguments(argv)
  # What Acme's loggers announce would break the live line.
  logging.set_verbosity(logging.WARNING)
  process.tune_process()
  try:
    if _LAUNCH.value == 'local_mp':
      launching.leave_accelerator()
    run = _resumed_run() if _resumes() else _new_run()
    run = run.replace(
      checkpoint_minutes=_CHECKPOINT_MINUTES.value,
      keep_checkpoints=_KEEP_CHECKPOINTS.value,
      picture_minutes=_PICTURE_MINUTES.value,
    )
    launched = run.launch != 'local'
    with _new_workdir(run) as run:
      trainer = (launching.Launcher if launched else training.Trainer)(run)
  except (ValueError, OSError) as error:
    # Something that was asked for cannot be done; the error says what can.
    sys.exit(f'run_hieros: {error}')
  except KeyboardInterrupt:
    print('run_hieros: stopped before it began.', file=sys.stderr)
    sys.exit(130)
  length = f'{run.num_steps} steps'
  if run.cpu_minutes:
    length += f' or {run.cpu_minutes:g} CPU minutes'
  print(f'{run.environment}: {length}, everything in {run.workdir}')
  if run.resume:
    by = f', saved by {trainer.written_by}' if trainer.written_by else ''
    print(f'Continuing after {trainer.steps} steps{by}.')
  for note in trainer.notes:
    print(note)
  for level, count in enumerate(trainer.parameter_counts):
    print(f'level {level}: {count / 1e6:.2f} M parameters')
  try:
    summary = trainer.train()
    if summary.signal:
      console.ignore_requests()
  except (
    learning.NonFiniteLossError,
    environment_loop.BrokenEnvironmentError,
    checkpoints.CheckpointError,
    launching.LaunchError,
    OSError,
  ) as error:
    _exit(run, f'run_hieros: {error}')
  except KeyboardInterrupt:
    print(
      'run_hieros: stopped at once; --resume continues from the last '
      'checkpoint.',
      file=sys.stderr,
    )
    _exit(run, 130)
  print(summary)
  code = 0
  if summary.interrupted:  # As a shell has it.
    code = 128 + signal.Signals[summary.signal or 'SIGINT']
  _exit(run, code)


def _exit(run: runs.Run, status: int | str):
  """As sys.exit: a text is said, and the exit code is 1."""
  if run.launch == 'local_mt':
    # The end of what Courier and Reverb have left in threads can take a minute.
    code = status
    if isinstance(status, str):
      print(status, file=sys.stderr)
      code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  sys.exit(status)


def _new_run() -> runs.Run:
  preset = _PRESET.value
  if preset is None:
    learning.check_platforms()
    preset = 'small' if jax.default_backend() == 'cpu' else 'atari100k'
    if preset == 'small':
      print(
        'No accelerator was found, so the preset is small; --preset chooses '
        'another.'
      )
  num_steps = _NUM_STEPS.value
  if num_steps is None:
    num_steps = 3_000 if preset == 'tiny' else 100_000
  return runs.Run(
    environment=_ENV.value,
    environment_options=command_line.read_options(_ENV_OPTION),
    config=config_lib.override(
      config_lib.preset(preset, _SYSTEM.value), _overrides()
    ),
    num_steps=num_steps,
    cpu_minutes=_CPU_MINUTES.value,
    seed=_SEED.value,
    workdir=_WORKDIR.value or '',
    launch=_LAUNCH.value,
    num_actors=_NUM_ACTORS.value,
    num_evaluators=_NUM_EVALUATORS.value,
    envs_per_actor=_ENVS_PER_ACTOR.value,
  )


def _resumes() -> bool:
  if not _AUTO_RESUME.value:
    return _RESUME.value
  if _WORKDIR.value is None:
    raise ValueError(
      '--auto_resume needs a --workdir, to look for a run there.'
    )
  return workdirs.Workdir(_WORKDIR.value).read_config() is not None


@contextlib.contextmanager
def _new_workdir(run: runs.Run) -> Iterator[runs.Run]:
  """The run in a directory of its own, if --workdir names none.

  Nothing is left of it where the run is refused.
  """
  if _WORKDIR.value is not None:
    yield run
    return
  now = datetime.datetime.now().strftime('%Y%m%d-%H%M%S')
  name = f'{run.environment.replace("/", "_")}-{now}'
  workdir = workdirs.make_new('runs', name)
  try:
    yield run.replace(workdir=workdir)
  except BaseException:
    with contextlib.suppress(OSError):  # It holds something.
      os.rmdir(workdir)
    raise


def _resumed_run() -> runs.Run:
  """What lives in --workdir, with the flags that are given put on top."""
  if _WORKDIR.value is None:
    raise ValueError('--resume needs the --workdir of the run to continue.')
  run = runs.read_run(_WORKDIR.value, _ENV.value)
  changes = {}
  if _ENV.present:
    changes['environment'] = _ENV.value
  if _ENV_OPTION.present:
    changes['environment_options'] = command_line.read_options(_ENV_OPTION)
  for name, flag in (
    ('seed', _SEED),
    ('num_steps', _NUM_STEPS),
    ('cpu_minutes', _CPU_MINUTES),
    ('launch', _LAUNCH),
    ('num_actors', _NUM_ACTORS),
    ('num_evaluators', _NUM_EVALUATORS),
    ('envs_per_actor', _ENVS_PER_ACTOR),
  ):
    if flag.present:
      changes[name] = flag.value
  config = run.config
  if _PRESET.present:
    config = config_lib.preset(_PRESET.value, _SYSTEM.value)
  elif _SYSTEM.present:
    raise ValueError('--resume with --system needs the --preset of it as well.')
  changes['config'] = config_lib.override(config, _overrides())
  return run.replace(**changes)


def _overrides() -> Mapping[str, str]:
  overrides = command_line.read_pairs(_OVERRIDE)
  if _DEPTH.value is not None:
    overrides['depth'] = _DEPTH.value
  return overrides


if __name__ == '__main__':
  command_line.outlive_readers()
  app.run(main)
