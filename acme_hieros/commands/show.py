"""Plays an episode by a checkpoint and draws what the agent believed.

hieros show --workdir=runs/krull
"""

from collections.abc import Sequence
import os
import sys

from absl import flags, logging

from acme_hieros import command_line, commands
from acme_hieros.storage import workdirs

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Of the run. It may be at work, and is not disturbed.',
  flag_values=FLAGS,
)
_ENV = flags.DEFINE_string(
  'env',
  None,
  'The environment of the run, to say that the code of its module may be run: '
  "asked for where the run is somebody else's.",
  flag_values=FLAGS,
)
_CHECKPOINT = flags.DEFINE_integer(
  'checkpoint',
  None,
  'Number of the checkpoint. Default: the newest.',
  flag_values=FLAGS,
)
_OUT = flags.DEFINE_string(
  'out',
  None,
  'Directory for the pictures, whose older ones are replaced. Default: '
  'pictures/<steps> in the work directory.',
  flag_values=FLAGS,
)
_MAX_STEPS = flags.DEFINE_integer(
  'max_steps',
  200,
  'Steps of the episode that are shown at most.',
  flag_values=FLAGS,
)
_HORIZON = flags.DEFINE_integer(
  'horizon',
  50,
  'Steps ahead that are predicted without looking.',
  flag_values=FLAGS,
)
_SEED = flags.DEFINE_integer(
  'seed',
  0,
  'Of the environment and the agent.',
  flag_values=FLAGS,
)
_DETERMINISTIC = flags.DEFINE_bool(
  'deterministic',
  False,
  'Take the likeliest actions instead of sampling.',
  flag_values=FLAGS,
)


def main(argv: Sequence[str]):
  """Draws; argv is the program's name, and nothing else."""
  program = argv[0]
  command_line.refuse_arguments(argv)
  commands.prepare_to_look(program)
  import jax

  from acme_hieros.experiments import environment_loop, runs
  from acme_hieros.visualization import drawing

  try:
    if _WORKDIR.value is None:
      raise ValueError('--workdir=<directory of a run> is needed.')
    for flag in (_MAX_STEPS, _HORIZON):
      if flag.value < 1:
        raise ValueError(f'--{flag.name}={flag.value} must be at least 1.')
    if not 0 <= _SEED.value < 2**32:
      raise ValueError(f'--seed={_SEED.value} must lie in 0..{2**32 - 1}.')
    learned = runs.read_learned(_WORKDIR.value, _CHECKPOINT.value, _ENV.value)
    for skipped in learned.skipped:
      print(f'Warning: {skipped} The one before is used.', file=sys.stderr)
    workdir = workdirs.Workdir(learned.run.workdir)
    directory = _OUT.value or workdir.pictures_of(learned.steps)
    print(
      f'Checkpoint {learned.checkpoint} after {learned.steps} steps: playing '
      f'at most {_MAX_STEPS.value} steps of {learned.run.environment}.'
    )
    environment = learned.run.make_environment(_SEED.value)
    drawing.Visualizer(learned.networks, _MAX_STEPS.value, _HORIZON.value).draw(
      [state.params for state in learned.state],
      environment,
      jax.random.PRNGKey(_SEED.value),
      directory,
      _DETERMINISTIC.value,
    )
    environment_loop.close(environment, logging.warning)
  except (ValueError, OSError) as error:
    sys.exit(f'{program}: {error}')
  except environment_loop.ERRORS as error:
    reason = environment_loop.in_one_line(error)
    sys.exit(f'{program}: nothing was drawn ({reason}).')
  except KeyboardInterrupt:
    print(f'{program}: stopped; nothing was drawn.', file=sys.stderr)
    sys.exit(130)
  for path in drawing.files(directory):
    print(os.path.relpath(path))
