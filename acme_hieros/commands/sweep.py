"""Has all runs of a study run, evaluates them, and reports what they answer.

  hieros sweep studies/depth.toml --variant=laptop
  hieros sweep studies/depth.toml --dry_run

Each run is a process of its own, on cores of its own. The same command goes on
with what was interrupted and skips what is finished.
"""

from collections.abc import Sequence
import shlex
import sys

from absl import flags

from acme_hieros import commands

FLAGS = flags.FlagValues()
_VARIANT = flags.DEFINE_string(
  'variant',
  '',
  'Of the study, as laptop: what is said there takes the place of the rest.',
  flag_values=FLAGS,
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  '',
  'Where everything is written. Default: runs/<study>.',
  flag_values=FLAGS,
)
_ONLY = flags.DEFINE_list(
  'only',
  [],
  'Names of runs, as --dry_run has them; they are not reported. Default: all.',
  flag_values=FLAGS,
)
_AT_ONCE = flags.DEFINE_integer(
  'at_once',
  None,
  'Runs at once. Default: as many as cores and accelerators allow.',
  lower_bound=1,
  flag_values=FLAGS,
)
_RETRIES = flags.DEFINE_integer(
  'retries',
  2,
  'How often a run that has failed is tried again.',
  lower_bound=0,
  flag_values=FLAGS,
)
_RAY = flags.DEFINE_string(
  'ray',
  '',
  'Address of a Ray cluster on whose machines the runs run, or auto for that '
  'of this machine. They have to share --workdir. Default: this machine alone.',
  flag_values=FLAGS,
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run',
  False,
  'Say what would be done and what it would cost, and do nothing.',
  flag_values=FLAGS,
)
_REPORT = flags.DEFINE_bool(
  'report',
  False,
  'Run nothing, and report what is finished.',
  flag_values=FLAGS,
)
_SLURM = flags.DEFINE_bool(
  'slurm',
  False,
  'Run nothing, and write a script by which Slurm has the runs run.',
  flag_values=FLAGS,
)
_REPLICATIONS = flags.DEFINE_integer(
  'replications',
  10_000,
  'Of the bootstrap that intervals come from.',
  flag_values=FLAGS,
)


def main(argv: Sequence[str]):
  """Sweeps; argv is the program's name, and the file of the study."""
  program = argv[0]
  commands.require_acme(program)
  from acme_hieros.studies import sweep

  try:
    if len(argv) != 2:
      raise ValueError('name one study, as in hieros sweep studies/depth.toml.')
    if _DRY_RUN.value:
      print(
        sweep.describe(argv[1], _VARIANT.value, _WORKDIR.value, _AT_ONCE.value)
      )
      return
    if _REPORT.value:
      page = sweep.report_now(
        argv[1], _VARIANT.value, _WORKDIR.value, _REPLICATIONS.value
      )
      sys.exit(0 if page else 1)
    if _SLURM.value:
      script = sweep.write_slurm(
        argv[1],
        variant=_VARIANT.value,
        workdir=_WORKDIR.value,
        at_once=_AT_ONCE.value,
        retries=_RETRIES.value,
      )
      print(f'Submit it by: sbatch {shlex.quote(script)}')
      print('Report what is finished by the same command with --report.')
      return
    outcome = sweep.sweep(
      argv[1],
      variant=_VARIANT.value,
      workdir=_WORKDIR.value,
      only=_ONLY.value,
      at_once=_AT_ONCE.value,
      retries=_RETRIES.value,
      ray=_RAY.value,
      replications=_REPLICATIONS.value,
    )
  except (ValueError, OSError) as error:
    sys.exit(f'{program}: {error}')
  if outcome.signal:
    print('Stopped, and all is saved; the same command goes on.')
  for run in outcome.failed:
    print(f'{program}: {run.run.name}: {run.reason}', file=sys.stderr)
  sys.exit(outcome.exit_code)
