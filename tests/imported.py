"""What importing modules of the package loads, in a process of its own."""

from collections.abc import Sequence
import pathlib
import subprocess
import sys

import acme_hieros

PACKAGE = pathlib.Path(acme_hieros.__file__).parent


def names_of(paths: Sequence[pathlib.Path]) -> list[str]:
  """The names by which files of the package are imported."""
  return [
    '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts)
    for path in paths
  ]


def loaded(names: Sequence[str], among: Sequence[str]) -> list[str]:
  """Which of some packages are loaded once these modules are imported."""
  program = '\n'.join(
    [
      'import sys',
      *(f'import {name}' for name in names),
      f'print(*[name for name in {tuple(among)} if name in sys.modules])',
    ]
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=PACKAGE.parent,
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.split()
