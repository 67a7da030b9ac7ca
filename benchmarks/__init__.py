"""What README.md and docs/ quote, rerunnable."""

from collections.abc import Sequence
import os
import sys

# The script of a run.
LAUNCHER = os.path.join(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
  'launchers',
  'run_hieros.py',
)


def refuse_arguments(argv: Sequence[str]):
  """Ends the program if there is more on its command line than flags."""
  if len(argv) > 1:
    sys.exit(f'{argv[1]!r} is not a flag; flags are --name=value.')
