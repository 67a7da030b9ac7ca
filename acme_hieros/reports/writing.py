"""Runs are read, compared and written as a page."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tqdm

from acme_hieros import extras
from acme_hieros.command_line import counted


class Asked(NamedTuple):
  """What a study asks, and how its runs answer.

  question, expected, source, cost: in words; empty where nothing is said.
  groups: what each run, by its path, is one of.
  against: the group that others are compared with; empty where there is none,
    and all runs are taken together.
  """

  question: str
  expected: str
  source: str
  cost: str
  groups: Mapping[str, str]
  against: str


def write(
  paths: Sequence[str],
  out: str,
  replications: int,
  asked: Asked | None = None,
):
  """Writes the page of some runs, and prints what is going on.

  Args:
    paths: of their work directories.
    out: of the page.
    replications: of the bootstrap.
    asked: what the runs are to answer, if they are those of a study.

  Raises:
    ValueError: a sentence about why there is no page.
  """
  try:
    from acme_hieros.reports import answers, contents, pages
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
  if asked:
    content = {**content, 'study': answers.make(systems, asked, replications)}
    for sentence in content['study']['answers']:
      print(f'Answer: {sentence}')
  print('Drawing.')
  try:
    numbers = pages.write(content, out)
  except OSError as error:
    raise ValueError(f'{out} cannot be written ({error}).') from error
  print(f'Report: {out}, its numbers: {numbers}')
