"""What the programs of this project ask of their command lines."""

import ast
from collections.abc import Sequence
import pathlib
import sys
from typing import Any

from absl import flags

from acme_hieros.experiments import console


def refuse_arguments(argv: Sequence[str]):
  """Ends the program if its command line holds more than flags.

  Args:
    argv: The name of the program, and what was left over by its flags.
  """
  if len(argv) > 1:
    program = pathlib.Path(argv[0]).stem
    sys.exit(f'{program}: {argv[1]!r} is not a flag; flags are --name=value.')


def read_pairs(flag: flags.FlagHolder[list[str]]) -> dict[str, str]:
  """The values of a flag that is given as --flag=name=value, again and again.

  Raises:
    ValueError: something else was given.
  """
  pairs = {}
  for text in flag.value:
    name, equals, value = text.partition('=')
    if not equals or not name:
      raise ValueError(f'--{flag.name}={text!r} must have the form name=value.')
    pairs[name.strip()] = value.strip()
  return pairs


def read_options(flag: flags.FlagHolder[list[str]]) -> dict[str, Any]:
  """The same with values that Python would read, and words for the rest."""
  options = read_pairs(flag)
  for name, text in options.items():
    try:
      options[name] = ast.literal_eval(text)
    except (ValueError, SyntaxError):
      pass  # A word.
  return options


def outlive_readers():
  """Has the program go on where nobody reads any more what it says."""
  sys.stdout = console.Unbreakable(sys.stdout)
  sys.stderr = console.Unbreakable(sys.stderr)
