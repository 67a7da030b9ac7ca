"""The models run wherever JAX runs: they import nothing else."""

import ast
import pathlib
import subprocess
import sys

import pytest

import acme_hieros

PACKAGE = pathlib.Path(acme_hieros.__file__).parent
MODULES = sorted((PACKAGE / 'models').rglob('*.py'))
FOREIGN = (
  'acme',
  'reverb',
  'tensorflow',
  'launchpad',
  'sonnet',
  'dm_env',
  'gymnasium',
  'gym',
)
ALLOWED = {'haiku', 'jax', 'numpy', 'optax'} | set(sys.stdlib_module_names)


def imported(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'relative import in {path}'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def test_importing_the_models_imports_no_part_of_acme():
  names = [
    '.'.join(p.relative_to(PACKAGE.parent).with_suffix('').parts)
    for p in MODULES
  ]
  program = '\n'.join(
    [
      'import sys',
      *(f'import {n}' for n in [*names, 'acme_hieros.config']),
      f'print([n for n in {FOREIGN} if n in sys.modules])',
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


@pytest.mark.parametrize(
  'path',
  MODULES,
  ids=lambda p: '.'.join(p.relative_to(PACKAGE / 'models').parts),
)
def test_models_import_only_jax_haiku_optax_numpy_and_each_other(path):
  for name in imported(path):
    top, *rest = name.split('.')
    if top == 'acme_hieros':
      assert rest[0] in ('config', 'models'), name
    else:
      assert top in ALLOWED, name


def test_the_configuration_imports_only_the_standard_library():
  for path in (PACKAGE / 'config').glob('*.py'):
    for name in imported(path):
      inside = name.startswith('acme_hieros.config.')
      assert inside or name.split('.')[0] in sys.stdlib_module_names, name
