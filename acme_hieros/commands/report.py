"""Compares finished runs on one page.

hieros report runs/*
"""

from collections.abc import Sequence
import sys

from absl import flags

from acme_hieros import commands
from acme_hieros.reports import writing

FLAGS = flags.FlagValues()

# Work directories.
ARGUMENTS = 'runs/*'
_OUT = flags.DEFINE_string(
  'out',
  'report.html',
  'The page; its numbers go beside it, as .json.',
  flag_values=FLAGS,
)
_REPLICATIONS = flags.DEFINE_integer(
  'replications',
  10_000,
  'Of the bootstrap that intervals come from.',
  flag_values=FLAGS,
)


def main(argv: Sequence[str]):
  """Writes the page; argv is the program's name, and work directories."""
  commands.require_acme(argv[0])
  try:
    if len(argv) < 2:
      raise ValueError('name work directories, as in hieros report runs/*.')
    writing.write(argv[1:], _OUT.value, _REPLICATIONS.value)
  except ValueError as error:
    sys.exit(f'{argv[0]}: {error}')
