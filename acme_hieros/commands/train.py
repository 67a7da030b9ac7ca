"""Trains Hieros on one environment, in one process or in many.

hieros train --env=atari/Krull
"""

from collections.abc import Callable, Mapping, Sequence
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from absl import flags

from acme_hieros import command_line, commands, environments
from acme_hieros import config as config_lib
from acme_hieros.storage import workdirs

if TYPE_CHECKING:
  from acme_hieros.experiments import runs

FLAGS = flags.FlagValues()
_ENV = flags.DEFINE_string(
  'env',
  'atari/Krull',
  'Environment, by its family: '
  f'{", ".join(f"{name}/<name>" for name in environments.families())}; or '
  'package.module:function, which makes one of your own.',
  flag_values=FLAGS,
)
_ENV_OPTION = flags.DEFINE_multi_string(
  'env_option',
  [],
  'An option of the environment, as name=value; may be repeated.',
  flag_values=FLAGS,
)
_PRESET = flags.DEFINE_string(
  'preset',
  None,
  f'Configuration to start from: {", ".join(config_lib.PRESETS)}. Default: '
  'atari100k on an accelerator, small elsewhere.',
  flag_values=FLAGS,
)
_SYSTEM = flags.DEFINE_string(
  'system',
  'hieros',
  'What is computed, in the size of the preset: '
  f'{", ".join(config_lib.SYSTEMS)}.',
  flag_values=FLAGS,
)
_DEPTH = flags.DEFINE_string(
  'depth',
  None,
  'Levels of the hierarchy. Default: as in the preset.',
  flag_values=FLAGS,
)
_NUM_STEPS = flags.DEFINE_integer(
  'num_steps',
  None,
  'Environment steps in all. Default: 100,000; with the preset tiny 3,000.',
  flag_values=FLAGS,
)
_CPU_MINUTES = flags.DEFINE_float(
  'cpu_minutes',
  0.0,
  'End, as at the last step, after so many CPU minutes of this process, its '
  'start and compilation apart; 0 for no such end.',
  flag_values=FLAGS,
)
_SEED = flags.DEFINE_integer(
  'seed',
  0,
  'Random seed.',
  flag_values=FLAGS,
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Where everything is written. Default: a new directory in runs/.',
  flag_values=FLAGS,
)
_OVERRIDE = flags.DEFINE_multi_string(
  'override',
  [],
  'A field of the configuration, as name=value, for example '
  'world_model.deter_size=128; may be repeated.',
  flag_values=FLAGS,
)
_LAUNCH = flags.DEFINE_enum(
  'launch',
  'local',
  ('local', 'local_mt', 'local_mp', 'ray'),
  'One process, or a Launchpad program of threads (mt), of processes (mp), or '
  'of processes on the machines of a Ray cluster.',
  flag_values=FLAGS,
)
_RAY = flags.DEFINE_string(
  'ray',
  'auto',
  'Of --launch=ray: address of the cluster, or auto for that of this machine.',
  flag_values=FLAGS,
)
_NUM_ACTORS = flags.DEFINE_integer(
  'num_actors',
  1,
  'Actors of a Launchpad program.',
  flag_values=FLAGS,
)
_NUM_EVALUATORS = flags.DEFINE_integer(
  'num_evaluators',
  0,
  'Actors that only play, as well as they can.',
  flag_values=FLAGS,
)
_ENVS_PER_ACTOR = flags.DEFINE_integer(
  'envs_per_actor',
  1,
  'Environments that each actor acts in at once.',
  flag_values=FLAGS,
)
_CHECKPOINT_MINUTES = flags.DEFINE_float(
  'checkpoint_minutes',
  10.0,
  'Minutes between two checkpoints.',
  flag_values=FLAGS,
)
_KEEP_CHECKPOINTS = flags.DEFINE_integer(
  'keep_checkpoints',
  2,
  'Of so many checkpoints the newest stay.',
  flag_values=FLAGS,
)
_PICTURE_MINUTES = flags.DEFINE_float(
  'picture_minutes',
  30.0,
  'Minutes between two drawings of what the agent sees and believes; 0 for '
  'none. One process also draws at its end; a program needs an evaluator.',
  flag_values=FLAGS,
)
_TRACK = flags.DEFINE_string(
  'track',
  '',
  'wandb: tell Weights & Biases, too, all that is logged, in the project '
  'acme_hieros or WANDB_PROJECT; WANDB_MODE=offline keeps it in --workdir.',
  flag_values=FLAGS,
)
_CORES = flags.DEFINE_integer(
  'cores',
  None,
  'Cores of the CPU that share each batch, as far as they divide it; results '
  'depend on their number in the last digits. Default: all that taskset, a '
  'container and OMP_NUM_THREADS leave. An accelerator has its work to itself.',
  lower_bound=1,
  flag_values=FLAGS,
)
_COMPILATION_CACHE = flags.DEFINE_string(
  'compilation_cache',
  None,
  'Where what is compiled is kept for the next start, 500 MB at most. Default: '
  'acme_hieros in the directory for caches, ~/.cache; empty for nowhere.',
  flag_values=FLAGS,
)
_RESUME = flags.DEFINE_bool(
  'resume',
  False,
  'Continue the run in --workdir; the other flags may then be left out.',
  flag_values=FLAGS,
)
_AUTO_RESUME = flags.DEFINE_bool(
  'auto_resume',
  False,
  'Continue the run in --workdir if there is one, or else begin it: the same '
  'command for the first start of a job and all others.',
  flag_values=FLAGS,
)


# Fields of a run that are taken as they are.
_EXTENT: Mapping[str, flags.FlagHolder] = {
  'seed': _SEED,
  'cpu_minutes': _CPU_MINUTES,
  'launch': _LAUNCH,
  'num_actors': _NUM_ACTORS,
  'num_evaluators': _NUM_EVALUATORS,
  'envs_per_actor': _ENVS_PER_ACTOR,
  'track': _TRACK,
}


def main(argv: Sequence[str]):
  """Trains; argv is the program's name, and nothing else."""
  command_line.refuse_arguments(argv)
  summary = carry_out(
    argv[0], _make_run, _COMPILATION_CACHE.value, _CORES.value
  )
  _exit(exit_code(summary), _LAUNCH.value)


def carry_out(
  program: str,
  make_run: Callable[[], 'runs.Run'],
  compilation_cache: str | None = None,
  cores: int | None = None,
) -> 'runs.Summary':
  """Trains, and says what came of it.

  What goes wrong ends the program, in one sentence.

  Args:
    program: its name.
    make_run: returns what is to be run, or raises ValueError.
    compilation_cache: where what is compiled is kept; None for the user's own
      directory, empty for nowhere.
    cores: of the CPU that share each batch; None for those that there are.
  """
  commands.require_acme(program)
  from acme_hieros import process

  with process.importing():
    from acme_hieros.agent import learning
    from acme_hieros.experiments import (
      checkpoints,
      console,
      environment_loop,
      launching,
      sessions,
    )

  process.tune_process(cores=cores or process.count_cores())
  commands.keep_compiled(program, compilation_cache)
  try:
    run = make_run()
    trainer = sessions.begin(run)
  except (ValueError, OSError) as error:
    # Something that was asked for cannot be done; the error says what can.
    sys.exit(f'{program}: {error}')
  except KeyboardInterrupt:
    print(f'{program}: stopped before it began.', file=sys.stderr)
    sys.exit(130)
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
    _exit(f'{program}: {error}', run.launch)
  except KeyboardInterrupt:
    print(
      f'{program}: stopped at once; --resume continues from the last '
      'checkpoint.',
      file=sys.stderr,
    )
    _exit(130, run.launch)
  print(summary)
  if summary.interrupted:
    # As a shell reads it.
    path = shlex.quote(summary.workdir)
    print(f'Continue with: --resume --workdir={path}')
  return summary


def exit_code(summary: 'runs.Summary') -> int:
  """0, or what a shell has for the signal that stopped it."""
  if not summary.interrupted:
    return 0
  return 128 + signal.Signals[summary.signal or 'SIGINT']


def _exit(status: int | str, launch: str) -> NoReturn:
  """As sys.exit: a text is said, and the exit code is 1."""
  if launch == 'local_mt':
    # The end of what Courier and Reverb have left in threads can take a minute.
    code = status
    if isinstance(status, str):
      print(status, file=sys.stderr)
      code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  sys.exit(status)


def _make_run() -> 'runs.Run':
  from acme_hieros.experiments import launching, runs

  if _LAUNCH.value in runs.PROCESSES:
    launching.leave_accelerator()
  run = _resumed_run() if _resumes() else _new_run()
  return run.replace(
    ray=_RAY.value,
    checkpoint_minutes=_CHECKPOINT_MINUTES.value,
    keep_checkpoints=_KEEP_CHECKPOINTS.value,
    picture_minutes=_PICTURE_MINUTES.value,
  )


def _new_run() -> 'runs.Run':
  from acme_hieros.experiments import sessions

  return sessions.make_run(
    _ENV.value,
    _PRESET.value,
    _SYSTEM.value,
    _overrides(),
    _NUM_STEPS.value,
    environment_options=command_line.read_options(_ENV_OPTION),
    workdir=_WORKDIR.value or '',
    **{name: flag.value for name, flag in _EXTENT.items()},
  )


def _resumes() -> bool:
  if not _AUTO_RESUME.value:
    return _RESUME.value
  if _WORKDIR.value is None:
    raise ValueError(
      '--auto_resume needs a --workdir, to look for a run there.'
    )
  return workdirs.Workdir(_WORKDIR.value).read_config() is not None


def _resumed_run() -> 'runs.Run':
  """What lives in --workdir, with the flags that are given put on top."""
  from acme_hieros.experiments import runs

  if _WORKDIR.value is None:
    raise ValueError('--resume needs the --workdir of the run to continue.')
  run = runs.read_run(_WORKDIR.value, _ENV.value)
  changes = {name: flag.value for name, flag in _EXTENT.items() if flag.present}
  if _ENV.present:
    changes['environment'] = _ENV.value
  if _ENV_OPTION.present:
    changes['environment_options'] = command_line.read_options(_ENV_OPTION)
  if _NUM_STEPS.present:
    changes['num_steps'] = _NUM_STEPS.value
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
