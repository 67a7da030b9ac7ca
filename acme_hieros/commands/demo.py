"""Learns a small game in some five minutes on two cores, and shows it.

  hieros demo

A ball falls, and a bat at the bottom catches it (1) or not (-1); at the end
nearly every ball is caught. Nothing but a CPU is needed.
"""

from collections.abc import Sequence
import os
import shlex
import sys
from typing import TYPE_CHECKING

from absl import flags

from acme_hieros import command_line
from acme_hieros.commands import train
from acme_hieros.reports import writing
from acme_hieros.storage import workdirs

if TYPE_CHECKING:
  from acme_hieros.experiments import runs

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
  'workdir',
  '',
  'Where everything is written. Default: a new directory in runs/.',
  flag_values=FLAGS,
)
_NUM_STEPS = flags.DEFINE_integer(
  'num_steps', 10_000, 'Steps to learn from.', flag_values=FLAGS
)
_SEED = flags.DEFINE_integer('seed', 0, 'Random seed.', flag_values=FLAGS)

# As `benchmarks.learning` has it, which goes on for longer.
_OVERRIDES = {'depth': 1, 'actor_critic.entropy_scale': 0.02}

# Of one run there is little to draw from.
_REPLICATIONS = 1_000


def main(argv: Sequence[str]):
  """Learns and shows; argv is the program's name, and nothing else."""
  command_line.refuse_arguments(argv)
  program = argv[0]
  summary = train.carry_out(program, _make_run)
  if summary.interrupted:
    sys.exit(train.exit_code(summary))
  _show(program, summary)


def _make_run() -> 'runs.Run':
  from acme_hieros.experiments import sessions

  print('Compiling takes a minute; then return= climbs from -1 towards 1.')
  return sessions.make_run(
    'debug/catch',
    'tiny',
    'hieros',
    _OVERRIDES,
    _NUM_STEPS.value,
    workdir=_WORKDIR.value,
    seed=_SEED.value,
    # At its end, that is.
    picture_minutes=1e9,
  )


def _show(program: str, summary: 'runs.Summary'):
  """Says where its pictures and its page are, and what can be done next."""
  from acme_hieros.visualization import drawing

  workdir = workdirs.Workdir(summary.workdir)
  for path in drawing.files(workdir.pictures_of(summary.steps)):
    print(f'Picture: {path}')
  page = os.path.join(workdir.path, 'report.html')
  try:
    writing.write([workdir.path], page, _REPLICATIONS)
  except ValueError as error:
    print(f'{program}: there is no page: {error}', file=sys.stderr)
  print(f"""
Next:
  hieros evaluate --workdir={shlex.quote(workdir.path)}
  python -c "import acme_hieros; agent = acme_hieros.load('{workdir.path}')"
  hieros train --env=atari/Krull""")
