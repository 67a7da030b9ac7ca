"""Compares finished runs on one page.

python launchers/report.py runs/*
"""

from collections.abc import Sequence
import sys
from typing import NoReturn

try:
  from acme_hieros import compat  # noqa: F401  Before what may be absent.
except ImportError as error:
  sys.exit(f'report: {error}')

from absl import app, flags, logging
import tqdm

from acme_hieros import command_line

try:
  from acme_hieros.reports import contents, pages
except ModuleNotFoundError as error:
  sys.exit(
    f'report: {error.name} is missing; it comes with '
    "pip install 'acme_hieros[report]'."
  )

_OUT = flags.DEFINE_string(
  'out', 'report.html', 'The page; its numbers go beside it, as .json.'
)
_REPLICATIONS = flags.DEFINE_integer(
  'replications', 10_000, 'Of the bootstrap that intervals come from.'
)


def main(argv: Sequence[str]):
  logging.set_verbosity(logging.WARNING)
  paths = argv[1:]
  if not paths:
    _refuse('name work directories, as in python launchers/report.py runs/*.')
  if _REPLICATIONS.value < 1:
    _refuse(f'replications={_REPLICATIONS.value} must be at least 1.')
  if not _OUT.value.endswith('.html'):
    _refuse(f'--out={_OUT.value!r} must end in .html.')
  # Hundreds of runs take minutes.
  systems, left_out = contents.read(
    tqdm.tqdm(paths, 'Reading', unit='run', leave=False, disable=None)
  )
  for entry in left_out:
    print(f'Left out: {entry["path"]}: {entry["reason"]}')
  if not systems:
    _refuse('none of these runs can be reported, for the reasons above.')
  for system in systems:
    print(
      f'{system.label}: {_count(system.runs, "run")} in '
      f'{_count(system.tasks, "environment")}.'
    )
  print('Computing intervals.')
  content = contents.make(systems, left_out, _REPLICATIONS.value)
  print('Drawing.')
  try:
    numbers = pages.write(content, _OUT.value)
  except OSError as error:
    _refuse(f'{_OUT.value} cannot be written ({error}).')
  print(f'Report: {_OUT.value}, its numbers: {numbers}')


def _refuse(sentence: str) -> NoReturn:
  sys.exit(f'report: {sentence}')


def _count(things: Sequence, name: str) -> str:
  return f'{len(things)} {name}' + 's' * (len(things) != 1)


if __name__ == '__main__':
  command_line.outlive_readers()
  app.run(main)
