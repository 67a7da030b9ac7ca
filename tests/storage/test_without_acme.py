"""What runs have left is read without anything of what has run them."""

import pathlib
import subprocess
import sys

import pytest

import acme_hieros

PACKAGE = pathlib.Path(acme_hieros.__file__).parent
NOT_NEEDED = ('acme', 'launchpad', 'reverb', 'tensorflow')


@pytest.mark.parametrize('folder', ['reports', 'scores', 'storage'])
def test_no_part_of_acme_is_imported(folder):
  names = [
    '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts)
    for path in sorted((PACKAGE / folder).rglob('*.py'))
  ]
  program = '\n'.join(
    [
      'import sys',
      *(f'import {name}' for name in names),
      f'print([name for name in {NOT_NEEDED} if name in sys.modules])',
    ]
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=PACKAGE.parent,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.strip() == '[]'
