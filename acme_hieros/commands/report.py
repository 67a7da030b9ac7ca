"""Compares finished runs on one page.

hieros report runs/*
"""

from collections.abc import Sequence
import sys

from absl import flags
import tqdm

from acme_hieros import commands, extras
from acme_hieros.command_line import counted

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
    write(argv[1:], _OUT.value, _REPLICATIONS.value)
  except ValueError as error:
    sys.exit(f'{argv[0]}: {error}')


def write(paths: Sequence[str], out: str, replications: int):
  """Writes the page of some runs, and prints what is going on.

  Args:
    paths: of their work directories.
    out: of the page.
    replications: of the bootstrap.

  Raises:
    ValueError: a sentence about why there is no page.
  """
  try:
    from acme_hieros.reports import contents, pages
  except ModuleNotFoundError as error:
    raise ValueError(extras.missing(error.name, 'report')) from error
  if replications < 1:
    raise ValueError(f'replications={replications} must be at least 1.')
  if not out.endswith('.html'):
    raise ValueError(f'--out={out!r} must end in .html.')
  # Hundreds of runs take minutes.
  systems, left_out = contents.read(
    tqdm.tqdm(paths, 'Reading', unit='run', leave=False, disable=None)
  )
  for entry in left_out:
    print(f'Left out: {entry["path"]}: {entry["reason"]}')
  if not systems:
    raise ValueError(
      'none of these runs can be reported, for the reasons above.'
    )
  for system in systems:
    print(
      f'{system.label}: {counted(len(system.runs), "run")} in '
      f'{counted(len(system.tasks), "environment")}.'
    )
  print('Computing intervals.')
  content = contents.make(systems, left_out, replications)
  print('Drawing.')
  try:
    numbers = pages.write(content, out)
  except OSError as error:
    raise ValueError(f'{out} cannot be written ({error}).') from error
  print(f'Report: {out}, its numbers: {numbers}')
