"""Plays by what a run has learned, and says how well that goes.

  hieros evaluate --workdir=runs/krull --episodes=100

The run may be at work: it is only read, and a directory is added to it.
"""

from collections.abc import Sequence
import sys

from absl import flags

from acme_hieros import command_line, commands

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'The directory of the run.',
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
  'Number of the checkpoint. Default: the newest that can be used.',
  flag_values=FLAGS,
)
_EPISODES = flags.DEFINE_integer(
  'episodes',
  100,
  'Episodes to play. When all have ended they take the place of those that '
  'were played by this checkpoint before.',
  flag_values=FLAGS,
)
_ENVS = flags.DEFINE_integer(
  'envs',
  8,
  'Environments that are played in at once; each plays its share of the '
  'episodes.',
  flag_values=FLAGS,
)
_DETERMINISTIC = flags.DEFINE_bool(
  'deterministic',
  False,
  'Take the likeliest actions and subgoals instead of sampling. Has files of '
  'its own.',
  flag_values=FLAGS,
)
_SEED = flags.DEFINE_integer(
  'seed',
  0,
  'Random seed: with it and --envs the same episodes are played again.',
  flag_values=FLAGS,
)
_VIDEO = flags.DEFINE_bool(
  'video',
  False,
  'Film the episodes of the first environment, what is imagined beside what '
  'came: an MP4 file beside the others.',
  flag_values=FLAGS,
)


def main(argv: Sequence[str]):
  """Evaluates; argv is the program's name, and nothing else."""
  program = argv[0]
  command_line.refuse_arguments(argv)
  commands.prepare_to_look(program)
  from acme_hieros.experiments import environment_loop, evaluation, runs

  try:
    if _WORKDIR.value is None:
      raise ValueError('--workdir has to name the directory of a run.')
    settings = evaluation.Settings(
      episodes=_EPISODES.value,
      environments=_ENVS.value,
      deterministic=_DETERMINISTIC.value,
      seed=_SEED.value,
    )
    learned = runs.read_learned(_WORKDIR.value, _CHECKPOINT.value, _ENV.value)
    for skipped in learned.skipped:
      print(f'{program}: {skipped} The one before is used.', file=sys.stderr)
    print(
      f'{learned.run.environment}: {settings.episodes} episodes by checkpoint '
      f'{learned.checkpoint} ({learned.steps} steps, {learned.updates} '
      f'updates), {"likeliest" if settings.deterministic else "sampled"} '
      f'actions; the checkpoint was written by {learned.written_by}'
    )
    outcome = evaluation.evaluate(learned, settings, _VIDEO.value)
  except (ValueError, environment_loop.BrokenEnvironmentError) as error:
    sys.exit(f'{program}: {error}')
  except KeyboardInterrupt:
    print(f'{program}: stopped at once.', file=sys.stderr)
    sys.exit(130)
  print(outcome)
  sys.exit(0 if outcome.summary else 130)
