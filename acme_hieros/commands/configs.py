"""Lists all fields of the configuration, presets side by side.

hieros configs
hieros configs --system=dreamerv3 --fields=actor_critic
"""

from collections.abc import Mapping, Sequence
import shutil
import sys
import textwrap
from typing import Any

from absl import flags

from acme_hieros import command_line
from acme_hieros import config as config_lib
from acme_hieros.config import meanings

FLAGS = flags.FlagValues()
_SYSTEM = flags.DEFINE_string(
  'system',
  'hieros',
  f'What is computed: {", ".join(config_lib.SYSTEMS)}.',
  flag_values=FLAGS,
)
_FIELDS = flags.DEFINE_string(
  'fields',
  '',
  'Only those whose name has this in it, as in world_model.s5.',
  flag_values=FLAGS,
)


def main(argv: Sequence[str]):
  """Prints them; argv is the program's name, and nothing else."""
  command_line.refuse_arguments(argv)
  try:
    print(table(_SYSTEM.value, _FIELDS.value))
  except ValueError as error:
    sys.exit(f'{argv[0]}: {error}')


def table(system: str, part: str) -> str:
  """The fields whose name has `part` in it, with what each preset has.

  Raises:
    ValueError: there is no such system, or no such field.
  """
  presets = {
    name: config_lib.fields_by_name(config_lib.preset(name, system))
    for name in config_lib.PRESETS
  }
  meant = {n: text for n, text in meanings.meanings().items() if part in n}
  if not meant:
    raise ValueError(f'No field has {part!r} in its name.')
  names = max(map(len, meant))
  rows = [('', tuple(presets))]
  rows += [
    (name, tuple(_text(values[name]) for values in presets.values()))
    for name in meant
  ]
  widths = [max(len(row[i]) for _, row in rows) for i in range(len(presets))]
  return '\n'.join(
    line
    for name, row in rows
    for line in _lines(name, row, names, widths, meant)
  )


def _lines(
  name: str,
  row: Sequence[str],
  names: int,
  widths: Sequence[int],
  meant: Mapping[str, str],
):
  cells = '  '.join(f'{cell:{width}}' for cell, width in zip(row, widths))
  yield f'{name:{names}}  {cells}'.rstrip()
  yield from textwrap.wrap(
    meant.get(name, ''),
    max(40, min(100, shutil.get_terminal_size().columns)),
    initial_indent='    ',
    subsequent_indent='    ',
  )


def _text(value: Any) -> str:
  """As `--override` reads it."""
  if isinstance(value, tuple):
    return ','.join(map(_text, value))
  return str(value).lower() if isinstance(value, bool) else str(value)
