"""Command lines of the project's programs, and what they write to."""

import ast
from collections.abc import Sequence
import contextlib
import os
import pathlib
import sys
from typing import Any, TextIO

from absl import flags


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
  """The same with values that Python would read, and words for the rest.

  Truth values may be in small letters, as those of the configuration.
  """
  options = read_pairs(flag)
  for name, text in options.items():
    if text in ('true', 'false'):
      text = text.capitalize()
    try:
      options[name] = ast.literal_eval(text)
    except Exception:  # It has half a dozen of its own.
      pass  # A word.
  return options


def outlive_readers():
  """Has the program go on where nobody reads any more what it says.

  For its beginning. Letters that a terminal does not have are shown by number.
  """
  # What was closed is nobody's: the next file that is opened, a log or a
  # checkpoint, would be what libraries write their messages to.
  while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
    os.set_inheritable(descriptor, True)
  os.close(descriptor)
  for name in ('stdout', 'stderr'):
    file = getattr(sys, name) or open(os.devnull, 'w')
    file.reconfigure(errors='backslashreplace')
    setattr(sys, name, Unbreakable(file))


class Unbreakable:
  """A text file of which a failure to write is nobody's concern.

  Its reader may be gone, as a terminal that was closed or `tee`, and what
  matters is in files.
  """

  def __init__(self, file: TextIO):
    self._file = file

  def write(self, text: str) -> int:
    # RuntimeError: a signal came while the same file was written to.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
      self._file.write(text)
    return len(text)

  def flush(self):
    with contextlib.suppress(OSError, ValueError, RuntimeError):
      self._file.flush()

  def __getattr__(self, name: str) -> Any:
    return getattr(self._file, name)
