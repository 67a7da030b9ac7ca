"""Command lines of the project's programs, and what they write to."""

import ast
from collections.abc import Callable, Sequence
import contextlib
import os
import pathlib
import sys
import textwrap
from typing import Any, NoReturn, TextIO

from absl import flags


def read_flags(
  values: flags.FlagValues, program: str, argv: Sequence[str]
) -> list[str]:
  """Takes in a command line; one that is wrong ends the program.

  Args:
    values: of the flags that there are.
    program: its name.
    argv: what was said to it.

  Returns:
    The name and what is no flag, as `main` has them.
  """
  try:
    return values([program, *argv])
  except flags.Error as error:
    sentence = ' '.join(str(error).split()).replace(' ?', '?')
    sys.exit(f'{program}: {sentence.rstrip(".")} (--help lists all flags).')


def help_page(
  about: str | None, program: str, values: flags.FlagValues, arguments: str = ''
) -> str:
  """What a program does, and its flags with their defaults.

  Args:
    about: the text of its module, whose commands stand on indented lines.
    program: its name.
    values: of its flags.
    arguments: that it takes beside them.
  """
  usage = ' '.join(filter(None, (program, arguments, '[--name=value ...]')))
  lines = [(about or '').strip(), '', usage]
  for flag in (
    f for own in values.flags_by_module_dict().values() for f in own
  ):
    # absl's own words for what may be repeated follow a semicolon.
    text = flag.help.partition(';\n')[0]
    known = isinstance(flag.default, (bool, list, type(None)))
    lines += [
      '',
      f'  --{"[no]" * flag.boolean}{flag.name}'
      + ('' if known else f'={flag.default}'),
      textwrap.indent(textwrap.fill(text, 72), ' ' * 6),
    ]
  return '\n'.join(lines)


def start(
  main: Callable[[Sequence[str]], Any], argv: Sequence[str]
) -> NoReturn:
  """Runs `main(argv)` as absl does, with warnings; ends the program."""
  from absl import app, logging

  def warn_only(unused_argv):
    # What Acme's loggers announce would break the live line.
    logging.set_verbosity(logging.WARNING)
    return main(argv)

  app.run(warn_only, argv=argv[:1])
  raise AssertionError('absl always ends the program.')


def counted(number: int, thing: str, form: str = '') -> str:
  """'1 run', '2 runs'; the number in a form such as ','."""
  return f'{number:{form}} {thing}' + 's' * (number != 1)


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

  For its beginning. Letters that a terminal does not have are shown by number,
  and in a log each line is there when it is said.
  """
  # What was closed is nobody's: the next file that is opened, a log or a
  # checkpoint, would be what libraries write their messages to.
  while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
    os.set_inheritable(descriptor, True)
  os.close(descriptor)
  for name in ('stdout', 'stderr'):
    file = getattr(sys, name) or open(os.devnull, 'w')
    file.reconfigure(errors='backslashreplace', line_buffering=True)
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
