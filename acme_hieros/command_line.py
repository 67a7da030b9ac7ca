"""What the programs of this project ask of their command lines."""

from collections.abc import Sequence
import pathlib
import sys


def refuse_arguments(argv: Sequence[str]):
  """Ends the program if its command line holds more than flags.

  Args:
    argv: The name of the program, and what was left over by its flags.
  """
  if len(argv) > 1:
    program = pathlib.Path(argv[0]).stem
    sys.exit(f'{program}: {argv[1]!r} is not a flag; flags are --name=value.')
